"""The scripts for a GPU, on the CPU: each dry run goes to its end and tells all its rows."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    command = [sys.executable, str(BENCHMARKS / name), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_training_ends_with_the_plain_loop_in_a_process_of_its_own() -> None:
    found = document(run("gpu_training.py", "--dry-run", "--ways", "plain", "eager", "captured"))
    rows = found["batches"]["4"]["ways"]
    assert list(rows) == ["eager", "captured", "plain"]
    assert rows["captured"] == {"failed": "CUDA graphs need a GPU"}
    assert rows["eager"]["images_per_s"] > 0 and rows["plain"]["images_per_s"] > 0
    assert set(found["batches"]["4"]["parts_ms"]) == {
        "augment", "forward", "assign", "losses", "backward", "optimiser",
    }  # fmt: skip


@pytest.mark.slow
def test_a_plain_loop_that_hangs_costs_its_own_row_alone() -> None:
    began = time.monotonic()
    found = document(run("gpu_training.py", "--dry-run", "--ways", "eager", "plain", "--limit", "0.5"))
    rows = found["batches"]["4"]["ways"]
    assert "images_per_s" in rows["eager"]
    assert rows["plain"]["failed"].startswith("not done after")
    assert time.monotonic() - began < 300


@pytest.mark.slow
def test_the_fused_block_is_compared_and_timed() -> None:
    pytest.importorskip("triton")
    found = document(run("fused_block.py", "--dry-run"))
    assert found["errors"]["fused"]["output"] < 0.01  # of gradients, one value may pass a ReLU or not
    assert len(found["blocks"]) == 4
    for row in (*found["blocks"].values(), found["network"]):
        assert set(row) == {"eager", "fused"}
        assert all(way["ms"] > 0 for way in row.values())


@pytest.mark.slow
def test_the_check_tells_a_line_for_each_part(tmp_path: Path) -> None:
    parts = ["versions", "crops", "waiting", "failing"]
    arguments = ["--device", "cpu", "--quick", "--output", str(tmp_path / "gpu"), "--parts", *parts]
    done = run("gpu_check.py", *arguments)
    assert done.returncode == 0, done.stdout
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [[part, "ok,"] for part in parts]
    left = run("gpu_check.py", *arguments, "--within", "5")
    assert [line.split()[1:3] for line in left.stdout.splitlines()] == [["left", "out:"]] * 4
