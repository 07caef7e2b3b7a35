"""Points that labels call hidden, learnt or not."""

from pathlib import Path

import numpy as np
import pytest

from facetrain.config.schema import Config, DataConfig
from facetrain.core.faces import LabelledImage
from facetrain.data.label_file import LabelFile, LabelStatistics
from facetrain.data.places import Split
from facetrain.data.visible import visible_only
from facetrain.train import sources
from facetrain.train.events import LogEvents


def image(hidden: list[list[bool]] | None) -> LabelledImage:
    landmarks = np.array([[[1, 2, 1], [3, 4, 1]], [[5, 6, 1], [7, 8, 0]]], np.float32)
    boxes, ignore = np.array([[0, 0, 9, 9], [1, 1, 9, 9]], np.float32), np.zeros(2, bool)
    seen = None if hidden is None else np.array(hidden)
    return LabelledImage(Path("a"), "a", (9, 9), boxes, landmarks, ignore, seen)


def test_hidden_points_are_missing_and_nothing_else() -> None:
    given = image([[True, False], [False, True]])
    (found,) = visible_only([given])
    np.testing.assert_array_equal(found.landmarks[..., 2], [[0, 1], [1, 0]])
    np.testing.assert_array_equal(found.landmarks[..., :2], given.landmarks[..., :2])
    np.testing.assert_array_equal(given.landmarks[..., 2], [[1, 1], [1, 0]])  # not changed in place


@pytest.mark.parametrize(("key", "learnt"), [(True, 3), (False, 2)])
def test_the_key_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: bool, learnt: int) -> None:
    (tmp_path / "labelv2.txt").touch()
    images = [image([[True, False], [False, True]])]
    labels = LabelFile(images, [], LabelStatistics.of(images), place=Split(tmp_path / "labelv2.txt", tmp_path))
    monkeypatch.setattr(sources, "load_split", lambda *arguments: labels)
    config = Config(data=DataConfig(hidden_landmarks=key))
    (found,) = sources.training_data([tmp_path], config, LogEvents()).images
    assert int(found.landmarks[..., 2].sum()) == learnt
    assert (found is images[0]) is key


def test_without_hidden_points_it_is_the_same_image() -> None:
    for given in (image(None), image([[False] * 2] * 2)):
        assert visible_only([given])[0] is given
