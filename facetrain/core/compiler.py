"""The C++ compiler of this machine, for kernels and exported programs alike."""

import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass

COMPILERS = ("g++", "clang++", "c++")
_ANSWERS_S = 60.0  # asked for its version, far more than any compiler needs


@dataclass(frozen=True)
class Compiler:
    """command: as it is called; version: the first line of what it says of itself."""

    command: tuple[str, ...]
    version: str


def find_compiler() -> Compiler | None:
    """The compiler that the variable CXX names, with options such as `ccache g++ -m64`, or else the first known one."""
    wanted = os.environ.get("CXX", "").strip()
    for command in [_words(wanted)] if wanted else [[name] for name in COMPILERS]:
        if not command or shutil.which(command[0]) is None:
            continue
        try:
            done = subprocess.run(
                [*command, "--version"],
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=_ANSWERS_S,
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return Compiler(tuple(command), (done.stdout.splitlines() or [command[0]])[0])
    return None


def which_compilers() -> str:
    """What was looked for, in words."""
    wanted = os.environ.get("CXX", "").strip()
    return f"CXX names {wanted!r}" if wanted else f"none of {', '.join(COMPILERS)} is on the path"


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # a quotation mark that is not closed
        return [command]
