"""Environments are kept once complete, never half made, and their absence has a reason that a test can print."""

import subprocess
import zipfile
from pathlib import Path

import pytest
from environments import Environment, made, make_all, python_of

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for environments, and no index, whatever pip is told elsewhere."""
    monkeypatch.setenv("FACETRAIN_TEST_ENVIRONMENTS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    made.cache_clear()
    return tmp_path


def wheel(folder: Path, name: str) -> Path:
    """A distribution with one module that knows its own name."""
    path = folder / f"{name}-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f"NAME = {name!r}\n")
        archive.writestr(f"{name}-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        tag = "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(f"{name}-1.dist-info/WHEEL", tag)
        archive.writestr(f"{name}-1.dist-info/RECORD", "")
    return path


def test_an_environment_is_made_once_and_holds_what_was_asked_for(root: Path, tmp_path: Path) -> None:
    environment = Environment("sample", (str(wheel(tmp_path, "sample_module")),))
    make_all([environment])
    python = python_of(environment)
    command = [python, "-I", "-c", "import sample_module; print(sample_module.NAME)"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "sample_module\n"
    age = python.parent.stat().st_mtime_ns
    made.cache_clear()
    assert python_of(environment) == python
    assert python.parent.stat().st_mtime_ns == age
    other = Environment("sample", (*environment.requirements, "another"))
    assert other.folder != environment.folder


def test_a_lent_distribution_counts_as_installed(root: Path) -> None:
    python = python_of(Environment("lent", ("numpy",), shares=("numpy",)))
    command = [python, "-I", "-c", "import numpy; print(numpy.__version__)"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_reasons_are_told_apart_and_nothing_is_left(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Environment("missing", ("no-such-distribution-as-this==1",))
    assert "no wheel for Python" in str(made(missing))
    assert "no-such-distribution-as-this==1" in str(made(missing))
    with pytest.raises(pytest.skip.Exception, match="missing: no wheel"):
        python_of(missing)
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    assert made(Environment("nobody", ("anything",))) == "no package index can be reached"
    monkeypatch.setenv("FACETRAIN_TEST_ENVIRONMENTS", str(Path(__file__)))
    assert "no environment can be made in" in str(made(Environment("nowhere", ("anything",))))
    assert [path.name for path in root.iterdir() if not path.name.endswith(".lock")] == []


def test_another_failure_is_an_error(root: Path) -> None:
    with pytest.raises(RuntimeError, match="pip could not install"):
        made(Environment("wrong", ("===",)))
    assert [path.name for path in root.iterdir() if not path.name.endswith(".lock")] == []
