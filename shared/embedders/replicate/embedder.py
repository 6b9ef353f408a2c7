"""CLIP at Replicate: models behind an API, paid by use."""

import re
import time
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shared.embedders.base import ImageInput, Vector, gather_all, unit_vector
from shared.embedders.replicate.api_errors import PredictionFailed, PredictionTimeout
from shared.embedders.replicate.checks import check_account, check_address
from shared.embedders.replicate.client import PredictionClient, Timeouts
from shared.embedders.replicate.image_input import data_url
from shared.embedders.replicate.models import REPLICATE_MODELS, check_settings
from shared.embedders.replicate.text_input import is_too_long, normalise, shorten, surely_fits, truncate
from shared.errors import ImageRefused, ModelError, Reason
from shared.images.worker_pool import DecoderPool

_ATTEMPTS = 5  # per input on which the model fails without a reason that is final
_UNREADABLE = re.compile(r"cannot identify image|truncated|broken data stream|decompression bomb", re.IGNORECASE)
_PROBE = "a photo"
_MODEL_REASONS = (Reason.MODEL_REFUSED, Reason.BAD_VECTOR)

Kind = Literal["image", "text"]


class ReplicateEmbedder:
    """One of REPLICATE_MODELS. Single models receive a small JPEG of each image, the batch model fetches addresses.

    ``calls`` counts predictions: Replicate charges for each. Belongs to one event loop.
    """

    dimensions = 768
    examination = None
    local = False
    examination = None
    notice: str | None = None

    def __init__(
        self,
        *,
        token: str,
        decoder: DecoderPool,
        model: str = "openai/clip",
        base_url: str = "https://api.replicate.com",
        concurrency: int = 3,
        timeouts: Timeouts | None = None,
    ) -> None:
        """*model* is a name in REPLICATE_MODELS, optionally with ``:`` and a version.

        At most *concurrency* calls run at once. Raises SettingsError for unusable values.
        """
        token = token.strip()
        check_settings(token=token, model=model, base_url=base_url)
        path, _, version = model.partition(":")
        known = REPLICATE_MODELS[path]
        self._path = path
        self._version = version or known.version
        self._token = token
        self._base_url = base_url.rstrip("/").removesuffix("/v1")
        self._decoder = decoder
        self._client = PredictionClient(
            token=token,
            base_url=self._base_url,
            model=path,
            version=self._version,
            concurrency=concurrency,
            timeouts=timeouts or Timeouts(),
        )
        self._answered_at = 0.0  # when the model last returned a vector

        # Another version may preprocess images differently, so its vectors get another name.
        self.name = f"replicate:{path}" if self._version == known.version else f"replicate:{model}"
        self.batch_size = known.batch_size
        self.input_kind: Literal["data", "address"] = "address" if self.batch_size > 1 else "data"
        self.price_per_image = known.price_per_image

    @property
    def calls(self) -> int:
        """The number of predictions so far, including those whose answer was lost."""
        return self._client.calls

    async def embed_images(self, images: Sequence[ImageInput]) -> list[Vector | ImageRefused]:
        """Embed images as the protocol describes.

        A ModelError discards vectors of the same call that were already paid for: pass at most batch_size images.
        """
        began = time.monotonic()
        if self.input_kind == "data":
            results = await gather_all(self._embed_data(image.data) for image in images)
        else:
            results = await self._embed_addresses([image.address for image in images])
        if any(isinstance(result, ImageRefused) and result.reason in _MODEL_REASONS for result in results):
            await self._check_that_model_works(since=began)
        return results

    async def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        lines = [truncate(normalise(text)) for text in texts]
        # A text that may be too long is sent alone, because it would fail the whole batch.
        short = list(dict.fromkeys(line for line in lines if surely_fits(line)))
        long = list(dict.fromkeys(line for line in lines if not surely_fits(line)))
        batches = [short[i : i + self.batch_size] for i in range(0, len(short), self.batch_size)]
        tasks = [*(self._embed_batch(batch, "text") for batch in batches), *map(self._embed_long, long)]
        results: dict[str, Vector | ImageRefused] = {}
        for found in await gather_all(tasks):
            results |= found
        in_order = [_vector_of_text(line, results[line]) for line in lines]
        return np.array(in_order, dtype=np.float32).reshape(-1, self.dimensions)

    async def check(self) -> str:
        """Return a sentence about the account and the model. Raises ModelError if one of them cannot be used.

        Makes no prediction and costs nothing.
        """
        account = await check_account(
            token=self._token, base_url=self._base_url, model=self._path, version=self._version
        )
        return f"{self._path} at Replicate, as {account}"

    async def close(self) -> None:
        await self._client.close()

    async def _embed_data(self, data: bytes) -> Vector | ImageRefused:
        try:
            image = await self._decoder.run(data_url, data)
        except ImageRefused as refusal:
            return refusal
        return await self._embed_one(image, "image")

    async def _embed_addresses(self, addresses: Sequence[str]) -> list[Vector | ImageRefused]:
        for address in addresses:
            if not re.fullmatch(r"https?://\S+", address):
                raise ModelError(
                    f"{self.name} fetches images itself and cannot reach {address!r}: use a bucket with public"
                    " addresses, or set REPLICATE_MODEL=openai/clip, which receives small copies",
                    transient=False,
                )
        distinct = list(dict.fromkeys(addresses))
        results: dict[str, Vector | ImageRefused] = {}
        for start in range(0, len(distinct), self.batch_size):
            results |= await self._embed_batch(distinct[start : start + self.batch_size], "image")
        for address, result in results.items():
            if isinstance(result, ImageRefused) and (missing := await check_address(address)):
                results[address] = missing
        return [results[address] for address in addresses]

    async def _embed_long(self, line: str) -> dict[str, Vector | ImageRefused]:
        """Embed as much of the line as the model accepts."""
        text = line
        while isinstance(result := await self._embed_one(text, "text"), ImageRefused) and not surely_fits(text):
            text = shorten(text, result.detail)
        return {line: result}

    async def _embed_batch(self, inputs: list[str], kind: Kind) -> dict[str, Vector | ImageRefused]:
        """Embed distinct inputs in one prediction; split those of a failed one until single inputs are left."""
        if len(inputs) == 1:
            return {inputs[0]: await self._embed_one(inputs[0], kind)}
        try:
            results = await self._predict(inputs, kind)
        except PredictionFailed as exc:
            results = {}
            for part in _split(inputs, str(exc)):
                results |= await self._embed_batch(part, kind)
            return results
        for each, result in results.items():
            if isinstance(result, ImageRefused):
                results[each] = await self._embed_one(each, kind)
        return results

    async def _embed_one(self, single: str, kind: Kind) -> Vector | ImageRefused:
        """Embed one input; retry failures that may be accidental."""
        attempts = _ATTEMPTS
        while True:
            try:
                result = (await self._predict([single], kind))[single]
            except PredictionFailed as exc:
                final = bool(_UNREADABLE.search(str(exc)))
                result = ImageRefused(Reason.MODEL_REFUSED, f"the model failed on it: {exc}", final=final)
                if final or is_too_long(str(exc)):
                    return result
                if isinstance(exc, PredictionTimeout):
                    attempts -= _ATTEMPTS // 2  # each takes long
            attempts -= 1
            if attempts <= 0 or not isinstance(result, ImageRefused):
                return result

    async def _predict(self, inputs: list[str], kind: Kind) -> dict[str, Vector | ImageRefused]:
        """Return the results of one prediction, by input; single models take one input.

        Raises PredictionFailed when the model fails or its output is malformed, ModelError when the service fails.
        """
        batch = self.batch_size > 1
        output = await self._client.run(
            {"inputs": "\n".join(inputs)} if batch else {kind: inputs[0]}, divisible=len(inputs) > 1
        )
        try:
            # Matched by the input in the output, so that no vector can be assigned to another image.
            found = {one["input"]: one["embedding"] for one in output} if batch else {inputs[0]: output["embedding"]}
            results = {each: _vector(found[each]) for each in inputs}
        except (KeyError, TypeError) as exc:
            raise PredictionFailed(f"its output is malformed: {str(output)[:80]}") from exc
        if any(not isinstance(result, ImageRefused) for result in results.values()):
            self._answered_at = time.monotonic()
        return results

    async def _check_that_model_works(self, *, since: float) -> None:
        """Raise ModelError unless the model has returned a vector since *since* or does so now.

        If the model fails on everything, its images are not at fault.
        """
        if self._answered_at < since:
            result = await self._embed_one(_PROBE, "text")
            if isinstance(result, ImageRefused):
                raise ModelError(f"{self.name} fails on every input: {result.detail}", transient=True)


def _vector(values: Any) -> Vector | ImageRefused:
    try:
        return unit_vector(values, dimensions=ReplicateEmbedder.dimensions)
    except ImageRefused as refusal:
        return refusal
    except (TypeError, ValueError) as exc:
        return ImageRefused(Reason.BAD_VECTOR, f"the model returned a vector of non-numbers: {exc}")


def _vector_of_text(text: str, result: Vector | ImageRefused) -> Vector:
    if isinstance(result, ImageRefused):
        raise ModelError(f"no vector for the text {text[:80]!r}: {result.detail}", transient=True)
    return result


def _split(inputs: list[str], error: str) -> tuple[list[str], list[str]]:
    """Separate the address that *error* names from the others, or split the inputs in half."""
    # The longest match, because one address may be a prefix of another.
    named = max((each for each in inputs if "://" in each and each in error), key=len, default=None)
    if named is not None:
        return [each for each in inputs if each != named], [named]
    half = len(inputs) // 2
    return inputs[:half], inputs[half:]
