"""TEXT_EMBEDDER=clip: the server encodes query texts itself, after verifying its model.

The fake Replicate returns vectors of a CLIP with a few thousand random weights, with the dimensions of ViT-L/14.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from server.adapters import Stores
from server.search.local_text_encoder import LocalTextEncoder
from server.settings import ServerSettings
from shared.db.pool import Database
from shared.embedders.clip.layouts import read_image_model, read_text_model
from shared.embedders.clip.preprocess import read_pixels
from shared.embedders.clip.towers import ImageTower, TextTower
from shared.images.worker_pool import DecoderPool
from tests.fakes.replicate import DIMENSIONS, FakeReplicate
from tests.helpers.pictures import make_pictures
from tests.helpers.processes import Syncer, serving

SMALL_MODEL = Path(__file__).parents[2] / "golden" / "clip" / "transformers_clip"
COUNT = 8


def make_model(folder: Path, *, seed: int) -> Path:
    """Make a model that multiplies the vectors of the small one by a random matrix, to 768 dimensions."""
    shutil.copytree(SMALL_MODEL, folder)
    matrix = np.random.default_rng(seed).normal(size=(12, DIMENSIONS)).astype(np.float32)
    for name, output in (("text_model", "text_embeds"), ("vision_model", "image_embeds")):
        path = folder / "onnx" / f"{name}.onnx"
        model = onnx.load(path)
        for node in model.graph.node:
            node.output[:] = ["short" if each == output else each for each in node.output]
        model.graph.node.append(helper.make_node("MatMul", ["short", "matrix"], [output]))
        model.graph.initializer.append(numpy_helper.from_array(matrix, "matrix"))
        del model.graph.output[:]
        model.graph.output.append(helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, ["n", DIMENSIONS]))
        onnx.save(model, path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"projection_dim": DIMENSIONS}))
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    make_model(folder / "right", seed=1)
    make_model(folder / "other", seed=2)
    return folder


@pytest.fixture
def replicate(models: Path) -> Iterator[FakeReplicate]:
    """A Replicate that runs the model ``right`` and does not normalise its vectors."""
    described = read_image_model(models / "right")
    images = ImageTower(described, dimensions=DIMENSIONS)
    texts = TextTower(read_text_model(models / "right"), dimensions=DIMENSIONS)

    def encode_image(data: bytes) -> list[float]:
        return (7 * images.embed([read_pixels(data, asdict(described.preprocessing))])[0]).tolist()  # type: ignore[no-any-return]

    def encode_text(text: str) -> list[float]:
        return (7 * texts.embed(text)).tolist()  # type: ignore[no-any-return]

    with FakeReplicate.serving(encode_image=encode_image, encode_text=encode_text) as fake:
        yield fake


@pytest.fixture
def environment(environment: dict[str, str], replicate: FakeReplicate, models: Path) -> dict[str, str]:
    token = {"REPLICATE_API_TOKEN": replicate.settings.token, "REPLICATE_BASE_URL": replicate.url}
    return environment | token | {"EMBEDDER": "replicate", "CLIP_MODEL": str(models / "right")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_pictures(tmp_path / "pictures", COUNT, size=(300, 200))
    return tmp_path / "pictures"


def test_a_new_text_costs_no_call_and_has_the_same_results(
    syncer: Syncer, folder: Path, environment: dict[str, str], replicate: FakeReplicate, home: Path, tmp_path: Path
) -> None:
    assert syncer("sync", folder, "--bucket", "b").status == 0
    with serving(environment, tmp_path / "server.log") as server:
        by_replicate = server.get("/api/search", bucket="b", q="a dog in the snow")["images"]
    replicate.counts.texts.clear()

    local = {**environment, "TEXT_EMBEDDER": "clip"}
    del local["REPLICATE_API_TOKEN"]
    with serving(local, tmp_path / "server.log") as server:
        locally = server.get("/api/search", bucket="b", q="a dog in the snow")["images"]
        assert len(server.keys("/api/search", bucket="b", q="another text")) == COUNT
    assert [each["key"] for each in locally] == [each["key"] for each in by_replicate]
    scores = [[each["score"] for each in images] for images in (locally, by_replicate)]
    np.testing.assert_allclose(*scores, atol=1e-3)
    assert not replicate.counts.texts

    # The verification is stored: later servers need no image.
    shutil.rmtree(home / "buckets")
    with serving(local, tmp_path / "server.log") as server:
        assert len(server.keys("/api/search", bucket="b", q="a third text")) == COUNT


def test_other_weights_are_refused_at_the_start(
    syncer: Syncer, folder: Path, environment: dict[str, str], models: Path
) -> None:
    assert syncer("sync", folder, "--bucket", "b").status == 0
    refused = subprocess.run(
        [sys.executable, "-m", "server", "--port", "0"],
        env={**environment, "TEXT_EMBEDDER": "clip", "CLIP_MODEL": str(models / "other")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    last = refused.stderr.splitlines()[-1]
    assert "have a cosine of " in last
    assert "below 0.999" in last
    assert "CLIP_MODEL" in last


def test_a_collection_without_vectors_is_verified_after_its_first_ones(
    syncer: Syncer, folder: Path, environment: dict[str, str], models: Path, tmp_path: Path
) -> None:
    assert syncer("upload", folder, "--bucket", "b").status == 0
    right, other = environment | {"TEXT_EMBEDDER": "clip"}, {"CLIP_MODEL": str(models / "other")}
    with (
        serving(right, tmp_path / "right.log") as server,
        serving(right | other, tmp_path / "other.log") as wrong,
    ):
        assert server.keys("/api/search", bucket="b", q="a dog") == []
        assert wrong.keys("/api/search", bucket="b", q="a dog") == []
        assert syncer("embed", "--bucket", "b").status == 0
        assert len(server.keys("/api/search", bucket="b", q="a dog")) == COUNT
        refused = wrong.http.get("/api/search", params={"bucket": "b", "q": "a dog"})
        assert refused.status_code == 503
        assert "below 0.999" in refused.json()["detail"]


def test_collections_of_a_local_model_keep_their_own_text_encoder(
    syncer: Syncer, folder: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    assert syncer("sync", folder, "--bucket", "b", EMBEDDER="offline").status == 0
    with serving({**environment, "TEXT_EMBEDDER": "clip"}, tmp_path / "server.log") as server:
        assert len(server.keys("/api/search", bucket="b", q="a dog")) == COUNT


async def test_the_default_model_has_the_weights_of_replicate(database: Database, tmp_path: Path) -> None:
    settings = ServerSettings(image_browser_home=tmp_path)
    encoder = LocalTextEncoder(settings, database, DecoderPool(1), Stores(settings))
    assert encoder.embedder.name == "clip:ViT-L/14"
