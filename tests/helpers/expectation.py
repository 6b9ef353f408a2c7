"""Model of the images that a bucket must show after changes of its folder and calls of the API."""

from collections import Counter
from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, field

from tests.helpers.synced_folder import Row, sha256


@dataclass
class Expectation:
    """The images that a bucket must show, derived from what users did and saw.

    Content whose image was deleted through the API is not uploaded again while the folder holds it, under any name;
    editing the file brings it back. Other images with the same content stay.

    No sync touches an image that was added through the API, or an object of others. A file with the key of one is
    rejected.

    ``shown`` are files that had an image after the last clean run and have the same content since, and ``hidden`` those
    whose image was deleted. No file with ``buried`` content may have an image; files with ``deleted`` content may have
    none.
    """

    added: dict[str, bytes] = field(default_factory=dict)
    foreign: dict[str, bytes] = field(default_factory=dict)  # objects without an image
    shown: dict[str, bytes] = field(default_factory=dict)
    hidden: dict[str, bytes] = field(default_factory=dict)
    buried: set[bytes] = field(default_factory=set)
    deleted: set[bytes] = field(default_factory=set)

    def own(self, rows: Mapping[str, Row]) -> dict[str, Row]:
        """Return the images of the folder."""
        return {key: row for key, row in rows.items() if key not in self.added}

    def delete(self, key: str, content: bytes, *, alone: bool) -> None:
        """Record a deletion; *alone* tells that the folder has no other image with the content and cannot get one."""
        if self.added.pop(key, None) is not None:
            return
        if self.shown.get(key) == content:
            self.hidden[key] = self.shown.pop(key)
        self.deleted.add(content)
        if alone:
            self.buried.add(content)

    def add(self, key: str, content: bytes, *, as_image: bool) -> None:
        """Record an image, or an object of others, that was added."""
        (self.added if as_image else self.foreign)[key] = content
        self.shown.pop(key, None)
        self.hidden.pop(key, None)

    @property
    def taken(self) -> Set[str]:
        """Return the keys that no file can get."""
        return self.added.keys() | self.foreign.keys()

    def check_any_run(self, contents: Mapping[str, bytes], rows: Mapping[str, Row]) -> None:
        """Check the images after a run that may have been interrupted, for a folder with these *contents*."""
        assert {key: rows[key].sha256 for key in self.added if key in rows} == {
            key: sha256(content) for key, content in self.added.items()
        }, "a sync has changed an image of the API"
        buried = {sha256(content) for content in self.buried}
        assert not buried & {row.sha256 for row in self.own(rows).values()}, "a deleted image has come back"
        self.buried &= set(contents.values())
        for files in (self.shown, self.hidden):
            for path in [path for path, content in files.items() if contents.get(path) != content]:
                del files[path]

    def check_clean_run(self, contents: Mapping[str, bytes], rows: Mapping[str, Row]) -> dict[str, bytes]:
        """Check the images after an undisturbed run; return which ones there must be."""
        self.check_any_run(contents, rows)
        mine = {path: content for path, content in contents.items() if path not in self.taken}
        shown = {path: content for path, content in mine.items() if path in rows}
        hidden = {path: content for path, content in mine.items() if path not in rows}
        assert self.shown.items() <= shown.items(), "a file has lost its image"
        assert self.hidden.items() <= hidden.items(), "a deleted image has come back"
        assert set(hidden.values()) <= self.deleted, "a file that was not deleted has no image"
        unseen = {
            contents[path] for path in self.taken if path in contents
        }  # files that cannot show whether their content is deleted
        self.deleted = set(hidden.values()) | (self.deleted & unseen)
        self.buried = (set(hidden.values()) | (self.buried & unseen)) - set(shown.values())
        self.shown, self.hidden = shown, hidden
        return shown | self.added

    def refused(self, contents: Mapping[str, bytes]) -> Collection[int]:
        """Return how many files may be rejected because their key is taken."""
        under_taken_keys = [content for path, content in contents.items() if path in self.taken]
        certain = Counter(content in self.deleted for content in under_taken_keys)[False]
        possible = Counter(content in self.buried for content in under_taken_keys)[False]
        return range(certain, possible + 1)
