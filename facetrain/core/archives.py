"""Zip archives from elsewhere: all that they hold is looked over before anything is unpacked, and then whole or not.

Python's zipfile takes an archive at its word in much of this: names that lead elsewhere, sizes, files within files.
"""

import re
import stat
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path, PurePosixPath, PureWindowsPath
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from facetrain.core.errors import DataError, OutputError
from facetrain.core.files import is_lfs_pointer

_MOST_MEMBERS = 200_000
_MOST_BYTES = 64 << 20  # of one member, unpacked
_MOST_ALTOGETHER = 16 << 30
_MOST_RATIO = 100  # unpacked / packed; text has 10, and a megabyte of anything is no danger
_NO_DANGER = 1 << 20
_LOCAL_HEADER = 30  # bytes before a member's name
_ENCRYPTED = 1
_AGAIN = "get the archive again"
_NOT_OFFICIAL = "this is not an archive of images and labels: get it from its owners"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# whatever zipfile raises for an archive that is damaged or made up
_DAMAGED = (
    BadZipFile,
    NotImplementedError,
    RuntimeError,
    ValueError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
)


class Archive:
    """A zip archive that was looked over. members: by their names, folders left out."""

    def __init__(self, path: Path, file: ZipFile) -> None:
        self.path = path
        self.members = {info.filename: info for info in file.infolist() if not info.is_dir()}
        self._file = file

    def read(self, name: str) -> bytes:
        """A member's bytes, all of them and with the right checksum. Raises DataError."""
        try:
            content = self._file.read(self.members[name])
        except _DAMAGED as error:
            raise DataError(f"{self.path}: {name}: damaged: {_first_line(error)}", _AGAIN) from error
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        if len(content) != self.members[name].file_size:
            raise DataError(f"{self.path}: {name}: {len(content):,} bytes, not the number that it tells", _AGAIN)
        return content

    def is_unpacked(self, name: str, target: Path) -> bool:
        """Whether `target` is a member's file already: of its size, with its checksum."""
        info = self.members[name]
        try:
            return target.stat().st_size == info.file_size and zlib.crc32(target.read_bytes()) == info.CRC
        except OSError:
            return False

    def unpack(self, name: str, target: Path) -> None:
        """Write a member to `target`, whole or not at all. Raises DataError, or OutputError."""
        write_whole(target, self.read(name))


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """An archive, every member of which was looked over. Raises DataError that says what is wrong with it."""
    with _open(path) as file:
        yield Archive(path, file)


def _open(path: Path) -> ZipFile:
    try:
        size = path.stat().st_size
        with path.open("rb") as start:
            head = start.read(512)
        file = ZipFile(path)
    except _DAMAGED as error:
        raise DataError(f"{path}: {_no_zip(head, size)}", _AGAIN) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    fault = _fault(file.infolist(), size)
    if fault is not None:
        file.close()
        raise DataError(f"{path}: {fault}", _NOT_OFFICIAL)
    return file


def write_whole(target: Path, content: bytes) -> None:
    """Write a file whole or not at all, without waiting for the disk: of thousands `is_unpacked` finds the torn one."""
    scratch = target.with_name(f".part-{target.name}"[:200])
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_bytes(content)
        scratch.replace(target)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {error.strerror or error}", "is the disk full?") from error
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)


def _no_zip(head: bytes, size: int) -> str:
    """What a file that zipfile does not open is instead."""
    if is_lfs_pointer(head):
        return "a git-lfs pointer, not the archive"
    if re.match(rb"\s*<(!doctype|html|\?xml)", head, re.IGNORECASE):
        return "a web page, not an archive: some drives ask before they give a large file"
    if not size:
        return "the file is empty"
    if head.startswith(b"PK"):
        return f"cut off or damaged: {size:,} bytes, and the list of its files, which stands at the end, is not there"
    return "not a zip archive"


def _fault(members: Sequence[ZipInfo], size: int) -> str | None:
    """What makes an archive of `size` bytes one that must not be unpacked."""
    if len(members) > _MOST_MEMBERS:
        return f"{len(members):,} files in it; at most {_MOST_MEMBERS:,} are taken"
    seen: set[str] = set()
    total = 0
    for info in members:
        fault = _member_fault(info, size)
        if fault is None and info.filename in seen:
            fault = "stands in it twice"
        if fault is not None:
            return f"{info.filename}: {fault}"
        seen.add(info.filename)
        total += info.file_size
    if total > _MOST_ALTOGETHER:
        return f"would unpack to {total:,} bytes; at most {_MOST_ALTOGETHER:,} are taken"
    ordered = sorted(members, key=lambda info: info.header_offset)
    for info, following in pairwise(ordered):
        if info.header_offset + _LOCAL_HEADER + info.compress_size > following.header_offset:
            return f"{following.filename}: lies within {info.filename}"
    return None


def _member_fault(info: ZipInfo, size: int) -> str | None:
    name = info.orig_filename
    path = PurePosixPath(name)
    kind = stat.S_IFMT(info.external_attr >> 16)
    unsafe = path.is_absolute() or ".." in path.parts or "\\" in name or PureWindowsPath(name).drive
    if unsafe or not path.parts or _CONTROL.search(name):
        return "a name that leads out of the folder, or is none"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a link or a device, not a file"
    if info.flag_bits & _ENCRYPTED:
        return "encrypted"
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        return "packed in a way that such archives do not use"
    if info.file_size > _MOST_BYTES:
        return f"would unpack to {info.file_size:,} bytes; at most {_MOST_BYTES:,} are taken of one file"
    if info.file_size > max(_NO_DANGER, _MOST_RATIO * info.compress_size):
        return f"{info.compress_size:,} bytes that would unpack to {info.file_size:,}"
    if info.header_offset + _LOCAL_HEADER + info.compress_size > size:
        return "reaches beyond the end of the archive, which was cut off"
    return None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
