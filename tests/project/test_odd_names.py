"""Paths that are not UTF-8, in another Unicode form, as long as they can be, or gone: no traceback, nothing misread."""

import json
import os
import sys
from pathlib import Path
from unicodedata import normalize

import cv2
import numpy as np
import pytest

from facetrain.cli.app import run_cli
from facetrain.core.files import as_spelled, user_cache, write_json, write_text
from facetrain.data.landmark_names import FIVE
from facetrain.data.layout import load_split
from facetrain.detect.bundled import bundled_weights

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems keep no such names")
ODD = os.fsdecode(b"\xff")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current folder with x\\xff: val/images/portrait.png and its labels; w\\xff.onnx and w\\xff.pt."""
    monkeypatch.chdir(tmp_path)
    images = Path(f"x{ODD}", "val", "images")
    images.mkdir(parents=True)
    write_text(images.parent / "labelv2.txt", "# portrait.png 96 64\n10 10 40 50\n")
    content = cv2.imencode(".png", np.full((64, 96, 3), 90, np.uint8))[1].tobytes()
    (images / "portrait.png").write_bytes(content)
    for suffix in (".onnx", ".pt"):
        whole = bundled_weights("yunet_n").with_suffix(suffix)
        Path(f"w{ODD}{suffix}").write_bytes(whole.read_bytes())
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        "detect X -w W.onnx",
        "detect X --json -w W.pt -o oX",
        "eval --data X --report rX -w W.onnx --save-predictions dX",
        "eval --data X --json -w W.pt",
        "compare W.onnx yunet_n --markdown mX.md --data X",
        "info W.onnx --json",
        "export-onnx -w W.pt -o eX.onnx",
        "export-onnx -w W.pt -o X/e.onnx",
    ],
)
def test_paths_that_are_not_utf8(folder, capfd, arguments):
    words = [word.replace("X", f"x{ODD}").replace("W", f"w{ODD}") for word in arguments.split()]
    code = run_cli(words)
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    assert (code, "error" in err) == (0, False), err
    if "--json" in words:
        assert json.loads(out)


def test_a_json_file_with_such_a_name_can_be_read(tmp_path):
    write_json(tmp_path / "a.json", {"path": f"x{ODD}"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"path": f"x{ODD}"}


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC"), ("NFC", "NFC")])
def test_labels_and_files_in_two_unicode_forms(tmp_path, forms):
    name = "Bjørn_Gårdstrøm/für_Ångström.png"
    path = tmp_path / "val" / "images" / normalize(forms[1], name)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    write_text(tmp_path / "val" / "labelv2.txt", f"# {normalize(forms[0], name)} 96 64\n10 10 40 50\n")
    [image] = load_split(tmp_path, "val", FIVE).images
    assert image.path == path
    assert image.name == normalize(forms[0], name)
    assert as_spelled(tmp_path, "ä/ö", {}) == tmp_path / "ä" / "ö"  # not there: as it was asked


def test_names_as_long_as_they_can_be(tmp_path):
    for name in ("n" * 251 + ".txt", "é" * 125 + ".json", "x" * 255):
        write_text(tmp_path / name, "whole")
        assert (tmp_path / name).read_text() == "whole"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_current_folder_that_is_gone(tmp_path, monkeypatch, capfd):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert run_cli(["detect", "a.jpg"]) == 2
    assert capfd.readouterr().err.startswith("error: the current folder is no longer there\n")
    assert run_cli(["--help"]) == 0


def test_a_user_without_a_home(monkeypatch):
    for name in ("HOME", "XDG_CACHE_HOME", "FACETRAIN_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert user_cache().name == f"cache-{os.getuid()}"
