"""What both processes speak of. Plain values, no I/O."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID


@dataclass(frozen=True)
class Collection:
    """A bucket and the tables that index it. ``base`` is the stem of its tables' names.

    ``vectors`` is which of them holds the vectors of ``model``: its own, or what a re-embedding fills beside.
    """

    bucket: str
    base: str
    model: str
    dimensions: int
    title: str
    created_at: datetime
    vectors: Literal["embeddings", "next_embeddings"] = "embeddings"


@dataclass(frozen=True)
class NextEmbeddings:
    """The vectors of another model beside a collection's own.

    A re-embedding is ``preparing`` while not every image has its place there, then ``filling``; after the switch they
    are those of the ``previous`` model.
    """

    model: str
    dimensions: int
    state: Literal["preparing", "filling", "previous"]


@dataclass(frozen=True)
class Counts:
    """How far a collection is: ``total = embedded + pending + failed``."""

    total: int
    embedded: int
    pending: int
    failed: int


@dataclass(frozen=True)
class NewImage:
    """All that is written when an image is uploaded. ``placeholder`` is a small data: address or None."""

    key: str
    sha256: bytes
    size: int
    content_type: str
    width: int
    height: int
    origin: str
    placeholder: str | None = None
    derivatives: bool = False
    truncated: bool = False
    taken_at: datetime | None = None
    camera: str | None = None
    lens: str | None = None
    keywords: tuple[str, ...] = ()
    caption: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    exif: dict[str, Any] | None = None


@dataclass(frozen=True)
class Image:
    """One image as lists and pages show it. ``status`` is ``pending``, ``embedded`` or ``failed``."""

    id: int
    key: str
    sha256: bytes
    size: int
    content_type: str
    width: int
    height: int
    placeholder: str | None
    derivatives: bool
    truncated: bool
    taken_at: datetime | None
    camera: str | None
    created_at: datetime
    status: str


@dataclass(frozen=True)
class Filters:
    """What listed images must be like; None asks for nothing. Sizes are in pixels, of the picture turned upright, and
    in bytes.

    ``taken_after`` is the first moment, ``taken_before`` the first that is too late. ``camera`` is the whole name, in
    any case. ``folder`` holds the image or a folder above it. ``type`` is a media type.
    """

    taken_after: datetime | None = None
    taken_before: datetime | None = None
    camera: str | None = None
    folder: str | None = None
    orientation: Literal["landscape", "portrait", "square"] | None = None
    type: str | None = None
    min_width: int | None = None
    max_width: int | None = None
    min_height: int | None = None
    max_height: int | None = None
    min_size: int | None = None
    max_size: int | None = None


@dataclass(frozen=True)
class Facets:
    """What filters have to choose from, each with how many images it leaves, most first; and the times from first to
    last.
    """

    cameras: dict[str, int]
    folders: dict[str, int]
    types: dict[str, int]
    first_taken: datetime | None
    last_taken: datetime | None


@dataclass(frozen=True)
class Hit:
    """An image of a ranked list; ``score`` is the cosine of its vector and the query's, −1 to 1.

    ``named`` says that the query's words stand in its name, folder, keywords or caption. Such an image may be found
    before it has a vector: then ``score`` is None.
    """

    image: Image
    score: float | None
    named: bool = False


@dataclass(frozen=True)
class TextMatch:
    """An image whose name, folders, keywords and caption hold all words of a query.

    ``exact`` says that the query is its name, ``own`` that its folders are not needed to find all words. ``score`` is
    that of a Hit.
    """

    id: int
    exact: bool
    own: bool
    score: float | None


@dataclass(frozen=True)
class Ranking:
    """Images by id, best first, and their scores as those of a Hit; ``named`` are those of them that are named."""

    ids: list[int]
    scores: list[float | None]
    named: list[int]


@dataclass(frozen=True)
class Job:
    """An image that this process is to embed, for as long as it holds ``lease``."""

    id: int
    key: str
    sha256: bytes
    derivatives: bool
    attempts: int
    lease: UUID


@dataclass(frozen=True)
class Failure:
    """An image, or a file that never became one, that was given up, and why."""

    key: str
    reason: str
    detail: str
    attempts: int
    failed_at: datetime


@dataclass(frozen=True)
class KnownFile:
    """What a former sync saw under ``path``, and what became of it.

    ``image_id`` is the image that it became; ``reason`` why it became none; ``removed`` that its image was removed
    through the API and is not to come back.
    """

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    sha256: bytes | None
    image_id: int | None
    removed: bool
    reason: str | None
