"""Metadata in EXIF, IPTC, XMP and text chunks: untrusted and often broken, so cleaned and bounded.

Nothing here raises an error for the content of a file: unreadable values are omitted.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from shared.images.decode import Decoded
from shared.images.metadata import comments, iptc, xmp
from shared.images.metadata.camera import camera_name
from shared.images.metadata.dates import Taken
from shared.images.metadata.description import Description, TimeKind
from shared.images.metadata.exif import ExifTags, Fields
from shared.images.metadata.text import attempt

_MAX_KEYWORDS = 100
_TIME_KINDS: tuple[TimeKind, ...] = ("original", "digitized", "modified")
# Texts that have no column.
_EXTRA_TEXTS = ("comment", "artist", "copyright", "location", "city", "state", "country")
# Cameras and software write these into every picture.
_BOILERPLATE = re.compile(
    r"(olympus|sony|minolta|konica|pentax|kodak|samsung|fuji|canon|nikon)?\s*(digital (still )?camera|dsc|dcim.*)"
    r"|default|untitled|charset=.*|image description|screenshot|\W*"
    r"|creator: gd-jpeg.*|created with .*|lead technologies.*|(file written by|optimized by) .*",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True)
class Metadata:
    """Metadata of a photo. ``exif`` contains further fields as JSON values.

    ``taken_local`` is what the camera's clock showed, without time zone; ``taken_offset`` is its offset in minutes east
    of UTC, None if the camera wrote none.
    """

    taken_local: datetime | None = None
    taken_offset: int | None = None
    camera: str | None = None
    lens: str | None = None
    keywords: tuple[str, ...] = ()
    title: str | None = None
    caption: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    exif: Fields = field(default_factory=dict)


def read_metadata(decoded: Decoded, sidecar: bytes = b"") -> Metadata:
    """Return the metadata of the image, whose file must be open, and of its sidecar."""
    tags, info = ExifTags(decoded.exif), decoded.image.info
    nothing = Description()
    beside = attempt(nothing, lambda: xmp.describe(sidecar))
    packet = attempt(b"", lambda: xmp.find_packet(info, tags.main))
    inside = attempt(nothing, lambda: xmp.describe(packet))
    segments = getattr(decoded.image, "applist", ())  # of a JPEG
    extension = attempt(nothing, lambda: xmp.describe(xmp.find_extension(segments, packet)))
    agency = attempt(nothing, lambda: iptc.describe(iptc.find_block(info) or tags.iptc))
    camera = attempt(nothing, tags.description)
    chunks = attempt(nothing, lambda: comments.describe(info))
    # EXIF has the precise time, while XMP and IPTC may have the date alone.
    taken = _taken((beside, camera, inside, extension, agency, chunks))
    return _merge((beside, inside, extension, agency, camera, chunks), taken, attempt({}, tags.fields))


def _merge(described: Sequence[Description], taken: Taken | None, fields: Fields) -> Metadata:
    """Return the metadata in all descriptions, the most trusted first."""
    texts: dict[str, str] = {}
    for each in described:
        for name, text in each.texts.items():
            if not _BOILERPLATE.fullmatch(text):
                texts.setdefault(name, text)
    latitude, longitude = next((each.position for each in described if each.position), (None, None))
    rating = next((each.rating for each in described if each.rating is not None), None)
    keywords = dict.fromkeys(keyword for each in described for keyword in each.keywords)
    return Metadata(
        taken_local=taken.local if taken else None,
        taken_offset=taken.offset if taken else None,
        camera=camera_name(texts.get("make", ""), texts.get("model", "")),
        lens=texts.get("lens"),
        keywords=tuple(keywords)[:_MAX_KEYWORDS],
        title=texts.get("title"),
        caption=texts.get("caption"),
        latitude=latitude,
        longitude=longitude,
        exif=fields
        | {name: texts[name] for name in _EXTRA_TEXTS if name in texts}
        | ({} if rating is None else {"rating": rating}),
    )


def _taken(described: Sequence[Description]) -> Taken | None:
    """Return the best of the times, with the offset that another one of the same second has."""
    times = list(_times(described))
    if not times:
        return None
    best = times[0]
    same = (time.offset for time in times if time.local.replace(microsecond=0) == best.local.replace(microsecond=0))
    return Taken(best.local, next((offset for offset in same if offset is not None), None))


def _times(described: Sequence[Description]) -> Iterator[Taken]:
    """Yield all times, the most reliable first."""
    for kind in _TIME_KINDS:
        for each in described:
            if kind in each.taken:
                yield each.taken[kind]
