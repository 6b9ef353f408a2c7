-- Images without their vectors. Vectors, files and queue entries refer to this table. Columns of a fixed width come first,
-- the widest before the others, so that no row has padding: that saves a tenth of its space.
CREATE TABLE {images} (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at   timestamptz NOT NULL,
    size         bigint NOT NULL,
    taken_local  timestamp, -- as the camera's clock showed it
    -- For order across time zones. Without an offset the local time counts as UTC, which preserves the order of the
    -- pictures of one camera.
    taken_at     timestamptz GENERATED ALWAYS AS
                     ((taken_local - make_interval(mins => coalesce(taken_offset, 0))) AT TIME ZONE 'UTC') STORED,
    latitude     double precision,
    longitude    double precision,
    width        integer NOT NULL,
    height       integer NOT NULL,
    taken_offset smallint CHECK (abs(taken_offset) <= 840), -- minutes east of UTC; NULL if the camera wrote none
    derivatives  boolean NOT NULL,
    truncated    boolean NOT NULL,
    r2_key       text COLLATE "C" NOT NULL UNIQUE,
    origin       text NOT NULL CHECK (origin IN ('folder', 'api', 'adopted')),
    sha256       bytea NOT NULL,
    content_type text NOT NULL,
    placeholder  bytea, -- a tiny WebP
    camera       text,
    lens         text,
    title        text,
    caption      text,
    keywords     text[] NOT NULL,
    exif         jsonb
);
-- Ascending, so that new images fill its pages: descending, pages stay half full. A hash takes half the space of a tree.
CREATE INDEX {recent} ON {images} (created_at, id);
CREATE INDEX {content} ON {images} USING hash (sha256);

-- Searches scan this table, so it is narrow, with the vector inline: an exact scan of 10,000 rows takes 6 ms, but 24 ms
-- with half a kilobyte more per row. The key comes last, so that no padding follows it: five rows with keys of up to 39
-- bytes fit a page. embedding must stay nullable: if it is NOT NULL, PostgreSQL drops the predicate from queries and
-- never uses the partial index.
CREATE TABLE {embeddings} (
    id         bigint PRIMARY KEY REFERENCES {images} ON DELETE CASCADE,
    created_at timestamptz NOT NULL,
    embedding  halfvec({dimensions}),
    r2_key     text COLLATE "C" NOT NULL UNIQUE REFERENCES {images} (r2_key) ON UPDATE CASCADE ON DELETE CASCADE
);
ALTER TABLE {embeddings} ALTER COLUMN embedding SET STORAGE PLAIN;

-- Queue of pending and quarantined work: one row per image and model, deleted when the vector is stored. A leased row is
-- pending and due at the end of its lease, so that one index serves new work, retries and expired leases.
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

-- Files that a sync has seen. Each has an image, or the reason why it was rejected, or is "removed": its image was
-- deleted through the API. A file with an image and without a hash must be uploaded again, because an overwrite of its
-- object was interrupted.
CREATE TABLE {files} (
    source_id integer NOT NULL REFERENCES sources,
    path      text COLLATE "C" NOT NULL,
    size      bigint NOT NULL,
    mtime_ns  bigint NOT NULL,
    ctime_ns  bigint NOT NULL,
    sidecar   text NOT NULL DEFAULT '', -- size and time of its XMP sidecar
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

-- Objects that may lie in the bucket without an image that references them: those of uploads that are under way or were
-- interrupted, and those of deleted images. See shared/object_deletion.py.
CREATE TABLE {pending_objects} (
    key           text COLLATE "C" NOT NULL,
    upload        uuid NOT NULL,    -- identifies one upload or one deletion
    sha256        bytea NOT NULL,   -- of the image that the object is or was derived from
    derived       boolean NOT NULL, -- a thumbnail or preview, referenced by every image with this content
    stored        boolean NOT NULL, -- false: perhaps never stored, so the object under the key may not be ours
    source_id     integer REFERENCES sources,
    due_at        timestamptz NOT NULL,
    claim         uuid,             -- the process that deletes the object
    claimed_until timestamptz,
    PRIMARY KEY (key, upload)
);

-- Indexes for filters. {shape} covers filters by type and shape, and their counts, without access to the table. Without
-- the size in bytes, which differs from image to image, equal entries are stored once.
CREATE INDEX {taken} ON {images} (taken_at) WHERE taken_at IS NOT NULL;
CREATE INDEX {takenlocal} ON {images} (taken_local) WHERE taken_local IS NOT NULL;
CREATE INDEX {camera} ON {images} (lower(camera), camera) WHERE camera IS NOT NULL;
CREATE INDEX {shape} ON {images} (content_type, width, height);

-- Indexes for text search. An index on an expression needs no column and no trigger, and covers every writer. Without
-- fastupdate, searches need not scan a list of pending entries.
CREATE INDEX {stem} ON {images} (image_stem(r2_key));
CREATE INDEX {words} ON {images} USING gin (image_words(r2_key, keywords, title, caption, exif)) WITH (fastupdate = off);
