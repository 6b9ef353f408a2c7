"""CLIP at Replicate: models that run behind an API and are paid by use."""

import asyncio
import re
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import aiohttp
import numpy as np
from numpy.typing import NDArray

from shared.embedders.base import ImageInput, Vector, unit_vector
from shared.embedders.replicate.client import Client, PredictionFailed, PredictionOverdue, Timing
from shared.embedders.replicate.image_input import data_url
from shared.embedders.replicate.text_input import is_too_long, may_fit, one_line, shorter, surely_fits
from shared.errors import ImageRefused, ModelError, Reason, SettingsError
from shared.images.worker_pool import DecoderPool

__all__ = ["MODELS", "ReplicateEmbedder", "Timing"]


@dataclass(frozen=True)
class Model:
    """A model at Replicate that puts out the vectors of openai/clip-vit-large-patch14, as they are: not of length 1.

    An official model has no ``version`` and is called by its name. ``price_per_image`` is in US dollars.
    """

    version: str | None
    batch_size: int
    price_per_image: float


# Prices are not published for a call, but for the time that it computes; these are estimates of July 2026, from bills
# that people showed and from the list of hardware at replicate.com/pricing.
MODELS = {
    # 15 ms on an L40S at $0.000975 a second.
    "openai/clip": Model(version=None, batch_size=1, price_per_image=0.000015),
    # $0.00022 to $0.00073 a call.
    "krthr/clip-embeddings": Model(
        version="1c0371070cb827ec3c7f2f28adcdde54b50dcd239aa6faea0bc98b174ef03fb4",
        batch_size=1,
        price_per_image=0.0005,
    ),
    # 50 images in about 3 s, most of it fetching them, on a T4 at $0.000225 a second: unconfirmed.
    "andreasjansson/clip-features": Model(
        version="75b33f253f7714a281ad3e9b28f63e3232d583716ef6718f2e46641077ea040a",
        batch_size=50,
        price_per_image=0.000014,
    ),
}


def fetches_images(name: str) -> bool:
    """Whether the embedder of that name gives its model addresses of images, and not copies of them."""
    return MODELS[name.removeprefix("replicate:").partition(":")[0]].batch_size > 1


_TRIES = 5  # of an input on which the model fails without saying that it always will
_UNREADABLE = re.compile(r"cannot identify image|truncated|broken data stream|decompression bomb", re.IGNORECASE)
_PROBE = "a photo"
_BY_THE_MODEL = (Reason.MODEL_REFUSED, Reason.BAD_VECTOR)
_CHECK_TIMEOUT = 15.0  # seconds

Kind = Literal["image", "text"]
T = TypeVar("T")


