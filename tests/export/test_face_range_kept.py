"""The sizes of faces that a checkpoint says it finds stand in every ONNX file that is made of it."""

from pathlib import Path

import onnx
import pytest
from small_models import write_images

from facetrain import FaceDetector
from facetrain.detect.bundled import bundled_weights
from facetrain.detect.face_range import FaceRange, range_of
from facetrain.export.bundle import write_bundle
from facetrain.export.export_onnx import export_onnx
from facetrain.export.onnx.request import OnnxOptions, Quantised
from facetrain.model.weights import load_checkpoint, save_checkpoint

FOUND = FaceRange(9.5, 512)


def checkpoint(folder: Path, said: object) -> Path:
    """The bundled yunet_n, which says this of itself."""
    loaded = load_checkpoint(bundled_weights("yunet_n", ".pt"))
    assert loaded.config is not None
    info = {key: value for key, value in loaded.info.items() if key != "face_range"}
    info |= {} if said is None else {"face_range": said}
    save_checkpoint(folder / "net.pt", loaded.state, loaded.config, info)
    return folder / "net.pt"


def metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


@pytest.mark.parametrize("form", ["raw", "rows", "decoded"])
def test_every_form_keeps_it(tmp_path: Path, form: str) -> None:
    options = OnnxOptions(form=form, size=(160, 160) if form == "rows" else None)  # type: ignore[arg-type]
    path = export_onnx(checkpoint(tmp_path, "9.5-512"), tmp_path / "net.onnx", options).path
    assert metadata(path)["face_range"] == "9.5-512"
    assert FaceDetector(path).face_range == FOUND


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_every_precision_keeps_it(tmp_path: Path, precision: str) -> None:
    (tmp_path / "images").mkdir()
    write_images(tmp_path / "images", 2)
    calibrate = tmp_path / "images" if precision == "int8" else None
    quantised = Quantised(precision, calibrate)  # type: ignore[arg-type]
    path = export_onnx(checkpoint(tmp_path, "9.5-512"), tmp_path / "net.onnx", quantised=quantised).path
    assert (metadata(path)["precision"], FaceDetector(path).face_range) == (precision, FOUND)


@pytest.mark.parametrize("said", [None, "soon", "400-12", 12, ["9.5-512"]], ids=str)
def test_what_is_no_range_is_not_passed_on(tmp_path: Path, said: object) -> None:
    path = export_onnx(checkpoint(tmp_path, said), tmp_path / "net.onnx").path
    assert "face_range" not in metadata(path)
    assert FaceDetector(path).face_range == range_of("yunet")


def test_what_is_shipped_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "shipped").mkdir()
    for path in write_bundle(checkpoint(tmp_path, "9.5-512"), "mine", tmp_path / "shipped"):
        assert FaceDetector(path).face_range == FOUND
