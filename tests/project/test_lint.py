"""Style, types and the direction of imports are checked by the test command, so that no second one is needed."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Each runs in the interpreter of the tests: the PATH may lead to another environment's tools.
CHECKS = {
    "ruff check": ("ruff", ["-m", "ruff", "check", "."]),
    "ruff format": ("ruff", ["-m", "ruff", "format", "--check", "--diff", "."]),
    "mypy": ("mypy", ["-m", "mypy"]),  # strict, and for which package: both stand in pyproject.toml
    "import-linter": ("importlinter", ["-c", "from importlinter.cli import lint_imports_command as run; run()"]),
}


@pytest.mark.parametrize("check", CHECKS)
def test_lint(check):
    module, arguments = CHECKS[check]
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed: pip install -e '.[dev]'")
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{check} says:\n{done.stdout}{done.stderr}"
