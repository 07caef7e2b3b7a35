"""Labels in another convention are said, before a network learns from what is left of them."""

from pathlib import Path

import pytest

from facetrain.core.errors import DataError
from facetrain.data.landmark_names import FIVE
from facetrain.data.layout import load_split


def labels(root: Path, *faces: str) -> Path:
    (root / "train" / "images").mkdir(parents=True)
    (root / "train" / "labelv2.txt").write_text("\n".join(["# a.jpg 640 480", *faces]) + "\n")
    return root


@pytest.mark.parametrize("faces", [("300 200 40 50", "500 90 60 70"), ("0.4 0.5 0.1 0.2", "0 0.1 0.9 0.05")])
def test_boxes_without_area_for_the_most_part_are_refused(tmp_path: Path, faces: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="2 of 2 boxes have no area") as raised:
        load_split(labels(tmp_path, *faces), "train", FIVE)
    assert raised.value.hint is not None and "x y width height" in raised.value.hint


def test_a_few_are_left_out(tmp_path: Path) -> None:
    nine = [f"{10 + 60 * i} 10 {40 + 60 * i} 50" for i in range(9)]
    found = load_split(labels(tmp_path, *nine, "300 200 40 50"), "train", FIVE)
    assert (found.statistics.faces, found.statistics.boxes_without_area) == (9, 1)
