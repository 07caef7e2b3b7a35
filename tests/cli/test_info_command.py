import importlib.metadata
import json
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

from facetrain import __version__
from facetrain.cli.app import run_cli
from facetrain.cli.text import environment
from facetrain.config.load import config_to_dict, config_to_yaml, load_config
from facetrain.detect.bundled import bundled_weights
from facetrain.model.weights import load_checkpoint

PACKAGES = ["torch", "torchvision", "onnxruntime", "onnx", "opencv", "numpy", "pillow"]
PACKAGES += ["matplotlib", "jinja2", "typer", "rich", "yaml", "defusedxml"]


@pytest.fixture
def installed(monkeypatch):
    """Pretend that other distributions are installed: {name: version}."""
    found = {name: "1.0" for choices in environment._PACKAGES.values() for name in choices[:1]}

    def version(name):
        if name not in found:
            raise importlib.metadata.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    return found


def test_the_text_is_ready_for_a_bug_report(capsys):
    assert run_cli(["info"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[0] == f"facetrain    {__version__}"
    for word in ["python", *PACKAGES, "platform", "cpu", "gpu", "providers", "CPUExecutionProvider", "JPEG", "weights"]:
        assert word in out


def test_every_package_that_facetrain_needs_is_told():
    project = Path(__file__).parents[2] / "pyproject.toml"
    needed = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    told = {name.lower() for choices in environment._PACKAGES.values() for name in choices}
    assert {requirement.split(">=")[0] for requirement in needed} - told == set()


def test_json(capsys):
    assert run_cli(["info", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    expected = ["schema", "facetrain", "versions", "wheels", "platform", "devices", "codecs", "video", "weights"]
    assert list(document) == [*expected, "problems"]
    assert list(document["versions"]) == ["python", *PACKAGES]
    assert document["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert document["versions"]["numpy"] == importlib.metadata.version("numpy")
    assert list(document["devices"]) == ["cpu", "cores", "bf16", "free_memory_mb", "gpus", "onnxruntime"]
    assert document["devices"]["cores"] >= 1
    assert document["codecs"]["JPEG"] is document["codecs"]["PNG"] is True
    assert list(document["codecs"]) == ["JPEG", "PNG", "WebP", "TIFF", "AVIF"]


def test_what_is_missing_comes_with_its_command(installed):
    del installed["torch"], installed["onnx"]
    found = environment.describe_environment()
    assert found["versions"]["torch"] is None
    assert found["devices"]["gpus"] is None
    hints = {problem["what"]: problem["hint"] for problem in found["problems"]}
    assert hints["torch is not installed"] == "pip install torch"
    assert hints["onnx is not installed"] == "pip install onnx"
    text = environment.environment_text(found)
    assert "torch        missing" in text
    assert "pip install torch" in text


def test_two_wheels_of_opencv_are_a_problem(installed):
    installed["opencv-python-headless"] = "4.9"
    found = environment.describe_environment()
    assert found["wheels"]["opencv"] == ["opencv-python", "opencv-python-headless"]
    assert any("opencv-python opencv-python-headless" in problem["what"] for problem in found["problems"])


def test_another_wheel_of_onnxruntime_counts_and_is_named(installed):
    del installed["onnxruntime"]
    installed["onnxruntime-gpu"] = "1.22"
    found = environment.describe_environment()
    assert "onnxruntime  1.22 (onnxruntime-gpu)" in environment.environment_text(found)


def test_a_torch_that_does_not_load_is_a_problem_and_no_crash(installed, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    found = environment.describe_environment()
    assert any(problem["what"].startswith("torch does not load") for problem in found["problems"])


def test_the_cost_of_a_model(capsys):
    assert run_cli(["info", "yunet_n"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    rows = [line.split() for line in out.splitlines()]
    assert ["backbone", "42,688", "113,523,200"] in [row[:3] for row in rows]
    assert ["total", "75,856", "135,598,400", "148.7"] in rows
    assert ["strides", "8", "16", "32"] in rows


def test_the_cost_of_a_model_as_json(capsys):
    assert run_cli(["info", "yunet_s", "--size", "640x480", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document)[:5] == ["schema", "facetrain", "source", "kind", "size"]
    assert (document["kind"], document["size"], document["total"]["parameters"]) == ("config", [640, 480], 54608)


def test_weights_by_name_and_runs(capsys, tmp_path, monkeypatch):
    """A configuration's name goes first; the rest is what weights can be called."""
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "mine-1"
    run.mkdir(parents=True)
    shutil.copy(bundled_weights("yunet_s", ".pt"), run / "best.pt")
    for name in ("mine-1", "runs/mine-1"):
        assert run_cli(["info", name, "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["source"], document["kind"], document["total"]["parameters"]) == (name, "checkpoint", 54608)
        assert document["known_as"] == {"name": "yunet_s", "file": "the bundled yunet_s.pt"}
    assert run_cli(["info", "yunet_n", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["kind"], document["known_as"]) == ("config", None)
    assert run_cli(["info", "yunet_s_relased"]) == 2
    assert "did you mean 'yunet_s_released'?" in capsys.readouterr().err


def test_which_faces_are_found(capsys):
    found = {}
    for suffix in (".pt", ".onnx"):
        assert run_cli(["info", str(bundled_weights("yunet_n", suffix)), "--json"]) == 0
        found[suffix] = json.loads(capsys.readouterr().out)["face_range"]
        assert run_cli(["info", str(bundled_weights("yunet_n", suffix))]) == 0
        line = f"faces      {found[suffix]['least']:g} to {found[suffix]['most']:g} pixels"
        assert any(row.startswith(line) for row in capsys.readouterr().out.splitlines())
    assert found[".pt"] == found[".onnx"]
    assert 8 < found[".pt"]["least"] < 16
    assert found[".pt"]["most"] > 250
    assert run_cli(["info", "yunet_n", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["face_range"] is None  # a configuration finds nothing


def test_a_graph_that_is_no_detector_finds_no_faces(capsys, tmp_path):
    from onnx import TensorProto, helper

    maps = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "h", "w"]) for name in ("input", "out")]
    graph = helper.make_graph([helper.make_node("Relu", ["input"], ["out"])], "net", maps[:1], maps[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (tmp_path / "other.onnx").write_bytes(model.SerializeToString())
    assert run_cli(["info", str(tmp_path / "other.onnx"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["face_range"] is None
    assert run_cli(["info", str(tmp_path / "other.onnx")]) == 0
    assert "faces" not in capsys.readouterr().out


def test_a_released_file_is_recognised(capsys, shared, tmp_path):
    path = tmp_path / "MODEL.ONNX"
    shutil.copy(shared / "reference/yunet/yunet_s_640_640.onnx", path)
    assert run_cli(["info", str(path)]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line.startswith("these are yunet_s_released: the file is onnx/yunet_s_640_640.onnx of its authors")
    assert line.endswith("byte for byte OpenCV zoo's face_detection_yunet_2023mar.onnx")


def test_the_whole_configuration_to_copy(capsys, tmp_path):
    assert run_cli(["info", "yunet_s", "--yaml"]) == 0
    text = capsys.readouterr().out
    assert text == config_to_yaml(load_config("yunet_s"))
    (tmp_path / "my.yaml").write_text(text, encoding="utf-8")
    assert run_cli(["info", str(tmp_path / "my.yaml"), "--yaml", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["schema", "facetrain", "config"]
    assert document["config"] == config_to_dict(load_config("yunet_s"))


def test_the_configuration_of_a_checkpoint(capsys):
    path = bundled_weights("yunet_n", ".pt")
    assert run_cli(["info", str(path), "--yaml"]) == 0
    assert capsys.readouterr().out == config_to_yaml(load_checkpoint(path).config)


@pytest.mark.parametrize(
    "arguments",
    [
        ["yunet_n", "--size", "big"],
        ["absent.yaml"],
        ["yunet_x"],
        ["--yaml"],
        ["yunet_x", "--yaml"],
        ["absent.pt", "--yaml"],
        ["any.onnx", "--yaml"],
    ],
)
def test_wrong_usage(capsys, arguments):
    assert run_cli(["info", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
