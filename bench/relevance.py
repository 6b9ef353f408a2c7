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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray
from PIL import Image

from server.search.query import Mixture, Query, weighted_sum
from server.search.relevance import NEAREST, BackgroundBaseline, Baseline, CalibratedBaseline
from server.search.terms import normalise
from shared.embedders.base import ImageInput
from shared.embedders.offline.embedder import OfflineEmbedder
from shared.embedders.offline.towers import OfflineTextTower
from shared.images.worker_pool import DecoderPool
from shared.sample_photos import sample_photos
from shared.sql.calibrations import Calibration
from syncer.calibration import QUANTILE, TEXTS, nonsense
from tests.helpers import query_sentences

CROPS = 24
WORDS, IMAGE = Mixture(words=1.0), Mixture(images=1.0)
# Photos that the model recognises by name, so that results of a sum can be judged.
RECOGNISED = ("cat", "coffee", "motorcycle", "flower", "pagoda", "rocket", "clock-in-motion", "photographer")

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Labelled:
    """Vectors of images or texts with their labels: the subjects of photos, or kinds of nonsense."""

    labels: NDArray[np.str_]
    vectors: Vectors

    def __add__(self, other: "Labelled") -> "Labelled":
        return Labelled(np.concatenate([self.labels, other.labels]), np.vstack([self.vectors, other.vectors]))

    def of(self, label: str) -> Vectors:
        return self.vectors[self.labels == label]


def subject(path: Path) -> str:
    """Return the subject of a sample photo; two show the same motorcycle."""
    return path.stem.removesuffix("-left").removesuffix("-right")


def crops(path: Path) -> Iterator[bytes]:
    """Yield crops of a photo, with sides of a quarter to four fifths of the original."""
    rng = np.random.default_rng(len(path.stem))
    photo = Image.open(path).convert("RGB")
    for _ in range(CROPS):
        part = rng.uniform(0.25, 0.8)
        width, height = int(photo.width * part), int(photo.height * part)
        x, y = rng.integers(0, photo.width - width + 1), rng.integers(0, photo.height - height + 1)
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
            whole = await embed_images(model, [(subject(path), path.read_bytes()) for path in photos])
            parts = await embed_images(model, [(subject(path), part) for path in photos for part in crops(path)])
        texts = {
            name: await embed_texts(model, by_label)
            for name, by_label in vars(query_sentences).items()
            if name.isupper() and not name.startswith("_")
        }
        english = OfflineTextTower(home / "models" / model.name)
        without_bridge = {
            name: Labelled(texts[name].labels, english.embed(normalised(vars(query_sentences)[name])))
            for name in ("CHOOSING", "REPORTING", "FOREIGN_CHOOSING", "FOREIGN_REPORTING")
        }
        sets = {
            "chosen with": (texts["CHOOSING"], texts["NONSENSE_CHOOSING"]),
            "reported": (texts["REPORTING"], texts["NONSENSE_REPORTING"]),
            "chosen with, foreign": (texts["FOREIGN_CHOOSING"], texts["FOREIGN_NONSENSE_CHOOSING"]),
            "reported, foreign": (texts["FOREIGN_REPORTING"], texts["FOREIGN_NONSENSE_REPORTING"]),
        }
        background = await model.reference_vectors()
        calibration_vectors = await model.embed_texts(list(nonsense(TEXTS)))
    finally:
        await model.close()
        await decoder.close()

    for title, collection in ((f"{len(whole.labels)} photos", whole), ("photos and crops", whole + parts)):
        print(f"\n{title}: {len(collection.labels)} images")
        print_rules(background, *sets["chosen with"], collection)
        baselines: dict[str, Baseline] = {
            "background": BackgroundBaseline(background, len(collection.labels)),
            "calibrated": CalibratedBaseline(calibration(calibration_vectors, collection)),
        }
        print("  strong, of sentences: best match | right photo if it is first | among the first three | always")
        for name, (sentences, meaningless) in sets.items():
            for kind, baseline in baselines.items():
                print(f"  {f'{name}, {kind}':33}", end=" ")
                print_shares(baseline, sentences, meaningless, whole, collection)
        for name in ("ABSENT_CHOOSING", "ABSENT_REPORTING"):
            for kind, baseline in baselines.items():
                weak = ~best_is_strong(baseline, texts[name].vectors, collection)
                print(f"  {name}, {kind}: weak, of absent things: {weak.mean():.3f} of {len(weak)}")
        for kind, baseline in baselines.items():
            print_neighbours(baseline, kind, whole, parts)
    print("\nright photo first | among the first three, of the sample photos: without the bridge, with it")
    for name, before in without_bridge.items():
        places = [place_of_own(sentences, whole) for sentences in (before, texts[name])]
        shares = [f"{(place == 0).mean():.3f} | {(place < 3).mean():.3f}" for place in places]
        print(f"  {name}: {', '.join(shares)}")
    print_growth(background, {name: meaningless for name, (_, meaningless) in sets.items()})
    print_sums(sets["chosen with"][0], whole, parts)


