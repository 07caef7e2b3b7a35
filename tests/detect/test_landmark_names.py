"""The names of points, from a file's metadata to `FaceDetector`, JSON and drawing."""

import json
from pathlib import Path

import onnx
import pytest

from facetrain.cli.app import run_cli
from facetrain.config.schema import Config, LandmarksConfig, ModelConfig
from facetrain.core.images import write_image
from facetrain.data.sample_set.make import draw_image
from facetrain.detect.detector import FaceDetector
from facetrain.export.network.fold import fold
from facetrain.export.onnx.model import write_onnx
from facetrain.export.onnx.request import OnnxOptions
from facetrain.model.weights import save_checkpoint
from facetrain.model.yunet import build

SEVEN = ("right_eye", "left_eye", "nose", "right_mouth", "left_mouth", "chin", "crown")
SMALL = {"stem": (3, 8, 8), "stages": ((8, 8),) * 5, "head_channels": 8}


def write(folder: Path, names: tuple[str, ...], options: OnnxOptions | None = None) -> tuple[Path, Path]:
    """An untrained network with these points as checkpoint and as ONNX file."""
    config = Config(model=ModelConfig(**SMALL, landmarks=LandmarksConfig(names, ())))  # type: ignore[arg-type]
    model = build(config.model, 0).eval()
    save_checkpoint(folder / "net.pt", model.state_dict(), config, {})
    write_onnx(fold(model), folder / "net.onnx", options=options)
    return folder / "net.pt", folder / "net.onnx"


@pytest.mark.parametrize(
    "names", [(), SEVEN, *(tuple(f"p{i}" for i in range(count)) for count in (24, 68, 98))], ids=len
)
@pytest.mark.parametrize("form", ["raw", "decoded", "rows"])
def test_a_file_of_ours_names_its_points(tmp_path: Path, names: tuple[str, ...], form: str) -> None:
    options = OnnxOptions(form=form, size=(96, 64) if form == "rows" else None)  # type: ignore[arg-type]
    checkpoint, file = write(tmp_path, names, options)
    image, _ = draw_image(0, 1, 3)
    for path in (checkpoint, file):
        detector = FaceDetector(path, score=0.0)
        assert detector.landmark_names == names
        assert detector.detect(image[:64, :96].copy()).landmarks.shape[1:] == (len(names), 2)


def test_a_file_that_tells_none_or_nonsense_has_numbers(tmp_path: Path) -> None:
    _, path = write(tmp_path, SEVEN)
    for text in (None, '["a", "b"]', "{", '["*/ evil", "b", "c", "d", "e", "f", "g"]'):
        model = onnx.load(path)
        kept = [entry for entry in model.metadata_props if entry.key != "landmarks"]
        del model.metadata_props[:]
        model.metadata_props.extend(kept)
        if text is not None:
            model.metadata_props.add(key="landmarks", value=text)
        onnx.save(model, tmp_path / "other.onnx")
        assert FaceDetector(tmp_path / "other.onnx").landmark_names == tuple(f"point_{i}" for i in range(7))


def test_detect_prints_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, path = write(tmp_path, SEVEN)
    image, _ = draw_image(0, 1, 3)
    write_image(tmp_path / "a.png", image)
    capsys.readouterr()
    assert run_cli(["detect", str(tmp_path / "a.png"), "-w", str(path), "--score", "0.0", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["landmark_names"] == list(SEVEN)
    assert {len(face["landmarks"]) for face in document["images"][0]["faces"]} == {7}


def test_foreign_files_have_the_names_of_their_family(shared: Path) -> None:
    names = {
        "yunet/yunet_n_dynamic": LandmarksConfig().names,
        "compare/scrfd_500m_dynamic": LandmarksConfig().names,
        "compare/scrfd_500m_6out_640": (),
        "compare/ultralight_slim_320": (),
        "compare/blazeface_back_256": ("right_eye", "left_eye", "nose", "mouth", "right_ear", "left_ear"),
        "compare/yolov8_lite_t_640": LandmarksConfig().names,
    }
    for file, expected in names.items():
        assert FaceDetector(shared / "reference" / f"{file}.onnx").landmark_names == expected, file
