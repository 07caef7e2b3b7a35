"""Compile the CPU kernels for the processor at hand, once, into a cache folder.

What lies there is run, so it is looked at first: the folder and the library must be this user's own and closed to
others, and the library's name holds its SHA-256, so that one that was cut off or replaced is compiled anew.
"""

import hashlib
import os
import platform
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from facetrain.core.compiler import Compiler, find_compiler, which_compilers
from facetrain.core.errors import DeviceError, OutputError
from facetrain.core.files import write_bytes
from facetrain.core.machine import cpu_flags

SOURCE = Path(__file__).with_name("cpu.cpp")
_PATIENCE_S = 300


def build_library(folder: Path, source: Path = SOURCE, flags: Sequence[str] = ("-ffp-contract=fast",)) -> Path:
    """A compiled library, taken from `folder` where it lies whole: seconds the first time, then milliseconds.

    source: includes at most what lies beside it; flags: of the compiler, besides the usual ones

    Raises DeviceError where there is no compiler, it does not understand the source, or the folder is another user's;
    OutputError where `folder` cannot be written.
    """
    if platform.system() == "Windows":
        raise DeviceError("the fused CPU kernels are not offered on Windows", "torch's own operations work there")
    compiler = find_compiler()
    if compiler is None:
        reason = f"no C++ compiler for the fused CPU kernels: {which_compilers()}"
        raise DeviceError(reason, "install g++ or clang++")
    native = "-march=native" if platform.machine() in ("x86_64", "AMD64") else "-mcpu=native"
    # -O3 unrolls the loops over nine weights, without which they do not stay in registers
    options = ["-std=gnu++17", "-O3", native, *flags, "-fPIC", "-shared", "-pthread", "-w"]
    if platform.system() == "Darwin":
        options.append("-Wl,-undefined,dynamic_lookup")
    _close(folder)
    # one cache may serve several machines
    sources = [path.read_text(encoding="utf-8") for path in (source, *sorted(source.parent.glob("*.h")))]
    made_of = [*sources, *compiler.command, compiler.version, *options, platform.machine()]
    key = hashlib.sha256("\n".join([*made_of, *sorted(cpu_flags())]).encode()).hexdigest()[:16]
    for path in sorted(folder.glob(f"{source.stem}-{key}-*.so")):
        if _is_whole_and_ours(path):
            return path
        path.unlink(missing_ok=True)
    content = _compile(compiler, source, options)
    path = folder / f"{source.stem}-{key}-{_digest(content)}.so"
    write_bytes(path, content)
    path.chmod(0o700)
    return path


def _close(folder: Path) -> None:
    """Make the folder this user's alone. Raises OutputError where it cannot be made, DeviceError if it is another's."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        if found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot write here: {error.strerror}", "FACETRAIN_CACHE chooses another cache folder"
        ) from error
    if found.st_uid != os.getuid():
        raise DeviceError(
            f"{folder}: belongs to another user, nothing is loaded from there",
            "FACETRAIN_CACHE chooses another cache folder",
        )


def _is_whole_and_ours(path: Path) -> bool:
    """Whether a library is a plain file of this user that others cannot write, with the content its name says."""
    try:
        found = path.lstat()
        ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
        return ours and path.stem.endswith(f"-{_digest(path.read_bytes())}")
    except OSError:
        return False


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _compile(compiler: Compiler, source: Path, options: list[str]) -> bytes:
    """The library's bytes, made in a folder that nobody else can read."""
    with tempfile.TemporaryDirectory(prefix="facetrain-") as scratch:
        target = Path(scratch) / "fused.so"
        command = [*compiler.command, *options, str(source), "-o", str(target)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=_PATIENCE_S, check=False
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise DeviceError(f"{command[0]}: cannot be run: {error}", "set CXX to another compiler") from error
        if done.returncode == 0:
            with suppress(OSError):
                return target.read_bytes()
        first = next((line for line in done.stderr.splitlines() if "error" in line), f"exit code {done.returncode}")
        raise DeviceError(f"{command[0]}: does not compile {source.name}: {first}", "set CXX to another compiler")
