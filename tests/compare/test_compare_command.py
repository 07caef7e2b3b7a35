"""`facetrain compare` as a whole: tables, files, exit codes and the words on stderr."""

import json
from pathlib import Path
from typing import Any

import cv2
import pytest
from compare.nets import PARAMETERS, multiply_adds, write_classifier, write_net

from facetrain.cli import console
from facetrain.cli.app import run_cli
from facetrain.compare.models import timed_image

ROW_KEYS = [
    "name", "path", "kind", "family", "bytes", "sha256", "size", "static_shape", "landmark_names", "parameters",
    "parameters_ratio", "multiply_adds", "mflops", "published_mflops", "one_core", "all_cores", "easy", "medium",
    "hard", "intervals", "detections", "ap_size", "ap_cached", "failed",
]  # fmt: skip
KEYS = [
    "schema", "facetrain", "machine", "timing", "protocol", "models", "pairs", "image", "faces", "agreement",
    "interrupted",
]  # fmt: skip
QUICK = ("--fps-size", "64", "--threads", "1")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = run_cli(["compare", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


@pytest.fixture
def nets(tmp_path: Path) -> list[Path]:
    free = write_net(tmp_path / "one" / "net.onnx", bias=-2.0)
    fixed = write_net(tmp_path / "two" / "net.onnx", seed=1, size=(64, 40), bias=-2.0)
    return [free, fixed]


def test_everything_at_once(
    nets: list[Path], widerface: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, sheet, plot, table = (tmp_path / name for name in ("in.png", "sheet.png", "plot.png", "table.md"))
    cv2.imwrite(str(image), timed_image(400, 300))
    files = ("--image", image, "--output", sheet, "--plot", plot, "--markdown", table)
    data = ("--widerface", "--data", widerface)
    code, out, err = run(capsys, *nets, "yunet_n", *QUICK, *data, *files, "--json")
    assert code == 0
    assert [f"written: {path}" in err for path in (sheet, plot, table)] == [True] * 3
    document = json.loads(out)
    assert list(document) == [*KEYS, "errors"]
    assert document["errors"] == []
    assert list(document["machine"]) == ["cpu", "cores", "threads", "platform", "versions"]
    assert {"python", "onnxruntime", "numpy", "opencv"} <= set(document["machine"]["versions"])
    assert document["protocol"]["images"] == 5
    assert (document["protocol"]["score"], document["protocol"]["nms"]) == (0.02, 0.45)
    assert all(list(row) == ROW_KEYS for row in document["models"])
    names = ["one/net.onnx", "two/net.onnx", "yunet_n"]
    assert [row["name"] for row in document["models"]] == names
    assert [row["ap_size"] for row in document["models"]] == ["original", "fixed 64x40", "original"]
    assert 0 < document["models"][2]["hard"] < 1
    assert [pair["models"] for pair in document["agreement"]] == [names[:2], [names[0], names[2]], names[1:]]
    assert cv2.imread(str(sheet)).shape == (12 + 300 + 46 + 12, 12 + 3 * (400 + 12), 3)
    assert cv2.imread(str(plot)).shape == (900, 1350, 3)

    lines = table.read_text().splitlines()
    heading, rule, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines[:5])
    assert heading[:8] == ["model", "family", "input", "parameters", "ratio", "M mult-adds", "MFLOPs", "KB"]
    assert heading[8:] == ["network, ms", "end to end, ms", "FPS 1 core", "easy", "medium", "hard"]
    assert len(rule) == len(heading) == len(rows[0])
    assert [row[0] for row in rows] == names
    macs = multiply_adds(64, 64)
    assert rows[0][1:7] == ["yunet", "64x64", f"{PARAMETERS:,}", "1.0", f"{macs / 1e6:.1f}", f"{macs / 5e5:.0f}"]
    assert rows[1][2] == "64x40\\*"
    assert rows[2][-1] == f"{document['models'][2]['hard']:.3f}"

    code, out, err = run(capsys, *nets, "yunet_n", *QUICK, *data)
    assert code == 0
    assert "AP of 3 models from an earlier measurement" in out
    assert f"{document['models'][2]['hard']:.3f}" in out
    assert "64x40*" in out
    assert "no intervals: 5 images are too few, 20 are needed" in out
    assert [(pair["first"], pair["second"]) for pair in document["pairs"]] == [
        (names[0], names[1]), (names[0], names[2]), (names[1], names[2])
    ]  # fmt: skip
    assert {d["low"] for pair in document["pairs"] for d in pair["differences"].values()} == {None}


def test_without_widerface_there_is_no_ap(nets: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *nets, *QUICK, "--json")
    assert code == 0
    document = json.loads(out)
    assert (document["protocol"], document["image"], document["agreement"], document["faces"]) == (None,) * 4
    assert [row["hard"] for row in document["models"]] == [None, None]
    code, out, _ = run(capsys, *nets, *QUICK)
    assert code == 0
    assert "easy" not in out
    assert "± " not in out.splitlines()[0]


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ("vga", "and images are fitted into it whatever the rule of the others"),
        ("auto", "and larger images are looked at in parts of it whatever the rule of the others"),
    ],
)
def test_what_a_fixed_size_means_is_told(
    nets: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], size: str, said: str
) -> None:
    image = tmp_path / "in.png"
    cv2.imwrite(str(image), timed_image(200, 150))
    code, out, _ = run(capsys, *nets, *QUICK, "--size", size, "--image", image, "--output", tmp_path / "sheet.png")
    assert code == 0
    assert f"* the file fixes its input size: timed at that size, {said}" in " ".join(out.split())


