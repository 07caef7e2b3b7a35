"""Programs made of exported C++, with the compiler of this machine."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from facetrain.core.compiler import Compiler
from facetrain.core.errors import ExportError

_COMPILE_SECONDS, _RUN_SECONDS = 900, 600  # far more than any machine needs: past them something hangs


def compile_program(
    compiler: Compiler, folder: Path, files: Mapping[str, str], sources: Sequence[str], flags: Sequence[str]
) -> Path:
    """Write the files (relative path -> text) into `folder` and compile the sources. Raises ExportError."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    program = folder / ("check.exe" if os.name == "nt" else "check")
    command = [*compiler.command, *flags, *sources, "-I.", "-o", program.name]
    if os.name != "nt":
        command.append("-pthread")
    done = _run(command, folder, _COMPILE_SECONDS, "the compiler")
    if done.returncode:
        raise ExportError(
            f"what was to be written does not compile with {compiler.version}\n{_first_lines(done.stderr)}",
            "nothing was written; CXX names another compiler, `no_check` writes the files as they are",
        )
    return program


def run_program(program: Path, arguments: Sequence[str]) -> str:
    """What the program prints. Raises ExportError where it fails."""
    done = _run([str(program), *arguments], program.parent, _RUN_SECONDS, "the compiled detector")
    if done.returncode:
        raise ExportError(
            f"the compiled detector ends with {done.returncode}\n{_first_lines(done.stderr)}".rstrip(),
            "nothing was written; please report it with what `facetrain info` prints",
        )
    return done.stdout


def _run(command: Sequence[str], folder: Path, seconds: int, what: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        raise ExportError(f"{what} did not end within {seconds} s", "nothing was written; see `no_check`") from error
    except OSError as error:
        raise ExportError(f"{what} does not start: {error.strerror}", "nothing was written; see `no_check`") from error


def _first_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[:8])
