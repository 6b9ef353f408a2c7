-- Who brings a source's files over: one process at a time (turn 0), and one more that waits to be the next (turn 1).
CREATE TABLE source_leases (
    source_id integer NOT NULL REFERENCES sources ON DELETE CASCADE,
    turn      smallint NOT NULL,
    holder    uuid NOT NULL,
    ends_at   timestamptz NOT NULL,
    PRIMARY KEY (source_id, turn)
);
