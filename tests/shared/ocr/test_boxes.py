import numpy as np
import pytest
from PIL import Image, ImageDraw

from shared.ocr.boxes import Quad, find_boxes


def boxes(values: object, *, growth: float = 0) -> list[Quad]:
    return list(find_boxes(np.asarray(values, np.float32), threshold=0.3, min_mean=0.6, growth=growth))


def test_each_connected_region_has_a_box_from_its_upper_left_corner_clockwise() -> None:
    probabilities = np.zeros((60, 90))
    probabilities[10:20, 5:45] = 0.9
    probabilities[30:50, 60:70] = 0.9
    first, second = boxes(probabilities)
    assert first.round(6).tolist() == [[5, 10], [45, 10], [45, 20], [5, 20]]
    assert second.round(6).tolist() == [[60, 30], [70, 30], [70, 50], [60, 50]]


def test_a_box_follows_the_direction_of_its_region() -> None:
    corners = [(20, 80), (180, 20), (190, 46), (30, 106)]  # rises to the right
    mask = Image.new("L", (220, 130))
    ImageDraw.Draw(mask).polygon(corners, fill=255)
    (box,) = boxes(np.asarray(mask) / 255)
    assert np.abs(box - corners).max() < 4


def test_regions_that_touch_at_a_corner_are_one() -> None:
    assert len(boxes(np.kron(np.eye(2), np.ones((8, 8))))) == 1


def test_regions_that_meet_only_in_a_later_row_are_one() -> None:
    comb = np.zeros((20, 40))
    comb[:, ::4] = 1
    comb[-1] = 1
    assert len(boxes(comb)) == 1


def test_a_box_grows_by_a_share_of_area_over_perimeter() -> None:
    probabilities = np.zeros((60, 90))
    probabilities[20:40, 20:60] = 1
    (box,) = boxes(probabilities, growth=1.5)
    assert box[0] == pytest.approx([20 - 10, 20 - 10])
    assert box[2] == pytest.approx([60 + 10, 40 + 10])


def test_uncertain_regions_and_empty_maps_have_no_box() -> None:
    assert boxes(np.full((20, 20), 0.5)) == []
    assert boxes(np.zeros((20, 20))) == []
