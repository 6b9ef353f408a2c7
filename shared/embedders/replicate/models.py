"""The CLIP models at Replicate that can be used, and the checks of the settings that choose one."""

import re
from dataclasses import dataclass

from shared.errors import SettingsError


@dataclass(frozen=True)
class ReplicateModel:
    """A model that returns the unnormalised vectors of openai/clip-vit-large-patch14.

    An official model has no ``version`` and is called by its name. ``price_per_image`` is in US dollars.
    """

    version: str | None
    batch_size: int
    price_per_image: float


# Replicate publishes prices of computing time, not of calls. These are estimates of July 2026 from published bills and
# the hardware list at replicate.com/pricing.
REPLICATE_MODELS = {
    # 15 ms on an L40S at $0.000975 a second.
    "openai/clip": ReplicateModel(version=None, batch_size=1, price_per_image=0.000015),
    # $0.00022 to $0.00073 a call.
    "krthr/clip-embeddings": ReplicateModel(
        version="1c0371070cb827ec3c7f2f28adcdde54b50dcd239aa6faea0bc98b174ef03fb4",
        batch_size=1,
        price_per_image=0.0005,
    ),
    # 50 images in about 3 s, most of it fetching them, on a T4 at $0.000225 a second: unconfirmed.
    "andreasjansson/clip-features": ReplicateModel(
        version="75b33f253f7714a281ad3e9b28f63e3232d583716ef6718f2e46641077ea040a",
        batch_size=50,
        price_per_image=0.000014,
    ),
}


def fetches_images(embedder_name: str) -> bool:
    """Return whether the model of that embedder fetches images by address instead of receiving copies."""
    return REPLICATE_MODELS[embedder_name.removeprefix("replicate:").partition(":")[0]].batch_size > 1


def check_settings(*, token: str, model: str, base_url: str) -> None:
    """Raise SettingsError that lists every unusable value."""
    problems = []
    if not token:
        problems.append("REPLICATE_API_TOKEN is not set: create one at https://replicate.com/account/api-tokens")
    path, colon, version = model.partition(":")
    if path not in REPLICATE_MODELS:
        problems.append(f"REPLICATE_MODEL is {model!r}: give one of {', '.join(REPLICATE_MODELS)}")
    elif colon and not re.fullmatch("[0-9a-f]{64}", version):
        problems.append(f"REPLICATE_MODEL is {model!r}: a version is 64 hexadecimal digits")
    if not re.match("https?://", base_url):
        problems.append(f"REPLICATE_BASE_URL is {base_url!r}: give an address that begins with https://")
    if problems:
        raise SettingsError("\n".join(problems))
