"""Throughput of the local models: images per second, and the cost of texts by length.

    python -m bench.local_models [--images 64] [--rounds 5] [--scratch FOLDER]

The baseline is minimal: the same files decoded by a process pool, then the same arrays passed to a bare ONNX Runtime
session, each with the whole machine to itself. Every round measures both, and the ratio is the median over the rounds.
On a busy machine compare the processor time per image. CLIP has the shape of ViT-B/32 and random weights.
"""

import argparse
import asyncio
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import psutil
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from bench.random_clip import ensure_generated
from shared.embedders.base import Embedder, ImageInput
from shared.embedders.clip import preprocess as clip_pixels
from shared.embedders.clip.embedder import ClipEmbedder
from shared.embedders.clip.layouts import read_image_model
from shared.embedders.offline import pixels as offline_pixels
from shared.embedders.offline.embedder import OfflineEmbedder
from shared.images.worker_pool import DecoderPool

CORES = os.cpu_count() or 1
Read = Callable[[bytes], NDArray[np.uint8]]
Duration = tuple[float, float]  # wall and processor seconds
Feed = Callable[[Sequence[NDArray[np.uint8]]], dict[str, NDArray[Any]]]


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "image-browser-bench")
    arguments = parser.parse_args()
    files = photos(arguments.images)
    print(f"{len(files)} photos of 1600 x 1200, {sum(map(len, files)) / len(files) / 1e3:.0f} kB; {CORES} cores")

    decoder = DecoderPool()
    folder = ensure_generated(arguments.scratch / "random-ViT-B-32")
    clip = ClipEmbedder(str(folder), arguments.scratch, decoder)
    model = read_image_model(folder)
    await measure_images(
        clip, files, arguments.rounds, session_file=model.weights, batch=8,
        read=partial(clip_pixels.read_pixels, preprocessing=asdict(model.preprocessing)),
        feed=lambda pixels: {"pixel_values": model.preprocessing.normalise(np.stack(pixels))},
    )  # fmt: skip
    await measure_texts(clip)
    await clip.close()

    offline = OfflineEmbedder(arguments.scratch, decoder)
    await offline.embed_images([ImageInput(files[0])])  # builds the model
    await measure_images(
        offline, files, arguments.rounds, batch=1,
        session_file=next(arguments.scratch.rglob("image_encoder.onnx")),
        read=offline_pixels.read_pixels, feed=lambda pixels: {"pixels": np.stack(pixels)},
    )  # fmt: skip
    await measure_texts(offline)
    await offline.close()
    await decoder.close()


def photos(count: int) -> list[bytes]:
    """Return JPEG files of photographs from scikit-image, each rotated by another angle."""
    sources = [Image.fromarray(getattr(skimage.data, name)()) for name in ("astronaut", "coffee", "chelsea", "rocket")]
    files = []
    for number in range(count):
        source = sources[number % len(sources)].rotate(number, expand=False)
        file = io.BytesIO()
        source.resize((1600, 1200), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


async def measure_images(
    embedder: Embedder, files: list[bytes], rounds: int, *, session_file: Path, batch: int, read: Read, feed: Feed
) -> None:
    images = [ImageInput(data) for data in files]
    session = bare_session(session_file)
    ours: list[Duration] = []
    bare: list[Duration] = []
    with (
        ProcessPoolExecutor(CORES, mp_context=get_context("forkserver")) as processes,
        ThreadPoolExecutor(CORES) as threads,
    ):
        pixels = list(processes.map(read, files))
        feeds = [feed(pixels[start : start + batch]) for start in range(0, len(pixels), batch)]
        await embedder.embed_images(images)
        for _ in range(rounds):
            with timed(ours, processor_seconds):
                await embedder.embed_images(images)
            with timed(bare, processor_seconds):
                list(processes.map(read, files))
                list(threads.map(lambda values: session.run(None, values), feeds))
    ratios = [theirs[0] / own[0] for own, theirs in zip(ours, bare, strict=True)]
    (own_wall, own_cost), (bare_wall, bare_cost) = median(ours), median(bare)
    print(
        f"{embedder.name}: {len(files) / own_wall:.1f} images/s, bare session plus decoding"
        f" {len(files) / bare_wall:.1f}; ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to"
        f" {max(ratios):.2f}); {1e3 * own_cost / len(files):.0f} ms of processor time per image, bare"
        f" {1e3 * bare_cost / len(files):.0f}"
    )


async def measure_texts(embedder: Embedder) -> None:
    texts = {words: " ".join(["dog"] * words) for words in (1, 3, 5, 10, 20, 40, 70)}
    await embedder.embed_texts(list(texts.values()))
    spent: dict[int, list[Duration]] = {words: [] for words in texts}
    # Interleaved, so that other load on the machine affects all lengths alike.
    for _ in range(20):
        for words, text in texts.items():
            with timed(spent[words]):
                await embedder.embed_texts([text])
    for words, durations in spent.items():
        wall, processor = (1e3 * seconds for seconds in median(durations))
        print(f"{embedder.name}: a text of {words:2} words: {wall:.1f} ms, {processor:.1f} ms of processor time")


def bare_session(path: Path) -> onnxruntime.InferenceSession:
    """Return a session for calls from one thread per core, which is faster than one call on all cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@contextmanager
def timed(durations: list[Duration], processor_time: Callable[[], float] = time.process_time) -> Iterator[None]:
    """Append the duration of the block to *durations*."""
    processor, wall = processor_time(), time.perf_counter()
    yield
    wall = time.perf_counter() - wall
    durations.append((wall, processor_time() - processor))


def median(durations: list[Duration]) -> Duration:
    wall, processor = zip(*durations, strict=True)
    return statistics.median(wall), statistics.median(processor)


def processor_seconds() -> float:
    """Return the processor time of this program and its workers."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(spent.user + spent.system for spent in times)


if __name__ == "__main__":
    asyncio.run(main())
