"""Parity of local CLIP with the reference implementations, downloads, and error messages.

``tests/golden/make_clip.py`` generated the models and golden vectors in ``tests/golden/clip``.
"""

import io
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image

from shared.embedders.base import ImageInput, Vector, agreement
from shared.embedders.clip.embedder import ClipEmbedder
from shared.embedders.clip.hub import HUB_MODELS
from shared.embedders.clip.layouts import read_text_model
from shared.embedders.clip.tokenize import TextTokenizer
from shared.embedders.clip.towers import ordered_providers
from shared.errors import ImageRefused, ModelError, SettingsError
from shared.images.worker_pool import DecoderPool
from tests.fakes.hub import FakeHub
from tests.golden.clip_inputs import FILES, TEXTS

MODELS = Path(__file__).parents[3] / "golden" / "clip"
GOLDEN: dict[str, dict[str, Any]] = json.loads((MODELS / "golden.json").read_text())
PICTURES = [ImageInput(data=data) for data in FILES]
CPU = "CPUExecutionProvider"
XENOVA = "Xenova/clip-vit-base-patch32"


@pytest.fixture
async def decoder() -> AsyncIterator[DecoderPool]:
    decoder = DecoderPool(1)
    yield decoder
    await decoder.close()


@dataclass
class Clip:
    """Makes embedders that are closed in the end."""

    cache: Path
    decoder: DecoderPool
    closing: AsyncExitStack

    def __call__(self, model: str | Path, **options: Any) -> ClipEmbedder:
        embedder = ClipEmbedder(str(model), self.cache, self.decoder, **options)
        self.closing.push_async_callback(embedder.close)
        return embedder


@pytest.fixture
async def clip(tmp_path: Path, decoder: DecoderPool) -> AsyncIterator[Clip]:
    async with AsyncExitStack() as closing:
        yield Clip(tmp_path / "cache", decoder, closing)


@pytest.fixture
def model_copy(tmp_path: Path) -> Path:
    """Return a folder with a model in the transformers.js layout, to be damaged."""
    return Path(shutil.copytree(MODELS / "transformers_clip", tmp_path / "my-clip"))


def cosines(vectors: NDArray[np.float32], golden: list[list[float]]) -> NDArray[np.float64]:
    other = np.array(golden)
    return (vectors * other).sum(axis=1) / np.linalg.norm(other, axis=1)  # type: ignore[no-any-return]


def only_vectors(results: list[Vector | ImageRefused]) -> NDArray[np.float32]:
    return np.stack([result for result in results if not isinstance(result, ImageRefused)])


# Parity


@pytest.mark.parametrize("model", GOLDEN)
async def test_image_vectors_equal_the_reference(clip: Clip, model: str) -> None:
    vectors = only_vectors(await clip(MODELS / model).embed_images(PICTURES))
    assert cosines(vectors, GOLDEN[model]["images"]).min() >= 0.999


@pytest.mark.parametrize("model", GOLDEN)
async def test_text_vectors_equal_the_reference(clip: Clip, model: str) -> None:
    vectors = await clip(MODELS / model).embed_texts(TEXTS)
    assert cosines(vectors, GOLDEN[model]["texts"]).min() >= 0.999


@pytest.mark.parametrize("model", GOLDEN)
def test_tokens_equal_the_reference(model: str) -> None:
    described = read_text_model(MODELS / model)
    tokenize = TextTokenizer(described, pad=True)
    for text, golden in zip(TEXTS, GOLDEN[model]["tokens"], strict=True):
        ids, mask = tokenize(text)
        assert len(ids) == described.context_length
        # CLIP ignores what follows the end token, and open_clip pads with other tokens than transformers.
        compared = int(mask.sum()) if described.causal else len(ids)
        assert ids.tolist()[:compared] == golden[:compared]


@pytest.mark.parametrize("model", ["open_clip_clip", "transformers_clip"])
def test_a_text_that_is_cut_keeps_its_end_token(model: str) -> None:
    tokenize = TextTokenizer(read_text_model(MODELS / model), pad=False)
    short, cut = tokenize("a dog")[0], tokenize("dog " * 500)[0]
    assert len(cut) == 77
    assert cut[-1] == short[-1]


