"""A part of a set, or its images, where the set is meant: the hint names the folder above, in every command."""

import cv2
import numpy as np
import pytest

from facetrain.cli.app import run_cli
from facetrain.data.above import set_above

CALLS = [
    "eval --data",
    "train yunet_n --gpus cpu --data",
    "data check",
    "data audit",
    "data convert --to new",
    "init --data",
    "export-onnx -o x.onnx --precision fp16 --data",
]
FACE = "10 10 40 50"


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """The same two images in four layouts; `whole` has no parts."""
    for path in (
        *(f"my_faces/{part}/images/a.png" for part in ("train", "val")),
        *(f"wider/WIDER_{part}/images/a.png" for part in ("train", "val")),
        *(f"yolo/images/{part}/a.png" for part in ("train", "val")),
        "whole/images/a.png",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / path), np.full((64, 96, 3), 90, np.uint8))
    labels = [f"my_faces/{part}" for part in ("train", "val")] + [f"wider/labelv2/{part}" for part in ("train", "val")]
    for folder in (*labels, "whole"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "labelv2.txt").write_text(f"# a.png 96 64\n{FACE}\n")
    for part in ("train", "val"):
        (tmp_path / f"yolo/labels/{part}").mkdir(parents=True)
        (tmp_path / f"yolo/labels/{part}/a.txt").write_text("0 0.5 0.5 0.2 0.3\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("my_faces/val/images", "my_faces"),
        ("wider/WIDER_val", "wider"),
        ("wider/WIDER_val/images", "wider"),
        ("yolo/images/val", "yolo"),
        ("yolo/labels", "yolo"),
        ("whole/images", "whole"),
    ],
)
def test_the_hint_names_the_folder_above(sets, capsys, call, given, meant):
    assert run_cli([*call.split(), given]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"error: {given}: cannot find " in err
    assert f"hint: a part of a set, not the set: name the folder above, {meant}\n" in err


def test_from_within_the_part(sets, capsys, monkeypatch):
    monkeypatch.chdir(sets / "yolo/images/val")
    assert run_cli(["eval", "--data", "."]) == 2
    assert f"the folder above, {sets / 'yolo'}\n" in capsys.readouterr().err


def test_a_part_that_has_its_labels_is_read_and_said_to_be_one(sets, capsys):
    run_cli(["data", "check", "my_faces/val"])
    said = " ".join(capsys.readouterr().out.split())
    assert "one set for all, not divided into train and val; a part of my_faces" in said


def test_a_folder_of_no_set_keeps_its_hint(sets, capsys):
    (sets / "elsewhere/images").mkdir(parents=True)
    assert run_cli(["eval", "--data", "elsewhere/images"]) == 2
    assert "hint: lay the files out in one of these two ways" in capsys.readouterr().err


def test_folders_of_other_names_are_not_climbed_from(tmp_path):
    asked = []
    for folder in ("a/b/photos", "a/test_of_all", "a/training of May"):
        assert set_above(tmp_path / folder, lambda folder, part: asked.append(folder)) is None
    assert asked == []


def test_official_ground_truth_lies_above(sets, capsys):
    (sets / "wider/ground_truth").mkdir()
    for subset in ("easy", "medium", "hard"):
        (sets / f"wider/ground_truth/wider_{subset}_val.mat").write_bytes(b"")
    assert run_cli(["eval", "--widerface", "--data", "wider/WIDER_val"]) == 2
    assert f"hint: a part of the data set: name the folder above, {sets / 'wider'}\n" in capsys.readouterr().err
