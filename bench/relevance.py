"""Quality of the weak-match threshold and of weighted sums, with the offline model and the sample photos.

    python -m bench.relevance [--home FOLDER]

The constants of server/search/relevance.py were chosen with the first set of tests/helpers/query_sentences.py; the
second set measures them. 24 random crops of each photo enlarge the collection beyond nineteen images. A run takes about
a minute and needs the extras offline and demo. docs/relevance.md reports one.
"""

import argparse
import asyncio
import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray
from PIL import Image

from server.search.query import Mixture, Query, weighted_sum
from server.search.relevance import NEAREST, BackgroundBaseline, Baseline, CalibratedBaseline
from shared.embedders.base import ImageInput
from shared.embedders.offline.embedder import OfflineEmbedder
from shared.images.worker_pool import DecoderPool
from shared.sample_photos import sample_photos
from shared.sql.calibrations import Calibration
from syncer.calibration import QUANTILE, TEXTS, nonsense
from tests.helpers.query_sentences import CHOOSING, NONSENSE_CHOOSING, NONSENSE_REPORTING, REPORTING

CROPS = 24
WORDS, IMAGE = Mixture(words=1.0), Mixture(images=1.0)
# Photos that the model recognises by name, so that results of a sum can be judged.
RECOGNISED = ("cat", "coffee", "motorcycle", "flower", "pagoda", "rocket", "clock-in-motion", "photographer")

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Texts:
    """Texts of one set with the names of their photos or kinds, and their vectors."""

    names: list[str]
    vectors: Vectors

    def of(self, name: str) -> Vectors:
        return self.vectors[[each == name for each in self.names]]


@dataclass(frozen=True)
class Pictures:
    """Images with the names of their subjects, and their vectors."""

    names: NDArray[np.str_]
    vectors: Vectors

    def __add__(self, other: "Pictures") -> "Pictures":
        return Pictures(np.concatenate([self.names, other.names]), np.vstack([self.vectors, other.vectors]))


def subject(path: Path) -> str:
    """Return the subject of a sample photo; two show the same motorcycle."""
    return path.stem.removesuffix("-left").removesuffix("-right")


