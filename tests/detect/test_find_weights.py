"""What weights can be called: one rule for all commands, and for Python."""

import hashlib
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from weights_server import CONTENT, row

from facetrain import FaceDetector, load_checkpoint, load_model
from facetrain.cli.app import run_cli
from facetrain.config.load import load_config
from facetrain.core.errors import DataError, FacetrainError, InputError
from facetrain.core.suggest import nearest
from facetrain.detect import bundled, public
from facetrain.detect.find_weights import find_weights, lasting_name
from facetrain.detect.public import PUBLIC
from facetrain.eval.against import other_source
from facetrain.eval.protocol import EvalProtocol

CHECKPOINT_USES = ["train", "teach", "export"]
USES = ["detect", *CHECKPOINT_USES]
NAME = "tiny_released"


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """An empty current folder with a cache of its own beside it, and bundled files that are only names."""
    own = tmp_path / "bundled"
    own.mkdir()
    for name in ("yunet_n.onnx", "yunet_n.pt"):
        (own / name).write_bytes(name.encode())
    monkeypatch.setattr(bundled, "FOLDER", own)
    monkeypatch.setattr(public, "PUBLIC", (*PUBLIC, row("https://weights.example/")))
    monkeypatch.setenv("FACETRAIN_CACHE", str(tmp_path / "cache"))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return tmp_path


@pytest.fixture
def cache(folders):
    """The folder of fetched weights, with both files of NAME."""
    folder = folders / "cache" / "facetrain" / "weights"
    folder.mkdir(parents=True)
    for name, content in CONTENT.items():
        (folder / f"{NAME}{Path(name).suffix}").write_bytes(content)
    return folder


def make_run(folder: Path, *files: str) -> Path:
    folder.mkdir(parents=True)
    for name in files or ("best.pt", "last.pt"):
        (folder / name).write_bytes(b"PK")
    return folder


def fails(weights: str | Path, use: str = "detect", error: type[FacetrainError] = InputError) -> FacetrainError:
    with pytest.raises(error) as caught:
        find_weights(weights, use)
    assert type(caught.value) is error
    return caught.value


@pytest.mark.parametrize("use", USES)
def test_a_name_is_the_file_that_its_use_needs(folders, cache, use):
    kinds = (".onnx", ".onnx") if use == "detect" else (".pt", ".pth")
    assert find_weights("yunet_n", use) == folders / "bundled" / f"yunet_n{kinds[0]}"
    assert find_weights(NAME, use) == cache / f"{NAME}{kinds[1]}"


@pytest.mark.parametrize("use", USES)
def test_a_file_goes_before_all_names(use, cache):
    for name in ("yunet_n.pt", "x.pth", f"{NAME}.pt"):
        Path(name).write_bytes(b"PK")
        assert find_weights(name, use) == Path(name)
        assert find_weights(Path(name), use) == Path(name)
    Path("yunet_n").write_bytes(b"PK")
    if use == "detect":
        assert "not weights by its name" in fails("yunet_n", error=DataError).message
    else:
        assert find_weights("yunet_n", use) == Path("yunet_n")


@pytest.mark.parametrize("use", USES)
def test_a_run_is_its_best_weights(tmp_path, use):
    run = make_run(Path("runs/mine-1"))
    assert find_weights("mine-1", use) == run / "best.pt"
    assert find_weights("runs/mine-1", use) == run / "best.pt"
    assert find_weights(f"{run.absolute()}/", use) == run.absolute() / "best.pt"
    other = make_run(tmp_path / "other" / "yours")
    assert find_weights("yours", use, tmp_path / "other") == other / "best.pt"
    assert "neither a file, nor a run" in fails("yours", use).message


def test_a_run_without_best_weights_says_what_it_has():
    make_run(Path("runs/mine-1"), "last.pt")
    for name in ("mine-1", "runs/mine-1"):
        error = fails(name)
        assert error.message == "runs/mine-1: a run without best.pt: it has not come to a validation"
        assert "runs/mine-1/last.pt" in error.hint


def test_no_run_takes_the_place_of_bundled_weights_by_its_name(folders):
    make_run(Path("runs/yunet_n"))
    assert find_weights("yunet_n") == folders / "bundled" / "yunet_n.onnx"
    assert find_weights("runs/yunet_n") == Path("runs/yunet_n/best.pt")


def test_a_folder_called_like_weights_does_not_hide_them(folders):
    Path("yunet_n").mkdir()
    assert find_weights("yunet_n") == folders / "bundled" / "yunet_n.onnx"
    Path("other").mkdir()
    error = fails("other")
    assert error.message == "other: a folder, not weights"
    assert "best.pt" in error.hint


