import logging
from pathlib import Path

import pytest

from facetrain.core.errors import DataError, InputError
from facetrain.data.landmark_names import FIVE
from facetrain.data.layout import LAYOUT, Split, find_split, load_split

LINES = "# 0--Parade/a.jpg 64 48\n1 2 3 4\n"


def put(root: Path, labels: str | None, images: str | None, text: str = LINES) -> None:
    if labels:
        (root / labels).parent.mkdir(parents=True, exist_ok=True)
        (root / labels).write_text(text)
    if images:
        (root / images).mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize("split", ["train", "val"])
def test_finds_the_wider_face_folders(tmp_path, split):
    put(tmp_path, f"labelv2/{split}/labelv2.txt", f"WIDER_{split}/images")
    assert find_split(tmp_path, split) == Split(
        tmp_path / "labelv2" / split / "labelv2.txt", tmp_path / f"WIDER_{split}" / "images", "labelv2"
    )


@pytest.mark.parametrize("split", ["train", "val"])
def test_finds_the_plain_folders(tmp_path, split):
    put(tmp_path, f"{split}/labelv2.txt", f"{split}/images")
    assert find_split(tmp_path, split) == Split(
        tmp_path / split / "labelv2.txt", tmp_path / split / "images", "labelv2"
    )


def test_a_complete_layout_goes_before_a_half_one_and_wider_before_plain(tmp_path):
    put(tmp_path, "labelv2/train/labelv2.txt", None)
    put(tmp_path, "train/labelv2.txt", "train/images")
    assert find_split(tmp_path, "train").labels == tmp_path / "train/labelv2.txt"
    put(tmp_path, None, "WIDER_train/images")
    assert find_split(tmp_path, "train").labels == tmp_path / "labelv2/train/labelv2.txt"


def test_a_folder_with_blanks_and_other_letters(tmp_path, monkeypatch):
    root = tmp_path / "my faces (ü)"
    put(root, "val/labelv2.txt", "val/images")
    labels = load_split(root, "val", FIVE)
    assert labels.images[0].path == root / "val" / "images" / "0--Parade" / "a.jpg"
    monkeypatch.chdir(tmp_path)
    assert load_split(Path("my faces (ü)"), "val", FIVE).images[0].path == Path(
        "my faces (ü)/val/images/0--Parade/a.jpg"
    )


@pytest.mark.parametrize(
    ("labels", "images", "missing"),
    [
        (None, None, "the val labels: no file {0}/labelv2/val/labelv2.txt or {0}/val/labelv2.txt"),
        (
            "labelv2/val/labelv2.txt",
            None,
            "the images of {0}/labelv2/val/labelv2.txt: no folder {0}/WIDER_val/images",
        ),
        (None, "WIDER_val/images", "the labels of {0}/WIDER_val/images: no file {0}/labelv2/val/labelv2.txt"),
        ("val/labelv2.txt", None, "the images of {0}/val/labelv2.txt: no folder {0}/val/images"),
        (None, "val/images", "the labels of {0}/val/images: no file {0}/val/labelv2.txt"),
        # the other split is no help
        ("train/labelv2.txt", "train/images", "the val labels: no file {0}/labelv2/val/labelv2.txt or"),
    ],
)
def test_says_what_is_missing_and_how_it_should_look(tmp_path, labels, images, missing):
    put(tmp_path, labels, images)
    with pytest.raises(InputError) as raised:
        find_split(tmp_path, "val")
    message = raised.value.message.replace("\\", "/")
    assert message.startswith(f"{tmp_path.as_posix()}: cannot find " + missing.format(tmp_path.as_posix()))
    assert raised.value.hint is not None
    assert LAYOUT.rstrip() in raised.value.hint
    assert "`data` sample" in raised.value.hint


def test_no_folder_at_all(tmp_path):
    with pytest.raises(InputError, match="no such folder") as raised:
        find_split(tmp_path / "absent", "train")
    assert raised.value.hint is not None and "`data` sample" in raised.value.hint
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: none of the label formats"):
        find_split(tmp_path / "file", "train")


def test_the_shown_layouts_are_the_accepted_ones(tmp_path):
    """Both columns of LAYOUT, laid out literally, are found."""
    rows = LAYOUT.splitlines()[2:]
    column = rows[0].index("train/labelv2.txt", rows[0].index("train/labelv2.txt") + 1)
    for name, entries in {"wider": [r[:column] for r in rows], "own": [r[column:] for r in rows]}.items():
        for entry in entries:
            path = tmp_path / name / entry.strip().replace("<event>", "0--Parade").rstrip("…")
            if path.suffix:
                put(path.parent, path.name, None)
            else:
                path.mkdir(parents=True)
        for split in ("train", "val"):
            assert find_split(tmp_path / name, split).labels.is_file()


def test_load_split_logs_one_line(tmp_path, caplog):
    put(tmp_path, "train/labelv2.txt", "train/images")
    with caplog.at_level(logging.INFO, "facetrain.data.layout"):
        labels = load_split(tmp_path, "train", ("a", "b", "c"))
    assert labels.images[0].landmarks.shape == (1, 3, 3)
    [record] = caplog.records
    assert record.getMessage() == (
        f"labels {tmp_path / 'train' / 'labelv2.txt'}, format labelv2, images in {tmp_path / 'train' / 'images'}: "
        "1 images (0 without faces), 1 faces: 0 with landmarks, 1 without, 0 ignored"
    )


def test_load_split_raises_on_bad_lines(tmp_path):
    put(tmp_path, "train/labelv2.txt", "train/images", LINES + "1 2 3\n")
    with pytest.raises(DataError, match=r"labelv2\.txt:3: '1 2 3'"):
        load_split(tmp_path, "train", FIVE)


def test_the_reference_folder(shared):
    for split, images in (("train", 2971), ("val", 400)):
        labels = load_split(shared / "widerface", split, FIVE)
        assert len(labels.images) == images
        assert all(image.path.is_file() for image in labels.images)
