-- Objects that may lie in the bucket without an image that names them. An upload notes its keys here before it stores
-- anything, and takes them out together with making the image's row; whoever removes an image notes its keys here
-- together with removing the row. What is due is deleted from the bucket, unless an image names it by then. So a
-- process can be killed anywhere, and leaves no object that nobody knows of.
CREATE TABLE {trash} (
    key       text COLLATE "C" NOT NULL,
    upload    uuid NOT NULL,    -- one upload, or one removal
    sha256    bytea NOT NULL,   -- of the image that the object is, or was made from
    derived   boolean NOT NULL, -- a thumbnail or preview, needed as long as any image has this content
    stored    boolean NOT NULL, -- false: maybe never stored, so that what lies under the key may be somebody else's
    source_id integer REFERENCES sources,
    due_at    timestamptz NOT NULL,
    PRIMARY KEY (key, upload)
);
-- By content, because a file whose image was removed through the API may be renamed.
CREATE INDEX {removed} ON {files} (sha256) WHERE removed;
