"""What a lower precision costs is measured on the labelled set and by the clock, and printed."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from small_models import file_of, network

from facetrain.core.errors import DataError, ExportError, InputError
from facetrain.data.sample_set.make import write_sample
from facetrain.eval.difference import Difference
from facetrain.eval.protocol import EvalProtocol
from facetrain.export.export_onnx import _refuse_drop
from facetrain.export.onnx.model import onnx_bytes, onnx_model
from facetrain.export.onnx.request import OnnxOptions
from facetrain.export.precision.measure import _far_end, drops, largest_drop, latency, measure, text


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """yunet_n, and yunet_n with the box sizes of its finest level blown up."""
    folder = tmp_path_factory.mktemp("files")
    good, bad = folder / "good.onnx", folder / "bad.onnx"
    good.write_bytes(onnx_bytes(file_of("yunet_n")))
    damaged = onnx.ModelProto()
    damaged.CopyFrom(file_of("yunet_n"))
    maker = {output: node for node in damaged.graph.node for output in node.output}
    for stride in (8, 16, 32):
        bias = maker[maker[maker[f"bbox_{stride}"].input[0]].input[0]].input[2]
        tensor = next(tensor for tensor in damaged.graph.initializer if tensor.name == bias)
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32([0, 0, 0.5, 0.5]), bias))
    bad.write_bytes(onnx_bytes(damaged))
    return good, bad


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "drawn"
    write_sample(root, train=1, val=5)
    return root


def test_drops() -> None:
    lost = drops({"easy": 0.9, "medium": None, "hard": 0.5}, {"easy": 0.8, "medium": 0.7, "hard": 0.6})
    assert lost == {"easy": pytest.approx(0.1), "medium": None, "hard": pytest.approx(-0.1)}
    assert largest_drop(lost) == pytest.approx(0.1)
    assert largest_drop({"all": None}) is None


def test_the_same_file_loses_nothing_and_a_damaged_one_does(files: tuple[Path, Path], data: Path) -> None:
    good, bad = files
    seen: list[tuple[int, int]] = []
    same = measure(good, good, data, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 5) for _ in range(2) for done in range(1, 6)]
    assert same["largest_drop"] == 0
    assert same["ap"]["before"] == same["ap"]["after"]
    assert 0.3 < same["ap"]["before"]["all"] <= 1
    assert (same["ap"]["benchmark"], same["ap"]["images"]) == ("labelled", 5)
    worse = measure(good, bad, data, protocol=EvalProtocol(size="320"))
    assert worse["ap"]["protocol"]["size"] == "320"
    assert worse["largest_drop"] == worse["ap"]["drop"]["all"] > 0.05
    assert worse["bytes"] == {"before": good.stat().st_size, "after": bad.stat().st_size}
    assert json.loads(json.dumps(worse, allow_nan=False)) == worse
    lines = text(worse, "int8").splitlines()
    assert lines[0].split() == ["fp32", "int8", "difference"]
    before, after, lost = (worse["ap"][key]["all"] for key in ("before", "after", "drop"))
    assert lines[1].split() == ["AP", "all", f"{before:.4f}", f"{after:.4f}", f"-{lost:.4f}"]
    assert lines[2].split()[0] == "bytes"
    assert lines[3].split()[0] == "ms"
    assert "5 images, size 320, score 0.02" in lines[-2]
    assert lines[-1] == "no interval: 5 images are too few, 20 are needed"


def test_without_data_there_is_no_ap(files: tuple[Path, Path]) -> None:
    result = measure(*files)
    assert result["ap"] is None
    assert result["largest_drop"] is None
    assert "AP" not in text(result)


def test_wider_face_gives_easy_medium_and_hard(files: tuple[Path, Path], shared: Path, tmp_path: Path) -> None:
    wider = shared / "widerface"
    (tmp_path / "labelv2").symlink_to(wider / "labelv2")
    for image in sorted((wider / "WIDER_val/images").glob("*/*.jpg"))[:300:60]:
        event = tmp_path / "WIDER_val/images" / image.parent.name
        event.mkdir(parents=True, exist_ok=True)
        (event / image.name).symlink_to(image)
    result = measure(*files, tmp_path)
    assert (result["ap"]["benchmark"], result["ap"]["images"]) == ("widerface", 5)
    assert list(result["ap"]["drop"]) == ["easy", "medium", "hard"]
    assert result["largest_drop"] == max(result["ap"]["drop"].values()) > 0


@pytest.mark.parametrize("options", [OnnxOptions(), OnnxOptions(size=(64, 96), batch=2)], ids=str)
def test_latency_of_any_shape(options: OnnxOptions, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_bytes(onnx_model(network("one level"), {}, options)))
    found = latency(path, path)
    assert (found["width"], found["height"]) == (options.size or (320, 320))
    assert found["batch"] == (options.batch or 1)
    assert found["threads"] == 1
    assert min(found["before_ms"], found["after_ms"]) > 0
    assert found["ratio"] == pytest.approx(found["after_ms"] / found["before_ms"], rel=0.05)


def test_errors(files: tuple[Path, Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"broken\.onnx"):
        measure(files[0], broken)
    with pytest.raises(InputError, match="no such folder"):
        measure(*files, tmp_path / "missing")


def drop(value: float, low: float | None, high: float | None, p: float | None) -> Difference:
    return Difference(value, low, high, p, p, 400, 2000, 0, "x")


def test_the_limit_is_held_against_the_far_end() -> None:
    spans = {"easy": drop(0.001, -0.001, 0.003, 0.3), "hard": drop(0.002, 0.0005, 0.0035, 0.01)}
    assert _far_end(spans) == 0.0035
    assert _far_end({"all": drop(0, None, None, 1)}) == 0  # the same on every image
    assert _far_end({"all": drop(0.1, None, None, None)}) is None
    assert _far_end({**spans, "all": drop(0.1, None, None, None)}) is None

    said: list[str] = []
    _refuse_drop("int8", 0.002, 0.0035, 0.004, said.append)
    _refuse_drop("int8", None, None, 0.0, said.append)
    _refuse_drop("int8", -0.002, 0.0, 0.0, said.append)
    assert said == []
    with pytest.raises(
        ExportError, match=r"loses 0\.0020 AP, and up to 0\.0035 by the far end .* allows 0\.003;"
    ) as error:
        _refuse_drop("int8", 0.002, 0.0035, 0.003, said.append)
    assert "judge on more images" in str(error.value.hint)
    with pytest.raises(ExportError, match=r"loses 0\.0100 AP, and up to 0\.0200") as error:
        _refuse_drop("int8", 0.01, 0.02, 0.003, said.append)
    assert "judge on more images" not in str(error.value.hint)
    _refuse_drop("int8", 0.002, None, 0.003, said.append)
    assert "too few images for an interval" in said[0]
    with pytest.raises(ExportError, match=r"loses 0\.0040 AP; `max_drop`"):
        _refuse_drop("int8", 0.004, None, 0.003, said.append)


def test_a_drop_has_an_interval_and_it_is_shown(files: tuple[Path, Path], tmp_path: Path) -> None:
    write_sample(tmp_path / "drawn", train=1, val=24)
    worse = measure(*files, tmp_path / "drawn", protocol=EvalProtocol(size="96"))
    span = worse["ap"]["intervals"]["all"]
    assert (span["estimate"], span["draws"], span["images"]) == (worse["largest_drop"], 2000, 24)
    assert span["low"] < worse["largest_drop"] < span["high"] == worse["far_drop"]
    lines = text(worse, "int8")
    assert f"[-{span['high']:.4f}, -{span['low']:.4f}]".replace("-0.", "-.") in lines
    assert "2,000 draws of the same images for both" in lines
