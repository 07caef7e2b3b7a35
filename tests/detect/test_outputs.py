"""What `--save` writes, of images; moving sources are a source of the tests' own."""

import csv
import errno
import io
import json
import os
import signal
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from facetrain.core.errors import DataError, UsageError
from facetrain.core.images import Reduced
from facetrain.data.layout import Reading, find_split, read_place
from facetrain.detect import sink
from facetrain.detect.detector import FaceDetector
from facetrain.detect.looked import Ending, Wishes
from facetrain.detect.run import Ended, Looked, detect_sources
from facetrain.detect.save import names, parse_save
from facetrain.eval.prediction_files import read_predictions
from facetrain.media.frame import Failure, Frame


@dataclass
class Clip:
    """Frames of a moving source, of which one may be broken."""

    images: list
    broken_at: int | None = None
    name: str = "clip.mp4"
    target: Path = Path("clip.mp4")
    path: Path | None = None
    moving: bool = True

    def frames(self, scale_of):
        for index, image in enumerate(self.images):
            if index == self.broken_at:
                raise DataError(f"{self.name}: broken")
            height, width = image.shape[:2]
            yield Frame(Reduced(image, 1, width, height), index, Fraction(index, 25), Fraction(1, 25))

    def count(self):
        return len(self.images)


def look(clip, *saves):
    detector = FaceDetector("spots.onnx")
    rules = {"weights": "w", "score": 0.5, "nms": 0.45, "size": "original", "landmark_names": list("abcde")}
    outputs = [save.format.make(save.place, Wishes(rules, print)) for save in map(parse_save, saves)]
    outcomes = list(detect_sources(detector, [clip], outputs))
    for output in outputs:
        output.finish(Ending([], False, []))
    return outcomes


def test_several_at_a_time(detect):
    code, out, _ = detect("in", "--save", "json=out/all.json", "--save", "csv=out/all.csv", "--save", "drawn=out/drawn")
    assert code == 0
    assert out.splitlines()[-1] == (
        f"3 faces in 3 images, json in {Path('out/all.json')}, csv in {Path('out/all.csv')}, "
        f"drawn in {Path('out/drawn')}"
    )
    assert not Path("detections").exists()
    assert Path("out/drawn/sub/b.png").is_file()
    _, printed, _ = detect("in", "--json")
    assert Path("out/all.json").read_text() == printed


def test_json_lines_on_standard_output_are_all_that_is_there(detect):
    code, out, err = detect("in", "--save", "jsonl=-")
    lines = [json.loads(line) for line in out.splitlines()]
    assert (code, len(lines)) == (0, 4)
    assert lines[0]["weights"] == "spots.onnx"
    assert lines[0]["score"] == 0.5
    assert [len(line["faces"]) for line in lines[1:]] == [1, 0, 2]
    assert "3 faces in 3 images" in err
    document = json.loads(detect("in", "--json")[1])
    assert document["images"] == lines[1:]


def test_csv_is_read_as_labels(detect, folder):
    detect("in/a.png", "in/none.png", "--save", "csv=set/labels.csv")
    rows = list(csv.DictReader(io.StringIO(Path("set/labels.csv").read_text())))
    assert [row["x1"] for row in rows] == ["4.0", ""]
    assert rows[0]["right_eye_x"] == "8.0"
    Path("set/in").mkdir()
    Path("set/in/a.png").write_bytes(Path("in/a.png").read_bytes())
    read = read_place(find_split(Path("set/labels.csv"), "train", Reading()), None, ())
    assert read.images[0].boxes.tolist() == [[4, 12, 12, 20]]


@pytest.mark.parametrize("name", ["coco", "yolo", "labelv2", "voc", "labelme", "cvat", "retinaface", "wider_face"])
def test_label_formats_are_sets_that_are_read(detect, name):
    code, _, _ = detect("in", "--save", f"{name}=set")
    assert code == 0
    read = read_place(find_split(Path("set"), "train", Reading()), None, ())
    read.raise_on_problems()
    boxes = {image.name: np.round(image.boxes).tolist() for image in read.images}
    assert boxes["a.png"] == [[4, 12, 12, 20]]
    assert sorted(boxes["sub/b.png"]) == [[12, 12, 20, 20], [36, 36, 44, 44]]
    assert all(image.path.is_file() for image in read.images)
    code, _, err = detect("in", "--save", f"{name}=set")
    assert (code, "set: is there already" in err) == (2, True)


