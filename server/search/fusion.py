"""Fusion of two rankings: images that look like a query and images whose name or metadata match its words."""

from collections.abc import Sequence
from itertools import groupby

from shared.models import Ranking, TextMatch

# The constant of reciprocal rank fusion: Cormack, Clarke and Büttcher 2009 (SIGIR, "Reciprocal Rank Fusion outperforms
# Condorcet and individual Rank Learning Methods").
K = 60
# Visual ranks that earn points; text matches beyond it count as the next one. The order must not depend on how far the
# visual ranking of a page reaches.
VISUAL_DEPTH = 200
# Weight of a match that needs the names of folders, relative to one in the image's own name and metadata.
FOLDER_WEIGHT = 0.1
# Words count fully if at most this share of the images contains them, and only break ties from the second share on.
RARE, COMMON = 0.01, 0.03
# A collection counts as having at least so many images, since a word of its only invoice is rare at any size.
MIN_IMAGES = 500

# Tiers order a ranking before its points do.
EXACT_NAME, LOOKS_ALIKE, WORDS_ALONE, WEAK = range(4)


def fuse(
    visual: Ranking, matches: Sequence[TextMatch], *, images: int, threshold: float | None, strict: bool
) -> Ranking:
    """Return one ranking of a collection of *images* by reciprocal rank fusion; with *strict* without weak matches.

    Images whose exact name was searched for come first, weak ones last. An image that matches only by its folder, or by
    words that many images contain, comes after those that look like the query. Equally good text matches share the mean
    of their ranks.
    """
    # Matches beyond the visual ranking continue its order.
    matches = sorted(matches, key=lambda match: -1.0 if match.score is None else match.score, reverse=True)
    scores = dict(zip(visual.ids, visual.scores, strict=True)) | {match.id: match.score for match in matches}
    rarity = _rarity(matches[0].frequency, images) if matches else 0.0
    points = _points(visual.ids[:VISUAL_DEPTH], matches, rarity)
    tiers = _tiers(scores, matches, threshold, rarity)
    # Sorting is stable: images with equal points keep their visual order.
    order = sorted(scores, key=lambda image_id: (tiers[image_id], -points.get(image_id, 0.0)))
    if strict:
        order = [image_id for image_id in order if tiers[image_id] < WEAK]
    return Ranking(order, [scores[image_id] for image_id in order], [match.id for match in matches])


def _rarity(frequency: int, images: int) -> float:
    """Return the weight, 0 to 1, of words that *frequency* of the images contain."""
    share = frequency / max(images, MIN_IMAGES)
    return min(1.0, max(0.0, (COMMON - share) / (COMMON - RARE)))


def _points(visual: Sequence[int], matches: Sequence[TextMatch], rarity: float) -> dict[int, float]:
    points = {image_id: 1 / (K + rank) for rank, image_id in enumerate(visual, start=1)}
    better = 0
    for (_, without_folders), group in groupby(sorted(matches, key=_quality, reverse=True), _quality):
        tied = [match.id for match in group]
        mean_rank = better + (len(tied) + 1) / 2
        for image_id in tied:
            text_points = rarity * (1 if without_folders else FOLDER_WEIGHT) / (K + mean_rank)
            points[image_id] = points.get(image_id, 1 / (K + VISUAL_DEPTH + 1)) + text_points
        better += len(tied)
    return points


def _tiers(
    scores: dict[int, float | None], matches: Sequence[TextMatch], threshold: float | None, rarity: float
) -> dict[int, int]:
    tiers = dict.fromkeys(scores, LOOKS_ALIKE)
    if threshold is not None:
        tiers |= {image_id: WEAK for image_id, score in scores.items() if score is None or score < threshold}
    for match in matches:
        if match.exact_name:
            tiers[match.id] = EXACT_NAME
        elif match.without_folders and rarity > 0:
            tiers[match.id] = LOOKS_ALIKE
        else:
            tiers[match.id] = min(tiers[match.id], WORDS_ALONE)
    return tiers


def _quality(match: TextMatch) -> tuple[bool, bool]:
    return match.exact_name, match.without_folders or match.exact_name
