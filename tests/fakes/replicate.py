"""A fake of Replicate's HTTP API with the three models that return CLIP vectors, and with its faults.

FAULTS and POLL_FAULTS list the faults. They are injected by ``script``, one per call, or at random with the
probabilities in ``faults``.

In a test: ``with FakeReplicate.serving() as fake: ...``, in a thread. As a process:
``python -m tests.fakes.replicate``, which prints its address and returns its counters at ``/_counts``.
"""

import argparse
import asyncio
import base64
import contextlib
import functools
import hashlib
import inspect
import io
import json
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
import numpy as np
from aiohttp import web
from PIL import Image

DIMENSIONS = 768
SINGLE_MODELS = ("openai/clip", "krthr/clip-embeddings")
VERSIONS = {
    "1c0371070cb827ec3c7f2f28adcdde54b50dcd239aa6faea0bc98b174ef03fb4": "krthr/clip-embeddings",
    "75b33f253f7714a281ad3e9b28f63e3232d583716ef6718f2e46641077ea040a": "andreasjansson/clip-features",
}
ENDED = ("succeeded", "failed", "canceled", "aborted")

Values = Sequence[float] | Sequence[None]
Encoder = Callable[[Any], Values | Awaitable[Values]]

# Images of one of these colours are bad, in any size and JPEG quality.
REFUSED_COLOUR = (255, 0, 255)  # the model fails without a final reason
ZEROS_COLOUR = (0, 255, 255)  # a vector of zeros
SHORT_COLOUR = (255, 255, 0)  # a vector of 512 dimensions
NULLS_COLOUR = (0, 255, 0)  # a vector of nulls, as JSON represents NaN
_BAD_VECTORS: dict[tuple[int, ...], Values] = {
    ZEROS_COLOUR: [0.0] * DIMENSIONS,
    SHORT_COLOUR: [0.0] * 512,
    NULLS_COLOUR: [None] * DIMENSIONS,
}


class ModelFailure(Exception):
    """Raised by an encoder to make the prediction fail with this message."""


@functools.lru_cache(maxsize=256)
def vector_of_pixels(data: bytes) -> list[float]:
    """Return a vector that depends on the pixels alone; its length is not 1."""
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(image.convert("RGB"))
    return _vector(pixels.tobytes())


def vector_of_text(text: str) -> list[float]:
    """Return a vector that depends on the text alone; its length is not 1."""
    return _vector(text.encode())


def _vector(content: bytes) -> list[float]:
    seed = int.from_bytes(hashlib.sha256(content).digest()[:8], "big")
    values: list[float] = np.random.default_rng(seed).normal(size=DIMENSIONS).round(4).tolist()
    return values


