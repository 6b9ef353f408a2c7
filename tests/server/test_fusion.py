"""How what looks like a query and what is called like it become one ranking."""

from server.search.fusion import fuse
from shared.models import Ranking, TextMatch


def visual(*scores: float) -> Ranking:
    """Return a ranking by looks of the images 1, 2, …"""
    return Ranking(list(range(1, len(scores) + 1)), list(scores), [])


def named(image_id: int, *, exact: bool = False, own: bool = True, score: float | None = 0.1) -> TextMatch:
    return TextMatch(image_id, exact, own or exact, score)


def test_without_names_the_ranking_is_that_of_looks() -> None:
    ranking = visual(0.5, 0.4, 0.3)
    assert fuse(ranking, [], depth=2000, threshold=None, strict=False) == ranking
    assert fuse(ranking, [], depth=2000, threshold=0.35, strict=False) == ranking
    assert fuse(ranking, [], depth=2000, threshold=0.35, strict=True).ids == [1, 2]


def test_the_exact_name_comes_first_and_a_word_of_its_own_name_moves_an_image_to_the_top() -> None:
    ranking = visual(*(1 - n / 1000 for n in range(500)))
    both = [named(400), named(300, exact=True)]
    assert fuse(ranking, both, depth=2000, threshold=None, strict=False).ids[:4] == [300, 400, 1, 2]


def test_a_word_that_names_hundreds_moves_each_of_them_but_a_little() -> None:
    ranking = visual(*(1 - n / 1000 for n in range(1000)))
    every_third = [named(n, own=own) for own in (True,) for n in range(3, 1000, 3)]
    order = fuse(ranking, every_third, depth=2000, threshold=None, strict=False).ids
    assert order.index(1) < 30
    assert order.index(2) < 30
    in_folder = [named(n, own=False) for n in range(3, 1000, 3)]
    order = fuse(ranking, in_folder, depth=2000, threshold=None, strict=False).ids
    assert order.index(1) < 3


def test_a_folder_is_no_match_for_better_pictures_where_weak_ones_are_known() -> None:
    ranking = visual(0.5, 0.4, 0.2, 0.1)
    order = fuse(ranking, [named(4, own=False, score=0.1)], depth=2000, threshold=0.3, strict=False)
    assert order.ids == [1, 2, 4, 3]
    assert order.text_matches == [4]
    assert fuse(ranking, [named(4, own=False, score=0.1)], depth=2000, threshold=0.3, strict=True).ids == [1, 2, 4]


def test_an_image_without_a_vector_has_a_place_and_no_score() -> None:
    order = fuse(visual(0.5, 0.4), [named(9, score=None)], depth=2000, threshold=0.3, strict=False)
    assert 9 in order.ids
    assert order.scores[order.ids.index(9)] is None
