"""The rows of a comparison against independent counts, the order of timing, errors that stay in their row, Ctrl-C."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from compare.nets import PARAMETERS, multiply_adds, write_classifier, write_custom_operator, write_net

from facetrain.cli.text.compare import comparison_markdown, comparison_text
from facetrain.compare import compare
from facetrain.compare.compare import CompareSettings, compare_models
from facetrain.compare.models import Works, distinct_names, open_model, timed_image, timed_work
from facetrain.compare.pairs import compare_pairs
from facetrain.core.errors import DataError, FacetrainError, InputError, UsageError
from facetrain.core.faces import Faces
from facetrain.detect.detector import FaceDetector
from facetrain.eval.intervals import Resampling, Sums, sum_estimates
from facetrain.eval.protocol import EvalProtocol

QUICK = CompareSettings(rounds=2, repeats=2, threads=1)


def test_a_row_says_what_the_file_is(tmp_path: Path) -> None:
    free = write_net(tmp_path / "free.onnx")
    fixed = write_net(tmp_path / "fixed.onnx", size=(64, 40))
    found = compare_models([free, fixed, "yunet_n"], settings=replace(QUICK, timed_size=(100, 81)))
    first, second, bundled = found.rows
    assert [row.name for row in found.rows] == ["free.onnx", "fixed.onnx", "yunet_n"]
    assert [row.family for row in found.rows] == 3 * ["yunet"]
    assert first.cost is not None
    assert second.cost is not None
    assert bundled.cost is not None
    # multiply-adds are those of the size that is timed: 100x81 is padded to what the network takes
    assert (first.cost.size, second.cost.size, bundled.cost.size) == ((104, 88), (64, 40), (128, 96))
    assert (first.static_shape, second.static_shape) == (False, True)
    assert first.cost.parameters == second.cost.parameters == PARAMETERS
    assert first.cost.multiply_adds == multiply_adds(104, 88)
    assert second.cost.multiply_adds == multiply_adds(64, 40)
    assert first.cost.mflops == 2 * multiply_adds(104, 88) / 1e6
    document = found.as_dict()["models"]
    assert [row["parameters_ratio"] for row in document] == [1.0, 1.0, round(73840 / PARAMETERS, 3)]
    content = free.read_bytes()
    assert (document[0]["bytes"], document[0]["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    for row in document:
        assert row["one_core"]["network"]["runs"] == row["one_core"]["end_to_end"]["runs"] == 4
        assert row["one_core"]["fps"] == pytest.approx(1000 / row["one_core"]["end_to_end"]["median_ms"], rel=0.01)
        assert row["all_cores"] is None
        assert [row[name] for name in ("easy", "medium", "hard", "detections", "ap_size", "ap_cached")] == 6 * [None]
    assert found.protocol is None


def test_a_checkpoint_has_the_published_count_beside_it(tmp_path: Path) -> None:
    bundled = Path(FaceDetector("yunet_n").path).with_suffix(".pt")
    found = compare_models([bundled, "yunet_n"], settings=replace(QUICK, timed_size=(64, 64)))
    row, onnx = found.rows
    assert row.error is None
    assert (row.kind, onnx.kind) == ("checkpoint", "onnx")
    assert row.cost is not None
    assert onnx.cost is not None
    assert row.cost.multiply_adds == onnx.cost.multiply_adds == 135_598_400 // 25  # the published count is of 320x320
    assert (row.cost.parameters, onnx.cost.parameters) == (75_856, 73_840)
    assert row.cost.published == pytest.approx(148.696 / 25)
    assert onnx.cost.published is None
    assert "torch" in found.machine["versions"]
    assert row.one_core is not None


def test_all_cores_are_timed_where_there_are_several_threads(tmp_path: Path) -> None:
    found = compare_models([write_net(tmp_path / "a.onnx")], settings=replace(QUICK, threads=2))
    assert found.machine["threads"] == 2
    assert found.rows[0].one_core is not None
    assert found.rows[0].all_cores is not None
    assert found.rows[0].one_core.network.runs == found.rows[0].all_cores.network.runs == 4


def test_models_are_timed_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def recorded(model: object, size: tuple[int, int], threads: int) -> Works:
        name = model.path.stem  # type: ignore[attr-defined]
        return Works((32, 32), lambda: calls.append(name), lambda: calls.append(name.upper()))

    monkeypatch.setattr(compare, "timed_work", recorded)
    files = [write_net(tmp_path / f"{name}.onnx") for name in "abc"]
    compare_models(files, settings=CompareSettings(rounds=2, repeats=1, threads=1))
    assert "".join(calls) == "aaaAAAbbbBBBcccCCC" + 2 * "aaAAbbBBccCC"


def test_the_works_do_what_their_names_say(tmp_path: Path) -> None:
    model = open_model(
        str(write_net(tmp_path / "a.onnx", bias=1.0)), score=0.5, nms=0.45, max_candidates=5000, threads=1
    )
    works = timed_work(model, (96, 64), 1)
    image = timed_image(96, 64)
    assert image.shape == (64, 96, 3)
    assert image.std() > 10  # something is in it
    outputs = works.network()
    assert isinstance(outputs, dict)
    assert outputs["cls_8"].shape == (1, 96, 1)
    (faces,) = works.end_to_end()  # type: ignore[misc]
    expected = model.detector.detect(image)
    assert len(expected) > 0
    np.testing.assert_array_equal(faces.boxes, expected.boxes)


def test_errors_stay_in_their_rows(tmp_path: Path) -> None:
    good = write_net(tmp_path / "good.onnx")
    (tmp_path / "corrupt.onnx").write_bytes(good.read_bytes()[:-200])
    (tmp_path / "pointer.onnx").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    models = [
        tmp_path / "corrupt.onnx",
        write_classifier(tmp_path / "classifier.onnx"),
        good,
        write_custom_operator(tmp_path / "custom.onnx"),
        tmp_path / "absent.onnx",
        tmp_path / "pointer.onnx",
    ]
    heard: list[FacetrainError] = []
    found = compare_models(models, settings=QUICK, report=heard.append)
    errors = [row.error for row in found.rows]
    assert [error is None for error in errors] == [False, False, True, False, False, False]
    assert heard == [error for error in errors if error]
    assert [type(error) for error in heard] == [DataError, DataError, DataError, InputError, DataError]
    texts = ["not a usable ONNX", "fit no known detector family", "Unheard", "no such file", "git-lfs pointer"]
    for text, error in zip(texts, heard, strict=True):
        assert text in error.message
    assert found.rows[2].one_core is not None
    assert found.smallest == PARAMETERS


def test_a_model_that_fails_while_it_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def works(model: object, size: tuple[int, int], threads: int) -> Works:
        def fail() -> None:
            raise DataError("it fails")

        fails = model.path.stem == "a"  # type: ignore[attr-defined]
        return Works((32, 32), lambda: None, fail if fails else lambda: None)

    monkeypatch.setattr(compare, "timed_work", works)
    found = compare_models([write_net(tmp_path / "a.onnx"), write_net(tmp_path / "b.onnx")], settings=QUICK)
    assert found.rows[0].error is not None
    assert found.rows[0].cost is not None  # known before
    assert found.rows[0].one_core is None
    assert found.rows[1].one_core is not None


@pytest.mark.parametrize("count", [6, 7])
def test_many_models_are_compared_with_the_first_alone_and_it_is_said(tmp_path: Path, count: int) -> None:
    found = compare_models([write_net(tmp_path / "a_net.onnx")], settings=QUICK)
    resampling = Resampling([""] * 40)
    hits = np.random.default_rng(0).random((count + 1, 40)).round()
    known = {
        number: sum_estimates([Sums("hard", row, np.ones(40), share=True)], resampling)
        for number, row in enumerate(hits)
        if number > 0  # the first of the rows has failed
    }
    rows = [replace(found.rows[0], name=f"n_{number}_x.onnx") for number in range(count + 1)]
    protocol = {**EvalProtocol().as_dict(), "images": 40, "present_only": False, "draws": 2000}
    whole = replace(found, rows=rows, protocol=protocol, pairs=compare_pairs(known, resampling))
    assert len(whole.pairs) == (15 if count == 6 else 6)
    note = "each with n_1_x.onnx alone: of more than 6 models not every two are compared"
    assert (f"\n{note}\n" in f"{comparison_text(whole)}\n") == (count == 7)
    assert (f"\n- {note}\n" in comparison_markdown(whole)) == (count == 7)


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path, widerface: Path, cache: Path) -> None:
    files = [write_net(tmp_path / f"{name}.onnx", seed=i, bias=-2.0) for i, name in enumerate("abc")]

    @contextmanager
    def progress(title: str, total: int) -> Iterator:
        def advance(done: int = 1) -> None:
            if title == "b.onnx":
                raise KeyboardInterrupt

        yield advance

    found = compare_models(files, widerface=widerface, settings=QUICK, progress=progress)
    assert found.interrupted
    assert [row.accuracy is not None for row in found.rows] == [True, False, False]
    assert all(row.one_core is not None and row.error is None for row in found.rows)
    assert len(list(cache.iterdir())) == 1
    again = compare_models(files, widerface=widerface, settings=QUICK)
    assert [row.accuracy.cached for row in again.rows if row.accuracy] == [True, False, False]
    assert not again.interrupted


def test_ctrl_c_while_timing_keeps_the_runs_so_far(tmp_path: Path) -> None:
    turns = 0

    @contextmanager
    def progress(title: str, total: int) -> Iterator:
        def advance(done: int = 1) -> None:
            nonlocal turns
            turns += 1
            if turns == 6:  # of the second round the first model's two works are done
                raise KeyboardInterrupt

        yield advance

    files = [write_net(tmp_path / "a.onnx"), write_net(tmp_path / "b.onnx")]
    found = compare_models(files, settings=replace(QUICK, rounds=9), progress=progress)
    assert found.interrupted
    assert [row.one_core.network.runs for row in found.rows if row.one_core] == [4, 2]


def test_an_image_is_seen_as_the_protocol_says(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), timed_image(200, 120))
    free = write_net(tmp_path / "free.onnx", bias=1.2)
    fixed = write_net(tmp_path / "fixed.onnx", size=(64, 64), bias=1.2)
    settings = replace(QUICK, protocol=replace(QUICK.protocol, size="96"), at_score=0.55)
    found = compare_models([free, fixed, free, tmp_path / "no.onnx"], image=path, settings=settings)
    assert found.look is not None
    assert sorted(found.look.found) == [0, 1, 2]
    assert all((faces.scores >= 0.55).all() and len(faces) for faces in found.look.found.values())

    def shown(file: Path, side: int) -> Faces:
        """The image scaled by hand: 200x120 into a square."""
        width, height = side, 120 * side // 200
        image = np.zeros((side, side, 3), np.uint8)
        image[:height] = cv2.resize(timed_image(200, 120), (width, height))
        return FaceDetector(file, score=0.55).detect(image)

    for number, side, file in ((0, 96, free), (1, 64, fixed)):
        expected = shown(file, side)
        scale = np.float32([side / 200, (120 * side // 200) / 120] * 2)
        np.testing.assert_allclose(found.look.found[number].boxes, expected.boxes / scale, rtol=1e-5)
    same = found.look.pairs[1]
    assert (same.first, same.second, same.mean_iou) == (0, 2, 1.0)
    assert same.both == len(found.look.found[0])
    document = found.as_dict()
    assert list(document["faces"]) == ["free.onnx", "fixed.onnx", "free.onnx (2)"]
    assert len(document["agreement"]) == 3


def test_names_tell_rows_apart() -> None:
    assert distinct_names(["a/x.onnx", "b/x.onnx", "x.onnx", "y.onnx", "yunet_n", "yunet_n", "a/x.onnx"]) == [
        "a/x.onnx",
        "b/x.onnx",
        "x.onnx",
        "y.onnx",
        "yunet_n",
        "yunet_n (2)",
        "a/x.onnx (2)",
    ]
    assert distinct_names(["runs/mine/best.pt", "yunet_n", "best.pt"]) == ["mine/best.pt", "yunet_n", "best.pt"]
    assert distinct_names(["/one/deep/x.onnx", "/two/deep/x.onnx"]) == ["one/deep/x.onnx", "two/deep/x.onnx"]


def test_what_is_missing_is_said_before_anything_begins(tmp_path: Path, widerface: Path) -> None:
    net = write_net(tmp_path / "a.onnx")
    with pytest.raises(InputError):
        compare_models([net], widerface=tmp_path / "nowhere")
    with pytest.raises(DataError):
        compare_models([net], image=tmp_path / "no.jpg")
    (widerface / "WIDER_val/images/0--Drawn/drawn_0.jpg").unlink()
    with pytest.raises(InputError, match="1 of 5 images are missing"):
        compare_models([net], widerface=widerface)
    for wrong in ({"timed_size": (0, 4)}, {"timed_size": (9999, 4)}, {"at_score": 1.5}, {"threads": 0}):
        with pytest.raises(UsageError):
            CompareSettings(**wrong)  # type: ignore[arg-type]
