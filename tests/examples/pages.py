"""README.md and the pages of examples/: their code blocks, and how each is run.

A block is run as it stands, in a folder of its page's own, after the blocks above it. What keeps one from being run is
said on the page, in a comment that no reader of the rendered page sees, directly above the block:

    <!-- not run: why -->         never run
    <!-- slow: why -->            run by `pytest -m slow`
    <!-- reference: what -->      run by `pytest -m slow`, where the reference folder is
    <!-- shorter: this, that -->  run by `pytest -m slow`, with that in place of this

A block that begins with a comment that is a file's name (`# my_model.yaml`, `// app.cpp`) is saved under it. `text`
is what a program prints or a file looks like, and holds no command.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import pytest
import typer

from facetrain.cli.app import build_app, run_cli
from facetrain.config.load import load_config

ROOT = Path(__file__).parents[2]
LANGUAGES = {"sh", "python", "yaml", "cpp", "text"}
MARKS = ("not run", "slow", "reference", "shorter")

_FENCE = re.compile(r"^```(\w*)$")
_MARK = re.compile(rf"^<!-- ({'|'.join(MARKS)}): (.+) -->$")
_FILE = re.compile(r"^(?:#|//) ([\w.-]+\.(?:py|yaml|cpp))$")
_SHELL = re.compile(r"[|&;<>*?$`(){}~]")  # what only a shell understands


@dataclass(frozen=True)
class Block:
    """One fenced block. line: of the page, of its fence; mark: one of MARKS or empty."""

    page: str
    line: int
    language: str
    text: str
    mark: str
    why: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str | None:
        found = _FILE.match(self.text.partition("\n")[0])
        return found[1] if found else None


def page_paths() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "examples").glob("*.md"))]


def page_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path) -> list[Block]:
    """A page's blocks, in order."""
    found: list[Block] = []
    lines = path.read_text(encoding="utf-8").splitlines()
    start: int | None = None
    language = ""
    for number, line in enumerate(lines):
        fence = _FENCE.match(line.strip()) if line.lstrip().startswith("```") else None
        if fence is None:
            continue
        if start is None:
            start, language = number, fence[1]
            continue
        above = lines[start - 1] if start and lines[start - 1] else lines[max(start - 2, 0)]
        mark = _MARK.match(above)
        text = "\n".join(lines[start + 1 : number]) + "\n"
        found.append(
            Block(page_name(path), start + 1, language, text, mark[1] if mark else "", mark[2] if mark else "")
        )
        start = None
    assert start is None, f"{page_name(path)}: the block of line {start} does not end"
    return found


def table(path: Path, heading: str) -> list[list[str]]:
    """The cells of all tables of a page that have a column of that heading."""
    rows: list[list[str]] = []
    inside = False
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("|") else []
        if not inside:
            inside = heading in cells
        elif not cells:
            inside = False
        elif not line.startswith("| ---"):
            rows.append(cells)
    assert rows, f"{page_name(path)}: no column {heading}"
    return rows


def options_of(*words: str) -> set[str]:
    """The options, as they are typed, of the subcommand of facetrain that a line's words begin with."""
    command: Any = typer.main.get_command(build_app())
    for word in words:
        if not isinstance(command, click.Group | typer.core.TyperGroup):
            break
        command = command.commands[word]
    return {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}


def commands(text: str) -> list[str]:
    """The lines of a shell block, without comments and with continued ones joined."""
    joined = text.replace("\\\n", " ").splitlines()
    return [line for line in joined if line.strip() and not line.lstrip().startswith("#")]


def without_quotes(line: str) -> str:
    """A line of a shell without its quoted words and its comment."""
    return re.sub(r"'[^']*'|\"[^\"]*\"", "", line).partition(" #")[0]


def run(block: Block, folder: Path, monkeypatch: pytest.MonkeyPatch, names: dict[str, Any] | None = None) -> None:
    """Do what a reader would do with the block. Fails with what it printed.

    names: those of the page's Python blocks so far, which read like one program.
    """
    if block.mark == "shorter":
        long, short = block.why.split(", ")
        assert long in block.text, f"{block}: {long} is not there"
        block = replace(block, text=block.text.replace(long, short))
    if block.file is not None:
        (folder / block.file).write_text(block.text, encoding="utf-8")
    if block.language == "sh":
        _run_shell(block, folder, monkeypatch)
    elif block.language == "python":
        monkeypatch.chdir(folder)
        exec(compile(block.text, str(block), "exec"), {} if names is None else names)
    elif block.language == "yaml" and block.file is not None:
        load_config(folder / block.file)
    elif block.language in ("yaml", "cpp"):
        assert block.file is not None, f"{block}: begin it with its file's name in a comment"


def _run_shell(block: Block, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain lines of facetrain in this process, which has imported what they need; others by a shell."""
    lines = commands(block.text)
    if not all(line.startswith("facetrain ") and not _SHELL.search(without_quotes(line)) for line in lines):
        _run_process(["bash", "-eo", "pipefail", "-c", block.text], block, folder)
        return
    monkeypatch.chdir(folder)
    for line in lines:
        assert run_cli(shlex.split(line, comments=True)[1:]) == 0, f"{block}: {line}"


def _run_process(command: list[str], block: Block, folder: Path) -> None:
    environment = os.environ | {
        "PATH": f"{_programs(folder)}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode == 0, f"{block}\n{block.text}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def _programs(folder: Path) -> Path:
    """A folder where `facetrain` and `python` are those of the running interpreter."""
    programs = folder.with_name(folder.name + "-programs")
    if not programs.exists():
        programs.mkdir()
        for name, line in (("facetrain", "-m facetrain"), ("python", "")):
            script = programs / name
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {line} "$@"\n')
            script.chmod(0o755)
    return programs


def copy_examples(folder: Path) -> None:
    """The programs of examples/, which pages call by that path."""
    target = folder / "examples"
    target.mkdir()
    for path in (ROOT / "examples").iterdir():
        if path.suffix in (".py", ".yaml"):
            shutil.copy(path, target)
