"""OCR: time per picture, recall of words on rendered text, false words on photos, and memory.

    python -m bench.ocr [--pictures 40] [--memory 500] [--fonts FOLDER]

Pages are rendered at 1600 x 1200 pixels with the fonts found below FOLDER (DejaVu, and VL Gothic for Japanese; Debian:
fonts-dejavu-core, fonts-vlgothic), turned by up to 15 degrees, over a soft picture, with noise, as JPEG. The photos are
the sample photos, whole and in quarters. Times are those of the processor, so they hold on a busy machine too.
"""

import argparse
import io
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
from PIL import Image, ImageDraw, ImageFont

from shared.images import ModelInput
from shared.images.worker_pool import DecoderPool
from shared.ocr.reader import TextReader, read_picture, weights
from shared.sample_photos import sample_photos
from tests.helpers.pictures import encode, noise

SIZE = (1600, 1200)
HEIGHTS = (12, 16, 24, 40)  # of fonts, in pixels of the preview
VOCABULARIES = {
    "English": "invoice total amount payment exit entrance platform departure warning private keep door closed museum "
    "ticket station hospital receipt thank change street coffee library garden bridge harbour market",
    "German": "Größe Straße Käsespätzle Übergang Öffnungszeiten Ausgang Bäckerei Fußgänger Rechnung Mehrwertsteuer "
    "Gültigkeit Prüfung Brötchen Würzburg Schlüssel Lösung Männer Höhe Maßstab Rückfahrt",
    "French": "entrée sortie déjeuner hôtel théâtre château façade réservé prière fermé café crème billet reçu quai "
    "étage février août forêt musée",
    "Japanese": "非常口 立入禁止 東京駅 入口 出口 営業中 準備中 駐車場 案内所 新宿 京都 大阪 切符 改札 お手洗い 消火器 "
    "注意 危険 定休日 本日休業",
    "numbers": "47,11 4711 1.299,00 2024-05-31 12:45 0800 20095 3,99 17.50 1984 +49 110 365 7% 1/125 100% 90° 5/7",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=40, help="rendered pages per vocabulary")
    parser.add_argument("--memory", type=int, default=500, help="pictures read to watch the memory")
    parser.add_argument("--fonts", type=Path, default=Path("/usr/share/fonts/truetype"))
    arguments = parser.parse_args()
    folder = weights()
    assert folder, "install the extra ocr"
    reader = TextReader(folder, DecoderPool(1), threads=1)
    reader._read(as_input(Image.new("RGB", SIZE)))  # loads the networks
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    _recall(reader, arguments.fonts, arguments.pictures)
    _false_words(reader)
    _memory(reader, arguments.fonts, arguments.memory)


def as_input(image: Image.Image) -> ModelInput:
    return ModelInput(image.width, image.height, image.tobytes())


def page(words: list[str], font: ImageFont.FreeTypeFont, seed: int) -> bytes:
    """Return a JPEG with *words* in rows over a soft background, turned and noisy."""
    rng = random.Random(seed)
    dark = seed % 2 == 0
    background = noise(seed, SIZE).point([(value // 4 if dark else 255 - value // 4) for value in range(256)] * 3)
    layer = Image.new("L", SIZE)
    draw = ImageDraw.Draw(layer)
    for number, word in enumerate(words):
        draw.text((200 + 420 * (number % 3), 300 + 170 * (number // 3)), word, font=font, fill=255)
    layer = layer.rotate(rng.uniform(-15, 15), Image.Resampling.BICUBIC)
    background.paste(Image.new("RGB", SIZE, "white" if dark else "black"), (0, 0), layer)
    grain = np.random.default_rng(seed).normal(0, 6, (SIZE[1], SIZE[0], 1))
    return encode(Image.fromarray((np.asarray(background) + grain).clip(0, 255).astype(np.uint8)), quality=80)


def pages(name: str, fonts: Path, count: int, height: int) -> Iterator[tuple[list[str], bytes]]:
    japanese = [fonts / "vlgothic/VL-Gothic-Regular.ttf"]
    families = japanese if name == "Japanese" else sorted(fonts.glob("dejavu/DejaVu*.ttf"))
    for seed in range(count):
        rng = random.Random(f"{name} {seed}")
        words = rng.sample(VOCABULARIES[name].split(), 12)
        yield words, page(words, ImageFont.truetype(rng.choice(families), height), seed)


def _recall(reader: TextReader, fonts: Path, count: int) -> None:
    """Print the share of rendered words that are read exactly, and the time per page."""
    print("words read exactly, by height of the font in pixels, 12 words a page")
    for name in VOCABULARIES:
        cells, seconds = [], []
        for height in HEIGHTS:
            hits = total = 0
            for words, data in pages(name, fonts, max(1, count // len(HEIGHTS)), height):
                picture = read_picture(data)
                start = time.thread_time()
                text = "".join(line.text for line in reader._read(picture)).replace(" ", "")
                seconds.append(time.thread_time() - start)
                hits += sum(word in text for word in words)
                total += len(words)
            cells.append(f"{height} px {hits / total:.3f}")
        print(f"  {name:<9} {'  '.join(cells)}   {statistics.median(seconds) * 1000:.0f} ms a page")


def _false_words(reader: TextReader) -> None:
    """Print what is read in the sample photos and their quarters, and the time per photo."""
    with tempfile.TemporaryDirectory() as folder:
        sample_photos(Path(folder))
        photos = [Image.open(path).convert("RGB") for path in sorted(Path(folder).iterdir())]
    quarters = [
        photo.crop((x, y, x + photo.width // 2, y + photo.height // 2)).resize(photo.size)
        for photo in photos
        for x in (0, photo.width // 2)
        for y in (0, photo.height // 2)
    ]
    for name, pictures in {"sample photos": photos, "their quarters": quarters}.items():
        seconds, found = [], []
        for picture in pictures:
            scale = SIZE[0] / max(picture.size)
            enlarged = picture.resize((round(picture.width * scale), round(picture.height * scale)))
            start = time.thread_time()
            found += [line.text for line in reader._read(as_input(enlarged))]
            seconds.append(time.thread_time() - start)
        print(f"{len(pictures)} {name}: {statistics.median(seconds) * 1000:.0f} ms each; read {len(found)}: {found}")


def _memory(reader: TextReader, fonts: Path, count: int) -> None:
    """Print the resident memory while pictures of many shapes and texts are read."""
    process, rng = psutil.Process(), random.Random(0)
    samples = [data for name in VOCABULARIES for _, data in pages(name, fonts, 4, 24)]
    for number in range(1, count + 1):
        picture = Image.open(io.BytesIO(rng.choice(samples))).convert("RGB")
        picture.thumbnail((rng.randrange(300, 1600), rng.randrange(300, 1600)))
        reader._read(as_input(picture))
        if number in (count // 10, count // 2, count):
            print(f"after {number} pictures: {process.memory_info().rss / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
