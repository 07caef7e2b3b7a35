"""A preset with what the labels show filled in: points, their pairs, and crops."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facetrain.config.load import load_config, preset_names, preset_text
from facetrain.config.schema import Config, DataConfig
from facetrain.core.faces import LabelledImage
from facetrain.core.images import write_image
from facetrain.data.face_sizes import fitting_scales, relative_sizes
from facetrain.data.layout import Reading
from facetrain.data.model_file import model_file

USUAL = DataConfig().crop_scales


def labelled(folder: Path, sides: list[int], points: int = 0, size: tuple[int, int] = (400, 200)) -> Path:
    """A set whose images have a face each, with so many points."""
    lines = []
    for number, side in enumerate(sides):
        write_image(folder / f"train/images/{number}.png", np.zeros((size[1], size[0], 3), np.uint8))
        marks = " ".join(f"{1 + i % 8} {1 + i // 8} 1" for i in range(points))
        lines += [f"# {number}.png {size[0]} {size[1]}", f"0 0 {side} {side + 5} {marks}".strip(), "0 0 3 3 1"]
    (folder / "train/labelv2.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("preset", preset_names())
def test_without_images_it_is_the_preset(preset: str) -> None:
    assert model_file(preset, None).text == preset_text(preset)


@pytest.mark.parametrize("points", [0, 1, 5, 7, 68])
def test_points_are_those_of_the_labels(tmp_path: Path, points: int) -> None:
    made = model_file("yunet_s", str(labelled(tmp_path / "set", [20, 30], points)))
    (tmp_path / "own.yaml").write_text(made.text)
    config = load_config(tmp_path / "own.yaml")
    assert config == made.config
    assert len(config.model.landmarks.names) == points
    assert config.model.landmarks.mirror == (Config().model.landmarks.mirror if points == 5 else ())
    assert config.data.root == str(tmp_path / "set")
    assert (made.images, made.faces) == (2, 2)
    assert made.text.startswith("# YuNet-s as published")
    assert "# crop side / shorter side of the image" in made.text
    assert ("data.flip: 0" in " ".join(made.notes)) is (points > 5)


def test_all_else_is_the_preset(tmp_path: Path) -> None:
    data = str(labelled(tmp_path, [10], 5))
    kept = model_file("yunet_n", data, Reading("labelv2", ("face",), trust=True)).config
    assert kept.data.trust_labels
    assert (kept.data.root, kept.data.format, kept.data.classes) == (data, "labelv2", ("face",))
    preset = load_config("yunet_n")
    assert (kept.model, kept.train, kept.eval) == (preset.model, preset.train, preset.eval)


def test_sizes_are_shares_of_the_shorter_side(tmp_path: Path) -> None:
    boxes = np.array([[0, 0, 20, 50], [0, 0, 100, 10], [0, 0, 1, 1]], np.float32)
    nothing, ignore = np.zeros((3, 0, 3), np.float32), np.array([False, False, True])
    path = tmp_path / "a.png"
    write_image(path, np.zeros((200, 400, 3), np.uint8))
    images = [LabelledImage(path, "a", size, boxes, nothing, ignore) for size in ((400, 200), None)]
    images.append(LabelledImage(tmp_path / "none.png", "b", None, boxes, nothing, ignore))
    np.testing.assert_allclose(relative_sizes(images), [0.1, 0.05] * 2)
    assert relative_sizes([]).shape == (0,)


@pytest.mark.parametrize(
    ("sizes", "factor"),
    [
        ([], 1.0),
        ([0.019] * 10, 1.0),  # WIDER FACE
        ([0.1, 0.2, 0.3], 1.0),
        ([0.5] * 10, 0.5 / 0.375),  # portraits
        ([0.005] * 10, 0.4),  # crowds
        ([0.005] * 8 + [0.375] * 4, 1.0),  # both: large faces go first
    ],
)
def test_scales_by_hand(sizes: list[float], factor: float) -> None:
    assert fitting_scales(np.array(sizes, np.float32), 640) == pytest.approx([s * factor for s in USUAL], abs=0.006)


@given(st.lists(st.floats(1e-4, 1.0), min_size=1, max_size=40), st.sampled_from([160, 320, 640]))
def test_scales_may_stand_in_a_configuration(sizes: list[float], side: int) -> None:
    scales = fitting_scales(np.array(sizes, np.float32), side)
    assert all(0 < scale <= 3 for scale in scales)
    assert list(scales) == sorted(set(scales))
    if np.quantile(sizes, 0.9) < 0.999:
        assert np.quantile(np.float32(sizes), 0.9) / scales[0] <= 0.75 * 1.04 or scales[0] >= 1.0


def test_scales_of_the_reference_set_are_the_published_ones(shared: Path) -> None:
    made = model_file("yunet_n", str(shared / "widerface"))
    assert made.config.data.crop_scales == USUAL
    assert made.config.model == load_config("yunet_n").model
