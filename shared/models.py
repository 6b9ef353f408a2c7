"""Plain values that both processes share. No I/O."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, Literal
from uuid import UUID

IndexKind = Literal["hnsw", "compact", "vchordrq"]
Placement = Literal["local", "worker", "sharded"]
Orientation = Literal["landscape", "portrait", "square"]
# Orders of a list by date: of upload, or of capture; with a minus the latest first.
TakenSort = Literal["-taken", "taken"]
Sort = Literal["-created", "created"] | TakenSort

MAX_ID = 2**63 - 1  # of an image


@dataclass(frozen=True)
class Collection:
    """A bucket and the tables that index it. ``base`` is the common prefix of the tables' names.

    ``vectors`` names the table that holds the vectors of ``model``: the collection's own, or the one filled by a
    re-embedding. ``index_kind`` is the kind of the vectors' index. ``marked`` tells that the bucket has our marker
    object. ``placement`` is where the vectors are stored, see shared/sql/placement.py. ``ocr`` tells whether the words
    in its pictures are read, None before that is decided.
    """

    bucket: str
    base: str
    model: str
    dimensions: int
    title: str
    created_at: datetime
    index_kind: IndexKind = "hnsw"
    marked: bool = False
    placement: Placement = "local"
    ocr: bool | None = None
    vectors: Literal["embeddings", "next_embeddings"] = "embeddings"


@dataclass(frozen=True)
class NextEmbeddings:
    """A second set of vectors of a collection, from another model.

    A re-embedding is ``preparing`` until every image has a row there, then ``filling``. After the switch the set holds
    the vectors of the ``previous`` model.
    """

    model: str
    dimensions: int
    state: Literal["preparing", "filling", "previous"]


@dataclass(frozen=True)
class Counts:
    """Images of a collection by state; ``total = embedded + pending + failed``.

    ``total`` and ``failed`` include the ``rejected`` files that could not become images.
    """

    total: int
    embedded: int
    pending: int
    failed: int
    rejected: int = 0


@dataclass(frozen=True)
class NewImage:
    """Values of a new image's row. ``placeholder`` is a tiny preview as a data: URL.

    ``colours`` are codes of shared.colours. ``taken_local`` is without time zone, ``taken_offset`` in minutes east of
    UTC.
    """

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
    colours: tuple[int, ...] = ()
    taken_local: datetime | None = None
    taken_offset: int | None = None
    camera: str | None = None
    lens: str | None = None
    keywords: tuple[str, ...] = ()
    title: str | None = None
    caption: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    exif: dict[str, Any] | None = None


@dataclass(frozen=True)
class Image:
    """One image in a list. ``status`` is ``pending``, ``embedded`` or ``failed``.

    ``taken_local`` is what the camera's clock showed, ``taken_offset`` its minutes east of UTC if known.
    """

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
    taken_local: datetime | None
    taken_offset: int | None
    camera: str | None
    created_at: datetime
    status: str

    @property
    def taken_at(self) -> datetime | None:
        """The time at which it was taken as the camera's clock showed it, aware if its offset is known."""
        if self.taken_local is None or self.taken_offset is None:
            return self.taken_local
        return self.taken_local.replace(tzinfo=timezone(timedelta(minutes=self.taken_offset)))

    def time(self, sort: Sort) -> datetime | None:
        """Return the time that orders this image in a list sorted by *sort*, as the database has it."""
        if sort in ("-created", "created"):
            return self.created_at
        taken = self.taken_at
        return taken and (taken.astimezone(UTC) if taken.tzinfo else taken.replace(tzinfo=UTC))


