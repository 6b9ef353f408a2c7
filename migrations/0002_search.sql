-- Cache of the vectors of query texts, shared by all servers.
CREATE TABLE query_vectors (
    model     text NOT NULL,
    digest    bytea NOT NULL, -- SHA-256 of the normalised text
    embedding halfvec NOT NULL,
    used_at   timestamptz NOT NULL,
    PRIMARY KEY (model, digest)
);
-- For eviction of the least recently used.
CREATE INDEX query_vectors_used ON query_vectors (used_at);

-- Rankings of searches in large collections, so that all pages of a search come from the same ranking.
CREATE TABLE saved_rankings (
    id         uuid PRIMARY KEY,
    bucket     text NOT NULL REFERENCES collections ON DELETE CASCADE,
    ids        bigint[] NOT NULL,
    scores     real[] NOT NULL,
    text_matches bigint[] NOT NULL DEFAULT '{}', -- ids that match by text; a NULL score means no vector yet
    created_at timestamptz NOT NULL
);
CREATE INDEX saved_rankings_created ON saved_rankings (created_at);
CREATE INDEX saved_rankings_bucket ON saved_rankings (bucket, created_at);

-- Cache of the vectors of query images, by content. The images themselves are not stored.
CREATE TABLE query_images (
    handle     text PRIMARY KEY, -- random, since it grants searches with the image
    model      text NOT NULL,
    digest     bytea NOT NULL, -- SHA-256 of the file
    embedding  halfvec NOT NULL,
    expires_at timestamptz NOT NULL,
    UNIQUE (model, digest)
);
CREATE INDEX query_images_expires ON query_images (expires_at);

-- Cosines of meaningless queries, measured by `syncer calibrate`: the threshold of weak matches.
CREATE TABLE calibrations (
    bucket      text NOT NULL REFERENCES collections ON DELETE CASCADE,
    model       text NOT NULL,
    words_level double precision NOT NULL, -- high quantile of the best matches of meaningless texts
    words_mean  double precision NOT NULL, -- mean of all images with meaningless texts
    image_level double precision NOT NULL, -- high quantile of random pairs of images
    image_mean  double precision NOT NULL, -- mean of random pairs of images
    images      bigint NOT NULL, -- size of the collection at that time
    measured_at timestamptz NOT NULL,
    PRIMARY KEY (bucket, model)
);

-- Budgets of paid model calls for new queries, overall and per client, as in the generic cell rate algorithm: a budget
-- refills over time and is described by the time at which it will be full.
CREATE TABLE rate_limits (
    name    text PRIMARY KEY,
    full_at timestamptz NOT NULL
);
CREATE INDEX rate_limits_full ON rate_limits (full_at);

-- Text search over file name, folders, keywords and texts of the metadata.

-- Text without differences of case, accents and compatibility forms: "Straße" and "STRASSE" become "strasse", "İ" becomes
-- "i". The marks of scripts whose words need them, such as Devanagari, stay.
CREATE FUNCTION folded(written text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN replace(replace(replace(translate(
    normalize(lower(regexp_replace(
        normalize(written, NFKD),
        '[\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u1ab0-\u1aff\u1dc0-\u1dff'
        '\u200b-\u200d\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f\U0001f3fb-\U0001f3ff]', '', 'g'))),
    'ıøłđħŧς', 'ioldhtσ'), 'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe');

-- Emoji as words of letters, because the text search parser drops symbols.
CREATE FUNCTION spelled_emoji(written text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN CASE WHEN written !~ '[\u2600-\u27bf\u2b50\U0001f000-\U0001faff]' THEN written ELSE (
    SELECT string_agg(CASE WHEN c !~ '[\u2600-\u27bf\u2b50\U0001f000-\U0001faff]' THEN c
                           ELSE ' emoji' || translate(to_hex(ascii(c)), '0123456789', 'ghijklmnop') || ' ' END, ''
                      ORDER BY position)
      FROM regexp_split_to_table(written, '') WITH ORDINALITY AS characters (c, position)) END;

-- Folded tokens separated by spaces. Splits at punctuation, between letters and digits, and around each character of
-- scripts without spaces between words (and Hangul, which attaches particles to the word). "IMG_4523.jpg" becomes
-- "img 4523 jpg".
CREATE FUNCTION tokens(written text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN regexp_replace(
    regexp_replace(
        spelled_emoji(folded(written)), '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00bf[:punct:][:space:]]+', ' ', 'g'),
    '([0-9]+|[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff])', ' \1 ', 'g');

-- Words of an image for the text search index. "MyHoliday" is indexed as one word and as two. Long values are truncated,
-- since an error here would reject the image. Bodies are parsed at creation, because indexes are built and restored with
-- an empty search_path.
CREATE FUNCTION image_words(key text, keywords text[], title text, caption text, exif jsonb) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT to_tsvector('simple', tokens(concat_ws(
               ' ', name, nullif(divided, name),
               left(concat_ws(' ', array_to_string(keywords, ' '), title, caption, exif ->> 'comment',
                              exif ->> 'location', exif ->> 'city', exif ->> 'state', exif ->> 'country',
                              exif ->> 'artist'), 10000),
               left(key, -length(name)))))
      FROM regexp_replace(key, '^.*/', '') AS name,
           regexp_replace(name, '([[:lower:]])([[:upper:]])', '\1 \2', 'g') AS divided;
END;

-- Query for all words of a text. The tokens of a word must be adjacent. Digits at the end are a prefix: "IMG_45" finds
-- "IMG_4523". NULL for a text without words.
CREATE FUNCTION words_query(written text) RETURNS tsquery LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
    SELECT regexp_replace(string_agg('(' || phrase || ')', ' & ' ORDER BY position), '([0-9]'')\)$', '\1:*)')::tsquery
      FROM (SELECT phraseto_tsquery('simple', tokens(word))::text AS phrase, position
              FROM regexp_split_to_table(written, '\s+') WITH ORDINALITY AS split (word, position)) AS phrases
     WHERE phrase <> '';
END;

-- File name without folders and extension, folded.
CREATE FUNCTION image_stem(key text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN folded(regexp_replace(key, '^.*/|\.[^./]*$', '', 'g'));
