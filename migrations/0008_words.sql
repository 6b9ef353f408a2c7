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

-- A kept ranking also says which of its images were found by their words; those that have no vector yet have no score.
ALTER TABLE walks ADD COLUMN named bigint[] NOT NULL DEFAULT '{}';
CREATE INDEX walks_of_bucket ON walks (bucket, created_at);
