-- Ids of the places where an image was taken, the nearest first; NULL until a sync has looked them up.
ALTER TABLE {images} ADD COLUMN places integer[];
CREATE INDEX {places} ON {images} USING gin (places) WITH (fastupdate = off);
CREATE INDEX {unplaced} ON {images} (id) WHERE places IS NULL AND latitude IS NOT NULL;
DROP INDEX {words};
CREATE INDEX {words} ON {images} USING gin (image_words(r2_key, keywords, title, caption, exif, places))
    WITH (fastupdate = off);
