"""The first command of the README, as a user runs it, and what follows from it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from facetrain.config.load import load_config
from facetrain.data.formats.labelv2 import read

pytestmark = pytest.mark.slow


def facetrain(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "facetrain", *arguments]
    # all cores, unlike the other tests
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=3600, check=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of the main job."""
    folder = tmp_path_factory.mktemp("home")
    os.environ.setdefault("FACETRAIN_CACHE", str(folder / "cache"))
    done = facetrain("train", "yunet_n.yaml", "--data", "sample", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "result.json").write_text(done.stdout)
    (folder / "conversation.txt").write_text(done.stderr)
    return folder


@pytest.mark.slow
def test_the_sample_set_is_learnt_and_called_synthetic(home: Path) -> None:
    result = json.loads((home / "result.json").read_text())
    assert result["ap"] >= 0.90
    assert result["step"] == result["total_steps"]
    said = (home / "conversation.txt").read_text()
    assert "DRAWN faces" in said
    assert "recipe: sample" in said


@pytest.mark.slow
def test_the_run_folder_is_complete(home: Path) -> None:
    run = home / "runs" / "yunet_n-1"
    expected = {"config.yaml", "metrics.jsonl", "last.pt", "previous.pt", "best.pt", "curves.png", "first_batch.jpg"}
    assert {path.name for path in run.iterdir()} == expected | {"log.txt", "environment.json"}
    config = load_config(run / "config.yaml")
    assert config.data.root == "sample"
    assert config.model.objectness_bias == -4.6


@pytest.mark.slow
def test_the_result_detects_and_fine_tunes(home: Path) -> None:
    best = str(home / "runs" / "yunet_n-1" / "best.pt")
    root = next(Path(os.environ["FACETRAIN_CACHE"]).rglob("WIDER_val")).parent
    images = read(root / "labelv2/val/labelv2.txt", root / "WIDER_val/images").images
    image = max(images, key=lambda p: int((~p.ignore).sum()))
    done = facetrain("detect", str(image.path), "--weights", best, "--json", "--draw", cwd=home)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["images"][0]["faces"]
    assert len(found) >= 0.6 * (~image.ignore).sum()
    assert len(list((home / "detections").rglob("*.jpg"))) == 1

    settings = ("--limit", "32", "--epochs", "1", "--set", "train.lr=1e-4", "--set", "eval.limit=20", "--json")
    tuned = facetrain("train", "yunet_n", "--data", "sample", "--weights", best, *settings, cwd=home)
    assert tuned.returncode == 0, tuned.stderr
    assert "208 of 208 weights taken over" in tuned.stderr
    assert json.loads(tuned.stdout)["ap"] > 0.8