async def embed_images(model: OfflineEmbedder, images: Sequence[tuple[str, bytes]]) -> Labelled:
    vectors = await model.embed_images([ImageInput(data=data) for _, data in images])
    return Labelled(np.array([label for label, _ in images]), np.array(vectors))


async def embed_texts(model: OfflineEmbedder, by_label: dict[str, list[str]]) -> Labelled:
    labels = [label for label, texts in by_label.items() for _ in texts]
    return Labelled(np.array(labels), await model.embed_texts(normalised(by_label)))


def normalised(by_label: dict[str, list[str]]) -> list[str]:
    """Return the texts as the server embeds them."""
    return [normalise(text) for texts in by_label.values() for text in texts]


def calibration(nonsense_vectors: Vectors, collection: Labelled) -> Calibration:
    """Return the calibration that `syncer calibrate` would measure."""
    pairs = (collection.vectors @ collection.vectors.T)[np.triu_indices(len(collection.labels), k=1)]
    scores = nonsense_vectors @ collection.vectors.T
    return Calibration(
        words_level=float(np.quantile(scores.max(1), QUANTILE)),
        words_mean=float(scores.mean()),
        image_level=float(np.quantile(pairs, QUANTILE)),
        image_mean=float(pairs.mean()),
        images=len(collection.labels),
        measured_at=None,  # type: ignore[arg-type]
    )


def print_rules(background: Vectors, sentences: Labelled, meaningless: Labelled, collection: Labelled) -> None:
    """Print how well rules separate the best matches of sentences from those of nonsense (area under the curve)."""

    def scores_of_rules(texts: Vectors) -> dict[str, Vectors]:
        scores, chance = texts @ collection.vectors.T, texts @ background.T
        best = scores.max(1)
        meaning = np.sort(chance, 1)[:, -NEAREST:].mean(1)
        return {
            "z over the collection's own scores": (best - scores.mean(1)) / scores.std(1),
            "z over the background": (best - chance.mean(1)) / chance.std(1),
            "cosine": best,
            "cosine x meaning": best * meaning,
            "cosine x meaning²": best * meaning**2,
        }

    right, wrong = scores_of_rules(sentences.vectors), scores_of_rules(meaningless.vectors)
    for rule in right:
        print(f"  {(right[rule][:, None] > wrong[rule]).mean():.3f}  {rule}")


def best_is_strong(baseline: Baseline, texts: Vectors, collection: Labelled) -> NDArray[np.bool_]:
    strong: NDArray[np.bool_] = (texts @ collection.vectors.T).max(1) >= _thresholds(baseline, texts, WORDS)
    return strong


def own_scores(sentences: Labelled, whole: Labelled) -> tuple[Vectors, Vectors]:
    """Return the scores of all photos, and the best score of each sentence's own."""
    scores = sentences.vectors @ whole.vectors.T
    return scores, np.where(sentences.labels[:, None] == whole.labels, scores, -1).max(1)


def place_of_own(sentences: Labelled, whole: Labelled) -> NDArray[np.int_]:
    scores, own = own_scores(sentences, whole)
    place: NDArray[np.int_] = (scores > own[:, None]).sum(1)
    return place


def print_shares(
    baseline: Baseline, sentences: Labelled, meaningless: Labelled, whole: Labelled, collection: Labelled
) -> None:
    """Print the share of strong matches of sentences, and of weak matches of nonsense."""
    _, own = own_scores(sentences, whole)
    strong = own >= _thresholds(baseline, sentences.vectors, WORDS)
    place = place_of_own(sentences, whole)
    weak = ~best_is_strong(baseline, meaningless.vectors, collection)
    print(
        f"{best_is_strong(baseline, sentences.vectors, collection).mean():.3f} of {len(strong)}"
        f" | {strong[place == 0].mean():.3f} of {(place == 0).sum()}"
        f" | {strong[place < 3].mean():.3f} of {(place < 3).sum()} | {strong.mean():.3f};"
        f" weak, of nonsense: {weak.mean():.3f} of {len(weak)}"
    )


