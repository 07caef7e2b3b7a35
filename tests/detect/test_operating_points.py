"""The scores that a file says for wanted precisions: written, read, asked for, and never believed blindly."""

import json
from pathlib import Path

import onnx
import pytest

from facetrain import FaceDetector
from facetrain.cli.app import run_cli
from facetrain.config.schema import Config, ModelConfig
from facetrain.core.errors import UsageError
from facetrain.detect.operating_points import OperatingPoints, OperatingScore, as_metadata, parse_points, score_at
from facetrain.export.export_onnx import export_onnx
from facetrain.model.weights import save_checkpoint
from facetrain.model.yunet import build

SMALL = ModelConfig(stem=(3, 8, 8), stages=((8, 8),) * 5, head_channels=8)
POINTS = OperatingPoints(
    400,
    "widerface",
    (OperatingScore(0.99, 0.91, 0.88, 0.95, 0.41), OperatingScore(0.95, 0.62, None, None, 0.55)),
)
GOOD = json.loads(POINTS.as_text())
NONSENSE = [None, "", "[]", "{}", "null", "7", "nan", "[" * 5000, '{"points":[]}', 7, b"{}", ["a"], "x" * 10_000]
NONSENSE += [json.dumps(GOOD | change) for change in ({"images": 0}, {"images": True}, {"of": "\x1b[31m"}, {"of": []})]
NONSENSE += [
    json.dumps(GOOD | {"points": [GOOD["points"][0] | change]})
    for change in ({"score": 2}, {"score": "a"}, {"low": -1}, {"precision": 0}, {"recall": True}, {"more": 1})
]
NONSENSE += [json.dumps(GOOD | {"points": points}) for points in ("ab", [7], {"a": 1}, None, [])]
NONSENSE += [POINTS.as_text().replace("0.91", "NaN"), POINTS.as_text().replace("0.91", "Infinity")]


def test_what_is_written_is_read_again() -> None:
    assert parse_points(as_metadata(POINTS)["operating_points"]) == POINTS
    assert as_metadata(None) == as_metadata(OperatingPoints(3, "labelled", ())) == {}


@pytest.mark.parametrize("text", NONSENSE, ids=lambda text: repr(text)[:30])
def test_what_cannot_be_read_counts_as_not_said(text: object) -> None:
    assert parse_points(text) is None


def test_a_precision_that_a_file_has_not() -> None:
    assert score_at(POINTS, 0.95, "a.onnx") == (POINTS.points[1], "400 validation images of WIDER FACE")
    with pytest.raises(UsageError, match=r"a\.onnx has operating points for 0\.99, 0\.95"):
        score_at(POINTS, 0.9, "a.onnx")
    with pytest.raises(UsageError, match="does not say its operating points") as caught:
        score_at(None, 0.9, "a.onnx")
    assert "facetrain eval" in str(caught.value.hint)
    for wrong in (0, -1, 1.5, float("nan")):
        with pytest.raises(UsageError, match="must be above 0 and at most 1"):
            score_at(POINTS, wrong, "a.onnx")


def checkpoint(folder: Path) -> Path:
    path = folder / "net.pt"
    save_checkpoint(path, build(SMALL, 0).state_dict(), Config(model=SMALL), dict(as_metadata(POINTS)))
    return path


def test_files_hand_it_on(tmp_path: Path) -> None:
    path = checkpoint(tmp_path)
    assert FaceDetector(path).operating_points == POINTS
    export_onnx(path, tmp_path / "net.onnx")
    assert FaceDetector(tmp_path / "net.onnx").operating_points == POINTS


def test_detect_looks_by_it_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, image = checkpoint(tmp_path), tmp_path / "a.ppm"
    image.write_bytes(b"P6 64 64 255 " + bytes(64 * 64 * 3))
    assert run_cli(["detect", str(image), "-w", str(path), "--at-precision", "0.99", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["score"] == 0.91
    said = " ".join(err.split())
    assert "score 0.910 (95 % interval 0.88 to 0.95): precision 0.99 and recall 0.41 on 400 validation" in said
    for wrong, message in {
        "0.9": "has operating points for 0.99, 0.95",
        "2": "must be above 0 and at most 1",
    }.items():
        assert run_cli(["detect", str(image), "-w", str(path), "--at-precision", wrong]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert f"--at-precision {wrong}: " in said
        assert message in said
    assert run_cli(["detect", str(image), "-w", str(path), "--at-precision", "0.99", "--score", "0.3"]) == 2
    assert "exclude each other" in capsys.readouterr().err


def test_info_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkpoint(tmp_path)
    assert run_cli(["info", str(path)]) == 0
    out = capsys.readouterr().out
    assert "scores on 400 images" in out
    assert "0.910 [0.88, 0.95]" in out
    assert run_cli(["info", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["operating_points"] == GOOD
    export_onnx(path, tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    for entry in model.metadata_props:
        if entry.key == "operating_points":
            entry.value = "\x1b[31m"
    onnx.save(model, tmp_path / "net.onnx")
    assert run_cli(["info", str(tmp_path / "net.onnx"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["operating_points"] is None
