"""A small part of tests/benchmarks/fuzz.py, of every kind."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from fuzz import KINDS, run_kind

pytestmark = pytest.mark.untrusted

INPUTS = {"config": 80, "labels": 80, "mat": 80, "predictions": 80, "images": 150, "checkpoints": 40, "states": 12}


@pytest.mark.skipif(sys.platform == "win32", reason="the alarm that ends a hang is not there")
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_give_a_result_or_one_clear_error(kind: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("FACETRAIN_CACHE", str(tmp_path))
    outcome = run_kind(kind, INPUTS.get(kind, 8), seed=1)
    assert not outcome.tracebacks, outcome.tracebacks[0]
    assert outcome.hangs == 0
    assert outcome.refused > 0
