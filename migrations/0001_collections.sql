CREATE EXTENSION IF NOT EXISTS vector;

-- One row per bucket. table_name is the public table of vectors; the names of the other tables derive from it.
CREATE TABLE collections (
    bucket     text PRIMARY KEY,
    table_name text NOT NULL UNIQUE,
    model      text NOT NULL,
    dimensions integer NOT NULL CHECK (dimensions BETWEEN 1 AND 4000),
    title      text NOT NULL,
    created_at timestamptz NOT NULL,
    -- kind of the vector index, see shared/sql/vector_index.py
    index_kind text NOT NULL DEFAULT 'hnsw' CHECK (index_kind IN ('hnsw', 'compact', 'vchordrq')),
    -- A sync has stored the marker object in the bucket. If it is missing, the bucket was emptied or is another one.
    marked     boolean NOT NULL DEFAULT false
);

-- Migrations from migrations/collection that were applied to a collection's tables.
CREATE TABLE collection_migrations (
    bucket     text NOT NULL REFERENCES collections ON DELETE CASCADE,
    version    integer NOT NULL,
    digest     text NOT NULL,
    applied_at timestamptz NOT NULL,
    PRIMARY KEY (bucket, version)
);

-- Synced folders. A sync changes only images of its own source.
CREATE TABLE sources (
    id     integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    bucket text NOT NULL REFERENCES collections ON DELETE CASCADE,
    name   text NOT NULL,
    UNIQUE (bucket, name)
);

-- Content whose image was deleted through the API. The source does not upload it again while its folder holds it.
CREATE TABLE tombstones (
    source_id integer NOT NULL REFERENCES sources ON DELETE CASCADE,
    sha256    bytea NOT NULL,
    PRIMARY KEY (source_id, sha256)
);

-- Embedded images and model calls per minute, for rate, ETA and cost. Writers use different slots, so that they do not
-- wait for each other's row locks.
CREATE TABLE activity (
    bucket   text NOT NULL REFERENCES collections ON DELETE CASCADE,
    model    text NOT NULL,
    minute   timestamptz NOT NULL,
    slot     smallint NOT NULL,
    since    timestamptz NOT NULL, -- start of work within this minute
    embedded bigint NOT NULL,
    calls    bigint NOT NULL,
    PRIMARY KEY (bucket, model, minute, slot)
);

-- The lock on a source: position 0 syncs it, position 1 is queued as the next.
CREATE TABLE source_locks (
    source_id  integer NOT NULL REFERENCES sources ON DELETE CASCADE,
    position   smallint NOT NULL,
    owner      uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (source_id, position)
);

-- Values shared by all servers and generated once, such as the key that signs cursors and cookies.
CREATE TABLE shared_values (
    name  text PRIMARY KEY,
    value text NOT NULL
);

-- Image counts are maintained, because counting a million rows each second for a progress widget is too slow. Statement
-- triggers add each change to one of sixteen slots, chosen by connection, so that uploads do not wait for one row lock.
CREATE FUNCTION count_images() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    difference bigint;
BEGIN
    IF TG_OP = 'INSERT' THEN
        SELECT count(*) INTO difference FROM new_rows;
    ELSE
        SELECT -count(*) INTO difference FROM old_rows;
    END IF;
    IF difference <> 0 THEN
        EXECUTE format(
            'INSERT INTO %I AS counts (slot, model, images) VALUES (pg_backend_pid() %% 16, '''', $1)
             ON CONFLICT (slot, model) DO UPDATE SET images = counts.images + excluded.images', TG_ARGV[0]) USING difference;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION count_queue() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changes text;
BEGIN
    changes := CASE TG_OP
        WHEN 'INSERT' THEN 'SELECT model, state, 1 AS n FROM new_rows'
        WHEN 'DELETE' THEN 'SELECT model, state, -1 AS n FROM old_rows'
        ELSE 'SELECT model, state, 1 AS n FROM new_rows UNION ALL SELECT model, state, -1 FROM old_rows'
    END;
    EXECUTE format(
        'INSERT INTO %I AS counts (slot, model, pending, failed)
         SELECT pg_backend_pid() %% 16, model,
                coalesce(sum(n) FILTER (WHERE state = ''pending''), 0), coalesce(sum(n) FILTER (WHERE state = ''failed''), 0)
           FROM (SELECT model, state, sum(n) AS n FROM (%s) AS changes GROUP BY model, state) AS by_state
          WHERE n <> 0
          GROUP BY model
          ORDER BY model
         ON CONFLICT (slot, model)
         DO UPDATE SET pending = counts.pending + excluded.pending, failed = counts.failed + excluded.failed',
        TG_ARGV[0], changes);
    RETURN NULL;
END $$;