def print_neighbours(baseline: Baseline, name: str, whole: Labelled, parts: Labelled) -> None:
    """Print the share of strong neighbours among crops of the same photo and of others."""
    strong = whole.vectors @ parts.vectors.T >= _thresholds(baseline, whole.vectors, IMAGE)[:, None]
    same = whole.labels[:, None] == parts.labels
    own, others = np.array([(row[own].mean(), row[~own].mean()) for row, own in zip(strong, same, strict=True)]).mean(0)
    print(f"  neighbours, {name}: {own:.3f} strong among a photo's own crops, {others:.3f} among others")


def _thresholds(baseline: Baseline, vectors: Vectors, mixture: Mixture) -> Vectors:
    return np.array([baseline.threshold(Query(vector, "", mixture=mixture)) for vector in vectors])


def print_growth(background: Vectors, nonsense_sets: dict[str, Labelled]) -> None:
    """Print the share of weak matches of nonsense by collection size, with mixtures of background vectors as images."""
    rng = np.random.default_rng(0)
    alike = np.argsort(-(background @ background.T), 1)[:, :30]
    mixtures = []
    for kind in rng.integers(0, len(background), 20_000):
        shown = [kind, *rng.choice(alike[kind], 4), *rng.integers(0, len(background), 2)]
        image = rng.dirichlet(np.full(len(shown), 0.7)) @ background[shown]
        mixtures.append(image / np.linalg.norm(image))
    images = np.array(mixtures, np.float32)
    print("\nweak matches of nonsense in collections of synthetic vectors:")
    for n in (100, 1000, 20_000):
        samples = [images[start : start + n] for start in range(0, min(len(images), 10 * n), n)]
        shares = []
        for name, texts in nonsense_sets.items():
            cuts = _thresholds(BackgroundBaseline(background, n), texts.vectors, WORDS)
            share = np.mean([(texts.vectors @ sample.T).max(1) < cuts for sample in samples])
            shares.append(f"{share:.3f} ({name})")
        print(f"  {n:6} images: {', '.join(shares)}")


def print_sums(sentences: Labelled, whole: Labelled, parts: Labelled) -> None:
    """Print the results of a photo plus a text, and how far a negative text moves its matches down."""
    print("\nsums, over the crops:")
    text_spread = np.median((sentences.vectors @ parts.vectors.T).std(1))
    image_spread = np.median((whole.vectors @ parts.vectors.T).std(1))
    print(f"  scores spread by {text_spread:.3f} for a text, {image_spread:.3f} for a photo")
    for weight in (1.0, 1.5, 2.0, 3.0):
        found = []
        for photo, vector, text_of, text in _pairs(sentences, whole):
            top = parts.labels[np.argsort(-(parts.vectors @ _sum(vector, weight, text)))[: 2 * CROPS]]
            found.append([(top == photo).mean(), (top == text_of).mean()])
        of_photo, of_text = np.mean(found, 0)
        print(
            f"  photo + {weight:g} text: of the first {2 * CROPS}, {of_photo:.2f} the photo's, {of_text:.2f} the text's"
        )
    for weight in (-0.5, -1.0, -2.0):
        moved = []
        for photo, vector, text_of, text in _pairs(sentences, whole):
            for query in (vector, sentences.of(photo)[0]):
                total = _sum(query, weight, text)
                moved.append(
                    [_place(parts, query, text_of), _place(parts, total, text_of), _place(parts, total, photo)]
                )
        before, after, wanted = np.mean(moved, 0)
        print(
            f"  minus {-weight:g} text: its subject moves from {before:.2f} of the list to {after:.2f}, 1 being its"
            f" end; the wanted photo stays at {wanted:.2f}"
        )


def _pairs(sentences: Labelled, whole: Labelled) -> Iterator[tuple[str, Vectors, str, Vectors]]:
    for photo in RECOGNISED:
        for other in RECOGNISED:
            for text in sentences.of(other) if other != photo else ():
                yield photo, whole.of(photo)[0], other, text


def _sum(vector: Vectors, weight: float, text: Vectors) -> Vectors:
    total = weighted_sum([1.0, weight], [vector, text])
    assert total is not None
    return total[0]


def _place(parts: Labelled, query: Vectors, name: str) -> float:
    """Return the mean place of the crops of *name*, from 0, the list's beginning, to 1, its end."""
    order = np.argsort(-(parts.vectors @ query))
    return float(np.flatnonzero(parts.labels[order] == name).mean() / len(order))


if __name__ == "__main__":
    asyncio.run(main())
