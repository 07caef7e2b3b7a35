"""The sizes of faces that a detector finds: read from what a file says, else its family's."""

from pathlib import Path

import onnx
import pytest

from facetrain import FaceDetector
from facetrain.config.schema import Config, ModelConfig
from facetrain.detect.bundled import bundled_weights
from facetrain.detect.face_range import FaceRange, as_metadata, parse_range, range_of
from facetrain.detect.recognise import family_names
from facetrain.export.network.fold import fold
from facetrain.export.onnx.model import write_onnx
from facetrain.export.onnx.request import OnnxOptions
from facetrain.model.weights import save_checkpoint
from facetrain.model.yunet import build

SMALL = ModelConfig(stem=(3, 8, 8), stages=((8, 8),) * 5, head_channels=8)
NONSENSE = [None, "", "-", "12", "12-", "-400", "400-12", "12-12", "a-b", "nan-400", "12-nan", "12-inf", "0.5-400"]
NONSENSE += ["12-1e6", "-12-400", "12-400-500", "1" * 5000 + "-2", 12, b"12-400", ["12-400"], {"least": 12}]


@pytest.mark.parametrize("found", [FaceRange(12, 400), FaceRange(9.83, 412), FaceRange(1, 1e5), FaceRange(13.7, 1020)])
def test_what_is_written_is_read_again(found: FaceRange) -> None:
    assert parse_range(found.as_text()) == found
    assert range_of("scrfd", as_metadata(found)["face_range"]) == found


@pytest.mark.parametrize("text", NONSENSE, ids=lambda text: repr(text)[:20])
def test_what_cannot_be_read_counts_as_not_said(text: object) -> None:
    assert parse_range(text) is None
    assert range_of("blazeface", text) == range_of("blazeface")


def test_every_family_has_a_range() -> None:
    for name in [*family_names(), "one that is new"]:
        found = range_of(name)
        assert 1 <= found.least < found.most


def test_nothing_is_written_of_what_was_not_measured() -> None:
    assert as_metadata(None) == {}


@pytest.mark.parametrize("form", ["raw", "decoded", "rows"])
def test_an_onnx_file_says_it(tmp_path: Path, form: str) -> None:
    net = fold(build(SMALL, 0).eval())
    options = OnnxOptions(form=form, size=(96, 64) if form == "rows" else None)  # type: ignore[arg-type]
    write_onnx(net, tmp_path / "says.onnx", {"face_range": "9.5-500"}, options)
    write_onnx(net, tmp_path / "silent.onnx", options=options)
    write_onnx(net, tmp_path / "lies.onnx", {"face_range": "9.5-nan"}, options)
    assert FaceDetector(tmp_path / "says.onnx").face_range == FaceRange(9.5, 500)
    for name in ("silent", "lies"):
        assert FaceDetector(tmp_path / f"{name}.onnx").face_range == range_of("yunet")


@pytest.mark.parametrize("said", [{"face_range": "9.5-500"}, {}, {"face_range": 7}, {"face_range": ["a"]}], ids=str)
def test_a_checkpoint_says_it(tmp_path: Path, said: dict[str, object]) -> None:
    save_checkpoint(tmp_path / "net.pt", build(SMALL, 0).state_dict(), Config(model=SMALL), said)
    expected = FaceRange(9.5, 500) if said.get("face_range") == "9.5-500" else range_of("yunet")
    assert FaceDetector(tmp_path / "net.pt").face_range == expected


@pytest.mark.parametrize("name", ["yunet_n", "yunet_s"])
def test_bundled_weights_say_it_and_so_do_their_cards(name: str) -> None:
    metadata = {entry.key: entry.value for entry in onnx.load(bundled_weights(name)).metadata_props}
    found = parse_range(metadata["face_range"])
    assert found is not None
    for suffix in (".onnx", ".pt"):
        assert FaceDetector(bundled_weights(name, suffix)).face_range == found
    card = " ".join(bundled_weights(name, ".md").read_text(encoding="utf-8").split())
    assert f"faces of {found.least:g} to {found.most:g} pixels" in card
