"""Names of cameras."""

import re

from shared.images.metadata.text import MAX_LINE

_COMPANY_WORDS = re.compile(
    r"[\s,]+(corporation|corp|company|co|ltd|inc|gmbh|ag|computer|imaging|optical|electric|camera|cameras)\b.*",
    re.IGNORECASE,
)


def camera_name(make: str, model: str) -> str | None:
    """Return maker and model in common form: "Canon EOS 5D", "Nikon D90", "Sony ILCE-7M3"."""
    brand = _COMPANY_WORDS.sub("", make)
    first = model.split(" ")[0]
    # "Eastman Kodak" makes the "KODAK EASYSHARE": the shared word is the brand.
    if first and first.lower() in brand.lower().split():
        brand = first
    if (brand.isupper() and len(brand) > 3) or brand.islower():
        brand = brand.title()
    rest = model[len(brand) :] if model.lower().startswith(brand.lower()) else f" {model}"
    return f"{brand}{rest}".strip()[:MAX_LINE] or None
