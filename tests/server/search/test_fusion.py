"""Fusion of a visual ranking and text matches."""

from collections.abc import Sequence

from server.search import fusion
from shared.models import Ranking, TextMatch


def visual(*scores: float) -> Ranking:
    """Return a visual ranking of the images 1, 2, …"""
    return Ranking(list(range(1, len(scores) + 1)), list(scores), [])


def match(
    image_id: int, *, exact_name: bool = False, without_folders: bool = True, score: float | None = 0.1
) -> TextMatch:
    return TextMatch(image_id, exact_name, without_folders or exact_name, score)


def fused(
    ranking: Ranking, matches: Sequence[TextMatch], *, threshold: float | None = None, strict: bool = False
) -> Ranking:
    return fusion.fuse(ranking, matches, threshold=threshold, strict=strict)


def test_without_text_matches_the_visual_ranking_stays() -> None:
    ranking = visual(0.5, 0.4, 0.3)
    assert fused(ranking, []) == ranking
    assert fused(ranking, [], threshold=0.35) == ranking
    assert fused(ranking, [], threshold=0.35, strict=True).ids == [1, 2]


def test_the_exact_name_comes_first_and_a_unique_text_match_moves_to_the_top() -> None:
    ranking = visual(*(1 - n / 1000 for n in range(500)))
    both = [match(400), match(300, exact_name=True)]
    assert fused(ranking, both).ids[:4] == [300, 400, 1, 2]


def test_a_word_that_matches_hundreds_moves_each_only_a_little() -> None:
    ranking = visual(*(1 - n / 1000 for n in range(1000)))
    every_third = [match(n) for n in range(3, 1000, 3)]
    order = fused(ranking, every_third).ids
    assert order.index(1) < 30
    assert order.index(2) < 30
    in_folder = [match(n, without_folders=False) for n in range(3, 1000, 3)]
    order = fused(ranking, in_folder).ids
    assert order.index(1) < 3


def test_a_folder_match_ranks_behind_strong_matches_and_is_kept_by_strict_searches() -> None:
    ranking = visual(0.5, 0.4, 0.2, 0.1)
    in_folder = [match(4, without_folders=False)]
    order = fused(ranking, in_folder, threshold=0.3)
    assert order.ids == [1, 2, 4, 3]
    assert order.text_matches == [4]
    assert fused(ranking, in_folder, threshold=0.3, strict=True).ids == [1, 2, 4]


def test_an_image_without_a_vector_is_ranked_without_a_score() -> None:
    order = fused(visual(0.5, 0.4), [match(9, score=None)], threshold=0.3)
    assert 9 in order.ids
    assert order.scores[order.ids.index(9)] is None
