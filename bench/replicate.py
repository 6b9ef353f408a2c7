"""Throughput of the Replicate embedder relative to the latency of the service: `python -m bench.replicate`.

A local fake of Replicate answers each call after 500 ms. Three concurrent calls then allow 6 images a second for a
single model and 300 for the batch model, which takes 50 addresses per call. A second run with 250 ms shows the cost of
random refusals without a hint.
"""

import asyncio
import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

from shared.embedders.base import ImageInput
from shared.embedders.replicate.embedder import ReplicateEmbedder
from shared.errors import ImageRefused
from shared.images.worker_pool import DecoderPool

LATENCY = 0.5  # seconds
CONCURRENCY = 3
SINGLE = 90  # images
BATCHED = 3000
# More than calls, so that images are decoded during calls.
WORKERS = 2 * CONCURRENCY


def photo(seed: int) -> bytes:
    """Return a JPEG of 1600 x 1200 pixels, about 200 kB."""
    noise = np.random.default_rng(seed).integers(0, 256, (75, 100, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((1600, 1200), Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
    return file.getvalue()


@contextmanager
def fake_replicate(latency: float = LATENCY, refusals: float = 0.0) -> Iterator[str]:
    """Run the fake as a process and yield its address."""
    settings = json.dumps({"latency": latency, "fetches": False, "faults": {"429_bare": refusals}})
    command = [sys.executable, "-m", "tests.fakes.replicate", "--settings", settings]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            yield running.stdout.readline().strip()
        finally:
            running.terminate()


async def images_per_second(embedder: ReplicateEmbedder, images: list[ImageInput]) -> float:
    """Return the number of images embedded per second."""
    waiting = [images[i : i + embedder.batch_size] for i in range(0, len(images), embedder.batch_size)]

    async def work() -> None:
        while waiting:
            results = await embedder.embed_images(waiting.pop())
            assert not any(isinstance(result, ImageRefused) for result in results)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(WORKERS)))
    return len(images) / (time.perf_counter() - began)


async def measure(url: str, model: str, images: list[ImageInput]) -> float:
    decoder = DecoderPool()
    embedder = ReplicateEmbedder(token="r8_fake", decoder=decoder, model=model, base_url=url, concurrency=CONCURRENCY)
    try:
        await embedder.embed_images(images[:WORKERS])  # opens connections and starts decoder workers
        return await images_per_second(embedder, images)
    finally:
        await embedder.close()
        await decoder.close()


async def main() -> None:
    photos = [photo(seed) for seed in range(10)]
    files = [ImageInput(data=photos[n % 10]) for n in range(SINGLE)]
    addresses = [ImageInput(address=f"https://photos.example/{n}.jpg") for n in range(BATCHED)]
    with fake_replicate() as url:
        single = await measure(url, "openai/clip", files)
        batch = await measure(url, "andreasjansson/clip-features", addresses)
    ideal = CONCURRENCY / LATENCY
    print(f"{CONCURRENCY} concurrent calls of {LATENCY * 1000:.0f} ms")
    print(f"{'model':30} {'images/s':>9} {'of ideal':>9} {'of single':>10}")
    print(f"{'openai/clip':30} {single:9.2f} {single / ideal:9.1%} {1:9.1f}x")
    print(f"{'andreasjansson/clip-features':30} {batch:9.2f} {batch / ideal / 50:9.1%} {batch / single:9.1f}x")
    for refusals in (0.0, 1 / 8):
        with fake_replicate(0.25, refusals) as url:
            rate = await measure(url, "openai/clip", (3 * files)[:200])
        print(f"200 images at 250 ms, {refusals:.1%} of the calls refused without a hint: {200 / rate:.1f} s")


if __name__ == "__main__":
    asyncio.run(main())
