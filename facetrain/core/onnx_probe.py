"""A first look at an ONNX file, by a process that may take little: a file's numbers can ask for any memory and time.

Shapes could be looked at instead, but they stand in attributes, initialisers and computed values of two hundred
operators, and what onnxruntime folds while it opens a file is in none of them. A trial run sees all of that. It costs
one start of Python and onnxruntime, about half a second, once for each file: what passed is remembered by its hash.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from facetrain.core.errors import DataError
from facetrain.core.files import sha256, user_cache, write_json
from facetrain.core.machine import peak_memory
from facetrain.core.onnx_session import cpu_session

PIXEL_BYTES = 60  # working memory of a run by pixel of its image; YuNet's, measured: 50
_MEMORY = 2 << 30  # bytes over what the process takes before it opens the file
_SECONDS = 8  # of processor time, for opening it and two runs
_WALL_SECONDS = 120  # for the same on a machine that is busy
_SIDES = (256, 640)  # of the blank images, where the file leaves the size open
_MOST_SIDE = 1 << 13


def probed(path: Path, trusted: Path) -> int:
    """The working memory of a file's runs, in bytes by pixel of the image. Files inside `trusted` are not tried.

    Raises DataError where the file needs more memory or time on a small blank image than any detector does, or ends
    the process that opens it. What is only no network, onnxruntime says better when it is opened.
    """
    if path.resolve().is_relative_to(trusted.resolve()):
        return PIXEL_BYTES
    import onnxruntime

    kept = user_cache() / "facetrain" / "onnx" / f"{sha256(path)[:40]}-{onnxruntime.__version__}.json"
    known = _known(kept)
    if known is not None:
        return known
    found = _tried(path)
    try:
        write_json(kept, {"pixel_bytes": found})
    except Exception:  # a cache that cannot be written is none
        return found
    return found


def _known(kept: Path) -> int | None:
    try:
        value = json.loads(kept.read_text(encoding="utf-8"))["pixel_bytes"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return value if isinstance(value, int) and value >= PIXEL_BYTES else None


def _tried(path: Path) -> int:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "facetrain.core.onnx_probe", os.fspath(path.absolute())]
    package = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (package, environment.get("PYTHONPATH"))))
    try:
        done = subprocess.run(command, capture_output=True, timeout=_WALL_SECONDS, env=environment, check=False)
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{path}: takes minutes on a small blank image, as no detector does") from error
    if done.returncode == 0:
        return max(PIXEL_BYTES, int(done.stdout.split()[-1]))
    if done.returncode == _NO_MEMORY:
        raise DataError(f"{path}: asks for more than {_MEMORY >> 30} GiB on a small blank image, as no detector does")
    if -done.returncode in _OUT_OF_TIME:
        raise DataError(f"{path}: takes more than {_SECONDS} s on a small blank image, as no detector does")
    raise DataError(f"{path}: ends the process that opens it", "it is damaged, or means harm")


_NO_MEMORY = 3
_OUT_OF_TIME = (24, 9)  # SIGXCPU, and SIGKILL a second later


def _main(path: Path) -> None:
    """Open the file and run it on blank images; prints bytes by pixel. Exit code 3: not enough memory."""
    import numpy as np
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    _limit()
    peaks = []
    try:
        session = cpu_session(path, threads=1)
        [entry] = session.get_inputs()
        kind = np.float16 if "16" in entry.type else np.float32
        for side in _SIDES:
            shape = [size if isinstance(size, int) and size > 0 else side for size in entry.shape]
            shape = [1 if i == 0 and not isinstance(entry.shape[0], int) else size for i, size in enumerate(shape)]
            shape = [3 if i == 1 and not isinstance(entry.shape[1], int) else size for i, size in enumerate(shape)]
            if len(shape) != 4 or max(shape) > _MOST_SIDE:
                break
            session.run(None, {entry.name: np.zeros(shape, kind)})
            peaks.append(peak_memory())
            if shape[2:] != [side, side]:
                break
    except MemoryError:
        sys.exit(_NO_MEMORY)
    except Exception as error:  # no network, or none that takes an image: said better when it is opened
        if _is_memory(error):
            sys.exit(_NO_MEMORY)
    grown = (peaks[1] - peaks[0]) // (_SIDES[1] ** 2 - _SIDES[0] ** 2) if len(peaks) == 2 else 0
    print(grown)


def _is_memory(error: Any) -> bool:
    text = str(error).lower()
    return "bad_alloc" in text or "failed to allocate" in text or "out of memory" in text


def _limit() -> None:
    """Take a bound on memory and processor time for the rest of this process. Not where the system has none."""
    try:
        import resource
    except ImportError:
        return
    try:
        size = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    except (OSError, ValueError):
        size = 0
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = int(used.ru_utime + used.ru_stime) + 1
    if size:
        resource.setrlimit(resource.RLIMIT_AS, (size + _MEMORY, size + _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (spent + _SECONDS, spent + _SECONDS + 1))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