class ReplicateEmbedder:
    """One of MODELS. The single models are sent a small JPEG of each image, the batch model fetches addresses.

    ``calls`` counts the predictions made, which are what Replicate charges for. Use it within one event loop.
    """

    dimensions = 768
    local = False
    notice: str | None = None

    def __init__(
        self,
        *,
        token: str,
        decoder: DecoderPool,
        model: str = "openai/clip",
        base_url: str = "https://api.replicate.com",
        concurrency: int = 3,
        timing: Timing | None = None,
    ) -> None:
        """*model* is a name in MODELS, maybe with ``:`` and a version; no more than *concurrency* calls run at once.

        Raises SettingsError for values that cannot be used.
        """
        token = token.strip()
        _check_settings(token=token, model=model, base_url=base_url)
        path, _, version = model.partition(":")
        traits = MODELS[path]
        self._path = path
        self._version = version or traits.version
        self._token = token
        self._base_url = base_url.rstrip("/").removesuffix("/v1")
        self._decoder = decoder
        self._client = Client(
            token=token,
            base_url=self._base_url,
            model=path,
            version=self._version,
            concurrency=concurrency,
            timing=timing or Timing(),
        )
        self._answered_at = 0.0  # when the model last gave a vector

        # Another version than ours may prepare images differently.
        self.name = f"replicate:{path}" if self._version == traits.version else f"replicate:{model}"
        self.batch_size = traits.batch_size
        self.wants: Literal["data", "address"] = "address" if self.batch_size > 1 else "data"
        self.price_per_image = traits.price_per_image

    @property
    def calls(self) -> int:
        """How many predictions were made so far, one whose answer was lost among them, for it may have been."""
        return self._client.calls

    async def embed_images(self, images: Sequence[ImageInput]) -> list[Vector | ImageRefused]:
        """Embed images as the protocol says.

        A ModelError loses what the other images of the call were answered with, and paid for: give batch_size images.
        """
        began = time.monotonic()
        if self.wants == "data":
            results = await _all([self._embed_data(image.data) for image in images])
        else:
            results = await self._embed_addresses([image.address for image in images])
        if any(isinstance(result, ImageRefused) and result.reason in _BY_THE_MODEL for result in results):
            await self._make_sure_that_it_works(since=began)
        return results

    async def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        lines = [may_fit(one_line(text)) for text in texts]
        # A text that may be too long goes alone, for it would fail all that go with it.
        short = list(dict.fromkeys(line for line in lines if surely_fits(line)))
        long = list(dict.fromkeys(line for line in lines if not surely_fits(line)))
        batches = [short[i : i + self.batch_size] for i in range(0, len(short), self.batch_size)]
        vectors: dict[str, Vector] = {}
        for answers in await _all([*(self._embed_short(batch) for batch in batches), *map(self._embed_long, long)]):
            vectors |= answers
        return np.array([vectors[line] for line in lines], dtype=np.float32).reshape(-1, self.dimensions)

    async def check(self) -> str:
        """Return a sentence on the account and the model; raise ModelError when one of them cannot be used.

        Makes no prediction, and costs nothing.
        """
        # The official client, imported where it is used, since it fails to import on Python 3.14. It tries a read again
        # for a minute, so it has a deadline; its transport is ours, since it does not close its own. Of a model it
        # reads the version alone: it takes an official one, without a version, for a malformed answer.
        import httpx
        from replicate.client import Client as OfficialClient
        from replicate.exceptions import ReplicateError
        from replicate.version import Versions

        setting = "REPLICATE_API_TOKEN"
        try:
            async with asyncio.timeout(_CHECK_TIMEOUT), httpx.AsyncHTTPTransport() as transport:
                client = OfficialClient(api_token=self._token, base_url=self._base_url, transport=transport)
                account = await client.accounts.async_current()
                if self._version:
                    setting = "REPLICATE_MODEL"
                    await Versions(client, self._path).async_get(self._version)
        except ReplicateError as exc:
            raise ModelError(
                f"Replicate answered {exc.status}: {exc.detail}; check {setting}", transient=False
            ) from exc
        except (httpx.HTTPError, TimeoutError, ValueError, TypeError, AttributeError) as exc:
            # The last three are what the client makes of an answer that is not Replicate's.
            why = str(exc) or type(exc).__name__
            message = f"no Replicate answers at {self._base_url}: {why}; check REPLICATE_BASE_URL"
            raise ModelError(message, transient=True) from exc
        return f"{self._path} at Replicate, as {account.username}"

    async def close(self) -> None:
        await self._client.close()

    async def _embed_data(self, data: bytes) -> Vector | ImageRefused:
        try:
            derivative = await self._decoder.run(data_url, data)
        except ImageRefused as refusal:
            return refusal
        return await self._embed_alone(derivative, "image")

    async def _embed_addresses(self, addresses: Sequence[str]) -> list[Vector | ImageRefused]:
        for address in addresses:
            if not re.fullmatch(r"https?://\S+", address):
                raise ModelError(
                    f"{self.name} fetches images itself, and cannot reach {address!r}: keep them in a bucket that it"
                    " can reach, or set REPLICATE_MODEL=openai/clip, which is sent small copies",
                    transient=False,
                )
        distinct = list(dict.fromkeys(addresses))
        results: dict[str, Vector | ImageRefused] = {}
        for start in range(0, len(distinct), self.batch_size):
            results |= await self._embed_together(distinct[start : start + self.batch_size], "image")
        for address, result in results.items():
            if isinstance(result, ImageRefused) and (fault := await _fault_of_address(address)):
                results[address] = fault
        return [results[address] for address in addresses]

    async def _embed_short(self, lines: list[str]) -> dict[str, Vector]:
        """Embed lines that surely fit."""
        return {
            line: _vector_of_text(line, result) for line, result in (await self._embed_together(lines, "text")).items()
        }

    async def _embed_long(self, line: str) -> dict[str, Vector]:
        """Embed as much of the line as the model takes."""
        text = line
        while isinstance(result := await self._embed_alone(text, "text"), ImageRefused) and not surely_fits(text):
            text = shorter(text, result.detail)
        return {line: _vector_of_text(text, result)}

    async def _embed_together(self, inputs: list[str], kind: Kind) -> dict[str, Vector | ImageRefused]:
        """Embed distinct inputs in one prediction, and in smaller ones where that fails, down to one that is alone."""
        if len(inputs) == 1:
            return {inputs[0]: await self._embed_alone(inputs[0], kind)}
        try:
            results = await self._predict(inputs, kind)
        except PredictionFailed as exc:
            results = {}
            for part in _parts(inputs, str(exc)):
                results |= await self._embed_together(part, kind)
            return results
        for each, result in results.items():
            if isinstance(result, ImageRefused):
                results[each] = await self._embed_alone(each, kind)
        return results

    async def _embed_alone(self, single: str, kind: Kind) -> Vector | ImageRefused:
        """Embed one input, more than once where it fails without a reason that is sure to stay."""
        tries = _TRIES
        while True:
            try:
                result = (await self._predict([single], kind))[single]
            except PredictionFailed as exc:
                final = bool(_UNREADABLE.search(str(exc)))
                result = ImageRefused(Reason.MODEL_REFUSED, f"the model failed on it: {exc}", final=final)
                if final or is_too_long(str(exc)):
                    return result
                if isinstance(exc, PredictionOverdue):
                    tries -= _TRIES // 2  # for the time that it took
            tries -= 1
            if tries <= 0 or not isinstance(result, ImageRefused):
                return result

    async def _predict(self, inputs: list[str], kind: Kind) -> dict[str, Vector | ImageRefused]:
        """Return what one prediction gives for each of the inputs; a single model takes one.

        Raises PredictionFailed when it fails or its output has another form, ModelError for what is not its fault.
        """
        batch = self.batch_size > 1
        output = await self._client.run(
            {"inputs": "\n".join(inputs)} if batch else {kind: inputs[0]}, splittable=len(inputs) > 1
        )
        try:
            # By what it says it embedded, so that no vector can come to another image than its own.
            found = {one["input"]: one["embedding"] for one in output} if batch else {inputs[0]: output["embedding"]}
            results = {each: _vector(found[each]) for each in inputs}
        except (KeyError, TypeError) as exc:
            raise PredictionFailed(f"its output has another form: {str(output)[:80]}") from exc
        if any(not isinstance(result, ImageRefused) for result in results.values()):
            self._answered_at = time.monotonic()
        return results

    async def _make_sure_that_it_works(self, *, since: float) -> None:
        """Raise ModelError unless the model has embedded something since then, or does now.

        A model that fails on everything is no fault of the images that it was given.
        """
        if self._answered_at < since:
            result = await self._embed_alone(_PROBE, "text")
            if isinstance(result, ImageRefused):
                raise ModelError(f"{self.name} fails on everything: {result.detail}", transient=True)