def crops(path: Path) -> Iterator[bytes]:
    """Yield crops of a photo, with sides of a quarter to four fifths of the original."""
    chance = np.random.default_rng(len(path.stem))
    photo = Image.open(path).convert("RGB")
    for _ in range(CROPS):
        part = chance.uniform(0.25, 0.8)
        width, height = int(photo.width * part), int(photo.height * part)
        x, y = chance.integers(0, photo.width - width + 1), chance.integers(0, photo.height - height + 1)
        file = io.BytesIO()
        photo.crop((x, y, x + width, y + height)).resize((320, 320 * height // width)).save(file, "PNG")
        yield file.getvalue()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=platformdirs.user_data_path("image-browser", appauthor=False))
    home = parser.parse_args().home
    decoder = DecoderPool()
    model = OfflineEmbedder(home / "models", decoder)
    try:
        with tempfile.TemporaryDirectory() as folder:
            photos = sample_photos(Path(folder))
            whole = await embedded(model, [(subject(path), path.read_bytes()) for path in photos])
            parts = await embedded(model, [(subject(path), part) for path in photos for part in crops(path)])
        sets = {
            "chosen with": (await texts(model, CHOOSING), await texts(model, NONSENSE_CHOOSING)),
            "reported": (await texts(model, REPORTING), await texts(model, NONSENSE_REPORTING)),
        }
        background = await model.reference_vectors()
        made = await model.embed_texts(list(nonsense(TEXTS)))
    finally:
        await model.close()
        await decoder.close()

    for title, collection in ((f"{len(whole.names)} photos", whole), ("photos and crops", whole + parts)):
        n = len(collection.names)
        print(f"\n{title}: {n} images")
        rules(background, *sets["chosen with"], collection)
        print("  strong, of sentences: best match | right photo if it is first | among the first three | always")
        for name, (sentences, meaningless) in sets.items():
            strengths(
                f"{name}, background",
                BackgroundBaseline(background, n).threshold,
                sentences,
                meaningless,
                whole,
                collection,
            )
            measured = CalibratedBaseline(calibration(made, collection))
            strengths(f"{name}, calibrated", measured.threshold, sentences, meaningless, whole, collection)
        neighbours(BackgroundBaseline(background, n), "background", whole, parts)
        neighbours(CalibratedBaseline(calibration(made, collection)), "calibrated", whole, parts)
    growth(background, sets)
    sums(sets["chosen with"][0], whole, parts)


async def embedded(model: OfflineEmbedder, pictures: Sequence[tuple[str, bytes]]) -> Pictures:
    vectors = await model.embed_images([ImageInput(data=data) for _, data in pictures])
    return Pictures(
        np.array([name for name, _ in pictures]), np.stack([v for v in vectors if isinstance(v, np.ndarray)])
    )


async def texts(model: OfflineEmbedder, by_name: dict[str, list[str]]) -> Texts:
    names = [name for name, some in by_name.items() for _ in some]
    return Texts(names, await model.embed_texts([text for some in by_name.values() for text in some]))


def calibration(made: Vectors, collection: Pictures) -> Calibration:
    """Return the calibration that `syncer calibrate` would measure."""
    pairs = (collection.vectors @ collection.vectors.T)[np.triu_indices(len(collection.names), k=1)]
    scores = made @ collection.vectors.T
    return Calibration(
        words_level=float(np.quantile(scores.max(1), QUANTILE)),
        words_mean=float(scores.mean()),
        image_level=float(np.quantile(pairs, QUANTILE)),
        image_mean=float(pairs.mean()),
        images=len(collection.names),
        measured_at=None,  # type: ignore[arg-type]
    )


def rules(background: Vectors, sentences: Texts, meaningless: Texts, collection: Pictures) -> None:
    """Print how well rules separate the best matches of sentences from those of nonsense (area under the curve)."""

    def spread(texts: Vectors) -> Vectors:
        return (texts @ background.T).std(1)

    def known(texts: Vectors) -> Vectors:
        return np.sort(texts @ background.T, 1)[:, -NEAREST:].mean(1)

    def best(texts: Vectors) -> Vectors:
        return (texts @ collection.vectors.T).max(1)

    def own(texts: Vectors) -> Vectors:
        scores = texts @ collection.vectors.T
        return (scores.max(1) - scores.mean(1)) / scores.std(1)

    tried: dict[str, Callable[[Vectors], Vectors]] = {
        "z over the collection's own scores": own,
        "z over the background": lambda texts: (best(texts) - (texts @ background.T).mean(1)) / spread(texts),
        "cosine": best,
        "cosine x known": lambda texts: best(texts) * known(texts),
        "cosine x known²": lambda texts: best(texts) * known(texts) ** 2,
    }
    for name, rule in tried.items():
        right, wrong = rule(sentences.vectors), rule(meaningless.vectors)
        print(f"  {(right[:, None] > wrong).mean():.3f}  {name}")


def strengths(
    name: str,
    threshold: Callable[[Query], float],
    sentences: Texts,
    meaningless: Texts,
    whole: Pictures,
    collection: Pictures,
) -> None:
    """Print the share of strong matches of sentences, and of weak matches of nonsense."""
    strong, right, places = [], [], []
    for photo, text in zip(sentences.names, sentences.vectors, strict=True):
        cut = threshold(Query(text, "", mixture=WORDS))
        scores = whole.vectors @ text
        of_photo = scores[whole.names == photo].max()
        strong.append((collection.vectors @ text).max() >= cut)
        right.append(of_photo >= cut)
        places.append((scores > of_photo).sum())
    is_strong, place = np.array(right), np.array(places)
    weak = np.array(
        [(collection.vectors @ text).max() < threshold(Query(text, "", mixture=WORDS)) for text in meaningless.vectors]
    )
    print(
        f"  {name:22} {np.mean(strong):.3f} of {len(is_strong)}"
        f" | {is_strong[place == 0].mean():.3f} of {(place == 0).sum()}"
        f" | {is_strong[place < 3].mean():.3f} of {(place < 3).sum()} | {is_strong.mean():.3f};"
        f" weak, of nonsense: {weak.mean():.3f} of {len(weak)}"
    )


def neighbours(baseline: Baseline, name: str, whole: Pictures, parts: Pictures) -> None:
    """Print the share of strong neighbours among crops of the same photo and of others."""
    own, others = [], []
    for photo, vector in zip(whole.names, whole.vectors, strict=True):
        good = parts.vectors @ vector >= baseline.threshold(Query(vector, "", mixture=IMAGE))
        own.append(good[parts.names == photo].mean())
        others.append(good[parts.names != photo].mean())
    own_share, other_share = np.mean(own), np.mean(others)
    print(f"  neighbours, {name}: {own_share:.3f} strong among a photo's own crops, {other_share:.3f} among others")


def growth(background: Vectors, sets: dict[str, tuple[Texts, Texts]]) -> None:
    """Print the share of weak matches of nonsense by collection size, with mixtures of background vectors as images."""
    chance = np.random.default_rng(0)
    alike = np.argsort(-(background @ background.T), 1)[:, :30]
    images = []
    for kind in chance.integers(0, len(background), 20_000):
        shown = [kind, *chance.choice(alike[kind], 4), *chance.integers(0, len(background), 2)]
        image = chance.dirichlet(np.full(len(shown), 0.7)) @ background[shown]
        images.append(image / np.linalg.norm(image))
    made = np.array(images, np.float32)
    print("\nweak matches of nonsense in collections of synthetic vectors:")
    for n in (100, 1000, 20_000):
        shares = []
        for _, meaningless in sets.values():
            cuts = np.array(
                [BackgroundBaseline(background, n).threshold(Query(text, "")) for text in meaningless.vectors]
            )
            samples = [made[start : start + n] for start in range(0, min(len(made), 10 * n), n)]
            shares.append(np.mean([(meaningless.vectors @ sample.T).max(1) < cuts for sample in samples]))
        print(f"  {n:6} images: " + ", ".join(f"{s:.3f} ({name})" for s, name in zip(shares, sets, strict=True)))


def sums(sentences: Texts, whole: Pictures, parts: Pictures) -> None:
    """Print the results of a photo plus a text, and how far a negative text moves its matches down."""
    print("\nsums, over the crops:")
    text_spread = np.median((sentences.vectors @ parts.vectors.T).std(1))
    image_spread = np.median((whole.vectors @ parts.vectors.T).std(1))
    print(f"  scores spread by {text_spread:.3f} for a text, {image_spread:.3f} for a photo")
    for weight in (1.0, 2.0, 3.0):
        found = []
        for photo, vector, text_of, text in _pairs(sentences, whole):
            top = parts.names[np.argsort(-(parts.vectors @ _sum((1.0, vector), (weight, text))))[: 2 * CROPS]]
            found.append([(top == photo).mean(), (top == text_of).mean()])
        of_photo, of_text = np.mean(found, 0)
        print(
            f"  photo + {weight:g} text: of the first {2 * CROPS}, {of_photo:.2f} the photo's, {of_text:.2f} the text's"
        )
    for weight in (-0.5, -1.0, -2.0):
        moved = []
        for photo, vector, text_of, text in _pairs(sentences, whole):
            for query in ((1.0, vector), (1.0, sentences.of(photo)[0])):
                before, after = (_place(parts, q, text_of) for q in (query[1], _sum(query, (weight, text))))
                moved.append([before, after, _place(parts, _sum(query, (weight, text)), photo)])
        before, after, wanted = np.mean(moved, 0)
        print(
            f"  minus {-weight:g} text: what it says goes from {before:.2f} of the list to {after:.2f}, 1 being its"
            f" end; the wanted photo stays at {wanted:.2f}"
        )


def _pairs(sentences: Texts, whole: Pictures) -> Iterator[tuple[str, Vectors, str, Vectors]]:
    for photo in RECOGNISED:
        vector = whole.vectors[whole.names == photo][0]
        for other in RECOGNISED:
            for text in sentences.of(other) if other != photo else ():
                yield photo, vector, other, text


def _sum(*parts: tuple[float, Vectors]) -> Vectors:
    made = weighted_sum([weight for weight, _ in parts], [vector for _, vector in parts])
    assert made is not None
    return made[0]


def _place(parts: Pictures, query: Vectors, name: str) -> float:
    """Return the mean place of the crops of *name*, from 0, the list's beginning, to 1, its end."""
    order = np.argsort(-(parts.vectors @ query))
    return float(np.flatnonzero(parts.names[order] == name).mean() / len(order))


if __name__ == "__main__":
    asyncio.run(main())
