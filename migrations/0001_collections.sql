CREATE EXTENSION IF NOT EXISTS vector;

-- One row per bucket. table_name is the table that users know; the side tables' names derive from it.
CREATE TABLE collections (
    bucket     text PRIMARY KEY,
    table_name text NOT NULL UNIQUE,
    model      text NOT NULL,
    dimensions integer NOT NULL CHECK (dimensions BETWEEN 1 AND 4000),
    title      text NOT NULL,
    created_at timestamptz NOT NULL
);

-- Which version of the per-collection template (migrations/collection) a collection's tables have.
CREATE TABLE collection_migrations (
    bucket     text NOT NULL REFERENCES collections ON DELETE CASCADE,
    version    integer NOT NULL,
    digest     text NOT NULL,
    applied_at timestamptz NOT NULL,
    PRIMARY KEY (bucket, version)
);

-- A folder that was synced. A sync touches only what its own source brought.
CREATE TABLE sources (
    id     integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    bucket text NOT NULL REFERENCES collections ON DELETE CASCADE,
    name   text NOT NULL,
    UNIQUE (bucket, name)
);

-- What was embedded and how many model calls it took, by the minute: rate, ETA and cost come from here. Writers spread
-- over slots, so that they do not wait for each other's rows.
CREATE TABLE activity (
    bucket   text NOT NULL REFERENCES collections ON DELETE CASCADE,
    model    text NOT NULL,
    minute   timestamptz NOT NULL,
    slot     smallint NOT NULL,
    since    timestamptz NOT NULL, -- when work began within this minute
    embedded bigint NOT NULL,
    calls    bigint NOT NULL,
    PRIMARY KEY (bucket, model, minute, slot)
);

-- The lock on a source: position 0 syncs it, position 1 is queued as the next.
CREATE TABLE source_locks (
    source_id  integer NOT NULL REFERENCES sources ON DELETE CASCADE,
    position   smallint NOT NULL,
    holder     uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (source_id, position)
);

-- Values that all servers share, made once: the key that signs cursors and cookies.
CREATE TABLE shared_values (
    name  text PRIMARY KEY,
    value text NOT NULL
);

-- Counts are kept, not counted: a million rows cannot be counted each second for a progress widget. Statement triggers
-- add what a statement changed to one of sixteen slots, chosen by connection, so that uploads do not queue for one row.
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
            'INSERT INTO %I AS kept (slot, model, images) VALUES (pg_backend_pid() %% 16, '''', $1)
             ON CONFLICT (slot, model) DO UPDATE SET images = kept.images + excluded.images', TG_ARGV[0]) USING difference;
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
        'INSERT INTO %I AS kept (slot, model, pending, failed)
         SELECT pg_backend_pid() %% 16, model, 
                coalesce(sum(n) FILTER (WHERE state = ''pending''), 0), coalesce(sum(n) FILTER (WHERE state = ''failed''), 0)
           FROM (SELECT model, state, sum(n) AS n FROM (%s) AS every_row GROUP BY model, state) AS by_state
          WHERE n <> 0
          GROUP BY model
          ORDER BY model
         ON CONFLICT (slot, model)
         DO UPDATE SET pending = kept.pending + excluded.pending, failed = kept.failed + excluded.failed',
        TG_ARGV[0], changes);
    RETURN NULL;
END $$;
