"""Python environments with other versions of what runs facetrain's files, made once and kept.

Each is a folder in FACETRAIN_TEST_ENVIRONMENTS, by default ~/.cache/facetrain-tests, named by what it was asked to
hold: another requirement gives another folder. Remove a folder to have it made anew, for example from newer releases.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest

fcntl = pytest.importorskip("fcntl", reason="the environments need file locks of Linux or macOS")

# What pip says when nobody answers. Wrong addresses and refused connections look alike to a test: it is skipped.
_NOBODY = re.compile(r"Retrying \(|NewConnectionError|Connection refused|name resolution|ProxyError|timed out", re.I)
_NO_WHEEL = re.compile(r"ERROR: (No matching distribution found for .*)")


@dataclass(frozen=True)
class Environment:
    """What pip is to put into a virtual environment.

    shares: distributions that the running environment lends, because they are too large for a second copy
    """

    name: str
    requirements: tuple[str, ...]
    shares: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where it is kept; the name depends on everything that decides what is inside."""
        chosen = os.environ.get("FACETRAIN_TEST_ENVIRONMENTS")
        root = Path(chosen).expanduser() if chosen else Path.home() / ".cache/facetrain-tests"
        lent = [f"{name} {metadata.version(name)} {sys.prefix}" for name in self.shares]
        parts = (*self.requirements, *lent, sys.version, sysconfig.get_platform())
        return root / f"{self.name}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:10]}"


def python_of(environment: Environment) -> Path:
    """The environment's interpreter, made if it is not there. Skips the test where it cannot be made, and says why."""
    outcome = made(environment)
    if isinstance(outcome, str):
        pytest.skip(f"{environment.name}: {outcome}")
    return outcome


def make_all(environments: Iterable[Environment]) -> None:
    """Make several side by side: unpacking one goes on while another waits for the network."""
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(made, environments))


@cache
def made(environment: Environment) -> Path | str:
    """The interpreter, or the reason why there is none. Tried once per test run."""
    folder = environment.folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another test run may be making the same one
            reason = None if folder.exists() else _make(environment, folder)
    except OSError as error:
        return f"no environment can be made in {folder.parent}: {error.strerror or error}"
    return reason or folder / "bin/python"


def _make(environment: Environment, folder: Path) -> str | None:
    """Build beside, rename when complete. Returns why it is not possible here; other failures are errors."""
    scratch = folder.with_name(f".{folder.name}")
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
    try:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", scratch], check=True)
        if environment.shares:
            packages = next(scratch.glob("lib/python*/site-packages"))
            (packages / "running.pth").write_text(sysconfig.get_path("purelib") + "\n")
        pip = [sys.executable, "-m", "pip", "--python", str(scratch / "bin/python")]
        options = ["--only-binary", ":all:", "--no-compile", "--retries", "2", "--quiet"]
        command = [*pip, "install", *options, *environment.requirements]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            scratch.rename(folder)
            return None
        if "No module named pip" in done.stderr:
            return "the running environment has no pip"
        if _NOBODY.search(done.stderr):
            return "no package index can be reached"
        if missing := _NO_WHEEL.search(done.stderr):
            return f"no wheel for Python {sys.version_info[0]}.{sys.version_info[1]} here: {missing[1]}"
        raise RuntimeError(f"pip could not install {' '.join(environment.requirements)}:\n{done.stderr[-2000:]}")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