async def test_omitting_the_padding_does_not_change_the_vector(clip: Clip) -> None:
    described = read_text_model(MODELS / "transformers_clip")
    session = onnxruntime.InferenceSession(described.weights)
    padded = TextTokenizer(described, pad=True)
    vectors = await clip(MODELS / "transformers_clip").embed_texts(TEXTS)
    for text, vector in zip(TEXTS, vectors, strict=True):
        (full,) = session.run(["text_embeds"], {"input_ids": padded(text)[0][np.newaxis]})
        assert vector @ full[0] / np.linalg.norm(full[0]) == pytest.approx(1, abs=1e-6)
    assert len(TextTokenizer(described, pad=False)("a photo of a dog")[0]) == 7


# Behaviour


async def test_agreement_distinguishes_weights(clip: Clip) -> None:
    embedder, other = clip(MODELS / "open_clip_siglip2"), clip(MODELS / "transformers_siglip2")
    golden = GOLDEN["open_clip_siglip2"]
    assert await agreement(embedder, golden["images"][0], image=PICTURES[0].data) >= 0.999
    assert await agreement(embedder, np.array(golden["texts"][0]) * 7, text=TEXTS[0]) >= 0.999
    assert await agreement(other, golden["images"][0], image=PICTURES[0].data) < 0.9
    assert await agreement(embedder, [1.0, 0.0], text="a dog") == 0
    with pytest.raises(ImageRefused):
        await agreement(embedder, golden["images"][0], image=b"no image")


async def test_a_panorama_of_one_row_of_pixels_needs_little_memory(clip: Clip) -> None:
    file = io.BytesIO()
    Image.new("RGB", (60_000, 1), "red").save(file, "PNG")
    (vector,) = await clip(MODELS / "open_clip_clip").embed_images([ImageInput(data=file.getvalue())])
    assert not isinstance(vector, ImageRefused)


# Execution providers


async def test_images_run_on_the_best_gpu_that_onnx_runtime_supports(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = ["TensorrtExecutionProvider", "ROCMExecutionProvider", "MIGraphXExecutionProvider", CPU]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: installed)
    assert ordered_providers() == ["MIGraphXExecutionProvider", "ROCMExecutionProvider", CPU]


