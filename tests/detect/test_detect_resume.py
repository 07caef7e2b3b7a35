"""Parts of the work, and going on where it broke off."""

import json
from pathlib import Path

import cv2
import pytest

from facetrain.cli.app import run_cli
from facetrain.core.errors import UsageError
from facetrain.detect.shards import parse_shard

NAMES = [f"{index:03d}.png" for index in range(30)]


@pytest.fixture
def folder(tmp_path, monkeypatch, spots, spot_image):
    """A current folder with weights and in/000.png to in/029.png, each with one face."""
    monkeypatch.chdir(tmp_path)
    Path("spots.onnx").write_bytes(spots.read_bytes())
    Path("in").mkdir()
    for index, name in enumerate(NAMES):
        cv2.imwrite(f"in/{name}", spot_image(64, 64, (8 * (index % 7), 16)))
    return tmp_path


@pytest.fixture
def detect(folder, capfd):
    def run(*arguments):
        code = run_cli(["detect", "-w", "spots.onnx", "in", *arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return run


def lines(path="a.jsonl"):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


@pytest.mark.parametrize("count", [1, 4, 64])
def test_parts_are_all_and_each_once(count):
    shards = [parse_shard(f"{number}/{count}") for number in range(1, count + 1)]
    names = [f"photos/{index}.jpg" for index in range(3000)]
    held = [[name for name in names if shard.holds(name)] for shard in shards]
    assert sorted(name for part in held for name in part) == sorted(names)
    assert max(map(len, held)) < 1.6 * len(names) / count + 30


def test_a_part_does_not_depend_on_what_else_there_is(folder, detect):
    detect("--shard", "2/3", "--save", "jsonl=a.jsonl")
    before = {line["path"] for line in lines()[1:]}
    for name in NAMES[::2]:
        Path("in", name).unlink()
    detect("--shard", "2/3", "--save", "jsonl=b.jsonl")
    assert {line["path"] for line in lines("b.jsonl")[1:]} == {name for name in before if Path(name).exists()}


def test_four_parts_find_what_one_call_finds(detect):
    detect("--save", "jsonl=a.jsonl")
    for number in range(1, 5):
        detect("--shard", f"{number}/4", "--save", f"jsonl={number}.jsonl")
    parts = [line for number in range(1, 5) for line in lines(f"{number}.jsonl")[1:]]
    assert sorted(parts, key=lambda line: line["path"]) == lines()[1:]


@pytest.mark.parametrize("text", ["0/4", "5/4", "4", "1/0", "-1/4", "a/b", "1/2/3", ""])
def test_parts_that_are_none(text):
    with pytest.raises(UsageError, match=f"`shard` {text}: "):
        parse_shard(text)


@pytest.mark.parametrize("kept", [0, 1, 200, 500, 1500, -1, -3, -200])
def test_what_broke_off_anywhere_goes_on(detect, kept):
    """A file cut after any number of bytes, as a kill leaves it, becomes what an unbroken call writes."""
    detect("--save", "jsonl=a.jsonl")
    whole = Path("a.jsonl").read_bytes()
    Path("a.jsonl").write_bytes(whole[:kept])
    code, _, err = detect("--save", "jsonl=a.jsonl", "--resume")
    assert code == 0
    assert Path("a.jsonl").read_bytes() == whole
    assert ("done before" in err) == (kept not in (0, 1, 200, 500))


def test_what_failed_is_tried_again(detect):
    good = Path("in/003.png").read_bytes()
    Path("in/003.png").write_bytes(good[:60])
    code, _, _ = detect("--save", "jsonl=a.jsonl")
    assert code == 1
    assert lines()[-1]["path"].endswith("003.png")
    assert lines()[-1]["error"]["code"] == "data_error"
    Path("in/003.png").write_bytes(good)
    code, _, err = detect("--save", "jsonl=a.jsonl", "--resume")
    assert (code, "29 sources done before" in err) == (0, True)
    assert lines()[-1]["path"].endswith("003.png")
    assert len(lines()[-1]["faces"]) == 1


def test_drawn_images_go_on_too(detect):
    detect("--save", "jsonl=a.jsonl", "--shard", "1/2", "--output", "drawn")
    detect("--save", "jsonl=a.jsonl", "--resume", "--output", "drawn")
    assert sorted(path.name for path in Path("drawn").iterdir()) == NAMES


def test_nothing_there_yet_is_a_beginning(detect):
    assert detect("--save", "jsonl=a.jsonl", "--resume")[0] == 0
    assert len(lines()) == 31


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["--score", "0.6"], "score 0.5 then, 0.6 now"),
        (["--nms", "0.3", "--size", "640"], "nms 0.45 then, 0.3 now; size auto then, 640 now"),
        (["--region", "0,0,9,9"], 'region [] then, ["0,0,9,9"] now'),
        (["--min-face", "8"], "min_face not there then, 8.0 now"),
        (["-w", "other.onnx"], "weights spots.onnx then, other.onnx now; weights_sha256 "),
        (["--save", "csv=a.csv"], "--resume: csv would lack what was done before"),
        (["--json"], "--resume: json would lack what was done before"),
    ],
)
def test_other_settings_are_refused_and_change_nothing(detect, arguments, wrong):
    Path("other.onnx").write_bytes(Path("spots.onnx").read_bytes() + b"\x72\x00")
    detect("--save", "jsonl=a.jsonl", "--shard", "1/2")
    before = Path("a.jsonl").read_bytes()
    code, out, err = detect("--save", "jsonl=a.jsonl", "--resume", *arguments)
    assert (code, out) == (2, "")
    assert wrong in err
    assert Path("a.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "wrong"),
    [("[1]\n", "a.jsonl:1: not a JSON object"), ("{}\n", "not the first line"), ("x\n{}\n", "a.jsonl:1")],
)
def test_a_file_of_something_else_is_not_gone_on_with(detect, text, wrong):
    Path("a.jsonl").write_text(text)
    code, _, err = detect("--save", "jsonl=a.jsonl", "--resume")
    assert (code, wrong in err) == (1, True)
    assert Path("a.jsonl").read_text() == text


def test_resume_without_lines(detect):
    for arguments in ([], ["--save", "csv=a.csv"]):
        code, _, err = detect("--resume", *arguments)
        assert (code, "--resume has no effect here" in err) == (2, True)
    code, _, err = detect("--resume", "--save", "jsonl=-")
    assert (code, "--resume needs a file" in err) == (2, True)


def test_two_files_of_lines_are_refused(detect):
    code, _, err = detect("--save", "jsonl=a.jsonl", "--save", "jsonl=b.jsonl", "--resume")
    assert code == 2
    assert "two files of lines" in err
