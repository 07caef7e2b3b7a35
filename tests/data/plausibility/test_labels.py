"""Train, validation and eval take labels in one way; WIDER FACE is only reported; what is in both parts is known."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from facetrain.cli.app import run_cli
from facetrain.core.errors import DataError
from facetrain.core.faces import LabelledImage
from facetrain.core.images import read_image, write_image
from facetrain.data.formats import labelv2
from facetrain.data.layout import Reading, find_split, load_split, read_place
from facetrain.data.plausibility import facts as facts_file
from facetrain.data.plausibility.in_both import find_in_both, known_in_both
from facetrain.data.sample_set.make import write_sample
from tests.data.plausibility.drawn_labels import NAMES


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACETRAIN_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "data"
    write_sample(folder, train=12, val=6)
    return folder


@pytest.fixture
def data(drawn: Path, tmp_path: Path) -> Path:
    shutil.copytree(drawn, tmp_path / "data")
    return tmp_path / "data"


def labels_of(data: Path, part: str) -> Path:
    return data / "labelv2" / part / "labelv2.txt"


def rewritten(data: Path, part: str, line: str) -> None:
    """One face more in the first image of a part."""
    path = labels_of(data, part)
    lines = path.read_text().splitlines()
    lines.insert(1, line)
    path.write_text("\n".join(lines) + "\n")


def same(one: LabelledImage, other: LabelledImage) -> bool:
    parts = ("boxes", "landmarks", "ignore")
    return (one.name, one.size) == (other.name, other.size) and all(
        getattr(one, part).tobytes() == getattr(other, part).tobytes() for part in parts
    )


@pytest.mark.parametrize(("root", "part"), [("widerface", "train"), ("widerface", "val"), ("extra", "train")])
def test_known_sets_are_what_they_were(shared: Path, root: str, part: str) -> None:
    """The same images with the very same bytes, so the same batches; what is odd in them stays far below the limit."""
    place = find_split(shared / root, part)
    before = read_place(place, NAMES).images
    labels = load_split(shared / root, part, NAMES)
    assert len(before) == len(labels.images)
    assert all(same(one, other) for one, other in zip(before, labels.images, strict=True))
    assert labels.judgement is not None
    counts = {kind.kind: (kind.count, kind.done) for kind in labels.judgement.kinds}
    assert max(kind.share for kind in labels.judgement.kinds) < 0.014
    expected = {
        ("widerface", "train"): {
            "odd_shape": 584,
            "twice": 1,
            "point_outside": 26,
            "exchanged": 28,
            "out_of_order": 66,
        },
        ("widerface", "val"): {"odd_shape": 40, "twice": 1},
        ("extra", "train"): {"odd_shape": 21, "point_outside": 14, "exchanged": 2},
    }
    assert counts == {kind: (count, "kept") for kind, count in expected[root, part].items()}


@pytest.mark.parametrize(
    ("case", "command"),
    [("labels_xywh", "--boxes xywh --to NEW"), ("labels_normalised", "--boxes xyxy-shares --to NEW")],
)
def test_the_cases_are_refused(
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    case: str,
    command: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    data = shared / "cases" / case
    for arguments, part in (
        (["eval", "--data", str(data)], "val"),
        (["train", "yunet_n", "--data", str(data), "--dry-run", "--gpus", "cpu"], "train"),
    ):
        assert run_cli(arguments) == 1
        said = capsys.readouterr().err
        assert said.split("error: ")[1].startswith(f"{data}/{part}/labelv2.txt: 1 of 1 box ")
        assert f"facetrain data convert {data} {command}" in said
        assert ("x y width height" if case == "labels_xywh" else "as shares of the image") in said
        assert case == "labels_normalised" or "--trust-labels takes labels as they are" in said


def test_eval_says_what_it_left_out(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewritten(data, "val", "-900 10 -860 60")
    assert run_cli(["eval", "--data", str(data), "--draws", "0", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    [kind] = [kind for kind in document["labels"]["kinds"] if kind["done"] != "kept"]
    assert (kind["kind"], kind["count"], kind["done"], document["labels"]["changed"]) == ("misses", 1, "left out", 1)
    assert kind["first"][0]["value"].startswith("-900 10 -860 60 of ")
    assert document["in_training"] is None
    faces = document["details"]["faces"]
    assert run_cli(["eval", "--data", str(data), "--draws", "0"]) == 0
    out = capsys.readouterr().out
    assert "labels: 1 box misses its image" in out and max(map(len, out.splitlines())) <= 80
    assert run_cli(["eval", "--data", str(data), "--draws", "0", "--trust-labels", "--json"]) == 0
    trusted = json.loads(capsys.readouterr().out)
    assert trusted["details"]["faces"] == faces + 1
    assert trusted["labels"]["changed"] == 0


def test_more_than_a_tenth_is_refused_and_told_with_the_file(data: Path) -> None:
    for _ in range(20):
        rewritten(data, "train", "-900 10 -860 60")
    with pytest.raises(DataError, match=r"labelv2.txt: 20 of \d+ boxes miss their image, the first in ") as raised:
        load_split(data, "train", NAMES)
    assert "`trust_labels`" in (raised.value.hint or "")
    trusted = load_split(data, "train", NAMES, Reading(trust=True))
    assert len(trusted.images[0].boxes) > 20
    assert trusted.statistics.faces == sum(len(image.boxes) for image in trusted.images)


def test_images_without_a_size_get_that_of_their_file(data: Path) -> None:
    images = load_split(data, "val", NAMES).images
    lists = data / "wider_face_split"
    lists.mkdir()
    lines = [line for image in images for line in (image.name, "1", "10 10 40 50 0 0 0 0 0 0")]
    (lists / "wider_face_val_bbx_gt.txt").write_text("\n".join(lines) + "\n")
    sized = load_split(data, "val", NAMES, Reading("wider_face")).images
    assert [image.size for image in sized] == [image.size for image in images]


def test_images_in_both_parts(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, val = ([image.path for image in load_split(data, part, NAMES).images] for part in ("train", "val"))
    assert known_in_both(data, val) is None
    assert find_in_both(data, train, val) == [] == known_in_both(data, val)
    write_image(val[2], read_image(train[5]))
    assert known_in_both(data, val) is None  # nobody has looked at the new one
    assert find_in_both(data, train, val) == [(val[2], train[5])]
    monkeypatch.setattr(facts_file, "_look", lambda *_: pytest.fail("decoded"))
    monkeypatch.setattr(facts_file, "_head", lambda *_: pytest.fail("read"))
    assert known_in_both(data, val) == [(val[2], train[5].absolute())]


def test_train_says_it_and_eval_knows_it_then(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    train, val = (load_split(data, part, NAMES).images for part in ("train", "val"))
    twin = next(image for image in train if image.size == val[0].size)
    write_image(val[0].path, read_image(twin.path))
    run = [
        "train",
        "yunet_n",
        "--data",
        str(data),
        "--dry-run",
        "--gpus",
        "cpu",
        "--batch",
        "2",
        "--set",
        "data.size=64",
    ]
    assert run_cli(run) == 0
    assert "1 of 6 validation images are training images too" in capsys.readouterr().err
    assert run_cli(["eval", "--data", str(data), "--draws", "0"]) == 0
    assert "1 of 6 images are in the training set too" in capsys.readouterr().out


def test_wider_face_is_only_reported(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from facetrain.eval.evaluate import reported
    from facetrain.eval.labelled import labelled_benchmark

    images = labelv2.read(labels_of(data, "val"), data / "WIDER_val/images", NAMES).images
    odd = [image.boxes.copy() for image in images]
    for boxes in odd:
        boxes[...] = np.array([-900, 10, -860, 60])
    benchmark = labelled_benchmark(
        [LabelledImage(i.path, i.name, None, b, i.landmarks[:, :0], i.ignore) for i, b in zip(images, odd, strict=True)]
    )
    after = reported(benchmark, data)
    assert after.images is benchmark.images and after.counted is benchmark.counted
    assert after.labels is not None
    assert [(kind.kind, kind.done) for kind in after.labels.kinds if kind.kind == "misses"] == [("misses", "kept")]