def test_home_is_written_as_in_a_shell(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.pt").write_bytes(b"PK")
    assert find_weights("~/x.pt", "teach") == tmp_path / "x.pt"
    assert "~nobody-of-this-name" in fails("~nobody-of-this-name/x.pt").message


def test_an_onnx_file_where_a_checkpoint_is_needed():
    Path("net.onnx").write_bytes(b"\x08\x07")
    assert find_weights("net.onnx", "train") == find_weights("net.onnx", "teach") == Path("net.onnx")
    error = fails("net.onnx", "export")
    assert "cannot be exported again" in error.message
    assert "give the checkpoint (.pt, .pth) that it was made from" in error.hint
    assert "yunet_n" in error.hint


@pytest.mark.parametrize("use", USES)
def test_files_that_are_no_weights(use):
    Path("a.pt").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n")
    assert "git-lfs pointer" in fails("a.pt", use, DataError).message
    Path("b.pt").touch()
    assert "empty" in fails("b.pt", use, DataError).message


# What is not found


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("yunt_n", "yunet_n"),
        ("yunet-n", "yunet_n"),
        ("yunetn", "yunet_n"),
        ("YUNET_N", "yunet_n"),
        ("yunet_n_relased", "yunet_n_released"),
        ("yunet_s_relased", "yunet_s_released"),
        ("mien-1", "mine-1"),
        ("yunet_m", None),
        ("yunet_x", None),
        ("zzz", None),
    ],
)
def test_an_unknown_name_lists_all_and_suggests_what_was_meant(name, near):
    make_run(Path("runs/mine-1"))
    for use in USES:
        error = fails(name, use)
        assert error.message == f"{name}: neither a file, nor a run, nor weights with this name"
        listed = f"by name there are: yunet_n; public ones: yunet_n_released, yunet_s_released, {NAME}"
        assert error.hint == (f"did you mean '{near}'? {listed}" if near else listed)


def test_another_size_is_no_typing_error(monkeypatch):
    monkeypatch.setattr(public, "PUBLIC", ())
    assert "did you mean" not in fails("yunet_s").hint
    assert nearest("yunet_s", ["yunet_n"]) is None
    assert nearest("yunt_s", ["yunet_n", "yunet_s"]) == "yunet_s"
    assert nearest("yunet-s.yaml", ["yunet_n.yaml", "yunet_s.yaml"]) == "yunet_s.yaml"
    assert nearest("yunet_2", ["yunet_n"]) == "yunet_n"  # no letter, so no size


def test_an_unknown_path_suggests_its_neighbour():
    Path("in").mkdir()
    Path("in/model.onnx").write_bytes(b"x")
    error = fails("in/modle.onnx")
    assert error.message == "in/modle.onnx: no such file"
    assert error.hint.startswith("did you mean 'in/model.onnx'? by name there are: yunet_n")
    assert fails("in/zzz.onnx").hint.startswith("by name there are: yunet_n")
    assert fails("nowhere/yunet_n.onnx").hint.startswith("by name")
    assert fails("yunet_n.pth").hint.startswith("did you mean 'yunet_n'? ")


@pytest.mark.parametrize("name", ["", ".", "a\0b", "x" * 5000, "x/" * 3000])
def test_what_no_file_can_be_called(name):
    for use in USES:
        fails(name, use)


def test_an_installation_without_weights(monkeypatch, tmp_path):
    monkeypatch.setattr(bundled, "FOLDER", tmp_path / "absent")
    assert "this installation has no bundled weights" in fails("yunet_n").hint


# Public weights


@pytest.mark.parametrize("use", USES)
def test_public_weights_that_are_not_there_name_the_one_command(use):
    error = fails("yunet_n_released", use)
    assert error.message.startswith("yunet_n_released: public weights that are not on this machine")
    assert error.hint == "fetch them: facetrain weights get yunet_n_released"


def test_one_file_of_public_weights_is_not_the_other(cache):
    (cache / f"{NAME}.pth").unlink()
    assert find_weights(NAME) == cache / f"{NAME}.onnx"
    assert f"no {cache / NAME}.pth" in fails(NAME, "train").message


@pytest.mark.parametrize("content", [CONTENT["net.onnx"][:-1] + b"!", CONTENT["net.onnx"][:-1], b""])
def test_a_damaged_file_of_the_cache_is_not_used(cache, content):
    (cache / f"{NAME}.onnx").write_bytes(content)
    error = fails(NAME, error=DataError)
    assert error.message.startswith(f"{cache / NAME}.onnx: not the file that {NAME} is")
    assert error.hint == f"fetch it again: facetrain weights get {NAME}"


def calls(image: str) -> list[list[str]]:
    """A command line of each command that takes weights, and each of its ways to."""
    train = ["train", "yunet_n", "--data", "sample"]
    name = "yunet_n_released"
    return [
        ["detect", image, "--weights", name],
        ["eval", "--data", "sample", "--weights", name],
        ["eval", "--data", "sample", "--weights", "x.onnx", "--against", name],
        ["compare", name],
        ["export-onnx", "--weights", name],
        ["export-cpp", "--weights", name],
        ["info", name],
        [*train, "--weights", name],
        [*train, "--teacher", name],
        [*train, "--set", f"train.teacher={name}"],
        [*train, "--recipe", "distil", "--teacher", name],
    ]


