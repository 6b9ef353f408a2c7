-- Text in pictures: a row for each image that was read, with or without text.
CREATE TABLE {texts} (
    id    bigint PRIMARY KEY REFERENCES {images} ON DELETE CASCADE,
    lines text[] NOT NULL,
    boxes real[] NOT NULL, -- eight per line: the corners, see shared.models.TextLine
    words tsvector GENERATED ALWAYS AS (text_words(lines)) STORED
);
CREATE INDEX {textwords} ON {texts} USING gin (words) WITH (fastupdate = off);
