-- Places of images, by their ids in GeoNames.
CREATE TABLE places (
    id    integer PRIMARY KEY,
    kind  text NOT NULL CHECK (kind IN ('city', 'region', 'country')),
    name  text NOT NULL,  -- in English
    names text[] NOT NULL -- in several languages, folded
);
CREATE INDEX places_names ON places USING gin (names);

CREATE FUNCTION place_words(names text[]) RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
    SELECT to_tsvector('simple', tokens(array_to_string(names, ' ')));
END;
CREATE INDEX places_words ON places USING gin (place_words(names));

-- Words of an image, and its places as @ and their ids, which no token contains: so an image is found by every name of its
-- places, and stores none.
CREATE FUNCTION image_words(key text, keywords text[], title text, caption text, exif jsonb, places integer[])
    RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT image_words(key, keywords, title, caption, exif)
        || array_to_tsvector(ARRAY(SELECT '@' || place FROM unnest(places) AS place));
END;

-- As before, but a word also stands for the places whose names contain it. Its own phrase comes last, because digits at
-- the end of the query are a prefix.
CREATE OR REPLACE FUNCTION words_query(written text) RETURNS tsquery LANGUAGE sql STABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
    SELECT regexp_replace(
               string_agg('(' || concat_ws(' | ', named, phrase) || ')', ' & ' ORDER BY position), '([0-9]'')\)$', '\1:*)'
           )::tsquery
      FROM (SELECT phraseto_tsquery('simple', tokens(word))::text AS phrase, position
              FROM regexp_split_to_table(written, '\s+') WITH ORDINALITY AS split (word, position)) AS phrases,
           LATERAL (SELECT string_agg(quote_literal('@' || id), ' | ') AS named
                      FROM places WHERE place_words(names) @@ phrase::tsquery AND phrase !~ '^''[0-9]') AS found
     WHERE phrase <> '';
END;
