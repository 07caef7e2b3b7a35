"""The failing inputs of the reference folder, each giving what its README calls right."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from facetrain.cli.app import run_cli
from facetrain.core.compiler import find_compiler

COMMAND = [sys.executable, "-m", "facetrain"]


@pytest.fixture
def cases(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of cases; the current folder is an empty one, and so is the home folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FACETRAIN_CACHE", str(tmp_path / "cache"))
    return shared / "cases"


def test_a_landmark_name_runs_nothing(cases: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["export-cpp", "--weights", str(cases / "landmark_name_with_code.pt")]) == 2
    assert "landmarks" in capfd.readouterr().err
    assert not list(tmp_path.rglob("name_ran"))
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    "name", ["checkpoint_1d_weight.pth", "checkpoint_state_without_keys.pt", "checkpoint_text_for_tensor.pt"]
)
def test_checkpoints_that_are_none(cases: Path, capfd: pytest.CaptureFixture[str], name: str) -> None:
    image = str(cases / "huge_scan_ends_the_run" / "1_first.jpg")
    for arguments in (["detect", image, "--weights", str(cases / name)], ["info", str(cases / name)]):
        assert run_cli(arguments) == 1
        out, err = capfd.readouterr()
        assert out == ""
        assert err.startswith(f"error: {cases / name}: ")


@pytest.mark.skipif(sys.platform != "linux", reason="ulimit -v is Linux's")
def test_a_huge_scan_is_its_own_failure(cases: Path) -> None:
    line = f"ulimit -v 8000000; exec {sys.executable} -m facetrain detect {cases / 'huge_scan_ends_the_run'} --json"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    document = json.loads(done.stdout)
    assert done.returncode == 1, done.stderr
    assert [(Path(image["path"]).name, len(image["faces"])) for image in document["images"]] == [
        ("1_first.jpg", 1),
        ("3_last.jpg", 1),
    ]
    assert [Path(error["path"]).name for error in document["errors"]] == ["2_scan.png"]


def test_cut_jpegs(cases: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = cases / "truncated_jpeg_opencv4"
    names = [f"{name}.jpg" for name in ("tenth_of_its_bytes", "half_of_its_bytes", "whole_but_last_two_bytes_missing")]
    assert run_cli(["detect", "--json", *(str(folder / name) for name in names)]) == 1
    document = json.loads(capfd.readouterr().out)
    assert [Path(image["path"]).name for image in document["images"]] == names[2:]
    assert [Path(error["path"]).name for error in document["errors"]] == names[:2]
    assert run_cli(["detect", "--json", str(folder / "ghost")]) == 1  # a portrait, then one that is cut off
    document = json.loads(capfd.readouterr().out)
    assert [Path(error["path"]).name for error in document["errors"]] == ["2_noface_cut.jpg"]


def test_a_folder_is_read_whole(cases: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["detect", str(cases / "folder_leaves_out_what_it_can_read"), "--json"]) == 0
    out, err = capfd.readouterr()
    names = [Path(image["path"]).name for image in json.loads(out)["images"]]
    assert names == ["pic.gif", "pic.jfif", "ref.png", "x.jpe"]
    assert "skipped 1 image that is not decoded: 1 .heic" in err


def test_long_names(cases: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["detect", str(cases / "long_name")]) == 0
    assert capfd.readouterr().out.splitlines()[-1] == "2 faces in 2 images, drawn in detections"
    assert len(list(Path("detections").iterdir())) == 2


def test_equal_stems_are_refused_before_the_work(
    cases: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("facetrain.eval.evaluate.detect_images", lambda *_, **__: pytest.fail("looked already"))
    assert run_cli(["eval", "--data", str(cases / "same_stem"), "--save-predictions", "new"]) in (1, 2)
    assert "two images have this name" in capfd.readouterr().err


@pytest.mark.slow
def test_scripts(cases: Path, tmp_path: Path) -> None:
    """A run that finds its data again from anywhere; one without validation images."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "facetrain").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m facetrain "$@"\n')
    (tools / "facetrain").chmod(0o755)
    environment = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    root = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))

    def lines(name: str) -> list[str]:
        done = subprocess.run(["bash", str(cases / name)], capture_output=True, text=True, env=environment, check=False)
        return done.stdout.splitlines()

    elsewhere, moved, named = lines("resume_after_data_moved.sh")
    assert elsewhere.startswith("training data: ")
    assert "no longer there" in moved
    assert named.startswith("training data: ")
    said = "\n".join(lines("train_without_val.sh"))
    assert "no validation images" in said
    assert "undefined" not in said


def test_a_compiler_is_found_where_one_is() -> None:
    """So that the first case is not passed by the lack of one."""
    if shutil.which("g++") or shutil.which("clang++"):
        assert find_compiler() is not None
