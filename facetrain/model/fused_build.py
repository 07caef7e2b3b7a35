"""Compile the CPU kernels for the processor at hand, once, into a cache folder."""

import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

from facetrain.core.errors import DeviceError
from facetrain.core.files import replacing
from facetrain.core.hardware import cpu_flags

SOURCE = Path(__file__).with_name("fused_cpu.cpp")
_COMPILERS = ("c++", "g++", "clang++")
_PATIENCE_S = 300


def build_library(folder: Path) -> Path:
    """The compiled kernels, taken from `folder` where they lie already: seconds the first time, then milliseconds.

    Raises DeviceError where there is no compiler, or it does not understand the source; OutputError where `folder`
    cannot be written.
    """
    compiler = find_compiler()
    native = "-march=native" if platform.machine() in ("x86_64", "AMD64") else "-mcpu=native"
    # -O3 unrolls the loops over nine weights, without which they do not stay in registers
    flags = ["-std=gnu++17", "-O3", native, "-ffp-contract=fast", "-fPIC", "-shared", "-pthread", "-w"]
    if platform.system() == "Darwin":
        flags.append("-Wl,-undefined,dynamic_lookup")
    # one cache may serve several machines
    made_of = [SOURCE.read_text(encoding="utf-8"), _version(compiler), *flags, platform.machine(), *sorted(cpu_flags())]
    name = hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:16]
    path = folder / f"fused-{name}.so"
    if not path.is_file():
        with replacing(path) as scratch:
            _run([compiler, *flags, str(SOURCE), "-o", str(scratch)])
    return path


def find_compiler() -> str:
    """The C++ compiler: $CXX, or the first known one on the path. Raises DeviceError."""
    if platform.system() == "Windows":
        raise DeviceError("the fused CPU kernels are not offered on Windows", "torch's own operations work there")
    chosen = os.environ.get("CXX")
    for name in [chosen] if chosen else _COMPILERS:
        if found := shutil.which(name):
            return found
    known = f"$CXX is {chosen}" if chosen else f"none of {', '.join(_COMPILERS)} is on the path"
    raise DeviceError(f"no C++ compiler for the fused CPU kernels: {known}", "install g++ or clang++")


def _version(compiler: str) -> str:
    return _run([compiler, "--version"])


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise DeviceError(f"{command[0]}: cannot be run: {error}", "set CXX to another compiler") from error
    if done.returncode:
        first = next((line for line in done.stderr.splitlines() if "error" in line), f"exit code {done.returncode}")
        raise DeviceError(f"{command[0]}: does not compile {SOURCE.name}: {first}", "set CXX to another compiler")
    return done.stdout
