-- Whether the words in pictures are read; NULL until a sync decides.
ALTER TABLE collections ADD COLUMN ocr boolean;

-- Words that differ by one letter share one of these: a word of 5 to 20 letters, and that word without each of its letters
-- (the idea of SymSpell, Garbe 2012). They begin with ~, which no token contains. Numbers have none: 4711 is not 4712.
CREATE FUNCTION spellings(word text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
    SELECT CASE WHEN length(word) BETWEEN 5 AND 20 AND word !~ '[0-9]'
                THEN ARRAY(SELECT '~' || word
                            UNION SELECT '~' || left(word, n - 1) || substr(word, n + 1)
                             FROM generate_series(1, length(word)) AS n)
                ELSE '{}' END;
END;

-- Words in a picture, and their spellings, for the text search index.
CREATE FUNCTION text_words(lines text[]) RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
    SELECT words || array_to_tsvector(ARRAY(SELECT DISTINCT unnest(spellings(lexeme)) FROM unnest(words)))
      FROM to_tsvector('simple', tokens(left(array_to_string(lines, ' '), 20000))) AS words;
END;

-- Query for words in pictures that equal all words of a text, begin with them, or differ by one letter. NULL for a text
-- without words.
CREATE FUNCTION similar_words_query(written text) RETURNS tsquery LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
    SELECT string_agg('(' || concat_ws(
               ' | ', phrase || CASE WHEN phrase ~ '^''[^'']{3,}''$' THEN ':*' ELSE '' END,
               (SELECT string_agg(quote_literal(spelling), ' | ')
                  FROM unnest(spellings(trim(BOTH '''' FROM phrase))) AS spelling
                 WHERE phrase ~ '^''[^'']+''$')) || ')', ' & ')::tsquery
      FROM (SELECT phraseto_tsquery('simple', tokens(word))::text AS phrase
              FROM regexp_split_to_table(written, '\s+') AS split (word)) AS phrases
     WHERE phrase <> '';
END;

-- Trigger: give a new or changed image the text of another image of equal content if there is one, else a queue entry.
-- A trigger covers every writer, and collections without OCR have none.
CREATE FUNCTION queue_text() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    model  text := TG_ARGV[0];
    images text := TG_ARGV[1];
    texts  text := TG_ARGV[2];
    queue  text := TG_ARGV[3];
    copied bigint;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        EXECUTE format('DELETE FROM %I WHERE id = $1', texts) USING NEW.id;
    END IF;
    EXECUTE format(
        'INSERT INTO %2$I (id, lines, boxes)
         SELECT $1, t.lines, t.boxes FROM %1$I AS i JOIN %2$I AS t USING (id) WHERE i.sha256 = $2 AND i.id <> $1 LIMIT 1',
        images, texts)
        USING NEW.id, NEW.sha256;
    GET DIAGNOSTICS copied = ROW_COUNT;
    IF copied > 0 THEN
        EXECUTE format('DELETE FROM %I WHERE id = $1 AND model = $2', queue) USING NEW.id, model;
    ELSE
        EXECUTE format(
            'INSERT INTO %I (id, model, due_at) VALUES ($1, $2, $3)
             ON CONFLICT (id, model) DO UPDATE SET
                 state = ''pending'', due_at = excluded.due_at, lease = NULL, attempts = 0, reason = NULL, detail = NULL',
            queue)
            USING NEW.id, model, NEW.created_at;
    END IF;
    RETURN NULL;
END $$;
