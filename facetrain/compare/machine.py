"""The machine and the libraries that times were measured with."""

import platform
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from facetrain.core.machine import cpu_name

_MODULES = {"opencv": "cv2"}  # where the module has another name than the library


def describe_machine(cores: int, threads: int) -> dict[str, Any]:
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
