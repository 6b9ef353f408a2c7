"""What people expect of a folder's images when they remove some through the API, and add others."""

from collections import Counter
from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, field

from tests.helpers.synced_folder import Row, sha256


@dataclass
class Expectation:
    """What a bucket is to show, told from what people did and what they saw.

    An image that was removed does not come back as long as its content lies in the folder: not when its file is
    touched, renamed or swapped with another, and not as a copy of it. A file that is edited is a new picture, and comes
    back. Where the folder held the content twice and one image was removed, the other one stays; whether a further file
    with this content is shown is left open, as nobody can tell a copy of the one from the other, renamed. Once no file
    has the content any more, it is forgotten.

    No sync touches an image that was added through the API, nor what somebody else put into the bucket. A file that has
    its key is refused.
    """

    added: dict[str, bytes] = field(default_factory=dict)
    foreign: dict[str, bytes] = field(default_factory=dict)  # objects, not images
    # Files that were images when all was in order the last time, and ever since had the same content; and those whose
    # images were removed.
    shown: dict[str, bytes] = field(default_factory=dict)
    hidden: dict[str, bytes] = field(default_factory=dict)
    # Contents no file of which may be an image; and those of which some file may be none.
    buried: set[bytes] = field(default_factory=set)
    marked: set[bytes] = field(default_factory=set)

    def own(self, rows: Mapping[str, Row]) -> dict[str, Row]:
        """Return the images that came from the folder."""
        return {key: row for key, row in rows.items() if key not in self.added}

    def remove(self, key: str, content: bytes, *, alone: bool) -> None:
        """An image was removed; *alone*: it was the only one of the folder with its content, and no other can come."""
        if self.added.pop(key, None) is not None:
            return
        if self.shown.get(key) == content:
            self.hidden[key] = self.shown.pop(key)
        self.marked.add(content)
        if alone:
            self.buried.add(content)

    def add(self, key: str, content: bytes, *, as_image: bool) -> None:
        """An image, or an object, was added."""
        (self.added if as_image else self.foreign)[key] = content
        self.shown.pop(key, None)
        self.hidden.pop(key, None)

    @property
    def taken(self) -> Set[str]:
        """The keys that no file gets."""
        return self.added.keys() | self.foreign.keys()

    def look(self, contents: Mapping[str, bytes], rows: Mapping[str, Row]) -> None:
        """Look at the images after any run, which may have ended anywhere, on a folder with these *contents*."""
        assert {key: rows[key].sha256 for key in self.added if key in rows} == {
            key: sha256(content) for key, content in self.added.items()
        }, "an image that came by the API was touched"
        buried = {sha256(content) for content in self.buried}
        assert not buried & {row.sha256 for row in self.own(rows).values()}, "a removed image has come back"
        self.buried &= set(contents.values())
        for known in (self.shown, self.hidden):
            for path in [path for path, content in known.items() if contents.get(path) != content]:
                del known[path]

    def settle(self, contents: Mapping[str, bytes], rows: Mapping[str, Row]) -> dict[str, bytes]:
        """Look at the images after a run without any hindrance; return which there are to be."""
        self.look(contents, rows)
        mine = {path: content for path, content in contents.items() if path not in self.taken}
        shown = {path: content for path, content in mine.items() if path in rows}
        hidden = {path: content for path, content in mine.items() if path not in rows}
        assert self.shown.items() <= shown.items(), "a file has lost its image"
        assert self.hidden.items() <= hidden.items(), "a removed image has come back"
        assert set(hidden.values()) <= self.marked, "a file that nobody removed is no image"
        unseen = {contents[path] for path in self.taken if path in contents}  # nobody knows what they would be
        self.marked = set(hidden.values()) | (self.marked & unseen)
        self.buried = (set(hidden.values()) | (self.buried & unseen)) - set(shown.values())
        self.shown, self.hidden = shown, hidden
        return shown | self.added

    def refused(self, contents: Mapping[str, bytes]) -> Collection[int]:
        """Return how many files may be refused, as something else has their key."""
        under_taken_keys = [content for path, content in contents.items() if path in self.taken]
        certain = Counter(content in self.marked for content in under_taken_keys)[False]
        possible = Counter(content in self.buried for content in under_taken_keys)[False]
        return range(certain, possible + 1)
