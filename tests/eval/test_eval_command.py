"""`facetrain eval` from weights, from prediction files, on part of the images, and its errors."""

import json
from pathlib import Path

import numpy as np
import pytest

from facetrain.cli.app import run_cli
from facetrain.core.faces import Faces
from facetrain.data.sample_set.make import write_sample
from facetrain.eval.prediction_files import write_predictions
from facetrain.eval.wider_face.ground_truth import load_ground_truth


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run_cli(["eval", *arguments])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weights", "size", "tolerance"),
    [("yunet_n_dynamic.onnx", "original", 5e-4), ("yunet_s_dynamic.onnx", "vga", 2e-3), ("yunet_n.pth", "vga", 2e-3)],
)
def test_the_published_networks(
    shared: Path, capsys: pytest.CaptureFixture[str], weights: str, size: str, tolerance: float
) -> None:
    expected = json.loads((shared / "reference/expected.json").read_text())["widerface_val_part"]["models"]
    arguments = ["--data", str(shared / "widerface"), "--weights", str(shared / "reference/yunet" / weights)]
    code, out, _ = run(capsys, "--widerface", "--present-only", "--json", "--size", size, *arguments)
    assert code == 0
    result = json.loads(out)
    assert [result[name] for name in ("easy", "medium", "hard")] == pytest.approx(
        expected[weights[:7]][size], abs=tolerance
    )
    assert result["benchmark"] == "widerface"
    assert result["images"] == result["protocol"]["images"] == 400
    assert result["protocol"]["size"] == size
    assert result["protocol"]["present_only"] is True


@pytest.mark.slow
def test_the_truth_as_prediction_files(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = load_ground_truth(shared / "widerface/labelv2/val/gt")
    found = [Faces(boxes, boxes[:, 3] - boxes[:, 1], np.zeros((len(boxes), 0, 2))) for boxes in truth.boxes]
    folder = tmp_path / "found"
    write_predictions(folder, truth.names, found)
    data = ["--data", str(shared / "widerface"), "--predictions", str(folder)]
    code, out, _ = run(capsys, "--widerface", "--json", *data)
    assert code == 0
    result = json.loads(out)
    # the self-test of the official tool's rules, with the height as score
    assert [result[n] for n in ("easy", "medium", "hard")] == pytest.approx([1, 0.99999997, 0.99991253], abs=1e-8)
    assert result["protocol"]["source"] == "prediction files"


def test_missing_images_are_an_error(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = str(shared / "reference/yunet/yunet_n_dynamic.onnx")
    code, out, err = run(capsys, "--widerface", "--data", str(shared / "widerface"), "--weights", weights)
    assert (code, out) == (2, "")
    assert "2,826 of 3,226 images are missing" in err
    assert "--present-only" in err


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    write_sample(root, train=1, val=12)
    return root


def test_a_labelled_set_and_its_saved_predictions(
    shared: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = str(shared / "reference/yunet/yunet_n_dynamic.onnx")
    saved = tmp_path / "saved"
    arguments = ["--data", str(drawn), "--weights", weights, "--save-predictions", str(saved), "--json"]
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    first = json.loads(out)
    assert first["benchmark"] == "labelled"
    assert 0.3 < first["all"] < 1
    assert len(list(saved.rglob("*.txt"))) == 12
    code, out, _ = run(capsys, "--data", str(drawn), "--predictions", str(saved), "--json")
    assert code == 0
    assert json.loads(out)["all"] == first["all"]
    next(saved.rglob("*.txt")).unlink()
    code, out, _ = run(capsys, "--data", str(drawn), "--predictions", str(saved))
    assert code == 0
    assert "1 image without a prediction file" in out
    assert "protocol:" in out
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert str(saved) in err


@pytest.mark.parametrize("options", [("--flip",), ("--scales", "1,2"), ("--flip", "--scales", "0.5,1")])
def test_more_views_find_what_one_view_finds(
    shared: Path, drawn: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    weights = str(shared / "reference/yunet/yunet_n_dynamic.onnx")
    arguments = ["--data", str(drawn), "--weights", weights, "--json"]
    one = json.loads(run(capsys, *arguments)[1])
    more = json.loads(run(capsys, *arguments, *options)[1])
    assert more["all"] > one["all"] - 0.05
    assert more["protocol"] != one["protocol"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "huge"], "--size huge"),
        (["--score", "1.5"], "--score"),
        (["--nms", "0"], "--nms"),
        (["--scales", "1,big"], "--scales"),
        (["--at-precision", "95"], "--at-precision"),
        (["--at-score", "-1"], "--at-score"),
        (["--report", "r", "--save-predictions", "r/found"], "--save-predictions"),
        (["--draws", "-1"], "--draws -1: must be 0, or from 100"),
        (["--draws", "50"], "--draws 50"),
        (["--against", "yunet_x"], "yunet_x"),
        (["--against", "absent.onnx"], "absent.onnx: no such file"),
        (["--data", "nowhere"], "nowhere"),
        (["--widerface", "--data", "nowhere"], "nowhere"),
        (["--predictions", "x", "--weights", "y"], "exclude each other"),
    ],
)
def test_wrong_calls(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_an_image_of_another_size_than_its_label(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sample(tmp_path, train=1, val=2)
    labels = tmp_path / "labelv2/val/labelv2.txt"
    labels.write_text(labels.read_text().replace(" 480 360", " 480 361"))
    weights = str(shared / "reference/yunet/yunet_n_dynamic.onnx")
    code, _, err = run(capsys, "--data", str(tmp_path), "--weights", weights)
    assert code == 1
    assert "480x360 pixels, its label says 480x361" in err


def test_a_wrong_prediction_file_is_named_with_its_line(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = next((drawn / "WIDER_val/images").iterdir())
    name = next(events.iterdir()).stem
    file = tmp_path / events.name / f"{name}.txt"
    file.parent.mkdir()
    file.write_text(f"{name}\n2\n1 2 3 4 0.5\n1 2 nan 4 0.5\n")
    code, _, err = run(capsys, "--data", str(drawn), "--predictions", str(tmp_path))
    assert code == 1
    assert f"{file}:4" in err


def test_boxes_come_back_by_both_factors() -> None:
    from facetrain.core.faces import Faces
    from facetrain.eval.protocol import EvalProtocol, ProtocolDetector

    class Corner:
        """Finds one face, always at the same place of the image it is shown."""

        def detect_batch(self, images: list[np.ndarray]) -> list[Faces]:
            assert [image.shape for image in images] == [(480, 640, 3)]
            box = np.array([[64, 48, 128, 96]], np.float32)
            return [Faces(box, np.ones(1, np.float32), np.zeros((1, 0, 2), np.float32)) for _ in images]

    image = np.zeros((333, 1001, 3), np.uint8)  # 640 wide, 333 · 640 / 1001 = 212.9 high, cut to 212
    found = ProtocolDetector(Corner(), EvalProtocol(size="vga")).detect_batch([image])[0]
    np.testing.assert_allclose(
        found.boxes[0], [64 * 1001 / 640, 48 * 333 / 212, 128 * 1001 / 640, 96 * 333 / 212], rtol=1e-6
    )
