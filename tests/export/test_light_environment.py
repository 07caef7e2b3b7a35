"""README's lines for an installation without torch make one in which every light command does its work."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from environments import Environment, python_of

from facetrain.core.images import write_image
from facetrain.data.sample_set.make import draw_image

ROOT = Path(__file__).parents[2]
LIGHT = [
    ["info"],
    ["info", "yunet_n"],
    ["weights"],
    ["detect", "photo.png", "--save", "drawn=drawn", "--save", "coco=labels", "--save", "blur=blurred"],
    ["eval", "--data", "sample", "--report", "report"],
    ["compare", "yunet_n", "yunet_s", "--image", "photo.png", "--output", "sheet.png"],
    ["data", "check", "sample"],
    ["data", "convert", "sample", "--to", "converted", "--as", "yolo"],
    ["data", "label", "photos", "--weights", "yunet_n", "--to", "labelled"],
    ["data", "audit", "labelled", "--weights", "yunet_s", "--report", "audit"],
    ["init", "yunet_n"],
]
HEAVY = [
    ["train", "yunet_n", "--data", "sample"],
    ["export-onnx"],
    ["export-cpp"],
    ["detect", "photo.png", "-w", "a.pt"],
]


def light_packages() -> list[str]:
    """What README names beside facetrain itself."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"pip install --no-deps \. && pip install ((?:[^\n\\]|\\\n)+)", lines)
    assert found is not None
    return found[1].replace("\\\n", " ").split()


@pytest.mark.slow
def test_every_light_command(tmp_path: Path) -> None:
    python = python_of(Environment("light", tuple(light_packages())))
    write_image(tmp_path / "photo.png", draw_image(0, 1, 5)[0])
    write_image(tmp_path / "photos/a.png", draw_image(0, 1, 6)[0])
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FACETRAIN_CACHE": str(tmp_path / "cache")}

    def run(line: list[str]) -> subprocess.CompletedProcess[str]:
        command = [str(python), "-m", "facetrain", *line]
        return subprocess.run(
            command, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )

    for line in LIGHT:
        done = run(line)
        assert done.returncode == 0, (line, done.stderr)
        assert "Traceback" not in done.stderr
    assert json.loads((tmp_path / "labels/train/_annotations.coco.json").read_text())["annotations"]
    (tmp_path / "a.pt").write_bytes(b"PK")
    for line in HEAVY:
        done = run(line)
        assert done.returncode == 1, (line, done.stderr)
        assert re.search("needs torch|needs PyTorch", done.stderr), (line, done.stderr)
        assert "Traceback" not in done.stderr
