-- Vectors of query texts, so that a text costs one model call for all servers together.
CREATE TABLE query_vectors (
    model     text NOT NULL,
    digest    bytea NOT NULL, -- SHA-256 of the normalised text
    embedding halfvec NOT NULL,
    used_at   timestamptz NOT NULL,
    PRIMARY KEY (model, digest)
);

-- The ranked list of a search in a large collection, made once, so that every page of it comes from one ranking.
CREATE TABLE saved_rankings (
    id         uuid PRIMARY KEY,
    bucket     text NOT NULL REFERENCES collections ON DELETE CASCADE,
    ids        bigint[] NOT NULL,
    scores     real[] NOT NULL,
    named      bigint[] NOT NULL DEFAULT '{}', -- those that match by their words; one without a vector has no score
    created_at timestamptz NOT NULL
);
CREATE INDEX saved_rankings_created ON saved_rankings (created_at);
CREATE INDEX saved_rankings_bucket ON saved_rankings (bucket, created_at);

-- Vectors of pictures that were asked for, by content, so that a picture costs one model call for all servers together.
-- The pictures themselves are not kept.
CREATE TABLE query_images (
    handle     text PRIMARY KEY, -- random: whoever knows it can search with the picture
    model      text NOT NULL,
    digest     bytea NOT NULL, -- SHA-256 of the file
    embedding  halfvec NOT NULL,
    expires_at timestamptz NOT NULL,
    UNIQUE (model, digest)
);
CREATE INDEX query_images_expires ON query_images (expires_at);

-- Which picture lay at an address when it was last fetched, so that the pages of a search fetch it once.
CREATE TABLE query_addresses (
    digest     bytea NOT NULL, -- SHA-256 of the address
    handle     text NOT NULL REFERENCES query_images ON DELETE CASCADE,
    model      text NOT NULL,
    fetched_at timestamptz NOT NULL,
    PRIMARY KEY (model, digest)
);
CREATE INDEX query_addresses_handle ON query_addresses (handle);

-- Texts that nobody asks for any more are forgotten, those unused for longest first.
CREATE INDEX query_vectors_used ON query_vectors (used_at);

-- What nonsense scores in a collection, as `syncer calibrate` measured it: cosines that a match has to exceed.
CREATE TABLE calibrations (
    bucket      text NOT NULL REFERENCES collections ON DELETE CASCADE,
    model       text NOT NULL,
    words_level double precision NOT NULL, -- what the best matches of nonsense texts reach
    words_mean  double precision NOT NULL, -- what any image scores with one
    image_level double precision NOT NULL, -- what two images have that were picked at random
    image_mean  double precision NOT NULL,
    images      bigint NOT NULL, -- how many images the collection had
    measured_at timestamptz NOT NULL,
    PRIMARY KEY (bucket, model)
);

-- What may still be spent on queries that a model which charges has never seen: in all, and by each client. A budget
-- fills up with time, so that it is enough to know when it will be full.
CREATE TABLE rate_limits (
    name    text PRIMARY KEY,
    full_at timestamptz NOT NULL
);
CREATE INDEX rate_limits_full ON rate_limits (full_at);

-- What images can be found by beside their looks: the words of name, folder, keywords and caption, in small pieces.

-- The text in lower case, cut into pieces with spaces between them: at punctuation, between letters and digits, and
-- around each character of scripts that write no spaces between words (and Hangul, which puts its particles directly
-- behind the word). "IMG_4523.jpg" becomes "img 4523 jpg".
CREATE FUNCTION pieces(written text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN regexp_replace(
    regexp_replace(
        lower(normalize(written, NFKC)), '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00bf[:punct:][:space:]]+', ' ', 'g'),
    '([0-9]+|[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff])', ' \1 ', 'g');

-- The words of an image, for a text search index: of its name, keywords, caption and folders. "MyHoliday" stands there as
-- one word and as two. What is longer than anybody reads is cut, since an error here would keep an image from being
-- added. Bodies are parsed when the functions are made: indexes are built and restored with a bare search_path.
CREATE FUNCTION image_words(key text, keywords text[], caption text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT to_tsvector('simple', pieces(concat_ws(
               ' ', name, nullif(divided, name), left(concat_ws(' ', array_to_string(keywords, ' '), caption), 10000),
               left(key, -length(name)))))
      FROM regexp_replace(key, '^.*/', '') AS name,
           regexp_replace(name, '([[:lower:]])([[:upper:]])', '\1 \2', 'g') AS divided;
END;

-- The search for all words of a text. The pieces of one word must stand side by side; digits at the end may go on, so
-- that "IMG_45" finds "IMG_4523". NULL for a text without words.
CREATE FUNCTION words_query(written text) RETURNS tsquery LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
    SELECT regexp_replace(string_agg('(' || phrase || ')', ' & ' ORDER BY position), '([0-9]'')\)$', '\1:*)')::tsquery
      FROM (SELECT phraseto_tsquery('simple', pieces(word))::text AS phrase, position
              FROM regexp_split_to_table(written, '\s+') WITH ORDINALITY AS split (word, position)) AS phrases
     WHERE phrase <> '';
END;

-- The name of an image's file, without folders and extension, in lower case.
CREATE FUNCTION image_stem(key text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
    SELECT lower(normalize(regexp_replace(key, '^.*/|\.[^./]*$', '', 'g')))
$$;
