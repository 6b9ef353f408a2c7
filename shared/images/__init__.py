"""Bytes in, values out: what a file holds, its pixels, and what is made from them for the gallery.

Everything here decodes what strangers made: run it through ``shared.images.worker_pool.DecoderPool``.
"""

from shared.images.decode import MAX_PIXELS, open_rgb
from shared.images.formats import EXTENSIONS, Format, sniff
from shared.images.metadata import Metadata
from shared.images.thumbnails import Examined, Glance, examine, glance

__all__ = [
    "EXTENSIONS",
    "MAX_PIXELS",
    "Examined",
    "Format",
    "Glance",
    "Metadata",
    "examine",
    "glance",
    "open_rgb",
    "sniff",
]
