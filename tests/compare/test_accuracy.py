"""AP beside `facetrain eval`, and which measurements are kept and used again."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from compare.nets import write_net

from facetrain.compare import accuracy, cache
from facetrain.compare.accuracy import Accuracy, KnownBenchmark, load_widerface, measure_accuracy
from facetrain.compare.models import open_model
from facetrain.eval.evaluate import Source, evaluate_model
from facetrain.eval.protocol import EvalProtocol

PROTOCOL = EvalProtocol()


def measure(
    file: Path,
    benchmark: KnownBenchmark,
    protocol: EvalProtocol = PROTOCOL,
    *,
    family: str | None = None,
    fresh: bool = False,
) -> Accuracy:
    model = open_model(str(file), family=family, score=0.5, nms=0.45, max_candidates=5000, threads=1)
    return measure_accuracy(model, benchmark, protocol, threads=2, fresh=fresh)


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return write_net(tmp_path / "net.onnx", seed=4, bias=-2.0)


def bundled() -> Path:
    return open_model("yunet_n", score=0.5, nms=0.45, max_candidates=5000, threads=1).path


def test_ap_is_that_of_eval(widerface: Path) -> None:
    found = measure(bundled(), load_widerface(widerface, None, present_only=False))
    expected = evaluate_model(Source(), widerface, PROTOCOL, widerface=True)
    assert found.ap == expected.ap
    assert 0 < found.ap["hard"] < 1  # type: ignore[operator]
    assert found.detections == sum(map(len, expected.found))
    assert (found.size, found.cached) == ("original", False)


def test_a_fixed_size_is_said(tmp_path: Path, widerface: Path) -> None:
    fixed = write_net(tmp_path / "fixed.onnx", size=(64, 48), bias=-2.0)
    benchmark = load_widerface(widerface, None, present_only=False)
    assert measure(fixed, benchmark, replace(PROTOCOL, size="vga")).size == "fixed 64x48"


def test_the_same_measurement_is_made_once(net: Path, widerface: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = load_widerface(widerface, None, present_only=False)
    first = measure(net, benchmark)
    monkeypatch.setattr(accuracy, "detect_labelled", None)  # looking at images fails from here on
    second = measure(net, load_widerface(widerface, None, present_only=False))
    assert second == replace(first, cached=True)
    with pytest.raises(TypeError):
        measure(net, benchmark, fresh=True)


def test_a_copy_is_the_same_and_a_fresh_result_replaces(net: Path, widerface: Path, tmp_path: Path) -> None:
    first = measure(net, load_widerface(widerface, None, present_only=False))
    copy = shutil.copytree(widerface, tmp_path / "copy")  # other places, other dates
    twin = shutil.copy(net, tmp_path / "twin.onnx")
    assert measure(Path(twin), load_widerface(copy, None, present_only=False)).cached
    again = measure(net, load_widerface(widerface, None, present_only=False), fresh=True)
    assert again == first
    assert not again.cached


def change_image(root: Path) -> None:
    path = root / "WIDER_val/images/0--Drawn/drawn_2.jpg"
    image = cv2.imread(str(path))
    cv2.imwrite(str(path), np.flipud(image))


def change_ground_truth(root: Path) -> None:
    truth = root / "labelv2/val/gt"
    shutil.copy(truth / "wider_hard_val.mat", truth / "wider_easy_val.mat")


def drop_image(root: Path) -> None:
    (root / "WIDER_val/images/0--Drawn/drawn_2.jpg").unlink()


@pytest.mark.parametrize("change", [change_image, change_ground_truth, drop_image])
def test_other_data_is_measured_anew(net: Path, widerface: Path, change: Callable[[Path], None]) -> None:
    measure(net, load_widerface(widerface, None, present_only=True))
    change(widerface)
    assert not measure(net, load_widerface(widerface, None, present_only=True)).cached


@pytest.mark.parametrize("change", [{"size": "vga"}, {"score": 0.1}, {"nms": 0.3}, {"max_candidates": 7}])
def test_another_protocol_is_measured_anew(net: Path, widerface: Path, change: dict) -> None:
    benchmark = load_widerface(widerface, None, present_only=False)
    measure(net, benchmark)
    assert not measure(net, benchmark, replace(PROTOCOL, **change)).cached


def test_another_model_or_other_code_is_measured_anew(
    net: Path, tmp_path: Path, widerface: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark = load_widerface(widerface, None, present_only=False)
    measure(net, benchmark)
    assert not measure(write_net(tmp_path / "other.onnx", seed=5, bias=-2.0), benchmark).cached
    with monkeypatch.context() as changed:
        changed.setattr(cache, "library_versions", lambda names: {"onnxruntime": "0"})
        assert not measure(net, benchmark).cached
    with monkeypatch.context() as changed:
        changed.setattr(cache, "_code_hash", lambda folders: "other code")
        assert not measure(net, benchmark).cached
    assert measure(net, benchmark).cached


def test_the_code_hash_sees_every_module_that_matters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(cache.facetrain.__file__).parent
    copy = shutil.copytree(root, tmp_path / "facetrain", ignore=shutil.ignore_patterns("weights", "__pycache__"))
    monkeypatch.setattr(cache.facetrain, "__file__", str(copy / "__init__.py"))

    def state(folders: tuple[str, ...] = cache._CODE) -> str:
        return cache._code_hash.__wrapped__(folders)

    first, with_torch = state(), state(cache._TORCH_CODE)
    for name in ("detect/families/scrfd.py", "core/geometry.py", "eval/average_precision.py"):
        before = state()
        with (copy / name).open("a") as file:
            file.write("# changed\n")
        assert state() != before
    changed = state()
    assert changed != first
    (copy / "model" / "head.py").write_text("")
    (copy / "cli" / "app.py").write_text("")
    assert state() == changed
    assert state(cache._TORCH_CODE) != with_torch


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"key": 1, "result": {}}', None])
def test_a_damaged_result_is_no_result(net: Path, widerface: Path, cache: Path, content: bytes | None) -> None:
    benchmark = load_widerface(widerface, None, present_only=False)
    first = measure(net, benchmark)
    (kept,) = cache.iterdir()
    if content is None:
        document = json.loads(kept.read_text())
        document["result"]["matches"]["detections"] = "AAAA"
        content = json.dumps(document).encode()
    kept.write_bytes(content)
    assert measure(net, benchmark) == first
    assert measure(net, benchmark).cached  # it was written anew
    assert [path.name for path in cache.iterdir()] == [kept.name]


def test_a_cache_that_cannot_be_written_is_no_error(
    net: Path, widerface: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("FACETRAIN_CACHE", str(tmp_path / "file"))
    benchmark = load_widerface(widerface, None, present_only=False)
    assert measure(net, benchmark) == measure(net, benchmark)
    assert "not kept for the next time" in caplog.text


@pytest.mark.slow
def test_a_released_network_on_part_of_the_reference(shared: Path, tmp_path: Path) -> None:
    root = tmp_path / "part"
    source = shared / "widerface"
    shutil.copytree(source / "labelv2/val/gt", root / "labelv2/val/gt")
    for path in sorted((source / "WIDER_val/images").glob("*/*.jpg"))[::40]:
        target = root / "WIDER_val/images" / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path)
    file = shared / "reference/compare/yunet_2026may.onnx"
    found = measure(file, load_widerface(root, None, present_only=True))
    source_of = Source(str(file), threads=2)
    assert found.ap == evaluate_model(source_of, root, PROTOCOL, widerface=True, present_only=True).ap
    assert 0.5 < found.ap["hard"] < 1  # type: ignore[operator]
