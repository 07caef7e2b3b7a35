"""Fixtures of the tests that train whole runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
from train_runs import draw_set, tiny_config, train

from facetrain.core.run_dir import RunDir
from facetrain.train import training


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_set(tmp_path_factory.mktemp("drawn"))


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Ten and six images, the second set in another format; one image is in both."""
    one, other = draw_set(tmp_path / "one"), draw_set(tmp_path / "other", train=6, val=0)
    images = other / "train/images/drawn"
    lines = ["image_path,width,height,x1,y1,x2,y2"]
    for number, path in enumerate(sorted(images.iterdir())):
        image = cv2.imread(str(path))
        image[0, 0] = number  # so that no two files are the same, but the first
        if number:
            cv2.imwrite(str(path), image)
        lines.append(f"drawn/{path.name},96,72,10,10,{30 + number},40")
    (other / "train/labelv2.txt").unlink()
    (other / "train/labels.csv").write_text("\n".join(lines) + "\n")
    return [one, other]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Curves take longer than these runs; only the test that looks at them has them drawn."""
    if "with_curves" not in request.fixturenames:
        monkeypatch.setattr(training, "draw_curves", lambda run: None)


@pytest.fixture
def with_curves() -> None:
    """Asks for curves."""


@pytest.fixture(scope="module")
def unbroken(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunDir]:
    """Runs from beginning to end, to compare with; each is made once."""
    made: dict[str, RunDir] = {}
    runs = tmp_path_factory.mktemp("unbroken")

    def make(**settings: Any) -> RunDir:
        key = json.dumps(settings)
        if key not in made:
            made[key] = train(tiny_config(data, **settings), runs)
        return made[key]

    return make
