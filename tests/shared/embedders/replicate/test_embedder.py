"""The Replicate embedder against a misbehaving fake of Replicate over HTTP."""

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from aiohttp import web

from shared.embedders.base import ImageInput, Vector, unit_vector
from shared.embedders.replicate.client import Timeouts
from shared.embedders.replicate.embedder import ReplicateEmbedder
from shared.embedders.replicate.image_input import data_url
from shared.embedders.replicate.text_input import normalise, surely_fits, truncate
from shared.errors import ImageRefused, ModelError, Reason, SettingsError
from shared.images.worker_pool import DecoderPool
from tests.fakes.replicate import (
    FAULTS,
    POLL_FAULTS,
    REFUSED_COLOUR,
    SHORT_COLOUR,
    ZEROS_COLOUR,
    FakeReplicate,
    count_tokens,
    vector_of_pixels,
    vector_of_text,
)
from tests.helpers.pictures import picture, plain_picture

# Fast retries and polls. Limits that no test should reach are generous.
TIMEOUTS = Timeouts(
    prediction=30.0,
    server_wait=1,
    response=30.0,
    retry_timeout=10.0,
    first_wait=0.01,
    max_wait=0.1,
    poll_interval=0.01,
    max_poll_interval=0.05,
)
# For services that do not answer and predictions that do not finish.
SHORT_TIMEOUTS = replace(TIMEOUTS, prediction=1.5, response=0.5)
SIZE = (400, 300)
BATCH = "andreasjansson/clip-features"


# One event loop for all tests: a decoder pool belongs to one and takes a while to start.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def decoder() -> AsyncIterator[DecoderPool]:
    decoder = DecoderPool(1)
    yield decoder
    await decoder.close()


@pytest.fixture
def fake() -> Iterator[FakeReplicate]:
    with FakeReplicate.serving() as fake:
        yield fake


@pytest_asyncio.fixture(loop_scope="module")
async def make(fake: FakeReplicate, decoder: DecoderPool) -> AsyncIterator[Any]:
    """Make embedders of the fake's models and close them in the end."""

    def make(model: str = "openai/clip", **options: Any) -> ReplicateEmbedder:
        options = {"token": "r8_fake", "base_url": fake.url, "timeouts": TIMEOUTS, **options}
        embedder = ReplicateEmbedder(decoder=decoder, model=model, **options)
        closing.push_async_callback(embedder.close)
        return embedder

    async with AsyncExitStack() as closing:
        yield make


