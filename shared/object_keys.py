"""Keys of an image's thumbnail and preview in its bucket.

They contain the hash of the image's content. So they never change, copies of an image share them, and they survive
renames.
"""

from shared.stores.base import RESERVED_PREFIX


def thumbnail_key(sha256: bytes) -> str:
    """Return the key of the thumbnail of the image with this content."""
    return f"{RESERVED_PREFIX}thumbnails/{sha256.hex()}.webp"


def preview_key(sha256: bytes) -> str:
    """Return the key of the preview of the image with this content."""
    return f"{RESERVED_PREFIX}previews/{sha256.hex()}.webp"
