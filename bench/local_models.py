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
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
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
    together, alone = bare_session(session_file, threads=0), bare_session(session_file, threads=1)
    ratios, rates, costs = [], [], []
    with (
        ProcessPoolExecutor(CORES, mp_context=get_context("forkserver")) as processes,
        ThreadPoolExecutor(CORES) as threads,
    ):
        pixels = list(processes.map(read, files))
        feeds = [feed(pixels[start : start + batch]) for start in range(0, len(pixels), batch)]
        await embedder.embed_images(images)
        # The bare session uses the cores in whichever way is faster.
        work: Callable[[], object] = min(
            lambda: [together.run(None, values) for values in feeds],
            lambda: list(threads.map(lambda values: alone.run(None, values), feeds)),
            key=seconds,
        )

        async def bare() -> Duration:
            before = processor_seconds()
            wall = seconds(lambda: list(processes.map(read, files))) + seconds(work)
            return wall, processor_seconds() - before

        async def own() -> Duration:
            before, start = processor_seconds(), time.perf_counter()
            await embedder.embed_images(images)
            return time.perf_counter() - start, processor_seconds() - before

        for number in range(rounds):
            # Alternate which one goes first.
            if number % 2:
                ours, theirs = await own(), await bare()
            else:
                theirs, ours = await bare(), await own()
            ratios.append(theirs[0] / ours[0])
            rates.append((len(files) / ours[0], len(files) / theirs[0]))
            costs.append((ours[1], theirs[1]))
    own_rate, bare_rate = (statistics.median(column) for column in zip(*rates, strict=True))
    own_cost, bare_cost = (1e3 * statistics.median(column) / len(files) for column in zip(*costs, strict=True))
    print(
        f"{embedder.name}: {own_rate:.1f} images/s, bare session plus decoding {bare_rate:.1f};"
        f" ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f});"
        f" {own_cost:.0f} ms of processor time per image, bare {bare_cost:.0f}"
    )


async def measure_texts(embedder: Embedder) -> None:
    texts = {words: " ".join(["dog"] * words) for words in (1, 3, 5, 10, 20, 40, 70)}
    await embedder.embed_texts(list(texts.values()))
    spent: dict[int, list[Duration]] = {words: [] for words in texts}
    # Interleaved, so that other load on the machine affects all lengths alike.
    for _ in range(20):
        for words, text in texts.items():
            before, start = time.process_time(), time.perf_counter()
            await embedder.embed_texts([text])
            spent[words].append((time.perf_counter() - start, time.process_time() - before))
    for words, each in spent.items():
        wall, processor = (1e3 * statistics.median(column) for column in zip(*each, strict=True))
        print(f"{embedder.name}: a text of {words:2} words: {wall:.1f} ms, {processor:.1f} ms of processor time")


def bare_session(path: Path, *, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def processor_seconds() -> float:
    """Return the processor time of this program and its workers."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(spent.user + spent.system for spent in times)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    asyncio.run(main())
