"""The folder for what can be made again."""

import os
import sys
import tempfile
from pathlib import Path

from facetrain.core.errors import InputError


def user_cache() -> Path:
    """The folder for what can be made again; facetrain's part of it is `facetrain`. FACETRAIN_CACHE chooses another.

    A user without a home has one among the temporary files. Raises InputError where FACETRAIN_CACHE is no path.
    """
    if chosen := os.environ.get("FACETRAIN_CACHE"):
        try:
            return Path(chosen).expanduser()
        except RuntimeError as error:
            raise InputError(f"FACETRAIN_CACHE={chosen}: {error}") from error
    try:
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches"
        if sys.platform == "win32":
            return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # no HOME, and no entry in the list of users
        return Path(tempfile.gettempdir()) / f"cache-{os.getuid()}"
