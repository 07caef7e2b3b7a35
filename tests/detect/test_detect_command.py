import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from facetrain import __version__
from facetrain.cli.app import run_cli

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n"


SOUGHT = "looked for faces of 14 px and more; --min-face 7 looks closer\n"


def images_in(path):
    return sorted(p.relative_to(path).as_posix() for p in Path(path).rglob("*") if p.is_file())


def test_a_folder(detect):
    code, out, err = detect("in")
    assert (code, err) == (0, SOUGHT)
    lines = out.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith(f"{Path('in/a.png')}  100x60  1 face  best 1.00  ")
    assert lines[1].startswith(f"{Path('in/none.png')}  33x20  0 faces  best -  ")
    assert lines[2].startswith(f"{Path('in/sub/b.png')}  64x64  2 faces  best 1.00  ")
    assert lines[2].endswith(" ms")
    assert lines[3] == "3 faces in 3 images, drawn in detections"
    assert images_in("detections") == ["a.png", "none.png", "sub/b.png"]
    assert (cv2.imread("detections/a.png") != cv2.imread("in/a.png")).any()
    assert cv2.imread("detections/sub/b.png").shape == (64, 64, 3)


def test_sources_stay_as_they_are_and_a_second_run_sees_only_them(detect):
    before = {name: (Path("in") / name).read_bytes() for name in images_in("in")}
    first = detect("in", "-o", "in/results")
    second = detect("in", "-o", "in/results")
    assert first[0] == second[0] == 0
    assert len(first[1].splitlines()) == len(second[1].splitlines()) == 4
    assert {name: (Path("in") / name).read_bytes() for name in before} == before


def test_output_onto_the_sources_is_refused_before_anything_is_done(detect):
    before = Path("in/a.png").read_bytes()
    for arguments in (["in", "-o", "in"], ["in/a.png", "-o", "in"]):
        code, out, err = detect(*arguments)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
        assert "\nhint: " in err
    assert Path("in/a.png").read_bytes() == before
    assert images_in("in") == ["a.png", "none.png", "sub/b.png"]


def test_a_renamed_result_is_told(detect):
    Path("other").mkdir()
    Path("other/a.png").write_bytes(Path("in/a.png").read_bytes())
    _, out, _ = detect("in/a.png", "other/a.png")
    assert out.splitlines()[1].endswith(f"drawn as {Path('detections/a-2.png')}")
    assert images_in("detections") == ["a-2.png", "a.png"]


def test_json(detect):
    code, out, err = detect("in", "--json", "--score", "0.4", "--nms", "0.3")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert list(document) == [
        "schema",
        "facetrain",
        "weights",
        "score",
        "nms",
        "size",
        "landmark_names",
        "images",
        "skipped",
        "interrupted",
        "errors",
    ]
    assert (document["schema"], document["facetrain"], document["weights"]) == (1, __version__, "spots.onnx")
    assert (document["score"], document["nms"], document["errors"]) == (0.4, 0.3, [])
    first = document["images"][0]
    face = {"box": [4.0, 12.0, 12.0, 20.0], "score": 1.0, "landmarks": [[8.0, 16.0]] * 5}
    sizes = {"width": 100, "height": 60, "scales": [1.0], "smallest_face": 13.9}
    assert first == {"path": str(Path("in/a.png")), **sizes, "faces": [face]}
    assert document["images"][1]["faces"] == []
    assert len(document["images"]) == 3


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["--min-face", "0"], "--min-face 0: must be from 1 to 100,000"),
        (["--min-face", "-3"], "--min-face -3: must be from 1"),
        (["--min-face", "a"], "--min-face"),  # in the words of any release of Typer
        (["--min-face", "nan"], "--min-face nan: must be"),
        (["--min-face", "8", "--size", "640"], "--min-face goes with --size auto, not with 640"),
        (["--size", "31"], "--size 31: each side must be from 32 to 16,384 pixels"),
        (["--size", "640x16"], "--size 640x16: each side must be from 32"),
        (["--size", "huge"], "--size huge: no such rule"),
    ],
)
def test_sizes_that_mean_nothing(detect, arguments, wrong):
    code, _, err = detect("in", *arguments)
    assert code == 2
    assert wrong in " ".join(err.replace("│", " ").split())


