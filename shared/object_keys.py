"""Keys of our own objects in a bucket: the marker, and the thumbnail and preview of each image.

The keys of thumbnails and previews contain the hash of the image's content. So they never change, copies of an image
share them, and they survive renames.
"""

from shared.stores.base import RESERVED_PREFIX

# An object that a sync stores first. Without it, the bucket was emptied, or another one has taken its place.
MARKER = f"{RESERVED_PREFIX}bucket.json"
THUMBNAILS = f"{RESERVED_PREFIX}thumbnails/"
PREVIEWS = f"{RESERVED_PREFIX}previews/"


def thumbnail_key(sha256: bytes) -> str:
    """Return the key of the thumbnail of the image with this content."""
    return f"{THUMBNAILS}{sha256.hex()}.webp"


def preview_key(sha256: bytes) -> str:
    """Return the key of the preview of the image with this content."""
    return f"{PREVIEWS}{sha256.hex()}.webp"
