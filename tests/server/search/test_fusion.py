"""Fusion of a visual ranking and text matches."""

from collections.abc import Sequence

from server.search import fusion
from shared.models import Ranking, TextMatch


def visual(*scores: float) -> Ranking:
    """Return a visual ranking of the images 1, 2, …"""
    return Ranking(list(range(1, len(scores) + 1)), list(scores), [])


def match(
    image_id: int,
    *,
    exact_name: bool = False,
    without_folders: bool = True,
    frequency: int = 1,
    score: float | None = 0.1,
) -> TextMatch:
    return TextMatch(image_id, exact_name, without_folders or exact_name, frequency, score)


def fused(
    ranking: Ranking, matches: Sequence[TextMatch], *, threshold: float | None = None, strict: bool = False
) -> Ranking:
    return fusion.fuse(ranking, matches, images=1000, threshold=threshold, strict=strict)


def test_without_text_matches_the_visual_ranking_stays() -> None:
    ranking = visual(0.5, 0.4, 0.3)
    assert fused(ranking, []) == ranking
    assert fused(ranking, [], threshold=0.35) == ranking
    assert fused(ranking, [], threshold=0.35, strict=True).ids == [1, 2]


def test_the_exact_name_comes_first_and_a_unique_text_match_moves_to_the_top() -> None:
    ranking = visual(*(1 - n / 1000 for n in range(500)))
    both = [match(400), match(300, exact_name=True)]
    assert fused(ranking, both).ids[:4] == [300, 400, 1, 2]


def test_rare_words_move_their_images_to_the_top_and_common_words_move_none() -> None:
    ranking = visual(*(1 - n / 1000 for n in range(1000)))

    def first(number: int, **which: bool) -> list[int]:
        """Return the first ten results if so many images, spread over the visual ranking, match the words."""
        matches = [match(1000 - n * (1000 // number), frequency=number, **which) for n in range(number)]
        return fused(ranking, matches).ids[:10]

    assert min(first(10)) >= 100
    assert first(30) == first(333) == list(range(1, 11))
    assert first(3, without_folders=False)[:3] == [1, 2, 3]


def test_images_with_a_common_word_precede_weak_ones() -> None:
    common = [match(n, frequency=40) for n in (2, 4)]
    order = fused(visual(0.5, 0.4, 0.2, 0.1), common, threshold=0.3)
    assert order.ids == [1, 2, 4, 3]
    named = [match(3, frequency=40, exact_name=True), *common]
    assert fused(visual(0.5, 0.4, 0.2, 0.1), named, threshold=0.3).ids == [3, 1, 2, 4]


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
