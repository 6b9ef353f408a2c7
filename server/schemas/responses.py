"""Images as clients see them."""

from typing import Any

from typing_extensions import TypedDict

from shared.models import Hit, Image
from shared.object_keys import preview_key, thumbnail_key
from shared.stores.base import ObjectStore


class ImageAnswer(TypedDict):
    """An image. ``status`` is ``pending``, ``embedded`` or ``failed``; times are ISO 8601."""

    id: int
    key: str
    bucket: str
    url: str
    thumbnail_url: str
    preview_url: str
    width: int
    height: int
    size: int
    content_type: str
    placeholder: str | None
    created_at: str
    taken_at: str | None
    camera: str | None
    truncated: bool
    status: str


class HitAnswer(ImageAnswer):
    """An image that was found. ``score`` is the cosine, null where the image has no vector; ``weak`` says that chance
    would do as well."""

    score: float | None
    weak: bool


class ImageDetails(ImageAnswer):
    """An image with all that is known of it."""

    lens: str | None
    keywords: list[str]
    caption: str | None
    latitude: float | None
    longitude: float | None
    exif: dict[str, Any] | None
    origin: str
    failure_reason: str | None
    failure_detail: str | None


class Images(TypedDict):
    """A page of images; ``next_cursor`` gives the next one, and is null at the end."""

    images: list[ImageAnswer]
    next_cursor: str | None


class Hits(TypedDict):
    """A page of what was found, best first; ``next_cursor`` gives the next one, and is null at the end."""

    images: list[HitAnswer]
    next_cursor: str | None


def image(image: Image, store: ObjectStore) -> ImageAnswer:
    """Return the public form of an image of the bucket that *store* holds."""
    url = store.address(image.key, version=image.sha256.hex()[:16])
    return {
        "id": image.id,
        "key": image.key,
        "bucket": store.bucket,
        "url": url,
        "thumbnail_url": store.address(thumbnail_key(image.sha256)) if image.derivatives else url,
        "preview_url": store.address(preview_key(image.sha256)) if image.derivatives else url,
        "width": image.width,
        "height": image.height,
        "size": image.size,
        "content_type": image.content_type,
        "placeholder": image.placeholder,
        "created_at": image.created_at.isoformat(),
        "taken_at": image.taken_at.isoformat() if image.taken_at else None,
        "camera": image.camera,
        "truncated": image.truncated,
        "status": image.status,
    }


def hit(hit: Hit, store: ObjectStore, threshold: float | None) -> HitAnswer:
    """Return the public form of a search result, in a search whose matches below the score *threshold* are weak."""
    score = hit.score
    weak = score is not None and threshold is not None and score < threshold and not hit.named
    return {**image(hit.image, store), "score": None if score is None else round(score, 6), "weak": weak}
