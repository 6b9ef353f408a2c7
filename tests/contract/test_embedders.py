"""Contract suite of all embedders. A new adapter is one more entry in ``EMBEDDERS``."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from shared.embedders.base import Embedder, ImageInput, Vector
from shared.embedders.clip.embedder import ClipEmbedder
from shared.embedders.offline.embedder import OfflineEmbedder
from shared.embedders.replicate.embedder import ReplicateEmbedder
from shared.errors import ImageRefused
from shared.images import examine
from shared.images.worker_pool import DecoderPool
from tests.fakes.replicate import FakeReplicate
from tests.helpers.corpus import display_p3
from tests.helpers.pictures import encode, noise, picture

# The two in the middle are models of a few thousand random weights from tests/golden/make_clip.py.
EMBEDDERS = ["offline", "transformers_clip", "open_clip_siglip2", "replicate"]

SIZE = (96, 64)

CLIP_MODELS = Path(__file__).parents[1] / "golden" / "clip"


# One event loop for all tests, since the decoder pool and the embedders belong to one.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def decoder() -> AsyncIterator[DecoderPool]:
    decoder = DecoderPool()
    yield decoder
    await decoder.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=EMBEDDERS)
async def embedder(
    request: pytest.FixtureRequest, shared_folder: Path, decoder: DecoderPool
) -> AsyncIterator[Embedder]:
    models = shared_folder / "models"
    with FakeReplicate.serving() as fake:
        embedder: Embedder
        match request.param:
            case "offline":
                embedder = OfflineEmbedder(models, decoder)
            case "replicate":
                embedder = ReplicateEmbedder(token=fake.settings.token, decoder=decoder, base_url=fake.url)
            case folder:
                embedder = ClipEmbedder(str(CLIP_MODELS / folder), models, decoder)
        yield embedder
        await embedder.close()


async def vector_of(embedder: Embedder, data: bytes) -> Vector:
    (vector,) = await embedder.embed_images([ImageInput(data)])
    assert not isinstance(vector, ImageRefused)
    return vector


def assert_unit_vectors(vectors: np.ndarray, embedder: Embedder) -> None:
    assert vectors.dtype == np.float32
    assert vectors.shape[1:] == (embedder.dimensions,)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)


async def test_the_attributes_are_valid(embedder: Embedder) -> None:
    assert embedder.name
    assert embedder.dimensions > 0
    assert embedder.batch_size >= 1
    assert embedder.input_kind in ("data", "address")
    assert isinstance(embedder.local, bool)
    assert embedder.price_per_image >= 0
    assert embedder.calls >= 0
    assert embedder.notice is None or embedder.notice.endswith(".")


async def test_images_become_unit_vectors(embedder: Embedder) -> None:
    vectors = await embedder.embed_images([ImageInput(picture(number, SIZE, "PNG")) for number in range(3)])
    assert_unit_vectors(np.stack(vectors), embedder)


async def test_texts_become_unit_vectors(embedder: Embedder) -> None:
    texts = ["a cat", "A CAT", "", " ", "naïve café", "日本の猫", "🐈", "a\tb\nc", "%s {} \\ ' \""]
    vectors = await embedder.embed_texts(texts)
    assert vectors.shape == (len(texts), embedder.dimensions)
    assert_unit_vectors(vectors, embedder)


async def test_no_input_gives_no_vectors(embedder: Embedder) -> None:
    assert await embedder.embed_images([]) == []
    assert (await embedder.embed_texts([])).shape == (0, embedder.dimensions)


async def test_a_vector_does_not_depend_on_its_batch(embedder: Embedder) -> None:
    files = [picture(number, (64 + 32 * number, 96), "PNG") for number in range(5)]
    together = await embedder.embed_images([ImageInput(data) for data in files])
    alone = [await vector_of(embedder, data) for data in files]
    assert (np.stack(together) * np.stack(alone)).sum(axis=1).min() > 0.9999

    texts = ["a cat", "a dog on a sofa", "a rocket", "two people in a small boat on a wide river"]
    alone_texts = np.concatenate([await embedder.embed_texts([text]) for text in texts])
    assert (await embedder.embed_texts(texts) * alone_texts).sum(axis=1).min() > 0.9999


async def test_different_images_and_texts_get_different_vectors(embedder: Embedder) -> None:
    first, second = [await vector_of(embedder, picture(number, SIZE, "PNG")) for number in (1, 2)]
    assert first @ second < 0.9999
    cat, rocket = await embedder.embed_texts(["a cat", "a rocket at night"])
    assert cat @ rocket < 0.9999


async def test_a_colour_profile_does_not_change_the_vector(embedder: Embedder) -> None:
    # The reference preprocessing ignores profiles; the golden vectors are those of files without one.
    plain, wide = [picture(4, SIZE, "PNG", icc_profile=profile) for profile in (None, display_p3())]
    assert await vector_of(embedder, plain) @ await vector_of(embedder, wide) > 0.9999


@pytest.mark.parametrize("profile", [None, display_p3()], ids=["plain", "wide gamut"])
async def test_an_examined_file_gets_the_same_vector(embedder: Embedder, tmp_path: Path, profile: bytes | None) -> None:
    file = tmp_path / "large.jpg"
    file.write_bytes(picture(5, (4000, 3000), "JPEG", icc_profile=profile))
    from_data = await vector_of(embedder, file.read_bytes())
    examination = embedder.examination
    if embedder.local:
        assert examination
        examined = await examination(file, True)
        [from_pixels] = await embedder.embed_images([ImageInput(prepared=examined.model_input)])
        assert not isinstance(from_pixels, ImageRefused)
        assert from_data @ from_pixels > 0.99999
        separate = examine(file)
        assert (examined.width, examined.height, examined.sha256) == (4000, 3000, separate.sha256)
        for name in ("thumbnail", "preview"):
            one, other = (np.asarray(Image.open(io.BytesIO(getattr(each, name)))) for each in (examined, separate))
            assert one.shape == other.shape
            assert np.abs(one.astype(int) - other).mean() < 3
    else:
        assert examination is None


async def test_a_bad_image_is_refused_and_others_get_vectors(embedder: Embedder) -> None:
    good = picture(1, SIZE, "PNG")
    bad = [b"", b"no image at all", good[:20], picture(2, SIZE, "WEBP")[:20]]
    files = [good, *bad, good]
    first, *refused, last = await embedder.embed_images([ImageInput(data) for data in files])
    assert not isinstance(first, ImageRefused)
    assert not isinstance(last, ImageRefused)
    assert first @ last > 0.9999
    assert len(refused) == len(bad)
    for refusal in refused:
        assert isinstance(refusal, ImageRefused)
        assert refusal.reason
        assert refusal.detail


async def test_more_images_than_a_batch_keep_their_order(embedder: Embedder) -> None:
    few = [picture(number, SIZE, "PNG") for number in range(3)]
    expected = [await vector_of(embedder, data) for data in few]
    count = embedder.batch_size + 10
    vectors = await embedder.embed_images([ImageInput(few[index % 3]) for index in range(count)])
    assert len(vectors) == count
    for index, vector in enumerate(vectors):
        assert not isinstance(vector, ImageRefused)
        assert vector @ expected[index % 3] > 0.9999


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "LA"), ("GIF", "P"), ("WEBP", "RGBA")],
)
async def test_every_format_gets_a_vector(embedder: Embedder, kind: str, mode: str) -> None:
    await vector_of(embedder, encode(noise(3, SIZE).convert(mode), kind))


@pytest.mark.parametrize("size", [(1, 1), (2000, 3), (3, 2000)])
async def test_any_shape_gets_a_vector(embedder: Embedder, size: tuple[int, int]) -> None:
    await vector_of(embedder, picture(4, size, "PNG"))


async def test_orientation_is_applied(embedder: Embedder) -> None:
    upright = noise(5, SIZE)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown rotated by 90 degrees clockwise
    turned = encode(upright.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    assert await vector_of(embedder, turned) @ await vector_of(embedder, encode(upright, "PNG")) > 0.9999


async def test_a_text_too_long_for_the_model_is_cut(embedder: Embedder) -> None:
    whole, longer = await embedder.embed_texts(["a cat " * 300, "a cat " * 300 + "and a rocket"])
    assert whole @ longer > 0.9999


async def test_concurrent_calls_get_their_own_vectors(embedder: Embedder) -> None:
    files = [picture(number, SIZE, "PNG") for number in range(4)]
    expected_images = [await vector_of(embedder, data) for data in files]
    expected_texts = await embedder.embed_texts(["a cat", "a rocket"])
    images = [embedder.embed_images([ImageInput(data) for data in files]) for _ in range(5)]
    texts = [embedder.embed_texts(["a cat", "a rocket"]) for _ in range(5)]
    vectors_of_images, vectors_of_texts = await asyncio.gather(asyncio.gather(*images), asyncio.gather(*texts))
    for vectors in vectors_of_images:
        assert (np.stack(vectors) * np.stack(expected_images)).sum(axis=1).min() > 0.9999
    for vectors in vectors_of_texts:
        assert (vectors * expected_texts).sum(axis=1).min() > 0.9999


async def test_an_embedder_works_after_a_cancelled_call(embedder: Embedder) -> None:
    files = [picture(number, SIZE, "PNG") for number in range(20)]
    expected = await vector_of(embedder, files[0])
    call = asyncio.ensure_future(embedder.embed_images([ImageInput(data) for data in files]))
    await asyncio.sleep(0)  # the call has started and cannot have finished
    assert call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await vector_of(embedder, files[0]) @ expected > 0.9999