def test_result_files_are_read_by_eval(detect):
    detect("in", "--save", "results=out")
    [a, b, none], missing = read_predictions(Path("out"), ["a", "sub/b", "none"])
    assert (len(a), len(b), len(none), missing) == (1, 2, 0, [])
    assert a.boxes.tolist() == [[4, 12, 12, 20]]


def test_crops(detect):
    detect("in", "--save", "crops=out", "--margin", "1")
    assert sorted(p.relative_to("out").as_posix() for p in Path("out").rglob("*.jpg")) == [
        "a-1.jpg",
        "sub/b-1.jpg",
        "sub/b-2.jpg",
    ]
    assert cv2.imread("out/a-1.jpg").shape == (24, 20, 3)  # at the left border there is less
    detect("in", "--save", "crops=out", "--crop-size", "40")
    assert cv2.imread("out/a-1.jpg").shape == (40, 40, 3)


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["--save", "json"], "--save json: not FORMAT=PATH"),
        (["--save", "jsn=a"], "--save jsn=…: no such format"),
        (["--save", "json="], "--save json=: names no path"),
        (["--save", "json=-"], "--save json=-: only csv and jsonl can go to standard output"),
        (["--save", "json=a", "--save", "csv=./a"], "--save json and csv: both go to a"),
        (["--save", "csv=-", "--save", "jsonl=-"], "both go to -"),
        (["--save", "csv=-", "--json"], "--json and --save csv=- both go to standard output"),
        (["--save", "drawn=x.png"], "--save drawn=x.png: one file for 3 images or videos"),
        (["--save", "drawn=in"], "in: the folder of the images is the one for the results"),
        (["--save", "crops=in"], "in: the folder of the images is the one for the results"),
        (["--save", "json=in"], "--save in: a folder"),
        (["--save", "json=a", "--align", "112"], "--align has no effect here"),
        (["--save", "crops=a", "--align", "4"], "--align 4: must be from 8 to 4096"),
        (["--save", "crops=a", "--align", "112", "--margin", "1"], "--align and --margin exclude each other"),
        (["--every", "0"], "--every 0: must be at least 1"),
        (["--from", "abc"], "--from abc: not a time"),
        (["--from", "5", "--to", "0:05"], "--to 5 s is not after --from 5 s"),
        (["--region", "1,2"], "--region 1,2: not a part of an image"),
        (["--except", "2"], "--except 2: faces have numbers with --track alone"),
    ],
)
def test_what_contradicts_itself_is_refused(detect, arguments, wrong):
    before = sorted(Path().rglob("*"))
    code, out, err = detect("in", *arguments)
    assert (code, out) == (2, "")
    assert wrong in err
    assert sorted(Path().rglob("*")) == before


def test_one_image_may_have_a_file(detect):
    assert detect("in/a.png", "--save", "drawn=out/x.png")[0] == 0
    assert cv2.imread("out/x.png").shape == (60, 100, 3)
    code, _, err = detect("in/a.png", "--save", "drawn=in/a.png")
    assert (code, "in/a.png: would be overwritten" in err) == (2, True)


def test_a_result_in_the_folder_of_its_sources_is_none_of_them(detect):
    assert detect("in", "--save", "json=in/faces.json", "--output", "in/drawn")[0] == 0
    _, out, _ = detect("in", "--save", "json=in/faces.json", "--output", "in/drawn")
    assert out.splitlines()[-1].startswith("3 faces in 3 images")


def test_frames_have_numbers_and_times(folder, spot_image):
    clip = Clip([spot_image(64, 64, (16, 16)), spot_image(64, 64), spot_image(64, 64, (16, 16), (40, 40))])
    outcomes = look(clip, "jsonl=a.jsonl", "crops=crops", "results=results", "coco=set", "csv=a.csv")
    ended = outcomes[-1]
    assert isinstance(ended, Ended)
    assert (ended.frames, ended.faces, ended.most, ended.with_faces) == (3, 3, 2, 2)
    _, *lines, end = map(json.loads, Path("a.jsonl").read_text().splitlines())
    assert end == {"path": "clip.mp4", "frames": 3}
    assert [(line["frame"], line["time"], len(line["faces"])) for line in lines] == [
        (0, 0, 1),
        (1, 0.04, 0),
        (2, 0.08, 2),
    ]
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert {"crops/clip/000000-1.jpg", "crops/clip/000002-2.jpg", "results/clip/000001.txt"} <= files
    assert {f"set/train/images/clip/00000{index}.jpg" for index in range(3)} <= files
    rows = list(csv.DictReader(io.StringIO(Path("a.csv").read_text())))
    assert [(row["frame"], row["time"]) for row in rows] == [("0", "0.0"), ("1", "0.04"), ("2", "0.08"), ("2", "0.08")]


