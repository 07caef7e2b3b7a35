"""Fixtures of the tests that train whole runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from train_runs import draw_set, tiny_config, train

from facetrain.core.run_dir import RunDir
from facetrain.train import training


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_set(tmp_path_factory.mktemp("drawn"))


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
