"""Calibration images: drawn evenly, the same ones everywhere, and never those that judge the result."""

import shutil
from pathlib import Path

import pytest

from facetrain.core.errors import InputError, UsageError
from facetrain.export.precision.int8 import calibration_images, judged_images, refuse_overlap


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def names(paths: list[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_a_plain_folder_is_searched_in_any_depth(tmp_path: Path) -> None:
    root = make(tmp_path / "in", "b.jpg", "a/c.PNG", "a/d.txt", ".hidden.jpg", ".cache/e.jpg", "z/y/x.webp")
    assert names(calibration_images(root), root) == ["a/c.PNG", "b.jpg", "z/y/x.webp"]


@pytest.mark.parametrize("layout", ["WIDER_{}/images/event/{}.jpg", "{}/images/{}.jpg"])
def test_of_a_data_set_the_training_part_is_taken(layout: str, tmp_path: Path) -> None:
    root = make(tmp_path, *(layout.format(split, place) for split in ("train", "val") for place in range(3)))
    assert names(calibration_images(root), root) == [layout.format("train", place) for place in range(3)]
    assert names(judged_images(root), root) == [layout.format("val", place) for place in range(3)]
    refuse_overlap(calibration_images(root), judged_images(root))
    shutil.rmtree(root / layout.format("train", 0).split("/")[0])
    with pytest.raises(InputError, match="no training part"):
        calibration_images(root)


def test_the_draw_depends_on_names_and_seed_alone(tmp_path: Path) -> None:
    files = [f"{place % 7}/{place}.jpg" for place in range(200)]
    here, there = make(tmp_path / "here", *files), make(tmp_path / "far/away", *reversed(files))
    drawn = names(calibration_images(here, 20), here)
    assert drawn == names(calibration_images(there, 20), there)
    assert len(set(drawn)) == 20
    assert drawn != names(calibration_images(here, 20, seed=1), here)
    assert len({name.split("/")[0] for name in drawn}) > 4
    assert len(calibration_images(here, 1000)) == 200


def test_overlap_is_refused_by_place_and_by_content(tmp_path: Path) -> None:
    mine = make(tmp_path / "mine", "a.jpg", "b.jpg")
    judged = make(tmp_path / "judged", "c.jpg", "d.jpg")
    calibration, others = calibration_images(mine), calibration_images(judged)
    refuse_overlap(calibration, others)
    refuse_overlap([], others)
    refuse_overlap(calibration, [])
    (judged / "same.jpg").write_bytes((mine / "b.jpg").read_bytes())
    with pytest.raises(UsageError, match=r"b\.jpg: calibrates and judges \(the same as .*same\.jpg\)"):
        refuse_overlap(calibration, calibration_images(judged))
    (judged / "same.jpg").unlink()
    (judged / "link.jpg").symlink_to(mine / "a.jpg")
    with pytest.raises(UsageError, match=r"a\.jpg: calibrates and judges"):
        refuse_overlap(calibration, calibration_images(judged))


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        calibration_images(tmp_path / "missing")
    file = make(tmp_path, "file.jpg") / "file.jpg"
    with pytest.raises(InputError, match="not a folder"):
        calibration_images(file)
    with pytest.raises(InputError, match="no image"):
        calibration_images(make(tmp_path / "texts", "a.txt"))
    with pytest.raises(UsageError, match="0 images"):
        calibration_images(tmp_path, 0)
