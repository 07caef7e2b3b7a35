"""Whether a result can be written where it is wanted, asked before any work. Nothing is made, nothing is changed."""

import os
from pathlib import Path

from facetrain.core.errors import InputError, UsageError


def check_folder(folder: Path, field: str) -> None:
    """Raise UsageError unless `folder` is one that can be written into, or made. field: what the caller calls it."""
    above = folder
    # os.path answers no for what lies behind a closed folder, Path raises
    while not os.path.lexists(above) and above != above.parent:
        above = above.parent
    if not os.path.isdir(above):  # noqa: PTH112
        raise InputError(f"{folder}: {above} is not a folder", f"choose another `{field}`")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UsageError(f"{folder}: cannot be written: no permission for {above}", f"choose another `{field}`")


def check_file(path: Path, field: str) -> None:
    """Raise UsageError unless a file can be written at `path`, in a folder that is there or can be made."""
    if os.path.isdir(path):  # noqa: PTH112
        raise InputError(f"`{field}` {path}: a folder", "name a file in it")
    check_folder(path.parent, field)