def test_what_was_looked_for_is_said_once(detect):
    def said_of(*arguments):
        return detect(*arguments)[2].splitlines()[-1]  # where it takes seconds, progress is above it

    cv2.imwrite("in/large.png", np.zeros((2000, 4000, 3), np.uint8))
    assert said_of("in") == "looked for faces of 14 to 28 px, by the image's size, and more; --min-face 7 looks closer"
    assert said_of("in", "--min-face", "12") == "looked for faces of 12 px and more"
    said = "looked for faces of 7 px and more, and not of 3: no image shows more at more than twice its size"
    assert said_of("in", "--min-face", "3") == said
    said = said_of("in/a.png", "in/sub", "--min-face", "62")
    assert said.endswith("; 1 image smaller than --min-face 62")  # 100x60
    said = "looked for faces of 14 px and more, in one look; --size auto looks for all sizes"
    assert said_of("in", "--size", "original") == said
    assert "looked for" not in detect("in", "--min-face", "3", "--json")[2]
    _, out, _ = detect("in/large.png", "--json")
    [image] = json.loads(out)["images"]
    assert (image["scales"], image["smallest_face"]) == ([0.5, 0.25, 0.125], 27.8)
    _, out, _ = detect("in/large.png", "--json", "--size", "640")
    [image] = json.loads(out)["images"]
    assert (image["scales"], image["smallest_face"]) == ([0.16], 86.9)


