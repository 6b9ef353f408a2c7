"""Image files: formats, decoding, metadata and thumbnails.

All of it parses untrusted bytes: run it in a ``shared.images.worker_pool.DecoderPool``.
"""

from shared.images.decode import MAX_PIXELS, open_rgb
from shared.images.formats import EXTENSIONS, Format, sniff
from shared.images.metadata import Metadata
from shared.images.thumbnails import Examined, Glance, ModelInput, check_query_picture, examine, glance

__all__ = [
    "EXTENSIONS",
    "MAX_PIXELS",
    "Examined",
    "Format",
    "Glance",
    "Metadata",
    "ModelInput",
    "check_query_picture",
    "examine",
    "glance",
    "open_rgb",
    "sniff",
]
