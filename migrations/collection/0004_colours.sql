-- Codes of the image's colours, see shared/colours.py; NULL until the next sync in rows of earlier versions.
ALTER TABLE {images} ADD COLUMN colours smallint[];
CREATE INDEX {colours} ON {images} USING gin (colours) WITH (fastupdate = off);
CREATE INDEX {colourless} ON {images} (id) WHERE colours IS NULL;