def test_json_without_landmarks_says_null(folder, make_spots, capfd):
    assert run_cli(["detect", "-w", str(make_spots(landmarks=0)), "in/a.png", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["images"][0]["faces"][0]["landmarks"] is None


def test_what_fails_is_named_and_the_rest_goes_on(detect):
    Path("in/text.jpg").write_text("hello")
    Path("in/zero.png").write_bytes(b"")
    Path("in/pointer.jpg").write_text(POINTER)
    Path("empty").mkdir()
    code, out, err = detect("in", "absent.jpg", "empty", "no*.jpg")
    assert code == 1
    assert out.splitlines()[-1] == "3 faces in 3 images, drawn in detections; 6 failed"
    for words in ("text.jpg: not an image", "zero.png: the file is empty", "pointer.jpg: a git-lfs pointer"):
        assert f"error: {Path('in')}{os.sep}{words}" in err
    for words in ("absent.jpg: no such file", "empty: no images", "no*.jpg: nothing matches"):
        assert f"error: {words}" in err
    assert err.count("error: ") == 6


def test_what_fails_stands_in_the_json(detect):
    Path("in/text.jpg").write_text("hello")
    code, out, _ = detect("absent.jpg", "in", "--json")
    document = json.loads(out)
    assert code == 1
    assert len(document["images"]) == 3
    assert [(error["path"], error["code"]) for error in document["errors"]] == [
        ("absent.jpg", "input_error"),
        (str(Path("in/text.jpg")), "data_error"),
    ]
    assert all(list(error) == ["path", "code", "message", "hint"] for error in document["errors"])


def test_nothing_there_means_nothing_begun(detect):
    code, out, err = detect("absent.jpg", "no*.jpg")
    assert (code, out) == (2, "")
    assert err.count("error: ") == 2
    assert not Path("detections").exists()


def test_a_folder_without_images_alone(detect):
    Path("empty").mkdir()
    code, out, err = detect("empty")
    assert code == 1
    assert out == "0 faces in 0 images; 1 failed\n"
    assert "error: empty: no images" in err
    assert not Path("detections").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["in", "--score", "1.5"], "score 1.5"),
        (["in", "--score", "x"], "score"),
        (["in", "--nms", "0"], "nms 0"),
        (["in", "--threads", "0"], "threads 0"),
        (["in", "--device", "tpu"], "'tpu' is no device"),
        (["in", "--device", "mps"], "mps"),
        (["in", "--output", ""], "--output"),
        (["in", "--output", "spots.onnx"], "not a folder"),
        (["in", "-w", "absent.onnx"], "absent.onnx: no such file"),
        (["in", "-w", "yunet_xyz"], "yunet_xyz"),
        (["in", "--no-such-option"], "--no-such-option"),
        ([], "SOURCE"),
    ],
)
def test_wrong_usage(detect, arguments, said):
    code, out, err = detect(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert said in err
    assert "Traceback" not in err
    assert not Path("detections").exists()


def test_a_pointer_for_weights(detect):
    Path("pointer.onnx").write_text(POINTER)
    code, out, err = detect("in", "-w", "pointer.onnx")
    assert (code, out) == (1, "")
    assert "pointer.onnx: a git-lfs pointer" in err


def test_results_that_cannot_be_written_are_listed(detect):
    Path("out/a.png").mkdir(parents=True)
    code, out, err = detect("in", "-o", "out")
    assert code == 1
    assert f"error: {Path('out/a.png')}" in err
    assert images_in("out") == ["none.png", "sub/b.png"]
    assert "2 faces in 2 images" in out


def test_turned_grey_deep_and_tiny_images(detect, spot_image):
    Path("odd").mkdir()
    spots = spot_image(100, 60, (8, 16))
    grey = spots[..., 0]
    cv2.imwrite("odd/deep.png", grey.astype(np.uint16) * 257)
    cv2.imwrite("odd/grey.png", grey)
    cv2.imwrite("odd/alpha.png", np.dstack([spots, np.zeros_like(grey)]))
    cv2.imwrite("odd/one.png", spots[:1, :1])
    code, out, _ = detect("odd", "--json")
    images = {Path(image["path"]).name: image for image in json.loads(out)["images"]}
    assert code == 0
    assert {name: len(image["faces"]) for name, image in images.items()} == {
        "alpha.png": 1,
        "deep.png": 1,
        "grey.png": 1,
        "one.png": 0,
    }
    assert (images["one.png"]["width"], images["one.png"]["height"]) == (1, 1)


def run_process(folder, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "facetrain", "detect", "-w", "spots.onnx", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )


def test_a_terminal_without_unicode(folder):
    (folder / "in/a.png").rename(folder / "in/Gesicht ä 顔.png")
    done = run_process(folder, "in", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr.decode()) == (0, SOUGHT)
    assert b"Gesicht ? ?.png" in done.stdout
    done = run_process(folder, "in", "--json", PYTHONIOENCODING="ascii")
    assert json.loads(done.stdout)["images"][0]["path"] == str(Path("in/Gesicht ä 顔.png"))


@pytest.mark.skipif(os.name == "nt", reason="closed pipes are reported otherwise on Windows")
def test_a_reader_that_leaves_is_no_error_message(folder):
    command = [sys.executable, "-m", "facetrain", "detect", "-w", "spots.onnx", "in"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


def test_the_command_on_onnx_never_imports_torch(folder):
    code = """
import sys
from facetrain.cli.app import run_cli
code = run_cli(["detect", "-w", "spots.onnx", "in", "--json"])
print([name for name in ("torch", "torchvision", "onnx", "matplotlib") if name in sys.modules], file=sys.stderr)
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


@pytest.mark.parametrize("failure", [MemoryError(), RuntimeError("can't allocate memory: you tried to allocate 9")])
def test_one_image_that_memory_does_not_hold_ends_nothing(detect, monkeypatch, failure):
    from facetrain.detect.onnx_detector import OnnxNet

    whole = OnnxNet.run

    def run(self, blob):
        if blob.shape[2] < 100 and blob.shape[3] > 150:
            raise failure
        return whole(self, blob)

    cv2.imwrite("in/b_large.png", np.zeros((60, 200, 3), np.uint8))
    monkeypatch.setattr(OnnxNet, "run", run)
    code, out, err = detect("in", "--json")
    document = json.loads(out)
    assert code == 1
    assert len(document["images"]) == 3
    assert [error["path"] for error in document["errors"]] == ["in/b_large.png"]
    assert "error: in/b_large.png: not enough memory" in err


def test_an_image_whose_pass_would_take_too_much_is_its_own_failure(detect, monkeypatch):
    monkeypatch.setattr("facetrain.core.memory.free_memory", lambda: 1_000_000)  # 60 bytes a pixel of half of it
    cv2.imwrite("in/b_large.png", np.zeros((100, 200, 3), np.uint8))
    code, out, err = detect("in")
    assert code == 1
    assert out.splitlines()[-1] == "3 faces in 3 images, drawn in detections; 1 failed"
    assert "error: in/b_large.png: 200x100 pixels would take 1 MiB of memory, at most 0 MiB" in err


def test_ctrl_c_keeps_what_is_done(detect, monkeypatch):
    from facetrain.media import still

    whole = still.read_reduced

    def read(path, scale_of):
        if path.name == "none.png":
            raise KeyboardInterrupt
        return whole(path, scale_of)

    monkeypatch.setattr(still, "read_reduced", read)
    code, out, _ = detect("in", "--json")
    document = json.loads(out)
    assert (code, document["interrupted"]) == (130, True)
    assert [image["path"] for image in document["images"]] == ["in/a.png"]
    code, out, _ = detect("in")
    assert code == 130
    assert out.splitlines()[-1] == "1 face in 1 image, drawn in detections; interrupted, 2 not looked at"


@pytest.mark.parametrize(
    ("arguments", "draws"),
    [("", True), ("--json", False), ("--json -o out", True), ("--no-draw", False), ("--json --draw", True)],
)
def test_json_draws_only_where_it_is_asked_for(detect, arguments, draws):
    code, out, _ = detect("in", *arguments.split())
    assert code == 0
    folder = Path("out" if "-o" in arguments else "detections")
    assert folder.exists() == draws
    assert ("drawn" in out) == (draws and "--json" not in arguments)
    if draws:
        assert {path.name for path in folder.rglob("*.png")} == {"a.png", "b.png", "none.png"}


def test_a_folder_of_results_is_no_input_for_the_next_json(detect):
    assert detect("in", "-o", "in/detections")[0] == 0
    _, out, _ = detect("in", "--json", "-o", "in/detections")
    assert len(json.loads(out)["images"]) == 3
