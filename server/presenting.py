"""Images as clients see them."""

from typing import Any

from shared.derivatives import preview_key, thumbnail_key
from shared.model import Hit, Image
from shared.stores import ObjectStore


def image(image: Image, store: ObjectStore) -> dict[str, Any]:
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


def hit(hit: Hit, store: ObjectStore) -> dict[str, Any]:
    """Return the public form of a search result."""
    return image(hit.image, store) | {"score": round(hit.score, 6), "weak": False}