@pytest.mark.parametrize("number", range(len(calls(""))))
def test_nothing_is_fetched_unasked(number, spots, capsys, monkeypatch):
    def connect(*_: object) -> None:
        raise AssertionError("asks the network")

    for place, function in ((socket.socket, "connect"), (socket, "create_connection"), (socket, "getaddrinfo")):
        monkeypatch.setattr(place, function, connect)
    shutil.copy(spots, "x.onnx")
    Path("x.png").write_bytes(b"x")
    assert run_cli(calls("x.png")[number]) == 2
    said = capsys.readouterr()
    assert "fetch them: facetrain weights get yunet_n_released\n" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize("name", [NAME, "mine-1"])
def test_python_and_commands_take_the_same_names(name, spots, spot_image, folders, monkeypatch):
    """A public name and a run's, with a detector that finds bright squares behind both."""
    content = spots.read_bytes()
    here = folders / "cache/facetrain/weights" / f"{NAME}.onnx"
    here.parent.mkdir(parents=True)
    here.write_bytes(content)
    known = row("https://weights.example/")
    file = public.PublicFile("net.onnx", len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(public, "PUBLIC", (public.PublicWeights(**(vars(known) | {"files": (file,)})),))
    if name == NAME:
        assert len(FaceDetector(name).detect(spot_image(32, 32, (8, 8)))) == 1
    else:
        make_run(Path("runs") / name)
        with pytest.raises(DataError, match=r"runs/mine-1/best\.pt"):
            FaceDetector(name)


def test_what_is_written_down_is_found_from_any_folder(folders, cache):
    run = make_run(Path("runs/mine-1"))
    Path("x.pt").write_bytes(b"PK")
    expected = {
        "yunet_n": "yunet_n",
        NAME: NAME,
        "mine-1": str(run.resolve() / "best.pt"),
        "runs/mine-1": str(run.resolve() / "best.pt"),
        "x.pt": str(Path("x.pt").resolve()),
        str(cache / f"{NAME}.pth"): str((cache / f"{NAME}.pth").resolve()),
    }
    assert {name: lasting_name(name, find_weights(name, "teach")) for name in expected} == expected


def test_a_runs_folder_is_no_folder_of_result_files(folders):
    make_run(Path("runs/mine-1"))
    protocol = EvalProtocol()
    assert other_source("runs/mine-1", protocol, "cpu", None).weights == "runs/mine-1"
    assert other_source("mine-1", protocol, "cpu", None).weights == "mine-1"
    Path("results").mkdir()
    assert other_source("results", protocol, "cpu", None).predictions == Path("results")


def test_the_recipe_takes_a_name():
    config = load_config("yunet_n", [f"train.teacher={NAME}"], "distil")
    assert config.train.teacher == NAME


@pytest.mark.parametrize("load", [load_checkpoint, load_model])
def test_python_loads_what_the_commands_find(load, folders, cache, monkeypatch):
    """A file, a run as a folder and by its name, a bundled name, a public one: all by the one resolver."""
    content = (Path(bundled.__file__).parent / "weights" / "yunet_s.pt").read_bytes()
    for path in (
        folders / "bundled/yunet_s.pt",
        Path("mine.pt"),
        *(make_run(Path(f"runs/{r}")) / "best.pt" for r in "ab"),
    ):
        path.write_bytes(content)
    (cache / f"{NAME}.pth").write_bytes(content)
    file = replace(row("").file(".pth"), size=len(content), sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(public, "PUBLIC", (replace(row(""), files=(file,)),))
    loaded = [load(weights) for weights in ("mine.pt", Path("mine.pt"), "runs/a", "b", "yunet_s", NAME)]
    states = [it.state if load is load_checkpoint else it.state_dict() for it in loaded]
    assert all(torch.equal(value, state[key]) for state in states for key, value in states[0].items())
    if load is load_checkpoint:
        assert loaded[-1].path == cache / f"{NAME}.pth"
    else:
        assert not any(network.training for network in loaded)


@pytest.mark.parametrize("load", [load_checkpoint, load_model])
def test_python_says_what_the_commands_say(load):
    for weights, said in (("yunet_m", "by name there are: yunet_n"), ("tiny_relased", f"did you mean '{NAME}'?")):
        with pytest.raises(InputError) as raised:
            load(weights)
        assert raised.value.message == fails(weights, "train").message
        assert said in raised.value.hint
    with pytest.raises(InputError) as raised:
        load(NAME)
    assert raised.value.hint == f"fetch them: facetrain weights get {NAME}"
