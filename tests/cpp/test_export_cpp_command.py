"""`facetrain export-cpp`: what it writes, says and refuses, whatever the target."""

import json
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from cpp.cpp_models import (
    NO_LANDMARKS,
    lively_model,
    make_checkout,
    need_compiler,
    write_checkpoint,
    write_images,
)

from facetrain.cli.app import run_cli
from facetrain.config.load import load_config
from facetrain.core.compiler import Compiler, find_compiler
from facetrain.core.errors import OutputError
from facetrain.detect.bundled import bundled_weights
from facetrain.export import export_cpp as cpp
from facetrain.export.cpp.targets.options import CppOptions
from facetrain.export.network.fold import fold
from facetrain.export.network.folded import with_digits
from facetrain.model.weights import load_model
from facetrain.model.yunet import build

LIBRARY = ["export-cpp", "--target", "libfacedetection"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return make_checkout(tmp_path / "library")


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(capsys: pytest.CaptureFixture[str], code: int, arguments: list[str]) -> str:
    """What is said on stderr by a command that must end with this code and print no result."""
    assert run_cli(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err


def test_the_bundled_weights_become_a_checked_detector(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, images: Path
) -> None:
    need_compiler()
    monkeypatch.chdir(tmp_path)
    assert run_cli(["export-cpp", "--check-images", str(images)]) == 0
    out, err = capsys.readouterr()
    written = tmp_path / "yunet_n_standalone"
    assert {"yunet_n.hpp", "yunet_n.cpp"} <= set(contents(written))
    for name, content in contents(written).items():
        assert f"{Path(written.name) / name}: {len(content):,} bytes" in out.splitlines()
    assert "checked: compiled with " in out
    assert "faces in 2 images at score 0.3, scores within " in out
    assert err.startswith("compiling with ")


@pytest.mark.slow
def test_a_model_of_another_shape_becomes_a_detector_and_no_library_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, images: Path
) -> None:
    need_compiler()
    weights = str(write_checkpoint(lively_model(NO_LANDMARKS), tmp_path / "own.pt"))
    output = tmp_path / "out"
    arguments = ["export-cpp", "--weights", weights, "--output", str(output), "--check-images", str(images), "--json"]
    assert run_cli(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["name"] == "own"
    assert document["check"]["difference"]["faces"] >= 5
    assert document["check"]["difference"]["score"] <= 1e-4
    assert document["check"]["difference"]["pixels"] <= 0.05
    err = refused(capsys, 2, [*LIBRARY, "--weights", weights, "--output", str(tmp_path / "no")])
    assert "libfacedetection cannot express this model: its faces have exactly five landmarks, the model's none" in err
    assert "--target standalone" in err
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
def test_json(capsys: pytest.CaptureFixture[str], tmp_path: Path, checkout: Path, images: Path) -> None:
    need_compiler()
    assert run_cli([*LIBRARY, "--library", str(checkout), "--check-images", str(images), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    keys = "target checkpoint name digits folder files library check unchecked advice"
    assert list(document) == ["schema", "facetrain", *keys.split()]
    assert (document["target"], document["name"], document["digits"]) == ("libfacedetection", "yunet_n", 3)
    sizes = {entry["path"]: entry["bytes"] for entry in document["files"]}
    names = ["facedetectcnn-data.cpp", "facedetectcnn-model.cpp"]
    assert sizes == {str(checkout / "src" / name): (checkout / "src" / name).stat().st_size for name in names}
    keys = "compiler images score_threshold truncated difference effect_of_digits"
    assert list(document["check"]) == keys.split()
    for part in ("difference", "effect_of_digits"):
        assert list(document["check"][part]) == ["faces", "alone", "score", "pixels"]
    assert document["check"]["effect_of_digits"]["pixels"] > 0
    assert document["unchecked"] is None


@pytest.mark.slow
def test_a_library_that_finds_other_faces_is_left_as_it_was(
    capsys: pytest.CaptureFixture[str], checkout: Path, images: Path
) -> None:
    need_compiler()
    source = checkout / "src/facedetectcnn.cpp"
    text = source.read_text()
    assert text.count("> overlap;") == 1
    source.write_text(text.replace("> overlap;", "> 2;"))  # no face suppresses another one
    before = contents(checkout)
    err = refused(capsys, 1, [*LIBRARY, "--library", str(checkout), "--check-images", str(images)])
    assert "error: the C++ does not find what the model finds: in image 1 of 2 it has " in err
    assert contents(checkout) == before
    source.write_text(text.replace("> overlap;", "> ;"))
    before = contents(checkout)
    err = refused(capsys, 1, [*LIBRARY, "--library", str(checkout), "--check-images", str(images)])
    assert "does not compile with" in err
    assert "facedetectcnn.cpp:" in err
    assert contents(checkout) == before


def test_with_output_the_library_is_only_read(
    capsys: pytest.CaptureFixture[str], no_compiler: None, checkout: Path, tmp_path: Path
) -> None:
    before = contents(checkout)
    output = tmp_path / "out"
    assert run_cli([*LIBRARY, "--library", str(checkout), "--output", str(output)]) == 0
    assert contents(checkout) == before
    assert set(contents(output)) == {"facedetectcnn-data.cpp", "facedetectcnn-model.cpp"}
    out = capsys.readouterr().out
    assert "next: replace src/facedetectcnn-data.cpp and src/facedetectcnn-model.cpp of libfacedetection" in out
    assert "library: libfacedetection of unknown version; tested with acf7b25" in out


def test_the_librarys_commit_is_told(capsys: pytest.CaptureFixture[str], no_compiler: None, checkout: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    git = ["git", "-C", str(checkout), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    assert run_cli([*LIBRARY, "--library", str(checkout)]) == 0
    assert f"library: libfacedetection {commit[:7]}; tested with" in capsys.readouterr().out


def test_the_compiler_is_the_one_of_cxx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    usual = need_compiler()
    monkeypatch.setenv("CXX", f"'{usual.command[0]}' -O0")
    assert find_compiler() == Compiler((usual.command[0], "-O0"), usual.version)
    for nonsense in ("'", "no-such-compiler", "false"):
        monkeypatch.setenv("CXX", nonsense)
        assert find_compiler() is None


@pytest.mark.parametrize("target", ["standalone", "libfacedetection"])
def test_without_a_compiler_it_says_so(
    capsys: pytest.CaptureFixture[str], no_compiler: None, tmp_path: Path, checkout: Path, target: str
) -> None:
    arguments = ["export-cpp", "--target", target, "--output", str(tmp_path / "out")]
    arguments += ["--library", str(checkout)] if target == "libfacedetection" else []
    err = refused(capsys, 1, [*arguments, "--check"])
    assert err.startswith("error: --check: no C++ compiler found")
    assert not (tmp_path / "out").exists()
    assert run_cli(arguments) == 0
    assert "not checked: no C++ compiler found (g++, clang++, c++, or what CXX names)" in capsys.readouterr().out


def test_without_the_library_it_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = [*LIBRARY, "--output", str(tmp_path / "out")]
    assert "error: --check: that needs a checkout of the library" in refused(capsys, 1, [*arguments, "--check"])
    assert run_cli(arguments) == 0
    assert "not checked: that needs a checkout of the library" in capsys.readouterr().out
    assert run_cli([*arguments, "--no-check"]) == 0
    assert "not checked: not wanted" in capsys.readouterr().out


def test_folders_of_others_stay_as_they_are(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    export = ["export-cpp", "--no-check", "--output", str(output)]
    assert run_cli(export) == 0  # empty
    (output / "build").mkdir()
    (output / "notes.txt").write_text("mine")
    assert run_cli(export) == 0  # an earlier export, and things beside it
    assert (output / "notes.txt").read_text() == "mine"
    capsys.readouterr()
    header = output / "yunet_n.hpp"
    header.write_text("// a file of my own\n")
    err = refused(capsys, 2, export)
    assert f"error: {header}: is there, and no earlier export: it is not overwritten" in err
    assert header.read_text() == "// a file of my own\n"
    shutil.rmtree(output)
    output.mkdir()
    (output / "notes.txt").write_text("mine")
    assert f"error: {output}: holds other files and no earlier export" in refused(capsys, 2, export)
    assert contents(output) == {"notes.txt": b"mine"}
    err = refused(capsys, 2, ["export-cpp", "--no-check", "--output", str(output / "notes.txt")])
    assert "not a folder" in err


def test_a_disk_that_fills_up_leaves_the_earlier_export(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    arguments = [*LIBRARY, "--output", str(output), "--digits"]
    assert run_cli([*arguments, "2"]) == 0
    before = contents(output)
    capsys.readouterr()
    real = cpp.replacing

    @contextmanager
    def full(path: Path):
        with real(path) as scratch:
            if path.name == "facedetectcnn-model.cpp":
                raise OutputError(f"{path}: cannot be written", "is the disk full?")
            yield scratch

    monkeypatch.setattr(cpp, "replacing", full)
    assert "is the disk full?" in refused(capsys, 1, [*arguments, "4"])
    assert contents(output) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--target", "libfacedetect"], "did you mean 'libfacedetection'? there are: libfacedetection, standalone"),
        (["--target", "options"], "--target options: not known"),
        (["--digits", "0"], "--digits 0: must be from 1 to 9"),
        (["--digits", "17"], "--digits 17: must be from 1 to 9"),
        (["--name", "a-b"], "--name a-b: no name for a C++ namespace"),
        (["--name", "double"], "--name double: no name for a C++ namespace"),
        (["--library", "."], "--library: the target standalone is made for none"),
        (["--target", "libfacedetection", "--library", "."], ".: not a checkout of libfacedetection"),
        (["--weights", "no_such"], "no_such"),
        (["--check-images", "none"], "none: no such folder"),
        (["--check-images", ".", "--no-check"], "--no-check and --check-images exclude each other"),
    ],
)
def test_wrong_usage(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    err = refused(capsys, 2, ["export-cpp", *arguments])
    assert said in err
    assert contents(tmp_path) == {}


def test_onnx_weights_are_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a.onnx").write_bytes(b"onnx")
    monkeypatch.chdir(tmp_path)
    assert "a.onnx" in refused(capsys, 2, ["export-cpp", "--weights", "a.onnx"])
    assert contents(tmp_path) == {"a.onnx": b"onnx"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, value: float
) -> None:
    model = build(load_config("yunet_s").model, seed=0)
    with torch.no_grad():
        model.levels[1].cls.pointwise.weight[0, :2] = value
    weights = write_checkpoint(model, tmp_path / "bad.pt")
    err = refused(capsys, 1, ["export-cpp", "--weights", str(weights), "--output", str(tmp_path / "out")])
    assert "levels.1.cls.pointwise.weight: 2 of 64 numbers are NaN or infinite" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "name"),
    [("face-2.pt", "face_2"), ("2nd.pt", "net_2nd"), ("double.pt", "net_double"), ("run-7/best.pt", "run_7")],
)
def test_the_cpp_name_comes_from_the_models(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, file: str, name: str
) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    write_checkpoint(build(load_config("yunet_s").model, seed=0), path)
    arguments = ["export-cpp", "--weights", str(path), "--no-check", "--json", "--output", str(tmp_path / "out")]
    assert run_cli(arguments) == 0
    assert json.loads(capsys.readouterr().out)["name"] == name


@pytest.mark.parametrize("target", cpp.target_names())
def test_every_file_of_a_target_says_who_wrote_it(target: str) -> None:
    net = fold(build(load_config("yunet_n").model, seed=0).eval())
    for name, text in cpp.find_target(target).files(net, CppOptions("other")).items():
        assert cpp._MARK in text[: cpp._MARK_BYTES], name
        assert not Path(name).is_absolute() and ".." not in Path(name).parts


def test_weights_of_fewer_digits() -> None:
    net = fold(load_model(bundled_weights("yunet_n", ".pt")))
    for digits in (3, 9):
        rounded = with_digits(net, digits)
        assert list(rounded.weights) == list(net.weights)
        for name, layer in net.weights.items():
            other = rounded.weights[name]
            for before, after in ((layer.weight, other.weight), (layer.bias, other.bias)):
                np.testing.assert_allclose(after, before, rtol=0.5 * 10 ** (1 - digits), atol=0)
                assert digits == 3 or (after == before).all()


def test_the_licence_goes_along(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run_cli(["export-cpp", "--no-check", "--output", str(tmp_path / "out")]) == 0
    licence = Path(__file__).parents[2] / "LICENSE"
    assert (tmp_path / "out" / "yunet_n_LICENSE.txt").read_text() == licence.read_text()
