-- Vectors of pictures that were asked for, by content, so that a picture costs one model call for all servers together.
-- The pictures themselves are not kept.
CREATE TABLE query_images (
    handle     text PRIMARY KEY, -- random: whoever knows it can search with the picture
    model      text NOT NULL,
    digest     bytea NOT NULL, -- SHA-256 of the file
    embedding  halfvec NOT NULL,
    expires_at timestamptz NOT NULL,
    UNIQUE (model, digest)
);
CREATE INDEX query_images_expires ON query_images (expires_at);

-- Which picture lay at an address when it was last fetched, so that the pages of a search fetch it once.
CREATE TABLE query_addresses (
    digest     bytea NOT NULL, -- SHA-256 of the address
    handle     text NOT NULL REFERENCES query_images ON DELETE CASCADE,
    model      text NOT NULL,
    fetched_at timestamptz NOT NULL,
    PRIMARY KEY (model, digest)
);
CREATE INDEX query_addresses_handle ON query_addresses (handle);

-- Texts that nobody asks for any more are forgotten, those unused for longest first.
CREATE INDEX query_vectors_used ON query_vectors (used_at);

-- What nonsense scores in a collection, as `syncer calibrate` measured it: cosines that a match has to exceed.
CREATE TABLE calibrations (
    bucket      text NOT NULL REFERENCES collections ON DELETE CASCADE,
    model       text NOT NULL,
    words_level double precision NOT NULL, -- what the best matches of nonsense texts reach
    words_mean  double precision NOT NULL, -- what any image scores with one
    image_level double precision NOT NULL, -- what two images have that were picked at random
    image_mean  double precision NOT NULL,
    images      bigint NOT NULL, -- how many images the collection had
    measured_at timestamptz NOT NULL,
    PRIMARY KEY (bucket, model)
);
