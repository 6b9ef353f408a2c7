-- {taken} now serves lists in the order of capture, undated images included, and {takenlocal} covers the timeline.
DROP INDEX {taken};
DROP INDEX {takenlocal};
CREATE INDEX {taken} ON {images} (taken_at, id);
CREATE INDEX {takenlocal} ON {images} (taken_local, taken_at);
