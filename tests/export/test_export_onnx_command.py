"""`facetrain export-onnx` as a user runs it: what it writes, what it says, and what it refuses."""

import errno
import json
import os
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from facetrain import FaceDetector
from facetrain.cli.app import run_cli
from facetrain.config.load import load_config
from facetrain.config.schema import Config
from facetrain.core.files import sha256
from facetrain.detect.bundled import bundled_weights
from facetrain.export.images import check_images
from facetrain.model.weights import save_checkpoint
from facetrain.model.yunet import build


def export(folder: Path, *arguments: str) -> int:
    return run_cli(["export-onnx", "--output", str(folder / "model.onnx"), *arguments])


@pytest.fixture
def strides_64(tmp_path: Path) -> Path:
    """A checkpoint of a network of another shape: strides 16 32 64, no landmarks."""
    config = load_config(
        "yunet_n",
        [
            "model.stem=[3, 4, 8]",
            "model.stages=[[8, 8], [8, 8], [8, 8], [8, 8], [8, 8]]",
            "model.pool_after=[0, 1, 2, 3, 4]",
            "model.strides=[16, 32, 64]",
            "model.head_channels=8",
            "model.landmarks={names: [], mirror: []}",
        ],
    )
    path = tmp_path / "mine.pt"
    save_checkpoint(path, build(config.model, seed=0).state_dict(), Config(model=config.model), {})
    return path


def test_the_file_and_what_is_said_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(tmp_path, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    path = tmp_path / "model.onnx"
    assert document["file"] == str(path)
    assert document["bytes"] == path.stat().st_size
    assert document["sha256"] == sha256(path)
    assert (document["variant"], document["form"], document["precision"]) == ("yunet_n", "raw", "fp32")
    assert len(document["checks"]) == 6
    assert all(check["ok"] for check in document["checks"])
    assert (Path(document["examples"]) / "onnx_numpy.py").is_file()
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert metadata["checkpoint_sha256"] == sha256(bundled_weights("yunet_n", ".pt"))
    assert {"variant", "strides", "landmarks", "colours", "range", "padding", "decode", "score", "licence"} < set(
        metadata
    )
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    assert export(tmp_path) == 0
    first = (tmp_path / "model.onnx").read_bytes()
    assert export(tmp_path) == 0
    assert (tmp_path / "model.onnx").read_bytes() == first


def test_the_bundled_file_is_this_export(tmp_path: Path) -> None:
    """So that what `detect` runs is what a user can make of the checkpoint beside it."""
    shipped = onnx.load(bundled_weights("yunet_n"))
    assert export(tmp_path) == 0
    ours = onnx.load(tmp_path / "model.onnx")
    assert ours.graph == shipped.graph
    texts = [{entry.key: entry.value for entry in file.metadata_props} for file in (ours, shipped)]
    assert texts[0] | {"facetrain": ""} == texts[1] | {"facetrain": ""}


def test_sizes_batches_and_opsets_are_as_asked(tmp_path: Path) -> None:
    assert export(tmp_path, "--size", "96x64", "--batch", "2", "--opset", "17") == 0
    file = onnx.load(tmp_path / "model.onnx")
    assert file.opset_import[0].version == 17
    assert file.ir_version == 8
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert session.get_inputs()[0].shape == [2, 3, 64, 96]
    assert [output.shape for output in session.get_outputs()][:3] == [[2, 96, 1], [2, 24, 1], [2, 6, 1]]


@pytest.mark.parametrize("arguments", [["--decoded"], ["--decoded", "--no-nms", "--size", "640"]], ids=str)
def test_decoded_files_find_the_same_faces(tmp_path: Path, arguments: list[str]) -> None:
    assert export(tmp_path, *arguments) == 0
    plain, decoded = FaceDetector("yunet_n"), FaceDetector(tmp_path / "model.onnx")
    photograph = np.pad(check_images()[0], ((0, 40), (0, 128), (0, 0)))  # 640x640
    ours, theirs = decoded.detect(photograph), plain.detect(photograph)
    np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=1e-2)
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
    np.testing.assert_allclose(ours.landmarks, theirs.landmarks, atol=1e-2)
    assert len(ours) == 1


