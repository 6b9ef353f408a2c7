-- API tokens, beside those of the servers' settings.
CREATE TABLE api_tokens (
    name         text PRIMARY KEY,
    digest       bytea NOT NULL UNIQUE, -- SHA-256; the tokens themselves are not stored
    bucket       text REFERENCES collections ON DELETE CASCADE, -- NULL: all buckets
    writes       boolean NOT NULL,
    created_at   timestamptz NOT NULL,
    last_used_at timestamptz
);

-- Browsers that are signed in. Signing out deletes the row.
CREATE TABLE sessions (
    id           uuid PRIMARY KEY,
    token_digest bytea NOT NULL, -- of a token of the settings or of api_tokens
    expires_at   timestamptz NOT NULL
);
CREATE INDEX sessions_expires ON sessions (expires_at);

-- The different wrong tokens that each client has tried recently.
CREATE TABLE wrong_tokens (
    client   text NOT NULL,
    digest   bytea NOT NULL,
    tried_at timestamptz NOT NULL,
    PRIMARY KEY (client, digest)
);
CREATE INDEX wrong_tokens_tried ON wrong_tokens (tried_at);