class Bucket:
    """Serves files over HTTP, as a public or presigned bucket does."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.status = 0  # answers every request, unless 0
        self.url = ""

    async def get(self, request: web.Request) -> web.Response:
        data = self.files.get(request.match_info["name"])
        if self.status or data is None:
            return web.Response(status=self.status or 404, text="<Error/>")
        return web.Response(body=data)

    def add(self, name: str, data: bytes) -> ImageInput:
        self.files[name] = data
        return ImageInput(address=f"{self.url}/{name}?X-Amz-Signature=1&x='2'")

    def add_pictures(self, count: int) -> tuple[list[ImageInput], list[Vector]]:
        """Add that many pictures; return their addresses and vectors."""
        pictures = [picture(seed, SIZE) for seed in range(count)]
        images = [self.add(f"{seed}.jpg", data) for seed, data in enumerate(pictures)]
        return images, [vector_of(data) for data in pictures]


@pytest_asyncio.fixture(loop_scope="module")
async def bucket() -> AsyncIterator[Bucket]:
    bucket = Bucket()
    app = web.Application()
    app.add_routes([web.get("/{name}", bucket.get)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    bucket.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield bucket
    await runner.cleanup()


def sent_for(data: bytes) -> bytes:
    return base64.b64decode(data_url(data).partition(",")[2])


def vector_of(data: bytes) -> Vector:
    return unit_vector(vector_of_pixels(data), dimensions=768)


def vector_of_line(text: str) -> Vector:
    return unit_vector(vector_of_text(text), dimensions=768)


async def embed(embedder: ReplicateEmbedder, data: bytes) -> Vector | ImageRefused:
    (result,) = await embedder.embed_images([ImageInput(data=data)])
    return result


# --- Requests ---


@pytest.mark.parametrize("model", ["openai/clip", "krthr/clip-embeddings"])
async def test_one_request_returns_the_vector_of_an_image(make: Any, fake: FakeReplicate, model: str) -> None:
    embedder = make(model)
    data = picture(1, SIZE)
    np.testing.assert_array_equal(await embed(embedder, data), vector_of(sent_for(data)))
    assert (fake.counts.creates, fake.counts.gets, embedder.calls) == (1, 0, 1)
    assert fake.counts.headers[0]["Prefer"] == "wait=1"


async def test_an_image_that_cannot_be_decoded_costs_no_call(make: Any, fake: FakeReplicate) -> None:
    result = await embed(make(), b"\xff\xd8\xff\xe0 not really a JPEG")
    assert isinstance(result, ImageRefused)
    assert fake.counts.creates == 0


async def test_concurrency_limits_the_calls_in_flight(make: Any, fake: FakeReplicate) -> None:
    fake.settings.latency = 0.1
    await make(concurrency=4).embed_texts([f"dog {n}" for n in range(20)])
    assert fake.counts.most_running == 4


# --- Texts ---


@pytest.mark.parametrize("model", ["openai/clip", "krthr/clip-embeddings", BATCH])
async def test_each_text_gets_its_own_vector(make: Any, fake: FakeReplicate, model: str) -> None:
    texts = [f"a photo of {n} dogs" for n in range(60)] + ["a photo of 7 dogs"]
    vectors = await make(model).embed_texts(texts)
    np.testing.assert_array_equal(vectors, [vector_of_line(text) for text in texts])
    assert fake.counts.creates == (2 if model == BATCH else 60)


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"])
async def test_a_text_of_several_lines_is_one_text(make: Any, separator: str) -> None:
    vectors = await make(BATCH).embed_texts([f"a dog{separator}on a beach{separator}", "a cat"])
    np.testing.assert_array_equal(vectors, [vector_of_line("a dog on a beach"), vector_of_line("a cat")])


async def test_a_text_that_looks_like_an_address_is_not_fetched(make: Any, bucket: Bucket) -> None:
    address = bucket.add("photo.jpg", picture(1, SIZE)).address
    (vector,) = await make(BATCH).embed_texts([address.replace("http", "HTTP")])
    np.testing.assert_array_equal(vector, vector_of_line(address.removeprefix("http://").lower()))


@pytest.mark.parametrize("model", ["openai/clip", "krthr/clip-embeddings", BATCH])
@pytest.mark.parametrize("blank", ["", " \n", "https://", "\ud800"])
async def test_a_blank_text_has_a_vector(make: Any, model: str, blank: str) -> None:
    assert (await make(model).embed_texts([blank])).shape == (1, 768)


@pytest.mark.parametrize(
    "text",
    [
        "a dog on a beach at sunset with two children " * 20,
        "Wohnzimmertischdecke auf der Donaudampfschifffahrtsgesellschaft " * 15,
        "собака бежит по берегу моря на закате " * 20,
        "一只狗在海滩上奔跑夕阳西下" * 40,
        "x" * 1000,
        "1234567890" * 100,
    ],
)
@pytest.mark.parametrize("model", ["openai/clip", BATCH])
async def test_a_text_that_is_too_long_is_cut_to_nearly_the_limit(
    make: Any, fake: FakeReplicate, model: str, text: str
) -> None:
    short = "a cat"
    vectors = await make(model).embed_texts([text, short])
    embedded = max((each for each in fake.counts.texts if each != short), key=lambda each: -len(each))
    assert normalise(text).startswith(embedded)
    assert 0.8 * 77 < count_tokens(embedded) <= 77
    np.testing.assert_array_equal(vectors, [vector_of_line(embedded), vector_of_line(short)])
    assert fake.counts.creates <= 4


async def test_a_text_that_fits_is_not_cut() -> None:
    for text in ("a dog", "two words " * 37, "ein Hund"):
        assert truncate(normalise(text)) == normalise(text)
    assert surely_fits("a dog on a beach at sunset with two children")


# --- Transient faults ---

TRANSIENT = sorted(FAULTS - {"401", "402", "404", "422"})


@pytest.mark.parametrize("fault", TRANSIENT)
async def test_a_transient_fault_costs_one_more_call(make: Any, fake: FakeReplicate, fault: str) -> None:
    fake.settings.script = [fault]
    fake.settings.retry_after = 0.1
    data = picture(1, SIZE)
    embedder = make(timeouts=SHORT_TIMEOUTS if fault in ("hang", "stuck_starting", "stuck_processing") else TIMEOUTS)
    np.testing.assert_array_equal(await embed(embedder, data), vector_of(sent_for(data)))
    assert (fake.counts.creates, dict(fake.counts.faults)) == (2, {fault: 1})
    assert embedder.calls >= fake.counts.predictions


@pytest.mark.parametrize("fault", sorted(POLL_FAULTS))
async def test_a_prediction_is_polled_until_it_finishes(make: Any, fake: FakeReplicate, fault: str) -> None:
    fake.settings.unwaited = 1.0
    fake.settings.latency = 0.2
    fake.settings.retry_after = 0.1
    fake.settings.poll_script = ["", fault]
    data = picture(1, SIZE)
    embedder = make(timeouts=replace(TIMEOUTS, response=0.5) if fault == "hang" else TIMEOUTS)
    np.testing.assert_array_equal(await embed(embedder, data), vector_of(sent_for(data)))
    assert (fake.counts.creates, dict(fake.counts.poll_faults)) == (1, {fault: 1})


async def test_a_prediction_longer_than_the_wait_is_polled(make: Any, fake: FakeReplicate) -> None:
    fake.settings.latency = 1.1
    assert not isinstance(await embed(make(), picture(1, SIZE)), ImageRefused)
    assert fake.counts.creates == 1
    assert fake.counts.gets > 0


async def test_three_hundred_images_survive_a_service_that_fails_one_call_in_three(
    make: Any, fake: FakeReplicate
) -> None:
    # Without those that take long each time, which have tests of their own.
    drawn = [fault for fault in TRANSIENT if fault not in ("hang", "stuck_starting", "stuck_processing", "429_rate")]
    fake.settings.faults = dict.fromkeys(drawn, 1 / 3 / len(drawn))
    fake.settings.poll_faults = dict.fromkeys(["429_seconds", "500", "reset", "not_json"], 0.06)
    fake.settings.unwaited = 0.2
    fake.settings.retry_after = 0.005
    embedder = make(concurrency=8, timeouts=replace(TIMEOUTS, retry_timeout=20.0))
    pictures = [picture(seed, (240, 230)) for seed in range(300)]
    results = await asyncio.gather(*(embed(embedder, data) for data in pictures))
    for data, result in zip(pictures, results, strict=True):
        np.testing.assert_array_equal(result, vector_of(sent_for(data)))
    assert fake.counts.faults.total() > 60
    assert fake.counts.creates <= 300 + fake.counts.faults.total()


# --- Permanent faults ---


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        ("401", "REPLICATE_API_TOKEN"),
        ("402", "credit"),
        ("404", "REPLICATE_MODEL"),
        ("422", "REPLICATE_MODEL"),
    ],
)
async def test_a_wrong_setting_is_raised_at_once_with_its_remedy(
    make: Any, fake: FakeReplicate, fault: str, remedy: str
) -> None:
    fake.settings.faults = {fault: 1.0}
    with pytest.raises(ModelError, match=f"{fault}.*{remedy}") as caught:
        await embed(make(), picture(1, SIZE))
    assert not caught.value.transient
    assert fake.counts.creates == 1


@pytest.mark.parametrize("fault", ["500", "429_seconds", "429_bare", "reset", "E1000", "canceled"])
async def test_an_outage_refuses_no_image(make: Any, fake: FakeReplicate, fault: str) -> None:
    fake.settings.faults = {fault: 1.0}
    fake.settings.retry_after = 0.05
    with pytest.raises(ModelError) as caught:
        await embed(make(timeouts=replace(TIMEOUTS, retry_timeout=0.3)), picture(1, SIZE))
    assert caught.value.transient


@pytest.mark.parametrize("fault", ["failed", "zeros", "nothing", "stuck_processing"])
async def test_a_model_that_fails_on_every_input_refuses_no_image(make: Any, fake: FakeReplicate, fault: str) -> None:
    fake.settings.faults = {fault: 1.0}
    fake.settings.unwaited = 1.0
    with pytest.raises(ModelError, match="every input") as caught:
        await embed(make(timeouts=replace(TIMEOUTS, prediction=0.1)), picture(1, SIZE))
    assert caught.value.transient


async def test_an_unreachable_service_is_named(make: Any) -> None:
    address = "http://127.0.0.1:9"
    with pytest.raises(ModelError, match=address) as caught:
        await embed(make(base_url=address, timeouts=replace(TIMEOUTS, retry_timeout=0.1)), picture(1, SIZE))
    assert caught.value.transient


async def test_a_long_wait_is_left_to_the_caller(make: Any, fake: FakeReplicate) -> None:
    fake.settings.script = ["429_seconds"]
    fake.settings.retry_after = 3600
    embedder = make()
    for _ in range(3):
        with pytest.raises(ModelError) as caught:
            await embed(embedder, picture(1, SIZE))
        assert caught.value.transient
        assert caught.value.retry_after == pytest.approx(3700, abs=200)
    assert fake.counts.creates == 1


# --- Images that the model refuses ---


@pytest.mark.parametrize(
    ("colour", "reason"),
    [
        (REFUSED_COLOUR, Reason.MODEL_REFUSED),
        (ZEROS_COLOUR, Reason.BAD_VECTOR),
        (SHORT_COLOUR, Reason.BAD_VECTOR),
    ],
)
async def test_a_refused_image_does_not_affect_others(
    make: Any, fake: FakeReplicate, colour: tuple[int, int, int], reason: Reason
) -> None:
    good, refused = await make().embed_images(
        [ImageInput(data=picture(1, SIZE)), ImageInput(data=plain_picture(colour))]
    )
    np.testing.assert_array_equal(good, vector_of(sent_for(picture(1, SIZE))))
    assert isinstance(refused, ImageRefused)
    assert refused.reason == reason
    assert fake.counts.creates == 1 + fake.counts.faults.total()


async def test_a_lone_image_is_refused_after_a_probe_of_the_model(make: Any, fake: FakeReplicate) -> None:
    result = await embed(make(), plain_picture(REFUSED_COLOUR))
    assert isinstance(result, ImageRefused)
    assert fake.counts.texts.total() == 1  # the probe


# --- The batch model ---


async def test_fifty_images_need_one_call(make: Any, fake: FakeReplicate, bucket: Bucket) -> None:
    images, vectors = bucket.add_pictures(50)
    embedder = make(BATCH)
    np.testing.assert_array_equal(await embedder.embed_images(images), vectors)
    assert (embedder.input_kind, embedder.batch_size, fake.counts.creates) == ("address", 50, 1)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"no image", Reason.MODEL_REFUSED),
        (None, Reason.OBJECT_MISSING),
        (plain_picture(REFUSED_COLOUR), Reason.MODEL_REFUSED),
        (plain_picture(ZEROS_COLOUR), Reason.BAD_VECTOR),
    ],
)
async def test_a_bad_image_of_a_batch_is_refused_alone(
    make: Any, fake: FakeReplicate, bucket: Bucket, bad: bytes | None, reason: Reason
) -> None:
    images, vectors = bucket.add_pictures(50)
    images[17] = bucket.add("bad.jpg", bad or b"")
    if bad is None:
        del bucket.files["bad.jpg"]
    results = await make(BATCH).embed_images(images)
    refused = results.pop(17)
    assert isinstance(refused, ImageRefused)
    assert refused.reason == reason
    np.testing.assert_array_equal(results, vectors[:17] + vectors[18:])
    assert fake.counts.creates <= 1 + fake.counts.faults.total()
    assert fake.counts.creates <= 8


@pytest.mark.parametrize("fault", ["failed", "E1001", "nothing", "stuck_processing"])
async def test_a_batch_that_fails_without_naming_an_image_is_split(
    make: Any, fake: FakeReplicate, bucket: Bucket, fault: str
) -> None:
    fake.settings.script = [fault, fault]
    images, vectors = bucket.add_pictures(8)
    results = await make(BATCH, timeouts=SHORT_TIMEOUTS).embed_images(images)
    np.testing.assert_array_equal(results, vectors)
    assert fake.counts.creates == 5


@pytest.mark.parametrize("status", [403, 500, 503])
async def test_a_failing_store_refuses_no_image(make: Any, bucket: Bucket, status: int) -> None:
    images, _ = bucket.add_pictures(4)
    bucket.status = status
    with pytest.raises(ModelError, match=str(status)) as caught:
        await make(BATCH).embed_images(images)
    assert caught.value.transient == (status >= 500)


async def test_an_unreachable_store_refuses_no_image(make: Any) -> None:
    with pytest.raises(ModelError, match="127.0.0.1") as caught:
        await make(BATCH).embed_images([ImageInput(address="http://127.0.0.1:9/a.jpg")])
    assert caught.value.transient


async def test_the_batch_model_needs_public_addresses(make: Any) -> None:
    with pytest.raises(ModelError, match="REPLICATE_MODEL=openai/clip") as caught:
        await make(BATCH).embed_images([ImageInput(address="/images/photos/a.jpg")])
    assert not caught.value.transient


# --- Cancellation ---


@pytest.mark.parametrize("fault", ["stuck_starting", "stuck_processing"])
async def test_a_prediction_that_times_out_is_cancelled(make: Any, fake: FakeReplicate, fault: str) -> None:
    fake.settings.script = [fault]
    await embed(make(timeouts=SHORT_TIMEOUTS), picture(1, SIZE))
    assert (fake.counts.cancels, fake.counts.statuses["canceled"]) == (1, 1)
    assert fake.counts.headers[0]["Cancel-After"] == "5s"


async def test_cancelling_a_call_cancels_its_prediction(make: Any, fake: FakeReplicate) -> None:
    fake.settings.unwaited = 1.0
    fake.settings.latency = 30.0
    embedder = make()
    task = asyncio.create_task(embed(embedder, picture(1, SIZE)))
    while not fake.counts.gets:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert fake.counts.statuses["canceled"] == 1
    fake.settings.unwaited, fake.settings.latency = 0.0, 0.0
    assert not isinstance(await embed(embedder, picture(2, SIZE)), ImageRefused)


# --- Settings ---


async def test_models_and_versions_have_different_names(make: Any) -> None:
    other = "0" * 64
    assert make().name == "replicate:openai/clip"
    assert make("krthr/clip-embeddings").name == "replicate:krthr/clip-embeddings"
    assert make(f"{BATCH}:{other}").name == f"replicate:{BATCH}:{other}"


async def test_a_version_can_be_chosen(make: Any, fake: FakeReplicate) -> None:
    with pytest.raises(ModelError, match="REPLICATE_MODEL"):  # unknown to the fake
        await embed(make(f"krthr/clip-embeddings:{'0' * 64}"), picture(1, SIZE))
    assert fake.counts.creates == 1


async def test_every_wrong_setting_is_named(make: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        make("cjwbw/clip-vit-large-patch14", token="", base_url="api.replicate.com")
    message = str(caught.value)
    for name in ("REPLICATE_API_TOKEN", "REPLICATE_MODEL", "REPLICATE_BASE_URL", "openai/clip"):
        assert name in message
    with pytest.raises(SettingsError, match="64 hexadecimal digits"):
        make("krthr/clip-embeddings:latest")


@pytest.mark.parametrize("model", ["openai/clip", "krthr/clip-embeddings", BATCH])
async def test_a_check_names_the_account_and_makes_no_prediction(make: Any, fake: FakeReplicate, model: str) -> None:
    assert await make(model).check() == f"{model} at Replicate, as acme"
    assert fake.counts.creates == 0


async def test_a_failed_check_names_the_wrong_setting(make: Any, bucket: Bucket) -> None:
    with pytest.raises(ModelError, match="401.*REPLICATE_API_TOKEN"):
        await make(token="r8_other").check()
    with pytest.raises(ModelError, match="404.*REPLICATE_MODEL"):
        await make(f"{BATCH}:{'0' * 64}").check()
    with pytest.raises(ModelError, match="REPLICATE_BASE_URL"):
        await make(base_url="http://127.0.0.1:9").check()
    bucket.add("v1", b"<html>")
    with pytest.raises(ModelError):
        await make(base_url=bucket.url).check()