def _check_settings(*, token: str, model: str, base_url: str) -> None:
    problems = []
    if not token:
        problems.append("REPLICATE_API_TOKEN is not set: make one at https://replicate.com/account/api-tokens")
    path, colon, version = model.partition(":")
    if path not in MODELS:
        problems.append(f"REPLICATE_MODEL is {model!r}: give one of {', '.join(MODELS)}, whose vectors are known")
    elif colon and not re.fullmatch("[0-9a-f]{64}", version):
        problems.append(f"REPLICATE_MODEL is {model!r}: a version is 64 hexadecimal digits")
    if not re.match("https?://", base_url):
        problems.append(f"REPLICATE_BASE_URL is {base_url!r}: give an address that begins with https://")
    if problems:
        raise SettingsError("\n".join(problems))


async def _all(tasks: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Return the results of all, refusals among them; a failure is raised after the last one has ended."""
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, ImageRefused):
            raise result
    return results  # type: ignore[return-value]


def _vector(values: Any) -> Vector | ImageRefused:
    try:
        return unit_vector(values, dimensions=ReplicateEmbedder.dimensions)
    except ImageRefused as refusal:
        return refusal
    except (TypeError, ValueError) as exc:
        return ImageRefused(Reason.BAD_VECTOR, f"the model gave a vector with values that are no numbers: {exc}")


def _vector_of_text(text: str, result: Vector | ImageRefused) -> Vector:
    if isinstance(result, ImageRefused):
        raise ModelError(f"no vector for the text {text[:80]!r}: {result.detail}", transient=True)
    return result


def _parts(inputs: list[str], error: str) -> tuple[list[str], list[str]]:
    """Part inputs that failed together: the address that the error names from the others, else in two halves."""
    # The longest, for one address may be the beginning of another.
    named = max((each for each in inputs if "://" in each and each in error), key=len, default=None)
    if named is not None:
        return [each for each in inputs if each != named], [named]
    half = len(inputs) // 2
    return inputs[:half], inputs[half:]


async def _fault_of_address(address: str) -> ImageRefused | None:
    """Return the image's fault that it cannot be fetched, None when it can be; raise ModelError when the store fails.

    The model does not say whether it could not fetch an image or could not read it.
    """
    host = urlsplit(address).hostname
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_CHECK_TIMEOUT)) as session,
            session.get(address, headers={"Range": "bytes=0-0"}) as response,
        ):
            status = response.status
    except (aiohttp.ClientError, TimeoutError) as exc:
        raise ModelError(
            f"the model cannot fetch images from {host}, and nor can this machine: {exc}", transient=True
        ) from exc
    if status in (404, 410):
        return ImageRefused(Reason.OBJECT_MISSING, f"the model found no image at its address: {host} answered {status}")
    if status >= 400 and status != 416:  # 416: an empty file has no first byte
        message = f"the model cannot fetch images from {host}, which answered {status}"
        raise ModelError(message, transient=status >= 500 or status == 429)
    return None