def test_what_came_before_a_break_is_kept(folder, spot_image):
    clip = Clip([spot_image(64, 64, (16, 16))] * 3, broken_at=2)
    *looked, ended, failure = look(clip, "json=a.json")
    assert all(isinstance(one, Looked) for one in looked)
    assert isinstance(failure, Failure)
    assert (ended.frames, len(json.loads(Path("a.json").read_text())["images"])) == (2, 2)


def test_who_leaves_early_ends_the_outputs(folder, spot_image):
    ends = []

    class Output:
        any_order = True
        waits = False

        def add(self, looked):
            pass

        def end(self, source):
            ends.append(source.name)

    outcomes = detect_sources(FaceDetector("spots.onnx"), [Clip([spot_image(64, 64)] * 9)], [Output()])
    next(outcomes)
    outcomes.close()
    assert ends == ["clip.mp4"]


@pytest.mark.parametrize("words", ['"images"', '"errors"'])
def test_a_full_disk_ends_the_work_and_leaves_no_half_file(folder, detect, monkeypatch, words):
    real = sink._File._put

    def full(self, text):
        if words in text:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, text)

    monkeypatch.setattr(sink._File, "_put", full)
    code, _, err = detect("in", "--save", "json=all.json")
    assert code == 1
    assert err.count("all.json: cannot be written: No space left on device") == 1
    assert [p.name for p in folder.iterdir() if "json" in p.name] == []


def test_every_format_says_what_it_writes():
    for name in names():
        text = parse_save(f"{name}=somewhere").format.HELP
        assert text.split(": ")[-1]
        assert not text.endswith(".")


@pytest.mark.parametrize("when", range(12))
def test_an_interrupted_frame_is_in_all_outputs_or_in_none(folder, spot_image, when):
    """Ctrl-C at any moment of handing a frame over, also twice: between outputs, and within one."""
    kept = {"a": [], "b": []}
    moments = iter(range(100))

    class Output:
        any_order = True
        waits = False

        def __init__(self, name):
            self.name = name

        def add(self, looked):
            if next(moments) == when:
                os.kill(os.getpid(), signal.SIGINT)
            kept[self.name].append(looked.frame.index)

        def end(self, source):
            kept[self.name].append("end")

    clip = Clip([spot_image(64, 64)] * 9)
    with pytest.raises(KeyboardInterrupt):
        list(detect_sources(FaceDetector("spots.onnx"), [clip], [Output("a"), Output("b")]))
    assert kept["a"] == kept["b"] == [*range(when // 2 + 1), "end"]


def test_a_clip_that_broke_off_is_not_done(folder, spot_image):
    [save] = map(parse_save, ["jsonl=a.jsonl"])
    rules = {"weights": "w", "score": 0.5, "nms": 0.45, "size": "original", "landmark_names": list("abcde")}
    output = save.format.make(save.place, Wishes(rules, print))
    clips = [Clip([spot_image(64, 64)] * 3, 1), Clip([spot_image(64, 64)] * 2, name="whole.mp4")]
    for outcome in detect_sources(FaceDetector("spots.onnx"), clips, [output]):
        if isinstance(outcome, Failure):
            output.broke_off(outcome.path)
    output.finish(Ending([], False, []))
    ended = [line["path"] for line in map(json.loads, Path("a.jsonl").read_text().splitlines()) if "frames" in line]
    assert ended == ["whole.mp4"]


def test_standard_output_is_no_folder(folder):
    for name in ("crops", "drawn", "blur", "yolo", "results"):
        with pytest.raises(UsageError, match="can go to standard output"):
            parse_save(f"{name}=-")
