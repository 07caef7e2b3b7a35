"""Files that are whole or not there, hashes of them, and whether a place can be written before any work is done."""

import hashlib
import json
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unicodedata import normalize

from facetrain.core.errors import InputError, OutputError, UsageError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a scratch path beside `path`; on success sync it and rename it over `path`, on failure remove it.

    Raises OutputError where the folder cannot be made or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without the file's own name, which may be as long as a name can be; some writers go by its suffix. Opened as
        # any other file, so that it is as readable (mkstemp's are not, and to ask for the umask is to change it).
        scratch = path.parent / f".part-{secrets.token_hex(8)}{path.suffix[:16]}"
        os.close(os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise OutputError(f"{path}: cannot write here: {error.strerror}", "choose another folder") from error
    try:
        yield scratch
        with scratch.open("rb+") as file:
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}", "is the disk full?") from error
    finally:
        scratch.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    with replacing(path) as scratch:
        scratch.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write a UTF-8 text file atomically, with newlines as they are. See `as_utf8`."""
    write_bytes(path, as_utf8(content))


def as_utf8(text: str) -> bytes:
    r"""A text's bytes; of a path that is not UTF-8 the bytes that are none stand as `\udcff`, as JSON writes them."""
    return text.encode("utf-8", "backslashreplace")


def write_json(path: Path, document: Any) -> None:
    """Write an indented JSON file atomically."""
    write_text(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def as_spelled(folder: Path, name: str, listings: dict[Path, dict[str, str]]) -> Path:
    """`folder / name` with every part spelled as the disk spells it.

    A name can be written in two Unicode forms that look alike, NFC and NFD; macOS makes the second of the first, and
    labels that were made there do not fit files that were copied elsewhere. What is not there stays as it was asked.
    listings: of the folders that were looked into, kept between calls by the caller
    """
    if name.isascii() or os.path.lexists(folder / name):
        return folder / name
    for part in Path(name).parts:
        if folder not in listings:
            listings[folder] = {normalize("NFC", other): other for other in _listed(folder)}
        folder /= listings[folder].get(normalize("NFC", part), part)
    return folder


def _listed(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []


def as_native(path: Path) -> str | bytes:
    """A model file for onnxruntime: its path, or its bytes where the path is not UTF-8, which it takes none of."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return path.read_bytes()
    return str(path)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_lfs_pointer(start: bytes) -> bool:
    """Whether a file that starts with these bytes is a git-lfs pointer in place of the real content."""
    return start.startswith(b"version https://git-lfs")


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
