"""Files whose numbers ask for any memory or time are refused by a process of their own; what passed is remembered."""

import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from facetrain.cli.app import run_cli
from facetrain.core import onnx_probe
from facetrain.core.errors import DataError
from facetrain.core.onnx_probe import PIXEL_BYTES, probed
from facetrain.detect.bundled import FOLDER, bundled_weights
from facetrain.detect.onnx_detector import OnnxDetector

pytestmark = [
    pytest.mark.untrusted,
    pytest.mark.skipif(sys.platform != "linux", reason="bounds of memory are Linux's"),
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FACETRAIN_CACHE", str(tmp_path / "cache"))


def graph(path, *nodes, initializers=(), output="y"):
    """A file with one image in and one output."""
    values = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 3, None, None]), (output, None))
    ]
    made = helper.make_graph(list(nodes), "g", values[:1], values[1:], initializer=list(initializers))
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def constant(name, values, kind=np.int64):
    return numpy_helper.from_array(np.array(values, kind), name)


def test_what_asks_for_gigabytes_is_refused(tmp_path):
    tile = helper.make_node("Tile", ["x", "times"], ["y"])
    path = graph(tmp_path / "tile.onnx", tile, initializers=[constant("times", [1, 1, 60, 60])])
    with pytest.raises(DataError, match="asks for more than 2 GiB on a small blank image"):
        OnnxDetector(path)
    fill = helper.make_node("ConstantOfShape", ["shape"], ["big"])
    add = helper.make_node("ReduceMax", ["big"], ["y"], keepdims=0)
    path = graph(tmp_path / "fill.onnx", fill, add, initializers=[constant("shape", [1 << 36])])
    with pytest.raises(DataError, match=r"asks for more than 2 GiB|fails|not a usable"):
        OnnxDetector(path)


@pytest.mark.slow
def test_what_runs_for_ever_is_refused(tmp_path):
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Sin", ["a"], ["b"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("a", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, None),
        ],
    )
    loop = helper.make_node("Loop", ["many", "yes", "x"], ["y"], body=body)
    numbers = [constant("many", 1 << 50), constant("yes", True, np.bool_)]
    with pytest.raises(DataError, match="takes more than 8 s on a small blank image"):
        OnnxDetector(graph(tmp_path / "loop.onnx", loop, initializers=numbers))


def test_what_passed_is_remembered_by_its_content(tmp_path, monkeypatch):
    tries = []
    whole = onnx_probe._tried
    monkeypatch.setattr(onnx_probe, "_tried", lambda path: tries.append(path.name) or whole(path))
    assert probed(bundled_weights("yunet_n"), FOLDER) == PIXEL_BYTES
    assert tries == []
    path = tmp_path / "own.onnx"
    path.write_bytes(bundled_weights("yunet_n").read_bytes())
    taken = probed(path, FOLDER)
    assert PIXEL_BYTES <= taken < 300
    path.rename(tmp_path / "other.onnx")
    assert probed(tmp_path / "other.onnx", FOLDER) == taken
    assert tries == ["own.onnx"]
    for kept in (tmp_path / "cache" / "facetrain" / "onnx").iterdir():
        kept.write_text("no number")
    assert probed(tmp_path / "other.onnx", FOLDER) == taken
    assert len(tries) == 2


def test_a_name_that_is_not_utf8_is_refused(tmp_path, capfd):
    content = bundled_weights("yunet_n").read_bytes()
    path = tmp_path / "names.onnx"
    path.write_bytes(content.replace(b"bbox_8", b"bb\xff\xfe_8"))
    for arguments in (["detect", str(path), "-w", str(path)], ["info", str(path)]):
        assert run_cli(arguments) in (0, 1)
        assert "Traceback" not in capfd.readouterr().err
