-- A second set of vectors of a collection, from another model, in a table <base>_next shaped like
-- <base>_embeddings: filled by a re-embedding, and after the switch the previous model's vectors, for a rollback.
CREATE TABLE next_embeddings (
    bucket     text PRIMARY KEY REFERENCES collections ON DELETE CASCADE,
    model      text NOT NULL,
    dimensions integer NOT NULL CHECK (dimensions BETWEEN 1 AND 4000),
    -- preparing: not every image has a row yet; filling: images are pending; previous: after the switch
    state      text NOT NULL CHECK (state IN ('preparing', 'filling', 'previous'))
);

-- The model of each table of vectors. Read it in the same statement or transaction that reads or writes vectors, after
-- the table itself is locked.
CREATE VIEW vector_tables AS
    SELECT bucket, 'embeddings' AS name, model FROM collections
    UNION ALL
    SELECT bucket, 'next_embeddings', model FROM next_embeddings;

-- Trigger: give a new or changed image its row in the next embeddings, with the vector of another image of equal content
-- if there is one, else with a queue entry. A trigger covers every writer, also one that started before the re-embedding.
CREATE FUNCTION add_to_next_embeddings() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    next_table  text := TG_ARGV[1];
    images      text := TG_ARGV[2];
    queue       text := TG_ARGV[3];
    other_model text;
    copied      bigint;
BEGIN
    EXECUTE format(
        'INSERT INTO %I AS existing (id, r2_key, created_at) VALUES ($1, $2, $3)
         ON CONFLICT (id) DO UPDATE SET embedding = NULL WHERE existing.embedding IS NOT NULL', next_table)
        USING NEW.id, NEW.r2_key, NEW.created_at;
    -- Only now: the statement above waited for a switch in progress and blocks the next one.
    SELECT model INTO STRICT other_model FROM next_embeddings WHERE bucket = TG_ARGV[0];
    EXECUTE format(
        'UPDATE %1$I AS target SET embedding = twin.embedding
           FROM (SELECT s.embedding FROM %2$I AS i JOIN %1$I AS s USING (id)
                  WHERE i.sha256 = $2 AND i.id <> $1 AND s.embedding IS NOT NULL LIMIT 1) AS twin
          WHERE target.id = $1', next_table, images)
        USING NEW.id, NEW.sha256;
    GET DIAGNOSTICS copied = ROW_COUNT;
    IF copied > 0 THEN
        EXECUTE format('DELETE FROM %I WHERE id = $1 AND model = $2', queue) USING NEW.id, other_model;
    ELSE
        EXECUTE format(
            'INSERT INTO %I (id, model, due_at) VALUES ($1, $2, now())
             ON CONFLICT (id, model) DO UPDATE SET
                 state = ''pending'', due_at = excluded.due_at, lease = NULL, attempts = 0, reason = NULL, detail = NULL',
            queue)
            USING NEW.id, other_model;
    END IF;
    RETURN NULL;
END $$;
