"""WIDER FACE's published files become a folder to train on; damaged and incomplete ones are refused."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from official_files import (
    COUNTS,
    EVENTS,
    SIZE,
    image_names,
    label_txt,
    labelv2_txt,
    write_image_archive,
    write_published,
)

from facetrain.cli.app import run_cli
from facetrain.core.errors import DataError, InputError, OutputError
from facetrain.data.formats import labelv2
from facetrain.data.landmark_names import FIVE
from facetrain.data.layout import format_names, load_split
from facetrain.eval.wider_face import prepare, published
from facetrain.eval.wider_face.benchmark import widerface_benchmark
from facetrain.eval.wider_face.prepare import prepare_widerface


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """As many images and events as the archives of these tests have."""
    monkeypatch.setattr(published, "IMAGES", COUNTS)
    monkeypatch.setattr(published, "EVENTS", len(EVENTS))


@pytest.fixture
def source(tmp_path):
    write_published(tmp_path / "downloads")
    return tmp_path / "downloads"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_archives_become_a_folder(source, tmp_path):
    prepared = prepare_widerface(source, tmp_path / "to")
    assert prepared.complete
    assert set(prepared.missing) == {"landmarks"}
    assert [(name, part.images, part.events, part.written) for name, part in prepared.splits.items()] == [
        ("train", 6, 3, 6),
        ("val", 3, 3, 3),
    ]
    for split in ("train", "val"):
        place = tmp_path / f"to/WIDER_{split}/images"
        assert sorted(contents(place)) == sorted(image_names(split))
        labels = load_split(tmp_path / "to", split, FIVE)
        assert [image.name for image in labels.images] == image_names(split)
        assert all(image.path.is_file() and image.size == SIZE for image in labels.images)
        assert not labels.statistics.with_landmarks
    first, second, third = labels.images
    assert first.boxes.tolist() == [[10, 12, 30, 36], [50, 20, 58, 29]]  # the box without width is left out
    assert first.ignore.tolist() == [False, True]
    assert second.boxes.tolist() == [[30, 8, 70, 52]]
    assert len(third.boxes) == 0
    assert prepared.splits["val"].labels.statistics.boxes_without_area == 1
    benchmark = widerface_benchmark(tmp_path / "to")
    assert len(benchmark.images) == 3
    # nothing but what is announced
    names = {name.split("/")[0] for name in contents(tmp_path / "to")}
    assert names == {"WIDER_train", "WIDER_val", "labelv2"}


@pytest.mark.skipif("retinaface" not in format_names(), reason="needs the reader of RetinaFace's labels")
@pytest.mark.parametrize("packed", [False, True])
def test_landmarks_of_retinaface_join_the_list(source, tmp_path, packed):
    if packed:
        with zipfile.ZipFile(source / "retinaface_gt_v1.1.zip", "w") as file:
            for split in COUNTS:
                file.writestr(f"{split}/label.txt", label_txt(split))
    else:
        (source / "label.txt").write_text(label_txt("train"))
    prepared = prepare_widerface(source, tmp_path / "to")
    assert not prepared.missing
    labels = load_split(tmp_path / "to", "train", FIVE)
    assert labels.statistics.with_landmarks == 4
    first = labels.images[0]
    assert first.ignore.tolist() == [False, True]  # of the list: label.txt does not tell
    assert first.landmarks[0, :, :2].tolist() == [[18, 20], [26, 20], [22, 26], [19, 31], [25, 31]]
    assert first.landmarks[..., 2].tolist() == [[1] * 5, [0] * 5]


@pytest.mark.parametrize("place", ["labelv2/train/labelv2.txt", "train/labelv2.txt", "labelv2.txt"])
def test_a_labelv2_file_is_taken_as_it_is(source, tmp_path, place):
    (source / place).parent.mkdir(parents=True, exist_ok=True)
    (source / place).write_text(labelv2_txt("train"))
    prepared = prepare_widerface(source, tmp_path / "to")
    assert not prepared.missing
    assert prepared.splits["train"].labels.source == str(source / place)
    wanted = labelv2.read(source / place, tmp_path / "to/WIDER_train/images", FIVE).images
    for got, want in zip(load_split(tmp_path / "to", "train", FIVE).images, wanted, strict=True):
        for mine, theirs in ((got.boxes, want.boxes), (got.landmarks, want.landmarks), (got.ignore, want.ignore)):
            assert np.array_equal(mine, theirs)


def test_what_was_interrupted_goes_on(source, tmp_path):
    prepare_widerface(source, tmp_path / "whole")
    for stop in range(1, 9):
        to = tmp_path / f"to{stop}"

        def interrupt(done, total, name, stop=stop):
            assert total == 9
            if done == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            prepare_widerface(source, to, progress=interrupt)
        assert len(contents(to)) == stop
        prepared = prepare_widerface(source, to)
        assert sum(part.written for part in prepared.splits.values()) == 9 - stop
        assert contents(to) == contents(tmp_path / "whole")


def test_a_torn_file_of_an_earlier_call_is_written_anew(source, tmp_path):
    prepare_widerface(source, tmp_path / "to")
    whole = contents(tmp_path / "to")
    image = tmp_path / "to/WIDER_train/images" / image_names("train")[0]
    content = image.read_bytes()
    for torn in (b"", content[:50], bytes(len(content))):
        image.write_bytes(torn)
        assert prepare_widerface(source, tmp_path / "to").splits["train"].written == 1
        assert contents(tmp_path / "to") == whole


def test_unpacked_files_will_do(source, tmp_path):
    prepare_widerface(source, tmp_path / "from_archives")
    for path in list(source.glob("*.zip")):
        shutil.unpack_archive(path, source)
        path.unlink()
    prepare_widerface(source, tmp_path / "to")
    assert contents(tmp_path / "to") == contents(tmp_path / "from_archives")
    # in their own place: nothing is copied onto itself
    prepared = prepare_widerface(source, source)
    assert sum(part.written for part in prepared.splits.values()) == 0
    assert {name: content for name, content in contents(source).items() if name.startswith("labelv2/")} == {
        name: content for name, content in contents(tmp_path / "to").items() if name.startswith("labelv2/")
    }


def test_archives_may_go_once_they_are_unpacked(source, tmp_path):
    prepare_widerface(source, tmp_path / "to")
    whole = contents(tmp_path / "to")
    (source / "WIDER_train.zip").unlink()
    (source / "eval_tools.zip").unlink()
    prepared = prepare_widerface(source, tmp_path / "to")
    assert prepared.complete
    assert contents(tmp_path / "to") == whole


@pytest.mark.parametrize(
    ("gone", "missing", "code"),
    [
        (["WIDER_train.zip"], {"train images", "landmarks"}, 1),
        (["WIDER_val.zip", "eval_tools.zip"], {"val images", "landmarks", "ground truth"}, 1),
        (["wider_face_split.zip"], {"train labels", "val labels"}, 1),
        (["eval_tools.zip"], {"landmarks", "ground truth"}, 0),
    ],
)
def test_what_is_missing_is_said_with_its_source(source, tmp_path, capsys, gone, missing, code):
    for name in gone:
        (source / name).unlink()
    line = ["data", "prepare", "widerface", "--from", str(source), "--to", str(tmp_path / "to")]
    assert run_cli([*line, "--json"]) == code
    document = json.loads(capsys.readouterr().out)
    assert set(document["missing"]) == missing - ({"landmarks"} if "WIDER_train.zip" in gone else set())
    assert document["complete"] is (code == 0)
    assert run_cli(line) == code
    said = capsys.readouterr().out
    for what in document["missing"]:
        assert f"missing: {what}; from " in said
    assert ("shuoyang1213.me/WIDERFACE" in said) is bool(set(document["missing"]) - {"landmarks"})


def test_nothing_there(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for folder, said in (("empty", "nothing of WIDER FACE in this folder"), ("absent", "no such folder")):
        with pytest.raises(InputError, match=said):
            prepare_widerface(tmp_path / folder, tmp_path / "to")
        assert run_cli(["data", "prepare", "widerface", "--from", str(tmp_path / folder)]) == 2
        assert "WIDER_train.zip" in capsys.readouterr().err
    assert not (tmp_path / "to").exists()
    assert run_cli(["data", "prepare", "coco", "--from", str(tmp_path)]) == 2
    assert "there is: widerface" in capsys.readouterr().err


def test_too_few_images_are_refused_or_asked_for(source, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(published, "IMAGES", {"train": 7, "val": 3})
    with pytest.raises(DataError) as caught:
        prepare_widerface(source, tmp_path / "to")
    assert "6 images of 3 events; WIDER FACE's train part has 7 of 3" in caught.value.message
    assert not (tmp_path / "to").exists()
    line = ["data", "prepare", "widerface", "--from", str(source), "--to", str(tmp_path / "to")]
    assert run_cli(line) == 1
    assert "--partial takes the images that are there" in capsys.readouterr().err
    assert run_cli([*line, "--partial"]) == 0


def test_a_part_of_the_images_takes_a_part_of_the_labels(source, tmp_path):
    shutil.unpack_archive(source / "WIDER_train.zip", source)
    (source / "WIDER_train.zip").unlink()
    (source / "WIDER_train/images" / image_names("train")[0]).unlink()
    prepared = prepare_widerface(source, tmp_path / "to", partial=True)
    assert prepared.splits["train"].labels.absent == 1
    assert [image.name for image in load_split(tmp_path / "to", "train", FIVE).images] == image_names("train")[1:]


def test_labels_of_other_images(source, tmp_path):
    (source / "labelv2.txt").write_text(labelv2_txt("val"))
    with pytest.raises(DataError, match=r"labelv2\.txt: 3 of 3 images are not below .*WIDER_train"):
        prepare_widerface(source, tmp_path / "to", partial=True)
    (source / "labelv2.txt").write_text(labelv2_txt("train").replace(" 96 64", " 960 640"))
    with pytest.raises(DataError, match="labels of 960x640 pixels, the image has 96x64"):
        prepare_widerface(source, tmp_path / "to")


def test_a_list_that_cannot_be_read_is_named_with_its_archive(source, tmp_path):
    with zipfile.ZipFile(source / "wider_face_split.zip", "w") as file:
        file.writestr("wider_face_split/wider_face_train_bbx_gt.txt", "0--Parade/a.jpg\n1\n1 2 x 4 \n")
    with pytest.raises(DataError) as caught:
        prepare_widerface(source, tmp_path / "to")
    place = f"{source}/wider_face_split.zip: wider_face_split/wider_face_train_bbx_gt.txt"
    assert f"{place}:3: 'x': not a number" in caught.value.message


@pytest.mark.parametrize("place", [0.2, 0.5, 0.8, 0.99])
def test_an_archive_that_was_cut_off(source, tmp_path, place):
    path = source / "WIDER_train.zip"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * place)])
    with pytest.raises(DataError, match=r"WIDER_train\.zip: cut off or damaged"):
        prepare_widerface(source, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_a_damaged_member_stops_before_it_is_written(source, tmp_path):
    path = source / "WIDER_train.zip"
    name = f"WIDER_train/images/{image_names('train')[3]}"
    with zipfile.ZipFile(path) as file:
        start = file.getinfo(name).header_offset + 30 + len(name)
    content = bytearray(path.read_bytes())
    content[start + 20] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"damaged"):
        prepare_widerface(source, tmp_path / "to")
    assert len(contents(tmp_path / "to")) == 3
    # with a whole archive the same command goes on
    write_image_archive(source, "train")
    assert prepare_widerface(source, tmp_path / "to").splits["train"].written == 3


def test_a_name_that_leads_out_stops_everything(source, tmp_path):
    with zipfile.ZipFile(source / "WIDER_val.zip", "a") as file:
        file.writestr("WIDER_val/images/../../../../out.jpg", "bad")
    with pytest.raises(DataError, match="leads out of the folder"):
        prepare_widerface(source, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_what_is_no_image(source, tmp_path, monkeypatch):
    monkeypatch.setattr(published, "IMAGES", {"train": 7, "val": 3})
    with zipfile.ZipFile(source / "WIDER_train.zip", "a") as file:
        file.writestr("WIDER_train/images/0--Parade/0_Parade_x_1_9.jpg", "no image")
    with pytest.raises(DataError, match=r"0_Parade_x_1_9\.jpg: not an image"):
        prepare_widerface(source, tmp_path / "to")


def test_a_disk_without_room(source, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 5))
    with pytest.raises(OutputError, match=r"0\.0 GB to write"):
        prepare_widerface(source, tmp_path / "to")
    assert not (tmp_path / "to").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_closed(source, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    line = ["data", "prepare", "widerface", "--from", str(source), "--to", str(tmp_path / "closed/to")]
    assert run_cli(line) == 2