def test_a_failed_row_does_not_stop_the_others(
    nets: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier = write_classifier(tmp_path / "classifier.onnx")
    code, out, err = run(capsys, classifier, nets[0], tmp_path / "absent.onnx", *QUICK)
    assert code == 1
    assert err.count("error:") == 2
    assert "hint: known families:" in err
    assert next(line for line in out.splitlines() if line.startswith("1 classifier.onnx")).split()[2] == "failed"
    assert f"failed: {tmp_path / 'absent.onnx'}: no such file" in out
    code, out, err = run(capsys, classifier, nets[0], *QUICK, "--json")
    assert code == 1
    document = json.loads(out)
    assert [row["failed"] for row in document["models"]] == [True, False]
    (error,) = document["errors"]
    assert list(error) == ["path", "code", "message", "hint"]
    assert (error["path"], error["code"]) == (str(classifier), "data_error")


def test_where_nothing_can_be_begun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, tmp_path / "absent.onnx", "yunet_nn", *QUICK)
    assert (code, out) == (2, "")
    assert err.count("error:") == 2
    assert run(capsys, write_classifier(tmp_path / "classifier.onnx"), *QUICK)[0] == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--plot", "p.png"], "AP was not asked for"),
        (["--plot", "p.gif", "--widerface"], "not a format"),
        (["--output", "s.png"], "--image, which is missing"),
        (["--image", "i.png"], "--image needs --output"),
        (["--image", "i.png", "--output", "s.txt"], "not an image by its name"),
        (["--markdown", "."], "a folder"),
        (["--fps-size", "big"], "--fps-size big"),
        (["--fps-size", "99999"], "from 1 to 4096"),
        (["--size", "huge"], "--size huge"),
        (["--score", "2"], "--score 2"),
        (["--threads", "0"], "--threads 0"),
        (["--family", "nonsense"], "--family nonsense"),
        (["--family", "other.onnx=yunet"], "none of the models"),
        (["--widerface", "--data", "nowhere"], "nowhere"),
        (["--image", "nowhere.png", "--output", "s.png"], "nowhere.png"),
    ],
)
def test_wrong_calls(
    nets: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    text: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(capsys, *nets, *options)
    assert out == ""
    assert code == 2
    assert text in err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_family_for_one_model_and_for_all(nets: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *nets, *QUICK, "--family", "scrfd", "--family", f"{nets[0]}=yunet", "--json")
    assert code == 1
    document = json.loads(out)
    assert [row["family"] for row in document["models"]] == ["yunet", None]
    assert "scrfd" in document["errors"][0]["message"]


def test_ctrl_c_prints_what_is_done(
    nets: list[Path], widerface: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = console.progress

    def progress(title: str, total: int) -> Any:
        if title == "two/net.onnx":
            raise KeyboardInterrupt
        return plain(title, total)

    monkeypatch.setattr(console, "progress", progress)
    code, out, _ = run(capsys, *nets, *QUICK, "--widerface", "--data", widerface)
    assert code == 130
    assert "interrupted" in out
    *_, first, second = (line.split() for line in out.splitlines() if line.startswith(("1 one/", "2 two/")))
    assert second[-3:] == ["-", "-", "-"]
    assert first[-1] != "-"


def test_the_same_file_twice_is_measured_once(
    nets: list[Path], widerface: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (nets[0], nets[0], *QUICK, "--widerface", "--data", widerface, "--json")
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    first, second = json.loads(out)["models"]
    assert (first["name"], second["name"]) == ("net.onnx", "net.onnx (2)")
    assert (first["ap_cached"], second["ap_cached"]) == (False, True)
    assert first["hard"] == second["hard"]
    assert len(list(cache.iterdir())) == 1
    fresh = json.loads(run(capsys, *arguments, "--fresh")[1])["models"]
    assert [row["ap_cached"] for row in fresh] == [False, False]
