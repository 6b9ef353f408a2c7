"""Where an image's thumbnail and preview lie in its bucket.

Their keys hold the content's hash: they never change, are shared by copies of an image, and survive its renaming.
"""

from shared.stores.base import RESERVED_PREFIX


def thumbnail_key(sha256: bytes) -> str:
    """Return the key of the thumbnail of the image with this content."""
    return f"{RESERVED_PREFIX}thumbnails/{sha256.hex()}.webp"


def preview_key(sha256: bytes) -> str:
    """Return the key of the preview of the image with this content."""
    return f"{RESERVED_PREFIX}previews/{sha256.hex()}.webp"
