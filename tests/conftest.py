"""Fixtures for the reference numbers and images, which lie beside the checkout and not in it."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before torch is imported: on a busy machine several torch threads wait for each other by spinning, and small
# tests take ten times as long. What is measured or takes long starts a process of its own (tests/e2e).
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts what it puts into the background deaf to Ctrl-C, and so would be all tests of being interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import numpy as np
import pytest
from hypothesis import settings

from facetrain.core.onnx_probe import PIXEL_BYTES
from facetrain.detect import onnx_detector as detect_onnx
from facetrain.model import graph_cost

# a slow machine is no wrong result
settings.register_profile("facetrain", deadline=None)
settings.load_profile("facetrain")

# Images, weights and numbers of reference; not part of the repository.
SHARED = Path(os.environ.get("FACETRAIN_REFERENCE") or Path(__file__).parents[2] / "shared")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The reference folder; tests that need it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("needs the reference folder: FACETRAIN_REFERENCE, by default `shared` beside the checkout")
    return SHARED


@pytest.fixture(autouse=True)
def trusted_onnx_files(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open ONNX files without a trial run in a process of its own: half a second for each of some hundred files."""
    if request.node.get_closest_marker("untrusted") is None:
        for module in (detect_onnx, graph_cost):
            monkeypatch.setattr(module, "probed", lambda path, trusted: PIXEL_BYTES)


@pytest.fixture(autouse=True)
def torch_threads() -> Iterator[None]:
    """Give torch its threads back: they are one setting of the process, and the last bits of a run depend on it."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != int(os.environ["OMP_NUM_THREADS"]):
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(scope="session")
def golden(shared: Path) -> dict[str, Any]:
    """Golden numbers, computed in float64 by an independent implementation."""
    document: dict[str, Any] = json.loads((shared / "reference/golden/model.json").read_text())
    return document


@pytest.fixture(scope="session")
def golden_arrays(shared: Path) -> dict[str, np.ndarray]:
    """The arrays that belong to `golden`."""
    with np.load(shared / "reference/golden/model.npz") as arrays:
        return dict(arrays)
