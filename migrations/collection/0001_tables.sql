-- What is known of each image beside its vector. It owns the identity: vectors, files and queue rows hang on it.
CREATE TABLE {images} (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    r2_key       text COLLATE "C" NOT NULL UNIQUE,
    created_at   timestamptz NOT NULL,
    origin       text NOT NULL CHECK (origin IN ('folder', 'api', 'adopted')),
    sha256       bytea NOT NULL,
    size         bigint NOT NULL,
    content_type text NOT NULL,
    width        integer NOT NULL,
    height       integer NOT NULL,
    placeholder  text,
    derivatives  boolean NOT NULL,
    truncated    boolean NOT NULL,
    taken_at     timestamptz,
    camera       text,
    lens         text,
    keywords     text[] NOT NULL,
    caption      text,
    latitude     double precision,
    longitude    double precision,
    exif         jsonb,
    UNIQUE (id, r2_key)
);
CREATE INDEX {recent} ON {images} (created_at DESC, id DESC);
CREATE INDEX {content} ON {images} (sha256);

-- The table that searches scan: narrow, with the vector inline. An exact scan of 10,000 rows takes 6 ms so, and 24 ms
-- with half a kilobyte more in the row. The column must stay nullable: declared NOT NULL, PostgreSQL drops the
-- predicate from queries and the partial index is never used.
CREATE TABLE {embeddings} (
    id         bigint PRIMARY KEY,
    r2_key     text COLLATE "C" NOT NULL UNIQUE,
    embedding  halfvec({dimensions}),
    created_at timestamptz NOT NULL,
    FOREIGN KEY (id, r2_key) REFERENCES {images} (id, r2_key) ON UPDATE CASCADE ON DELETE CASCADE
);
ALTER TABLE {embeddings} ALTER COLUMN embedding SET STORAGE PLAIN;
CREATE INDEX {hnsw} ON {embeddings} USING hnsw (embedding halfvec_ip_ops) WHERE embedding IS NOT NULL;

-- Work to do, and work given up: one row per image and model, gone when the vector is stored. A leased row is pending
-- with its due time set to the end of the lease, so that one index serves new work, retries and expired leases.
CREATE TABLE {queue} (
    id       bigint NOT NULL REFERENCES {images} ON DELETE CASCADE,
    model    text NOT NULL,
    state    text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'failed')),
    due_at   timestamptz NOT NULL,
    lease    uuid,
    attempts integer NOT NULL DEFAULT 0,
    reason   text,
    detail   text,
    PRIMARY KEY (id, model)
);
CREATE INDEX {due} ON {queue} (model, due_at) WHERE state = 'pending';
CREATE INDEX {reason} ON {queue} (model, reason) WHERE state = 'failed';

-- Every file that a sync has seen, and what became of it: an image, a rejection with its reason, or nothing because
-- the image was removed through the API (then its content stays removed while the file lies in the folder).
CREATE TABLE {files} (
    source_id integer NOT NULL REFERENCES sources,
    path      text COLLATE "C" NOT NULL,
    size      bigint NOT NULL,
    mtime_ns  bigint NOT NULL,
    ctime_ns  bigint NOT NULL,
    sha256    bytea,
    image_id  bigint REFERENCES {images} ON DELETE SET NULL,
    removed   boolean NOT NULL DEFAULT false,
    reason    text,
    detail    text,
    attempts  integer NOT NULL DEFAULT 0,
    seen_at   timestamptz NOT NULL,
    PRIMARY KEY (source_id, path)
);
CREATE INDEX {rejected} ON {files} (reason) WHERE reason IS NOT NULL;
CREATE INDEX {fileimage} ON {files} (image_id);

CREATE TABLE {counts} (
    slot    smallint NOT NULL,
    model   text NOT NULL, -- '' for what does not depend on a model
    images  bigint NOT NULL DEFAULT 0,
    pending bigint NOT NULL DEFAULT 0,
    failed  bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (slot, model)
);
CREATE TRIGGER count_inserted AFTER INSERT ON {images} REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_images({counts_name});
CREATE TRIGGER count_deleted AFTER DELETE ON {images} REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_images({counts_name});
CREATE TRIGGER count_inserted AFTER INSERT ON {queue} REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_queue({counts_name});
CREATE TRIGGER count_updated AFTER UPDATE ON {queue} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_queue({counts_name});
CREATE TRIGGER count_deleted AFTER DELETE ON {queue} REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_queue({counts_name});
