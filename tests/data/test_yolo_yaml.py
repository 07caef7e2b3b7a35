"""Where a YOLO set's yaml says that its parts lie: a folder, several, or lists of images; and what is written of it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from facetrain.cli.app import run_cli
from facetrain.config.schema import Config
from facetrain.core.errors import DataError, InputError
from facetrain.core.faces import LabelledImage
from facetrain.core.image_header import file_header
from facetrain.data.check.look_over import check_set
from facetrain.data.held_out import check_undivided
from facetrain.data.layout import Reading, digest, find_split, load_split
from tests.data.label_sets import draw_headers


def put(root: Path, name: str, faces: int = 1) -> Path:
    """An image of 100 x 50 below `root`, and its labels in the folder beside `images`; without faces no file."""
    path = root / name
    draw_headers([LabelledImage(path, name, (100, 50), *[None] * 3)])  # type: ignore[arg-type]
    labels = Path(str(path).replace("/images/", "/labels/")).with_suffix(".txt")
    labels.parent.mkdir(parents=True, exist_ok=True)
    if faces:
        labels.write_text("".join(f"0 {0.2 + 0.3 * face} 0.5 0.2 0.6\n" for face in range(faces)))
    return path


def write_yaml(root: Path, **parts: Any) -> Path:
    file = root / "data.yaml"
    file.write_text(yaml.safe_dump({**parts, "names": ["face"]}))
    return file


def read(root: Path, part: str) -> dict[str, int]:
    """The images of a part by their paths below `root`, with the number of their faces."""
    labels = load_split(root, part, None)  # type: ignore[arg-type]
    assert all(image.path.is_file() for image in labels.images)
    return {str(image.path.relative_to(root)): len(image.boxes) for image in labels.images}


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two sets side by side, each with both parts."""
    monkeypatch.setenv("FACETRAIN_CACHE", str(tmp_path / "cache"))
    for number, name in enumerate(("a", "b")):
        put(tmp_path, f"{name}/images/train/x.png", 1 + number)
        put(tmp_path, f"{name}/images/train/deep er/y.png", 0)
        put(tmp_path, f"{name}/images/val/z.png", 1)
    return tmp_path


TRAIN = {"a/images/train/x.png": 1, "a/images/train/deep er/y.png": 0, "b/images/train/x.png": 2,
         "b/images/train/deep er/y.png": 0}  # fmt: skip
VAL = {"a/images/val/z.png": 1, "b/images/val/z.png": 1}


def test_lists_of_folders(two: Path) -> None:
    file = write_yaml(two, train=["a/images/train", "b/images/train"], val=["a/images/val", "../b/images/val"])
    assert read(two, "train") == TRAIN
    assert read(two, "val") == VAL
    assert find_split(file, "val") == find_split(two, "val")
    labels = load_split(two, "train", None)
    assert len(digest(labels)) == 64  # although two of the images have no file of labels
    checked = check_set(two, Config(), Reading())
    assert [len(part.read.images) for part in checked.parts.values()] == [4, 2]
    assert [part.unlabelled for part in checked.parts.values()] == [0, 0]
    write_yaml(two, train=["a/images/train"])
    assert read(two, "train") == {name: faces for name, faces in TRAIN.items() if name.startswith("a")}


@pytest.mark.parametrize("start", ["./", "", "absolute", "cwd"])
def test_lists_of_images(two: Path, monkeypatch: pytest.MonkeyPatch, start: str) -> None:
    """From the list's folder behind `./`; else from where the program runs, or else from above the list."""
    if start == "cwd":
        monkeypatch.chdir(two)
    lists = two / "lists" if start in ("", "cwd") else two
    lists.mkdir(exist_ok=True)
    before = f"{two}/" if start == "absolute" else start.replace("cwd", "")
    (lists / "train.txt").write_text("".join(f"{before}{name}\r\n" for name in [*TRAIN, "notes.md", ""]))
    (lists / "val.txt").write_text("\n".join(f"{before}{name}" for name in VAL))
    write_yaml(two, path=str(lists), train="train.txt", val=["val.txt"])
    assert read(two, "train") == TRAIN
    assert read(two, "val") == VAL


def test_a_list_and_a_folder_and_an_image_in_both(two: Path) -> None:
    (two / "some.txt").write_text("./a/images/train/x.png\n./b/images/val/z.png\n")
    write_yaml(two, train=["some.txt", "a/images/train"])
    assert read(two, "train") == {**{name: n for name, n in TRAIN.items() if name[0] == "a"}, "b/images/val/z.png": 1}


@pytest.mark.parametrize(
    ("train", "said"),
    [(["a/images/train", "gone"], "no folder {}/gone"), ("gone.txt", "no file {}/gone.txt")],
)
def test_what_is_not_there_is_named(two: Path, train: Sequence[str] | str, said: str) -> None:
    file = write_yaml(two, train=train)
    with pytest.raises(InputError) as raised:
        find_split(two, "train")
    assert f"the images of {file}: {said.format(two)}" in raised.value.message


def test_an_empty_list(two: Path) -> None:
    (two / "train.txt").write_text("\n")
    write_yaml(two, train="train.txt")
    with pytest.raises(DataError, match=r"data\.yaml: no images in these labels"):
        load_split(two, "train", None)


def test_a_part_for_validation_is_seen(two: Path) -> None:
    """Both parts have one yaml, and are two parts all the same."""
    file = write_yaml(two, train="a/images/train", val="a/images/val")
    with pytest.raises(InputError, match="has a validation part"):
        check_undivided(two, file, Reading(), 0.1)
    write_yaml(two, train="a/images/train")
    check_undivided(two, file, Reading(), 0.1)


@pytest.mark.parametrize(("parts", "absent"), [(("train", "val"), []), (("train",), ["val"]), (("val",), ["train"])])
def test_a_yaml_names_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], parts: Sequence[str], absent: Sequence[str]
) -> None:
    for part in parts:
        image = put(tmp_path, f"{part}/images/a.png", 0)
        assert file_header(image) is not None
        (tmp_path / part / "labelv2.txt").write_text("# a.png 100 50\n10 10 30 40\n")
    arguments = ["data", "convert", str(tmp_path), "--as", "yolo"]
    assert run_cli([*arguments, "--to", str(tmp_path / "new"), "--json"]) == 0
    notes = {note for part in json.loads(capsys.readouterr().out)["parts"] for note in part["notes"]}
    assert notes == {f"there is no {part} part, which Ultralytics asks for" for part in absent}
    document = yaml.safe_load((tmp_path / "new/data.yaml").read_text())
    there = [part for part in ("train", "val") if part in document]
    assert there == list(parts)
    assert all((tmp_path / "new" / document[part]).is_dir() for part in there)
    assert run_cli([*arguments, "--to", str(tmp_path / "again")]) == 0
    assert ("Ultralytics asks for" in capsys.readouterr().out) is bool(absent)