async def test_a_gpu_that_fails_to_start_leaves_the_work_to_the_cpu(
    clip: Clip, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    installed = ["CUDAExecutionProvider", "CoreMLExecutionProvider", CPU]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: installed)
    start = onnxruntime.InferenceSession

    def fail_on_gpus(path: Path, options: Any, *, providers: list[str]) -> Any:
        if providers != [CPU]:
            raise RuntimeError("libcublas.so: cannot open")
        return start(path, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", fail_on_gpus)
    embedder = clip(MODELS / "transformers_clip")
    vectors = only_vectors(await embedder.embed_images(PICTURES))
    assert cosines(vectors, GOLDEN["transformers_clip"]["images"]).min() >= 0.999
    assert await embedder.device() == "CPU (CUDAExecutionProvider failed to start: libcublas.so: cannot open)"
    assert len(caplog.messages) == 1
    assert "CUDAExecutionProvider failed to start" in caplog.text


# Names


async def test_a_folder_is_named_with_a_fingerprint_of_its_weights(
    clip: Clip, model_copy: Path, tmp_path: Path
) -> None:
    name = clip(model_copy).name
    assert name.startswith("clip:my-clip@")
    assert clip(shutil.copytree(model_copy, tmp_path / "elsewhere" / "my-clip")).name == name
    shutil.copytree(MODELS / "transformers_siglip2", model_copy, dirs_exist_ok=True)
    assert clip(model_copy).name.startswith("clip:my-clip@")
    assert clip(model_copy).name != name


async def test_name_and_dimensions_are_known_before_the_download(clip: Clip) -> None:
    found = {name: (clip(name).name, clip(name).dimensions) for name in ["ViT-L/14", "vit-b-32", "ViT-B-16-SigLIP2"]}
    assert found == {
        "ViT-L/14": ("clip:ViT-L/14", 768),
        "vit-b-32": ("clip:ViT-B/32", 512),
        "ViT-B-16-SigLIP2": ("clip:ViT-B-16-SigLIP2", 768),
    }
    assert not clip.cache.exists()


async def test_an_unknown_model_is_refused_with_the_known_names(clip: Clip) -> None:
    with pytest.raises(
        SettingsError, match=r"CLIP_MODEL is 'ViT-X/99': give one of ViT-B-16-SigLIP2, ViT-L/14, ViT-B/32"
    ):
        clip("ViT-X/99")


# The hub


@pytest.fixture
def tiny_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """Serve a tiny model of 12 dimensions under the name ViT-B/32."""
    (model,) = (model for model in HUB_MODELS if model.repository == XENOVA)
    monkeypatch.setattr("shared.embedders.clip.hub.HUB_MODELS", (replace(model, dimensions=12),))
    repository = shutil.copytree(MODELS / "transformers_clip", tmp_path / "repository")
    (repository / "onnx/model_quantized.onnx").write_bytes(b"not needed")
    with FakeHub({XENOVA: repository}) as hub:
        yield hub


async def test_each_tower_is_downloaded_once_on_first_use(clip: Clip, tiny_hub: FakeHub) -> None:
    embedder = clip("ViT-B/32", endpoint=tiny_hub.endpoint)
    assert cosines(await embedder.embed_texts(TEXTS), GOLDEN["transformers_clip"]["texts"]).min() >= 0.999
    assert sorted(tiny_hub.fetched) == [
        "config.json",
        "onnx/text_model.onnx",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    tiny_hub.fetched.clear()
    vectors = only_vectors(await embedder.embed_images(PICTURES))
    assert cosines(vectors, GOLDEN["transformers_clip"]["images"]).min() >= 0.999
    assert sorted(tiny_hub.fetched) == ["onnx/vision_model.onnx", "preprocessor_config.json"]
    requests = tiny_hub.requests
    again = clip("ViT-B/32", endpoint=tiny_hub.endpoint)
    await again.embed_texts(["a dog"])
    await again.embed_images(PICTURES[:1])
    assert tiny_hub.requests == requests


async def test_an_unreachable_hub_is_reported_with_the_alternatives(clip: Clip) -> None:
    embedder = clip("ViT-L/14", endpoint="http://127.0.0.1:9")
    with pytest.raises(ModelError) as error:
        await embedder.embed_texts(["a dog"])
    message = str(error.value)
    assert "EMBEDDER=offline" in message
    assert "CLIP_MODEL to a folder" in message
    assert str(clip.cache / "ViT-L-14") in message
    assert "\n" not in message
    assert not error.value.transient


async def test_an_interrupted_download_is_reported_and_resumed(clip: Clip, tiny_hub: FakeHub) -> None:
    embedder = clip("ViT-B/32", endpoint=tiny_hub.endpoint)
    tiny_hub.cut_short.add("onnx/text_model.onnx")
    with pytest.raises(ModelError, match=r"cannot download Xenova/.*onnx/text_model\.onnx"):
        await embedder.embed_texts(["a dog"])
    tiny_hub.cut_short.clear()
    assert (await embedder.embed_texts(["a dog"])).shape == (1, 12)


def test_a_download_can_be_interrupted(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from pathlib import Path; from shared.images.worker_pool import DecoderPool;"
        "from shared.embedders.clip.embedder import ClipEmbedder\n"
        "async def main():"
        " await ClipEmbedder('ViT-B/32', Path(sys.argv[1]), DecoderPool(1), endpoint=sys.argv[2])"
        ".embed_texts(['a dog'])\n"
        "asyncio.run(main())"
    )
    with FakeHub({XENOVA: MODELS / "transformers_clip"}) as hub:
        hub.stalled.add("onnx/text_model.onnx")
        command = [sys.executable, "-c", code, str(tmp_path), hub.endpoint]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert hub.stalling.wait(60)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=150)
    assert errors.rstrip().endswith("KeyboardInterrupt")


async def test_a_missing_file_of_a_repository_is_reported(clip: Clip, tiny_hub: FakeHub) -> None:
    (tiny_hub.repositories[XENOVA] / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"cannot download Xenova/.*tokenizer\.json"):
        await clip("ViT-B/32", endpoint=tiny_hub.endpoint).embed_texts(["a dog"])


# Wrong files


@pytest.mark.parametrize(
    "file", ["config.json", "tokenizer.json", "preprocessor_config.json", "onnx/vision_model.onnx"]
)
def test_an_incomplete_folder_is_refused_at_once(clip: Clip, model_copy: Path, file: str) -> None:
    (model_copy / file).unlink()
    with pytest.raises(ModelError, match=file):
        clip(model_copy)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", "{"),
        ("config.json", "[]"),
        ("config.json", "{}"),
        ("config.json", '{"model_type": "bert"}'),
        ("config.json", '{"model_type": "clip", "projection_dim": "many"}'),
        ("preprocessor_config.json", "<!doctype html>"),
        ("preprocessor_config.json", '{"size": {"shortest_edge": 32}}'),
        ("preprocessor_config.json", '{"size": 32, "image_mean": [0.5], "image_std": [1, 1, 1]}'),
        ("preprocessor_config.json", '{"size": 32, "do_center_crop": true, "crop_size": 64}'),
        ("preprocessor_config.json", '{"size": 32, "resample": 0}'),
        ("preprocessor_config.json", '{"size": 32, "do_normalize": false}'),
    ],
)
def test_invalid_settings_are_refused_at_once(clip: Clip, model_copy: Path, file: str, content: str) -> None:
    (model_copy / file).write_text(content)
    with pytest.raises(ModelError, match=file):
        clip(model_copy)


