"""Every example runs as it stands."""

import subprocess
import sys
from pathlib import Path

import pytest

from facetrain.config.load import load_config
from facetrain.core.images import write_image
from facetrain.data.sample import draw_picture
from facetrain.model.yunet import build

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_model_files_load_and_build(path: Path) -> None:
    assert build(load_config(path).model, seed=0) is not None


def test_tiny_has_the_size_it_claims() -> None:
    model = build(load_config(EXAMPLES / "tiny.yaml").model)
    assert round(sum(p.numel() for p in model.parameters()), -3) == 31_000


def test_detect_faces_prints_faces(tmp_path: Path) -> None:
    picture = tmp_path / "drawn.png"
    write_image(picture, draw_picture(0, 0, 2)[0])
    command = [sys.executable, str(EXAMPLES / "detect_faces.py"), str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "right eye at (" in done.stdout