def count_tokens(text: str) -> int:
    """Return a plausible number of CLIP tokens: one per four bytes of a word, and two around the text."""
    pieces = re.findall(r"'(?:s|t|re|ve|m|ll|d)|[^\W\d_]+|\d|(?:[^\w\s]|_)+", text.lower())
    return 2 + sum(-(-len(piece.encode()) // 4) for piece in pieces)


@dataclass
class Settings:
    """Behaviour that can be changed while the fake runs. Times are in seconds."""

    token: str = "r8_fake"
    latency: float = 0.0  # of a prediction
    unwaited: float = 0.0  # probability that a create ignores the request to wait
    fetches: bool = True  # if false, vectors depend on the address and nothing is fetched
    seed: int = 0
    faults: dict[str, float] = field(default_factory=dict)  # fault -> probability, for creates
    poll_faults: dict[str, float] = field(default_factory=dict)  # fault -> probability, for gets
    script: list[str] = field(default_factory=list)  # faults of the next creates, "" for none; consumed
    poll_script: list[str] = field(default_factory=list)
    retry_after: float = 1.0  # seconds stated by faults that state a time


@dataclass
class Counts:
    """Counters of requests and outcomes."""

    creates: int = 0
    predictions: int = 0  # accepted creates, which would be charged
    gets: int = 0
    cancels: int = 0
    most_running: int = 0
    faults: Counter[str] = field(default_factory=Counter)  # creates without all vectors, by fault
    poll_faults: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)  # final statuses of predictions
    images: Counter[str] = field(default_factory=Counter)  # by SHA-256 of the bytes received or fetched
    texts: Counter[str] = field(default_factory=Counter)
    headers: list[dict[str, str]] = field(default_factory=list)  # of the last creates


@dataclass
class Prediction:
    id: str
    model: str
    input: dict[str, Any]
    status: str = "starting"
    output: Any = None
    error: str | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


# Faults of a create: an error instead of a prediction, ...
REFUSALS = frozenset(
    {"401", "402", "404", "422", "429_seconds", "429_rate", "429_bare", "500", "503", "reset", "hang", "not_json"}
)
# ... a prediction whose answer is lost, ...
LOSSES = frozenset({"lost", "cut"})
# ... or a prediction that fails, has a bad output or never finishes.
ENDS = frozenset(
    {"E1000", "E1001", "failed", "canceled", "aborted", "stuck_starting", "stuck_processing"}
    | {"empty", "nothing", "nulls", "zeros", "short"}
)
FAULTS = REFUSALS | LOSSES | ENDS
_OUTPUTS = frozenset({"empty", "nothing", "nulls", "zeros", "short"})  # not applied to a prediction that failed
POLL_FAULTS = frozenset({"429_seconds", "429_bare", "500", "reset", "hang", "not_json"})


class FakeReplicate:
    """The service. Other threads may read its fields and change its settings."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        encode_image: Encoder = vector_of_pixels,
        encode_text: Encoder = vector_of_text,
    ) -> None:
        """Encoders return 768 values for the bytes of an image or for a text, or raise ModelFailure."""
        self.settings = settings or Settings()
        self.counts = Counts()
        self.url = ""
        self._encode_image = encode_image
        self._encode_text = encode_text
        self._random = random.Random(self.settings.seed)
        self._predictions: dict[str, Prediction] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # --- serving ---

    @classmethod
    @contextmanager
    def serving(cls, settings: Settings | None = None, **encoders: Encoder) -> Iterator[Self]:
        """Serve from a thread on a free port."""
        fake = cls(settings, **encoders)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="fake-replicate", daemon=True)
        thread.start()
        runner = asyncio.run_coroutine_threadsafe(fake.start(), loop).result()
        try:
            yield fake
        finally:
            asyncio.run_coroutine_threadsafe(fake.stop(runner), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def start(self, port: int = 0) -> web.AppRunner:
        """Serve at ``url`` on the loopback *port*, 0 for a free one."""
        app = web.Application(client_max_size=8 << 20, middlewares=[self._authorise])
        app.add_routes(
            [
                web.post("/v1/models/{owner}/{name}/predictions", self._create_official),
                web.post("/v1/predictions", self._create_version),
                web.get("/v1/predictions/{id}", self._get),
                web.post("/v1/predictions/{id}/cancel", self._cancel),
                web.get("/v1/account", self._account),
                web.get("/v1/models/{owner}/{name}/versions/{id}", self._version),
                web.get("/_counts", self._show_counts),
            ]
        )
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.01)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    async def stop(self, runner: web.AppRunner) -> None:
        """Stop at once and cancel running predictions."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await runner.cleanup()

    @web.middleware
    async def _authorise(self, request: web.Request, handler: Any) -> web.StreamResponse:
        given = request.headers.get("Authorization")
        if request.path.startswith("/v1/") and given != f"Bearer {self.settings.token}":
            return await self._problem(
                request, 401, "You did not pass a valid authentication token", title="Unauthenticated"
            )
        response: web.StreamResponse = await handler(request)
        return response

    async def _show_counts(self, _: web.Request) -> web.Response:
        return web.json_response(vars(self.counts))

    async def _account(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(
            request, 200, {"type": "organization", "username": "acme", "name": "Acme", "github_url": None}
        )

    async def _version(self, request: web.Request) -> web.StreamResponse:
        if VERSIONS.get(request.match_info["id"]) != "{owner}/{name}".format(**request.match_info):
            return await self._not_found(request)
        version = {"id": request.match_info["id"], "created_at": "2023-04-01T00:00:00Z", "cog_version": "0.9"}
        return await self._answer(request, 200, {**version, "openapi_schema": {}})

    # --- predictions ---

    async def _create_official(self, request: web.Request) -> web.StreamResponse:
        model = "{owner}/{name}".format(**request.match_info)
        return await self._create(request, model if model == "openai/clip" else None, self._not_found)

    async def _create_version(self, request: web.Request) -> web.StreamResponse:
        wanted = str((await request.json()).get("version"))
        name, _, version = wanted.rpartition(":")
        model = VERSIONS.get(version)
        if wanted == "openai/clip":
            model = wanted
        elif name and name != model:
            model = None
        return await self._create(request, model, self._no_version)

    async def _create(self, request: web.Request, model: str | None, unknown: Any) -> web.StreamResponse:
        counts, settings = self.counts, self.settings
        counts.creates += 1
        counts.headers = [*counts.headers[-9:], dict(request.headers)]
        given = (await request.json())["input"]
        if model is None:
            response: web.StreamResponse = await unknown(request)
            return response
        fault = self._draw(settings.script, settings.faults)
        if fault:
            counts.faults[fault] += 1
        if fault in REFUSALS:
            return await self._refuse(request, fault)
        prediction = self._begin(model, given, fault)
        if fault == "lost":
            await prediction.ended.wait()
            return await self._refuse(request, "reset")
        wait = self._wait(request)
        if wait and fault != "cut" and self._random.random() >= settings.unwaited:
            await _within(wait, prediction.ended)
        return await self._answer(request, 201, self._shown(prediction), cut=fault == "cut")

    def _begin(self, model: str, given: dict[str, Any], fault: str) -> Prediction:
        self.counts.predictions += 1
        prediction = Prediction(id=f"{self._random.getrandbits(128):026x}"[:26], model=model, input=given)
        self._predictions[prediction.id] = prediction
        task = asyncio.create_task(self._run(prediction, fault))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.counts.most_running = max(self.counts.most_running, len(self._tasks))
        return prediction

    async def _run(self, prediction: Prediction, fault: str) -> None:
        if fault == "stuck_starting":
            return
        prediction.status = "processing"
        if fault == "stuck_processing":
            return
        ends_at = time.monotonic() + self.settings.latency
        try:
            status, error, output = "succeeded", None, await self._output(prediction.model, prediction.input)
        except ModelFailure as exc:
            self.counts.faults["refused"] += 1
            status, error, output = "failed", str(exc), None
        if fault in ENDS and (status == "succeeded" or fault not in _OUTPUTS):
            status, error, output = _spoil(fault, output)
        await asyncio.sleep(ends_at - time.monotonic())
        if prediction.status not in ENDED:
            self._end(prediction, status, error, output)

    def _end(self, prediction: Prediction, status: str, error: str | None = None, output: Any = None) -> None:
        prediction.status, prediction.error, prediction.output = status, error, output
        self.counts.statuses[status] += 1
        prediction.ended.set()

    async def _get(self, request: web.Request) -> web.StreamResponse:
        self.counts.gets += 1
        if fault := self._draw(self.settings.poll_script, self.settings.poll_faults):
            self.counts.poll_faults[fault] += 1
            return await self._refuse(request, fault)
        prediction = self._predictions.get(request.match_info["id"])
        if prediction is None:
            return await self._not_found(request)
        return await self._answer(request, 200, self._shown(prediction))

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        self.counts.cancels += 1
        prediction = self._predictions.get(request.match_info["id"])
        if prediction is None:
            return await self._not_found(request)
        if prediction.status not in ENDED:
            self._end(prediction, "canceled")
        return await self._answer(request, 200, self._shown(prediction))

    def _shown(self, prediction: Prediction) -> dict[str, Any]:
        # As behind a proxy, not this server's address.
        address = f"https://api.replicate.com/v1/predictions/{prediction.id}"
        return {
            "id": prediction.id,
            "model": prediction.model,
            "version": "hidden",
            "input": {name: str(value)[:100] for name, value in prediction.input.items()},
            "logs": "",
            "output": prediction.output,
            "error": prediction.error,
            "status": prediction.status,
            "created_at": "2026-11-21T00:00:00.000Z",
            "urls": {"get": address, "cancel": address + "/cancel"},
        }

    # --- models ---

    async def _output(self, model: str, given: dict[str, Any]) -> Any:
        if model == "andreasjansson/clip-features":
            return await self._clip_features(str(given.get("inputs", "a\nb")))
        if image := given.get("image"):
            return {
                "embedding": await self._image_vector(base64.b64decode(image.removeprefix("data:image/jpeg;base64,")))
            }
        if (text := given.get("text")) is not None:
            return {"embedding": await self._text_vector(str(text))}
        if model == "krthr/clip-embeddings":
            raise ModelFailure("Either text or image must be provided")
        return {"embedding": []}

    async def _clip_features(self, inputs: str) -> list[dict[str, Any]]:
        """Return a vector per line. An image that cannot be fetched fails the prediction, which names its address."""
        lines = [line.strip() for line in inputs.strip().splitlines()]
        addresses = [line for line in lines if re.match("https?://", line)]
        texts = [line for line in lines if line not in addresses]
        vectors: dict[str, Any] = {}
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(
                *(self._fetch_vector(session, address, vectors) for address in dict.fromkeys(addresses))
            )
        if not texts and not vectors:
            raise ModelFailure("You have to specify either text or images. Both cannot be none.")
        longest = max((count_tokens(text) for text in texts), default=0)
        if longest > 77:
            raise ModelFailure(_too_long(longest))
        for text in texts:
            vectors[text] = await self._text_vector(text)
        if missing := [line for line in lines if line not in vectors]:
            raise ModelFailure(repr(missing[0]))
        return [{"input": line, "embedding": vectors[line]} for line in lines]

    async def _fetch_vector(self, session: aiohttp.ClientSession, address: str, vectors: dict[str, Any]) -> None:
        if not self.settings.fetches:
            vectors[address] = vector_of_text(address)
            return
        try:
            async with session.get(address) as response:  # whatever the status
                vectors[address] = await self._image_vector(await response.read())
        except (aiohttp.ClientError, ModelFailure):
            pass  # the model continues and fails later

    async def _image_vector(self, data: bytes) -> Values:
        self.counts.images[hashlib.sha256(data).hexdigest()] += 1
        try:
            with Image.open(io.BytesIO(data)) as image:
                colour = _only_colour(image)
        except OSError as exc:
            raise ModelFailure("cannot identify image file <_io.BytesIO object at 0x7f2d5c0f1e40>") from exc
        if colour == REFUSED_COLOUR:
            raise ModelFailure("list index out of range")
        if colour and colour in _BAD_VECTORS:
            self.counts.faults["bad_vector"] += 1
            return _BAD_VECTORS[colour]
        return await _called(self._encode_image, data)

    async def _text_vector(self, text: str) -> Values:
        self.counts.texts[text] += 1
        if (tokens := count_tokens(text)) > 77:
            raise ModelFailure(_too_long(tokens))
        return await _called(self._encode_text, text)

    # --- faults ---

    def _draw(self, script: list[str], probabilities: dict[str, float]) -> str:
        if script:
            return script.pop(0)
        drawn = self._random.random()
        for fault, probability in probabilities.items():
            drawn -= probability
            if drawn < 0:
                return fault
        return ""

    async def _refuse(self, request: web.Request, fault: str) -> web.StreamResponse:
        match fault:
            case "reset":
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            case "hang":
                await asyncio.sleep(3600)
            case "not_json":
                return await self._answer(request, 200, "<html>Under maintenance</html>")
            case "401":
                return await self._problem(request, 401, "You did not pass a valid authentication token")
            case "402":
                return await self._problem(request, 402, "You have insufficient credit to run this model.")
            case "404":
                return await self._not_found(request)
            case "422":
                return await self._no_version(request)
            case "429_seconds":
                return await self._throttled(request, headers={"Retry-After": str(self.settings.retry_after)})
            case "429_rate":
                return await self._throttled(
                    request,
                    " Your rate limit for creating predictions is reduced to 600 requests per minute with a burst of 1"
                    f" requests. Your rate limit resets in ~{self.settings.retry_after}s.",
                )
            case "429_bare":
                return await self._throttled(request)
        return await self._problem(request, int(fault), "Something went wrong")

    async def _throttled(
        self, request: web.Request, hint: str = "", headers: dict[str, str] | None = None
    ) -> web.StreamResponse:
        return await self._problem(request, 429, f"Request was throttled.{hint}", headers)

    async def _not_found(self, request: web.Request) -> web.StreamResponse:
        return await self._problem(request, 404, "The requested resource could not be found.")

    async def _no_version(self, request: web.Request) -> web.StreamResponse:
        detail = "The specified version does not exist (or perhaps you don't have permission to use it?)"
        return await self._problem(request, 422, detail, title="Invalid version or not permitted")

    async def _problem(
        self, request: web.Request, status: int, detail: str, headers: dict[str, str] | None = None, **more: Any
    ) -> web.StreamResponse:
        return await self._answer(request, status, {**more, "detail": detail, "status": status}, headers)

    async def _answer(
        self, request: web.Request, status: int, body: Any, headers: dict[str, str] | None = None, *, cut: bool = False
    ) -> web.StreamResponse:
        """Answer with JSON, or HTML for a str, chunked at random; *cut* closes the connection midway."""
        kind = "text/html" if isinstance(body, str) else "application/json"
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        response = web.StreamResponse(status=status, headers={**(headers or {}), "Content-Type": kind})
        if cut or self._random.random() < 0.5:
            response.content_length = len(data)
        else:
            response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(data[: len(data) // 2])
        if cut:
            assert request.transport is not None
            request.transport.abort()
            return response
        await response.write(data[len(data) // 2 :])
        await response.write_eof()
        return response

    @staticmethod
    def _wait(request: web.Request) -> int:
        found = re.fullmatch(r"wait(?:=(\d+))?", request.headers.get("Prefer", ""))
        return max(1, min(60, int(found[1] or 60))) if found else 0


def _spoil(fault: str, output: Any) -> tuple[str, str | None, Any]:
    """Return status, error and output of a prediction with that fault."""
    bad: dict[str, Any] = {"nulls": [None] * DIMENSIONS, "zeros": [0.0] * DIMENSIONS, "short": [0.5] * 512, "empty": []}
    match fault:
        case "canceled" | "aborted":
            return fault, None, None
        case "failed":
            return "failed", "'NoneType' object is not subscriptable", None
        case "nothing":
            return "succeeded", None, []
        case "E1001":
            return "failed", "The container ran out of memory (E1001)", None
        case _ if fault in bad and isinstance(output, list):
            return "succeeded", None, [{**output[0], "embedding": bad[fault]}, *output[1:]]
        case _ if fault in bad:
            return "succeeded", None, {"embedding": bad[fault]}
    return "failed", f"Director: unexpected error handling prediction ({fault})", None


def _too_long(tokens: int) -> str:
    return f"The size of tensor a ({tokens}) must match the size of tensor b (77) at non-singleton dimension 1"


def _only_colour(image: Image.Image) -> tuple[int, ...] | None:
    """Return the colour of an image of one colour, rounded to full channels, else None."""
    low, high = zip(*image.convert("RGB").getextrema(), strict=True)
    if any(most - least > 16 for least, most in zip(low, high, strict=True)):  # JPEG is inexact
        return None
    colour = tuple(255 if least > 239 else 0 if most < 16 else -1 for least, most in zip(low, high, strict=True))
    return None if -1 in colour else colour


async def _called(encoder: Encoder, value: Any) -> Values:
    values = encoder(value)
    return await values if inspect.isawaitable(values) else values


async def _within(seconds: float, event: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def replicate_environment(url: str) -> dict[str, str]:
    """Return the environment variables that select the fake at *url*."""
    return {"EMBEDDER": "replicate", "REPLICATE_API_TOKEN": "r8_fake", "REPLICATE_BASE_URL": url}


@contextmanager
def replicate_process(*arguments: str) -> Iterator[str]:
    """Yield the address of a fake in a process of its own, started with these command-line arguments."""
    command = [sys.executable, "-m", "tests.fakes.replicate", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


async def _main() -> None:
    parser = argparse.ArgumentParser(description="A fake Replicate.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--settings", type=json.loads, default={}, help="fields of Settings, as JSON")
    parser.add_argument("--vectors", choices=["content", "offline"], default="content")
    parser.add_argument("--cache", type=Path, help="where the offline model is built")
    arguments = parser.parse_args()
    settings = Settings(**arguments.settings)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        encoders = {}
        if arguments.vectors == "offline":
            encoders = await stack.enter_async_context(offline_encoders(arguments.cache))
        fake = FakeReplicate(settings, **encoders)
        runner = await fake.start(arguments.port)
        print(fake.url, flush=True)
        await stop.wait()
        await fake.stop(runner)


@asynccontextmanager
async def offline_encoders(cache: Path) -> AsyncIterator[dict[str, Encoder]]:
    """Provide encoders with the vectors of the offline model, padded to 768 dimensions and not of length 1."""
    from shared.embedders.base import ImageInput
    from shared.embedders.offline.embedder import OfflineEmbedder
    from shared.errors import ImageRefused
    from shared.images.worker_pool import DecoderPool

    def filled(vector: Any) -> list[float]:
        return [*(10 * vector).tolist(), *[0.0] * (DIMENSIONS - len(vector))]

    async def encode_image(data: bytes) -> list[float]:
        (result,) = await embedder.embed_images([ImageInput(data=data)])
        if isinstance(result, ImageRefused):
            raise ModelFailure(result.detail)
        return filled(result)

    async def encode_text(text: str) -> list[float]:
        return filled((await embedder.embed_texts([text]))[0])

    decoder = DecoderPool(1)
    embedder = OfflineEmbedder(cache, decoder, threads=1)
    try:
        yield {"encode_image": encode_image, "encode_text": encode_text}
    finally:
        await embedder.close()
        await decoder.close()


if __name__ == "__main__":
    asyncio.run(_main())
