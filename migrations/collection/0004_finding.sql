-- For vectors stored from now on (a REINDEX does it for all): in a graph made with pgvector's default of 64, queries that
-- are far from all clusters, as texts are from images, miss whole clusters. Vectors cost far more to compute than this.
ALTER INDEX {hnsw} SET (ef_construction = 200);

-- What filters narrow by. {shape} answers those of type and size, and how many images they leave, without the table.
CREATE INDEX {taken} ON {images} (taken_at) WHERE taken_at IS NOT NULL;
CREATE INDEX {camera} ON {images} (lower(camera), camera) WHERE camera IS NOT NULL;
CREATE INDEX {shape} ON {images} (content_type, width, height, size);

-- What names and words are found by. An index of an expression needs no column, no trigger, and no rewrite of the table,
-- and covers every writer. Entries are made at once: a search would have to read through those that wait.
CREATE INDEX {stem} ON {images} (image_stem(r2_key));
CREATE INDEX {words} ON {images} USING gin (image_words(r2_key, keywords, caption)) WITH (fastupdate = off);
