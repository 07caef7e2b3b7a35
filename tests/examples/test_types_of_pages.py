"""The Python that pages show has the types that they say it has."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT, blocks

PAGE = ROOT / "examples" / "python_api.md"


@pytest.mark.slow  # mypy reads torch first
def test_the_page_of_python_passes_mypy(tmp_path: Path) -> None:
    """All blocks of the page as the one program that they are."""
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("needs mypy: pip install -r .ci/tools.txt")
    program = tmp_path / "python_api.py"
    text = ""
    for block in blocks(PAGE):
        if block.language == "python":
            text += "\n" * (block.line - text.count("\n")) + block.text  # its lines have the page's numbers
    program.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(program)]
    environment = os.environ | {"MYPYPATH": str(ROOT)}  # the code beside the page, and not another that is installed
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