def test_a_network_of_another_shape(tmp_path: Path, strides_64: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(tmp_path, "--weights", str(strides_64), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["variant"] == "custom"
    assert [check["ok"] for check in document["checks"]] == [True] * 5 + [None]
    assert export(tmp_path, "--weights", str(strides_64), "--size", "96") == 2
    assert "must be a multiple of 64" in capsys.readouterr().err


def test_the_default_name_tells_the_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "mine-3"
    run.mkdir(parents=True)
    (run / "best.pt").write_bytes(bundled_weights("yunet_n", ".pt").read_bytes())
    assert run_cli(["export-onnx", "--weights", str(run / "best.pt"), "--decoded", "--size", "64"]) == 0
    assert (tmp_path / "mine-3_decoded_64x64.onnx").is_file()


WRONG = {
    "missing folder": (["--output", "{folder}/none/model.onnx"], 2, "no such folder"),
    "a folder": (["--output", "{folder}/sub.onnx"], 2, "a folder"),
    "suffix": (["--output", "{folder}/model"], 2, "must end in .onnx"),
    "no weights": (["--weights", "{folder}/none.pt"], 2, "no such file"),
    "unknown name": (["--weights", "yunet_x"], 2, "neither a file, nor a run, nor weights with this name"),
    "onnx": (["--weights", "{folder}/old.onnx"], 2, "cannot be exported again"),
    "other shape": (["--weights", "{folder}/other.pt"], 1, "do not fit the model"),
    "old opset": (["--opset", "10"], 2, "--opset 10"),
    "new opset": (["--opset", "18"], 2, "there are: 11, 12, 13, 14, 15, 16, 17"),
    "size": (["--size", "100x64"], 2, "multiple of 32"),
    "no size": (["--size", "big"], 2, "not a size"),
    "huge size": (["--size", "32000x32000"], 2, "more pixels"),
    "batch": (["--batch", "0"], 2, "--batch 0"),
    "no batch": (["--batch", "many"], 2, "--batch many"),
    "no-nms alone": (["--no-nms"], 2, "--no-nms is for --decoded"),
    "no-nms at any size": (["--decoded", "--no-nms"], 2, "add --size 640"),
    "score": (["--decoded", "--score", "2"], 2, "--score 2"),
    "nms": (["--decoded", "--nms", "0"], 2, "--nms 0"),
    "precision": (["--precision", "int4"], 2, "fp16, fp32, int8"),
    "no calibration": (["--precision", "int8"], 2, "needs --calibrate"),
    "calibration alone": (["--calibrate", "{folder}"], 2, "--calibrate is for"),
    "drop without data": (["--precision", "fp16", "--max-drop", "0.1"], 2, "--max-drop needs --data"),
    "decoded int8": (["--precision", "int8", "--decoded", "--calibrate", "{folder}"], 2, "exclude each other"),
    "no images": (["--check-images", "{folder}/sub.onnx"], 2, "no image"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_said_in_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    arguments, code, text = WRONG[kind]
    (tmp_path / "sub.onnx").mkdir()
    (tmp_path / "old.onnx").write_bytes(b"what was there before")
    other = build(load_config("yunet_s").model, seed=0).state_dict()
    save_checkpoint(tmp_path / "other.pt", other, Config(), {})  # says yunet_n, and holds yunet_s
    before = sorted(tmp_path.rglob("*"))
    given = [argument.format(folder=tmp_path) for argument in arguments]
    output = [] if "--output" in given else ["--output", str(tmp_path / "old.onnx")]
    assert run_cli(["export-onnx", *output, *given]) == code
    said = capsys.readouterr()
    assert text in said.err
    assert said.err.count("error:") == 1
    assert "Traceback" not in said.err
    assert not said.out
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "old.onnx").read_bytes() == b"what was there before"


def test_a_failed_check_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("facetrain.export.onnx.check._SCORE_LIMIT", -1.0)
    (tmp_path / "model.onnx").write_bytes(b"before")
    assert export(tmp_path) == 1
    said = capsys.readouterr().err
    assert "cls, obj against torch" in said
    assert "nothing was written" in said
    assert (tmp_path / "model.onnx").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"before")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("facetrain.core.files.os.fsync", full)
    assert export(tmp_path) == 1
    assert "No space left" in capsys.readouterr().err
    assert (tmp_path / "model.onnx").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user whom a folder can refuse")
def test_a_read_only_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(0o500)
    assert run_cli(["export-onnx", "--output", str(closed / "model.onnx")]) == 2
    assert "cannot be written: no permission" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("form", ["", "--decoded", "--decoded --no-nms --size 320"])
@pytest.mark.parametrize("sure", [False, True])
def test_a_network_that_was_never_trained_is_exported_too(tmp_path, monkeypatch, capfd, form, sure):
    """Thousands of faces in every image, all as good as the others: in minutes once, if at all."""
    monkeypatch.chdir(tmp_path)
    config = load_config("yunet_n")
    model = build(config.model, 0)
    for name, value in model.state_dict().items():
        if sure and name.endswith("bias") and (".obj." in name or ".cls." in name) and value.numel() == 1:
            value.fill_(4.0)
        if sure and name.endswith("bias") and ".box." in name and value.numel() == 4:
            value.fill_(-1.0)
    save_checkpoint(Path("drawn.pt"), model.state_dict(), config, {})
    began = time.process_time()
    assert run_cli(["export-onnx", "-w", "drawn.pt", "-o", "drawn.onnx", *form.split()]) == 0, capfd.readouterr().err
    assert "FAILED" not in capfd.readouterr().out
    assert time.process_time() - began < 60  # of processor time; a tenth of that when quiet
