-- Placement of the vectors in a Citus cluster, see shared/sql/placement.py.
ALTER TABLE collections ADD COLUMN placement text NOT NULL DEFAULT 'local'
    CHECK (placement IN ('local', 'worker', 'sharded'));

-- Trigger in place of the foreign keys of placed vectors: delete and rename their rows with the images. The arguments are
-- the quoted names of the tables of vectors; the second may not exist.
CREATE FUNCTION follow_images() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    target text;
    ids    bigint[];
BEGIN
    IF TG_OP = 'DELETE' THEN
        ids := (SELECT coalesce(array_agg(id), '{}') FROM old_rows);
    END IF;
    FOREACH target IN ARRAY TG_ARGV LOOP
        CONTINUE WHEN to_regclass(target) IS NULL;
        IF TG_OP = 'DELETE' THEN
            EXECUTE format('DELETE FROM %s WHERE id = ANY ($1)', target) USING ids;
        ELSE
            EXECUTE format('UPDATE %s SET r2_key = $2 WHERE id = $1', target) USING NEW.id, NEW.r2_key;
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

-- As before, except that placed vectors are not copied from images of equal content: Citus cannot join them to a local
-- table here. Such an image is embedded again.
CREATE OR REPLACE FUNCTION add_to_next_embeddings() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    next_table  text := TG_ARGV[1];
    images      text := TG_ARGV[2];
    queue       text := TG_ARGV[3];
    other_model text;
    copied      bigint := 0;
BEGIN
    EXECUTE format(
        'INSERT INTO %I AS existing (id, r2_key, created_at) VALUES ($1, $2, $3)
         ON CONFLICT (id) DO UPDATE SET embedding = NULL WHERE existing.embedding IS NOT NULL', next_table)
        USING NEW.id, NEW.r2_key, NEW.created_at;
    -- Only now: the statement above waited for a switch in progress and blocks the next one.
    SELECT model INTO STRICT other_model FROM next_embeddings WHERE bucket = TG_ARGV[0];
    IF (SELECT placement FROM collections WHERE bucket = TG_ARGV[0]) = 'local' THEN
        EXECUTE format(
            'UPDATE %1$I AS target SET embedding = twin.embedding
               FROM (SELECT s.embedding FROM %2$I AS i JOIN %1$I AS s USING (id)
                      WHERE i.sha256 = $2 AND i.id <> $1 AND s.embedding IS NOT NULL LIMIT 1) AS twin
              WHERE target.id = $1', next_table, images)
            USING NEW.id, NEW.sha256;
        GET DIAGNOSTICS copied = ROW_COUNT;
    END IF;
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