async def test_a_damaged_network_is_reported_with_the_remedy(clip: Clip, model_copy: Path) -> None:
    weights = model_copy / "onnx/vision_model.onnx"
    weights.write_bytes(weights.read_bytes()[:20_000])
    embedder = clip(model_copy)
    with pytest.raises(ModelError, match=r"cannot load .*vision_model\.onnx .*delete it and start again"):
        await embedder.embed_images(PICTURES)
    assert (await embedder.embed_texts(["a dog"])).shape == (1, 12)


async def test_a_damaged_tokenizer_is_reported_with_the_remedy(clip: Clip, model_copy: Path) -> None:
    (model_copy / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json is not a tokenizer file .*download it again"):
        await clip(model_copy).embed_texts(["a dog"])


async def test_swapped_towers_are_refused(clip: Clip, model_copy: Path) -> None:
    swapped = model_copy / "onnx/swapped.onnx"
    (model_copy / "onnx/text_model.onnx").rename(swapped)
    (model_copy / "onnx/vision_model.onnx").rename(model_copy / "onnx/text_model.onnx")
    swapped.rename(model_copy / "onnx/vision_model.onnx")
    with pytest.raises(ModelError, match=r"text_model\.onnx takes texts of shape"):
        await clip(model_copy).embed_texts(["a dog"])
    with pytest.raises(ModelError, match=r"vision_model\.onnx takes"):
        await clip(model_copy).embed_images(PICTURES)


@pytest.mark.parametrize(
    ("file", "settings", "problem"),
    [
        (
            "preprocessor_config.json",
            {"size": {"shortest_edge": 48}, "crop_size": 48},
            r"takes images of shape \[3, 32, 32\], but its settings produce \[3, 48, 48\]",
        ),
        ("config.json", {"projection_dim": 512}, "instead of vectors of 512 dimensions"),
    ],
)
async def test_a_tower_that_does_not_match_its_settings_is_refused(
    clip: Clip, model_copy: Path, file: str, settings: dict[str, Any], problem: str
) -> None:
    path = model_copy / file
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    with pytest.raises(ModelError, match=problem):
        await clip(model_copy).embed_images(PICTURES)


async def test_input_names_are_read_from_the_network(clip: Clip, model_copy: Path) -> None:
    for tower, renamed in [("text", {"input_ids": "tokens"}), ("vision", {"pixel_values": "picture"})]:
        path = model_copy / f"onnx/{tower}_model.onnx"
        model = onnx.load(path)
        for node in model.graph.node:
            node.input[:] = [renamed.get(name, name) for name in node.input]
        for value in model.graph.input:
            value.name = renamed.get(value.name, value.name)
        onnx.save(model, path)
    embedder = clip(model_copy)
    assert cosines(await embedder.embed_texts(TEXTS), GOLDEN["transformers_clip"]["texts"]).min() >= 0.999
    vectors = only_vectors(await embedder.embed_images(PICTURES))
    assert cosines(vectors, GOLDEN["transformers_clip"]["images"]).min() >= 0.999


async def test_an_unavailable_gpu_is_logged_and_the_cpu_computes(
    clip: Clip, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    available = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):
        vectors = only_vectors(await clip(MODELS / "open_clip_clip").embed_images(PICTURES))
    assert cosines(vectors, GOLDEN["open_clip_clip"]["images"]).min() >= 0.999
    assert "CUDAExecutionProvider failed to start" in caplog.text


def test_preprocessing_loads_neither_network_nor_tokenizer() -> None:
    code = (
        "import sys, shared.embedders.clip.preprocess;"
        "print([name for name in ('onnxruntime', 'tokenizers', 'ftfy', 'huggingface_hub') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