@dataclass(frozen=True)
class Filters:
    """Conditions on images; None and () mean any.

    Width and height are in pixels after rotation to upright, size in bytes.

    ``taken_after`` is inclusive, ``taken_before`` exclusive. A naive one is compared with what the camera's clock
    showed, an aware one with the moment, where images of unknown offset count as UTC. ``taken_until`` is the last day
    by the camera's clock.

    An image must have one of the values of a tuple, and none of one that begins with ``not_``. ``camera`` is the full
    name, case-insensitive. ``folder`` includes its subfolders. ``type`` is a media type, ``colour`` a value of
    shared.colours, ``place`` a name of a city, a region or a country in any language. ``exact`` are phrases, all of
    which the image's words or the text in the picture contain.
    """

    taken_after: datetime | None = None
    taken_before: datetime | None = None
    taken_until: date | None = None
    camera: tuple[str, ...] = ()
    not_camera: tuple[str, ...] = ()
    folder: tuple[str, ...] = ()
    not_folder: tuple[str, ...] = ()
    orientation: tuple[Orientation, ...] = ()
    not_orientation: tuple[Orientation, ...] = ()
    type: tuple[str, ...] = ()
    not_type: tuple[str, ...] = ()
    colour: tuple[str, ...] = ()
    not_colour: tuple[str, ...] = ()
    place: tuple[str, ...] = ()
    not_place: tuple[str, ...] = ()
    min_width: int | None = None
    max_width: int | None = None
    min_height: int | None = None
    max_height: int | None = None
    min_size: int | None = None
    max_size: int | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    exact: tuple[str, ...] = ()


@dataclass(frozen=True)
class Position:
    """The coordinates of the image ``id``, in degrees."""

    id: int
    latitude: float
    longitude: float


@dataclass(frozen=True)
class NamedPlace:
    """A place by its id in GeoNames, with its English name and all its names."""

    id: int
    kind: Literal["city", "region", "country"]
    name: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Facets:
    """Available filter values with their numbers of images, most frequent first, and the range of local times."""

    cameras: dict[str, int]
    folders: dict[str, int]
    types: dict[str, int]
    first_taken: datetime | None
    last_taken: datetime | None
    colours: dict[str, int] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class MonthCount:
    """The number of images taken in a month of the camera's clock, ``2024-05``, or of those without a date, None.

    ``first`` and ``last`` are the moments at which the first and the last were taken.
    """

    month: str | None
    count: int
    first: datetime | None
    last: datetime | None


@dataclass(frozen=True)
class Hit:
    """A search result. ``score`` is the cosine of its vector and the query's, −1 to 1.

    ``text_match`` says that its name, folders, keywords, caption or the text in the picture contain the query's words.
    Such an image can be found before it is embedded: ``score`` is then None.
    """

    image: Image
    score: float | None
    text_match: bool = False


@dataclass(frozen=True)
class TextMatch:
    """An image that matches all words of a query: by name, folders, keywords and caption, or by the text in it.

    ``exact_name`` says that the query is its name, ``without_folders`` that all words match exactly without folders.
    ``frequency`` is the number of images that contain exactly the words, this one included. ``score`` is that of a Hit.
    """

    id: int
    exact_name: bool
    without_folders: bool
    frequency: int
    score: float | None


@dataclass(frozen=True)
class Ranking:
    """Images by id, best first, with the scores of Hits; ``text_matches`` are those that match the query's words."""

    ids: list[int]
    scores: list[float | None]
    text_matches: list[int]


@dataclass(frozen=True)
class TextLine:
    """A line of text in a picture.

    ``box`` has its corners, x and y of each, clockwise, beginning where the text begins at the top, as fractions of the
    upright picture's width and height.
    """

    text: str
    box: tuple[float, ...]


@dataclass(frozen=True)
class Job:
    """An image to embed or to read, claimed by this process with ``lease``."""

    id: int
    key: str
    sha256: bytes
    derivatives: bool
    attempts: int
    lease: UUID


@dataclass(frozen=True)
class Failure:
    """A quarantined image, or a file that could not become an image and has no ``image_id``, with the reason."""

    key: str
    image_id: int | None
    reason: str
    detail: str
    attempts: int
    failed_at: datetime


@dataclass(frozen=True)
class KnownFile:
    """State of a file at the last sync and its outcome.

    ``sidecar`` is the state of its sidecar, "" without one. ``image_id`` is the image made from it, ``reason`` the
    rejection. ``removed`` marks a tombstone: the image was
    deleted through the API and must not be uploaded again.
    """

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    sidecar: str
    sha256: bytes | None
    image_id: int | None
    removed: bool
    reason: str | None
