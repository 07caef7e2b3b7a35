"""What the machine can do and what is installed on it, without asking torch."""

import os
import platform
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from facetrain.core.documents.compare import MachineDocument
from facetrain.core.errors import UsageError

_MOST_THREADS = 1024

_CPUINFO = Path("/proc/cpuinfo")
_MODULES = {"opencv": "cv2"}  # where the module has another name than the library


def cpu_flags() -> frozenset[str]:
    """Instruction set names of the first processor as Linux lists them; empty on other systems."""
    try:
        for line in _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("flags", "Features"):
                return frozenset(value.split())
    except OSError:
        pass
    return frozenset()


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself; without that bf16 is slower than float32."""
    return bool(cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"})


def cpu_name() -> str:
    """The processor's own name, as far as the system tells."""
    try:
        for line in _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def available_cores() -> int:
    """Processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def free_memory() -> int:
    """Bytes of RAM that this process can have now: the machine's, its container's and its own limit (`ulimit -v`).

    A cautious guess where the system does not tell.
    """
    rooms = [room for room in (_machine_room(), _container_room(), _limit_room()) if room is not None]
    return max(min(rooms, default=4 << 30), 0)


def _machine_room() -> int | None:
    available = _named_number(Path("/proc/meminfo"), "MemAvailable:")
    if available is not None:
        return available * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return None


def _container_room(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What control groups (version 2, then 1) leave; pages of files that can be dropped do not count as used."""
    for limit, used, cache, statistics in (
        ("memory.max", "memory.current", "inactive_file", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file", "memory/memory.stat"),
    ):
        try:
            most, now = int((root / limit).read_text()), int((root / used).read_text())
        except (OSError, ValueError):  # "max": without a limit
            continue
        return most - now + (_named_number(root / statistics, cache) or 0)
    return None


def _limit_room() -> int | None:
    try:
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_AS)
    except (ImportError, OSError):  # Windows has none
        return None
    size = _named_number(Path("/proc/self/status"), "VmSize:")
    return None if most == resource.RLIM_INFINITY or size is None else most - size * 1024


def _named_number(path: Path, name: str) -> int | None:
    """The number after `name` in a file of lines such as `MemAvailable:  123 kB`."""
    try:
        for line in path.read_text(encoding="ascii").splitlines():
            words = line.split()
            if words[:1] == [name]:
                return int(words[1])
    except (OSError, ValueError, IndexError):
        pass
    return None


def check_threads(threads: int | None) -> None:
    """Raise UsageError for a number of CPU threads that no machine has; None: all that may be used."""
    if threads is not None and not 1 <= threads <= _MOST_THREADS:
        raise UsageError(f"`threads` {threads}: must be from 1 to {_MOST_THREADS}")


def peak_memory() -> int:
    """The most bytes of RAM that this process has held; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def describe_machine(cores: int, threads: int) -> MachineDocument:
    """The processor, cores that could be used, threads of the `all_cores` times, the system and versions.

    torch's version stands there only where it is loaded.
    """
    libraries = ["onnxruntime", "numpy", "opencv", *(["torch"] if sys.modules.get("torch") else [])]
    return {
        "cpu": cpu_name(),
        "cores": cores,
        "threads": threads,
        "platform": platform.platform(),
        "versions": {"python": platform.python_version(), **library_versions(libraries)},
    }


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions as the libraries themselves tell them."""
    return {name: str(import_module(_MODULES.get(name, name)).__version__) for name in names}
