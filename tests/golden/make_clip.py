"""Generate small CLIP and SigLIP models with random weights, and golden vectors of the reference implementations.

    pip install torch==2.13.0 torchvision transformers==5.23.0 open_clip_torch==3.3.0 onnx onnxscript
    python -m tests.golden.make_clip

Run it by hand in a separate environment: the tests need only its output in ``tests/golden/clip``. The weights are
random and large, so that a crop that is off by one pixel, or another token, changes the vectors visibly.
"""

import gzip
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import open_clip
import torch
import transformers
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from timm.models.registry import register_model
from timm.models.vision_transformer import VisionTransformer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tests.golden.clip_inputs import FILES, TEXTS

OUTPUT = Path(__file__).parent / "clip"
SIZE, PATCH, WIDTH, LAYERS, DIMENSIONS = 32, 8, 16, 1, 12
CLIP_CONTEXT, SIGLIP_CONTEXT = 77, 64

CORPUS = (
    "a photo of a dog . the quick brown fox jumps over the lazy dog , very long captions go on and on ; they'll say"
    " don't quote me : punctuation and more , snake case , fish and chips , white space here , photos of cats"
)


def main() -> None:
    pictures = [Image.open(io.BytesIO(data)) for data in FILES]
    golden = {}
    for make in (open_clip_clip, open_clip_siglip2, transformers_clip, transformers_siglip2):
        folder = OUTPUT / make.__name__
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        torch.manual_seed(len(golden))
        tokens, texts, images = make(folder, pictures)
        check_spread(make.__name__, texts, images)
        golden[make.__name__] = {"tokens": tokens.tolist(), "texts": rounded(texts), "images": rounded(images)}
    lines = [json.dumps(name) + ": " + json.dumps(value, separators=(",", ":")) for name, value in golden.items()]
    (OUTPUT / "golden.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    for file in OUTPUT.rglob("*.onnx"):
        onnx.checker.check_model(str(file))


class Tower(torch.nn.Module):
    """One tower of a model, as a module that can be exported."""

    def __init__(self, model: torch.nn.Module, encode: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.model = model
        self.encode = encode

    def forward(self, values: torch.Tensor) -> Any:
        return self.encode(values)


# The open_clip layout of the repositories of immich-app


def open_clip_clip(folder: Path, pictures: list[Image.Image]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    tokenizer = save_clip_tokenizer(folder / "textual")
    with tempfile.NamedTemporaryFile(suffix=".gz") as file:
        merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
        file.write(gzip.compress("\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]).encode()))
        file.flush()
        reference = open_clip.tokenizer.SimpleTokenizer(bpe_path=file.name, context_length=CLIP_CONTEXT)
    assert reference.eot_token_id == tokenizer.eos_token_id
    config = {
        "embed_dim": DIMENSIONS,
        "vision_cfg": {
            "image_size": SIZE, "layers": LAYERS, "width": WIDTH, "patch_size": PATCH, "head_width": WIDTH // 2
        },
        "text_cfg": {
            "context_length": CLIP_CONTEXT,
            "vocab_size": reference.vocab_size,
            "width": WIDTH,
            "heads": 2,
            "layers": LAYERS,
        },
    }  # fmt: skip
    preprocess = preprocessing(open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD, resize_mode="shortest")
    model = open_clip.CLIP(**config, quick_gelu=True)
    return save_open_clip(folder, config, preprocess, model, reference(TEXTS), pictures)


def open_clip_siglip2(folder: Path, pictures: list[Image.Image]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    vocabulary = save_siglip2_tokenizer(folder / "textual")
    reference = open_clip.tokenizer.HFTokenizer(
        str(folder / "textual"), context_length=SIGLIP_CONTEXT, clean="canonicalize"
    )
    register_model(tiny_siglip)
    config = {
        "embed_dim": WIDTH,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": SIZE,
            "timm_model_name": "tiny_siglip",
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {
            "context_length": SIGLIP_CONTEXT,
            "vocab_size": vocabulary,
            "hf_tokenizer_name": "tiny",
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "width": WIDTH,
            "heads": 2,
            "layers": LAYERS,
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
            "norm_kwargs": {"eps": 1e-6},
            "act_kwargs": {"approximate": "tanh"},
        },
    }
    preprocess = preprocessing([0.5] * 3, [0.5] * 3, resize_mode="squash")
    arguments = {key: value for key, value in config.items() if key != "custom_text"}
    model = open_clip.CustomTextCLIP(**arguments)
    return save_open_clip(folder, config, preprocess, model, reference(TEXTS), pictures)


def preprocessing(mean: Sequence[float], std: Sequence[float], *, resize_mode: str) -> dict[str, Any]:
    return {
        "size": [SIZE, SIZE],
        "mode": "RGB",
        "mean": list(mean),
        "std": list(std),
        "interpolation": "bicubic",
        "resize_mode": resize_mode,
        "fill_color": 0,
    }


def tiny_siglip(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """As timm's vit_base_patch16_siglip_224, but for its size."""
    kwargs = {key: value for key, value in kwargs.items() if key in ("num_classes", "global_pool", "img_size")}
    return VisionTransformer(
        **{
            "img_size": SIZE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": LAYERS, "num_heads": 2,
            "class_token": False, "act_layer": "gelu_tanh", **kwargs,
        }
    )  # fmt: skip


def save_open_clip(
    folder: Path,
    config: dict[str, Any],
    preprocess: dict[str, Any],
    model: torch.nn.Module,
    tokens: torch.Tensor,
    pictures: list[Image.Image],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Write the model in that layout, for single padded texts and images, and return the golden values."""
    (folder / "visual").mkdir()
    write_json(folder / "config.json", config)
    write_json(folder / "visual/preprocess_cfg.json", preprocess)
    randomise(model)
    transform = image_transform_v2(PreprocessCfg(**{**preprocess, "size": SIZE}), is_train=False)
    pixels = torch.stack([transform(image) for image in pictures])
    images = Tower(model, lambda image: model.encode_image(image, normalize=True)).eval()
    texts = Tower(model, lambda text: model.encode_text(text, normalize=True)).eval()
    export(images, (pixels[:1],), folder / "visual/model.onnx", inputs=["image"], outputs=["embedding"])
    export(texts, (tokens[:1].int(),), folder / "textual/model.onnx", inputs=["text"], outputs=["embedding"])
    with torch.no_grad():
        return tokens, texts(tokens), images(pixels)


# The transformers.js layout of the repositories of Xenova and onnx-community

TRANSFORMERS_TOWER = {
    "hidden_size": WIDTH,
    "intermediate_size": 4 * WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
}


def transformers_clip(folder: Path, pictures: list[Image.Image]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    tokenizer = save_clip_tokenizer(folder)
    config = transformers.CLIPConfig(
        projection_dim=DIMENSIONS,
        text_config={
            **TRANSFORMERS_TOWER,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": CLIP_CONTEXT,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={**TRANSFORMERS_TOWER, "image_size": SIZE, "patch_size": PATCH},
    )
    model = transformers.CLIPModel(config)
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    encoded = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=CLIP_CONTEXT, return_tensors="pt")
    return save_transformers(
        folder, model, processor, encoded["input_ids"], pictures, names=("text_embeds", "image_embeds")
    )


def transformers_siglip2(folder: Path, pictures: list[Image.Image]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    vocabulary = save_siglip2_tokenizer(folder)
    # The tokenizer of the training of SigLIP2: Siglip2Tokenizer is the file's tokenizer after a Lowercase.
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), tokenizer.backend_tokenizer.normalizer]
    )
    config = transformers.SiglipConfig(
        text_config={
            **TRANSFORMERS_TOWER,
            "vocab_size": vocabulary,
            "max_position_embeddings": SIGLIP_CONTEXT,
            "projection_size": WIDTH,
        },
        vision_config={**TRANSFORMERS_TOWER, "image_size": SIZE, "patch_size": PATCH},
    )
    model = transformers.SiglipModel(config)
    processor = transformers.SiglipImageProcessor(size={"height": SIZE, "width": SIZE})
    encoded = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=SIGLIP_CONTEXT, return_tensors="pt")
    return save_transformers(folder, model, processor, encoded["input_ids"], pictures, names=("pooler_output",) * 2)


def hidden_state_and_vector(output: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return output.last_hidden_state, output.pooler_output


def save_transformers(
    folder: Path,
    model: torch.nn.Module,
    processor: Any,
    tokens: torch.Tensor,
    pictures: list[Image.Image],
    *,
    names: tuple[str, str],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Write the model in that layout, with dynamic batch and text sizes, and return the golden values."""
    (folder / "onnx").mkdir()
    randomise(model)
    model.config.to_json_file(folder / "config.json")
    processor.save_pretrained(folder)
    pixels = processor(pictures, return_tensors="pt")["pixel_values"]
    images = Tower(model, lambda pixels: hidden_state_and_vector(model.get_image_features(pixels))).eval()
    texts = Tower(model, lambda ids: hidden_state_and_vector(model.get_text_features(ids))).eval()
    axes = {"pixel_values": {0: "batch_size"}, "input_ids": {0: "batch_size", 1: "sequence_length"}}
    export(
        images, (pixels[:2],), folder / "onnx/vision_model.onnx",
        inputs=["pixel_values"], outputs=["last_hidden_state", names[1]], dynamic_axes=axes,
    )  # fmt: skip
    export(
        texts, (tokens[:2, :9],), folder / "onnx/text_model.onnx",
        inputs=["input_ids"], outputs=["last_hidden_state", names[0]], dynamic_axes=axes,
    )  # fmt: skip
    with torch.no_grad():
        return tokens, texts(tokens)[1], images(pixels)[1]


# Tokenizers and weights


def save_clip_tokenizer(folder: Path) -> transformers.CLIPTokenizer:
    """Write a CLIP tokenizer with merges learnt from a few words and the token ids of open_clip."""
    characters = list(open_clip.tokenizer.bytes_to_unicode().values())
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trained.train_from_iterator([CORPUS], trainers.BpeTrainer(vocab_size=160, end_of_word_suffix="</w>"))
    merges = [tuple(pair) for pair in json.loads(trained.to_str())["model"]["merges"]]
    words = [*characters, *(c + "</w>" for c in characters), *("".join(pair) for pair in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = transformers.CLIPTokenizer(
        vocab={word: number for number, word in enumerate(words)}, merges=merges, model_max_length=CLIP_CONTEXT
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_siglip2_tokenizer(folder: Path) -> int:
    """Write a tokenizer like SigLIP2's (Gemma): spaces are characters, unknown characters bytes, <eos> at the end."""
    specials = ["<pad>", "<eos>", "<bos>", "<unk>"]
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator([CORPUS], trainers.BpeTrainer(vocab_size=160))
    learnt = json.loads(trained.to_str())["model"]
    words = [*specials, *(f"<0x{byte:02X}>" for byte in range(256)), *sorted(learnt["vocab"], key=learnt["vocab"].get)]
    tokenizer = Tokenizer(
        models.BPE(
            {word: number for number, word in enumerate(words)},
            [tuple(pair) for pair in learnt["merges"]],
            unk_token="<unk>", fuse_unk=True, byte_fallback=True,
        )
    )  # fmt: skip
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(specials)
    tokenizer.post_processor = processors.TemplateProcessing("$A <eos>", special_tokens=[("<eos>", 1)])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>",
        padding_side="right", model_max_length=SIGLIP_CONTEXT,
    )  # fmt: skip
    fast.save_pretrained(folder)
    return len(words)


@torch.no_grad()
def randomise(model: torch.nn.Module) -> None:
    """Set weights under which different inputs get different vectors and every weight matters."""
    for name, weight in model.named_parameters():
        if weight.ndim < 2 and name.endswith("weight"):
            weight.uniform_(0.5, 1.5)
        elif weight.ndim < 2:
            weight.normal_(std=0.2)
        elif "embed" in name:
            weight.normal_(std=1)
        else:
            weight.normal_(std=1.5 / np.sqrt(weight[0].numel()))
    model.eval()


def export(
    module: torch.nn.Module, args: tuple[Any, ...], path: Path, *, inputs: list[str], outputs: list[str], **options: Any
) -> None:
    # The exporter of the published files.
    torch.onnx.export(
        module, args, path, input_names=inputs, output_names=outputs, opset_version=17, dynamo=False, **options
    )
    model = onnx.load(path)
    for node in model.graph.node:  # provenance, a fifth of the file
        node.name = node.doc_string = ""
    onnx.save(model, path)


def check_spread(name: str, texts: torch.Tensor, images: torch.Tensor) -> None:
    """Print how similar the vectors of different inputs are: towers with constant output would prove nothing."""
    for kind, vectors in (("texts", texts), ("images", images)):
        unit = torch.nn.functional.normalize(vectors, dim=-1)
        others = (unit @ unit.T)[~torch.eye(len(unit), dtype=torch.bool)]
        print(f"{name} {kind}: cosine of different ones {others.mean():.3f}, at most {others.max():.4f}")


def rounded(vectors: torch.Tensor) -> list[list[float]]:
    unit = torch.nn.functional.normalize(vectors, dim=-1)
    return [[round(float(value), 6) for value in vector] for vector in unit]


def write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


if __name__ == "__main__":
    main()
