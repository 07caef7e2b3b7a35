"""Files that are whole or not there, and hashes of them."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from facetrain.core.errors import OutputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a scratch path beside `path`; on success sync it and rename it over `path`, on failure remove it.

    Raises OutputError where the folder cannot be made or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without the file's own name, which may be as long as a name can be; some writers go by its suffix.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".part-", suffix=path.suffix[:16])
        os.close(handle)
    except OSError as error:
        raise OutputError(f"{path}: cannot write here: {error.strerror}", "choose another folder") from error
    scratch = Path(name)
    try:
        yield scratch
        with scratch.open("rb+") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        scratch.chmod(0o666 & ~umask)  # mkstemp gives 0600; a result should be as readable as any other file
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
    """Write a UTF-8 text file atomically, with newlines as they are."""
    write_bytes(path, content.encode())


def write_json(path: Path, document: Any) -> None:
    """Write an indented JSON file atomically."""
    write_text(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_lfs_pointer(start: bytes) -> bool:
    """Whether a file that starts with these bytes is a git-lfs pointer in place of the real content."""
    return start.startswith(b"version https://git-lfs")
