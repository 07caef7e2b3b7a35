"""A program that PyInstaller has frozen finds its weights, families, commands and formats."""

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from facetrain import FaceDetector
from facetrain.core.images import write_image
from facetrain.data.sample_set.make import draw_image

PROGRAM = """
import json, sys
from facetrain import FaceDetector
from facetrain.cli.app import run_cli
if len(sys.argv) > 2:
    sys.exit(run_cli(sys.argv[1:]))
print(json.dumps(len(FaceDetector("yunet_n", size="auto").detect(sys.argv[1]))))
"""


@pytest.mark.slow
def test_a_frozen_program_finds_faces(tmp_path: Path) -> None:
    if find_spec("PyInstaller") is None:
        pytest.skip("PyInstaller is not installed: pip install -e '.[dev]'")
    if shutil.which("objdump") is None:
        pytest.skip("PyInstaller needs objdump")
    (tmp_path / "seen.py").write_text(PROGRAM)
    write_image(tmp_path / "image.png", draw_image(0, 1, 5)[0])
    faces = FaceDetector("yunet_n", size="auto").detect(tmp_path / "image.png")
    assert len(faces) > 3
    command = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "ERROR"]
    command += ["--exclude-module", "torch", "--exclude-module", "torchvision", "seen.py"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=600)
    program = str(tmp_path / "dist/seen/seen")
    done = subprocess.run([program, "image.png"], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == len(faces)
    command = [program, "detect", "image.png", "--save", "coco=labels", "--save", "jsonl=-"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60)
    assert len(json.loads(done.stdout.splitlines()[1])["faces"]) == len(faces)
    assert not list((tmp_path / "dist").rglob("libtorch*"))
