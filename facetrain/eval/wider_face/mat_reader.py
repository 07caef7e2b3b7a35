"""MATLAB v5 files, checked before scipy reads them.

scipy's reader believes what a file says of itself: it unpacks without limit, allocates as many cells as the dimensions
name, and builds objects. So the file is first walked here, byte by byte as scipy will read it, and only the variables
that were asked for are handed over, unpacked and in bounds. The format: MathWorks, "MAT-File Format", level 5.
"""

import io
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from facetrain.core.errors import DataError
from facetrain.core.files import is_lfs_pointer

# A file of WIDER FACE has half a megabyte and unpacks to three; its 61 events are cells of cells.
_MAX_BYTES = 64 << 20
_MAX_UNPACKED = 64 << 20  # text takes sixteen times as much while scipy makes strings of it
_MAX_VARIABLES = 10_000
_MAX_MATRICES = 500_000  # an empty one takes 8 bytes in the file and over 100 in memory
_MAX_DEPTH = 16
_MAX_DIMENSIONS = 8
_MAX_EMPTY = 64  # product of the other dimensions of an empty array: scipy makes one blank string of each row

_SHOWN = 20  # names of variables in a message
_HEADER = 128
_HEAD = 512  # enough for flags, dimensions and name of a variable
_MATRIX, _COMPRESSED = 14, 15  # types of elements
_INT8, _INT32, _UINT32, _UTF8 = 1, 5, 6, 16
_NUMBER_SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}  # bytes of one, by type of element
_TEXT_TYPES = frozenset({1, 2, 4, 16, 17, 18})
_CELL, _CHAR, _OPAQUE = 1, 4, 17  # classes of arrays
_NUMERIC = frozenset(range(6, 16))
_COMPLEX = 0x0800
_REFUSED = {2: "a struct", 3: "an object", 5: "a sparse matrix", 16: "a function handle", _OPAQUE: "an object"}

_DAMAGED = "the file is damaged: get it again"
_SAVE_V7 = "save it from MATLAB with the option '-v7'"


class _RefusedError(Exception):
    """What is wrong with the file; `read_mat` adds its path."""

    def __init__(self, message: str, hint: str = _DAMAGED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def read_mat(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read the named variables of a MATLAB v5 file: arrays of numbers, text or cells, nested as scipy nests them.

    Cells come as object arrays, text as arrays of strings. Other variables of the file are not looked into. Raises
    DataError where the file cannot be read, is not what it should be, lacks a variable, or where a variable holds
    anything else (objects, function handles, structs, sparse or complex numbers) or more than there is room for.
    """
    try:
        content = _read_bytes(path)
        order = _byte_order(content)
        variables = _variables(content, order, frozenset(names))
        if missing := [name for name in names if name not in variables.wanted]:
            # Objects come with a part that has no name; and a name could be anything, also what moves a cursor.
            there = sorted(name for name in [*variables.wanted, *variables.others] if name.isidentifier())
            shown = f"its variables: {', '.join(there[:_SHOWN])}{', …' if len(there) > _SHOWN else ''}"
            raise _RefusedError(f"no variable {', '.join(missing)} in this file", shown if there else "it has none")
        check = _Check(order)
        for name, element in variables.wanted.items():
            check.variable(name, element)
    except _RefusedError as error:
        raise DataError(f"{path}: {error.message}", error.hint) from error
    from scipy.io import loadmat

    # A header of our own, without the offset of the objects' data.
    header = b"MATLAB 5.0 MAT-file".ljust(116) + bytes(8) + content[124:_HEADER]
    try:
        loaded = loadmat(io.BytesIO(b"".join([header, *variables.wanted.values()])))
    except Exception as error:  # text that does not decode, for one; scipy has no common class for what it raises
        raise DataError(f"{path}: cannot be read: {error}", _DAMAGED) from error
    return {name: loaded[name] for name in names}


def _read_bytes(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise _RefusedError("not a file", "give the path of a .mat file")
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > _MAX_BYTES:
        raise _RefusedError(f"too large (more than {_MAX_BYTES >> 20} MiB)", "the official files have half a megabyte")
    return content


def _byte_order(content: bytes) -> str:
    """`<` or `>`, as struct wants it, of a MATLAB v5 file. Refuses all other files, each in its own words."""
    if not content:
        raise _RefusedError("the file is empty")
    if is_lfs_pointer(content):
        raise _RefusedError("a git-lfs pointer, not a MATLAB file", "run `git lfs pull` where it came from")
    if content.startswith(b"MATLAB 7.3") or content[:8] == b"\x89HDF\r\n\x1a\n" or content[512:516] == b"\x89HDF":
        raise _RefusedError("a MATLAB v7.3 (HDF5) file; only v5 files can be read", _SAVE_V7)
    if len(content) >= _HEADER and content[124:_HEADER] in (b"\x00\x01IM", b"\x01\x00MI"):
        return "<" if content.endswith(b"IM", 0, _HEADER) else ">"
    if content.startswith(b"MATLAB 5.0"):
        raise _RefusedError("a MATLAB v5 file with a damaged header, or cut off in it")
    if b"\0" not in content[:_HEAD]:
        raise _RefusedError("text, not a MATLAB file", "is it a web page that was saved in place of the download?")
    if len(content) >= 20 and _looks_like_v4(content):
        raise _RefusedError("a MATLAB v4 file; only v5 files can be read", _SAVE_V7)
    raise _RefusedError("not a MATLAB v5 file")


def _looks_like_v4(content: bytes) -> bool:
    """Whether the file starts as v4 does: type, rows, columns, whether complex, length of the name and its zero."""
    for order in "<>":
        kind, _, _, is_complex, length = struct.unpack_from(f"{order}5I", content)
        if kind <= 4052 and is_complex <= 1 and 2 <= length <= 64:
            return True
    return False


@dataclass(frozen=True)
class _Variables:
    """What a file holds.

    wanted: the variables asked for, as uncompressed elements with their tags
    others: names of the rest
    """

    wanted: dict[str, bytes]
    others: list[str]


def _variables(content: bytes, order: str, names: frozenset[str]) -> _Variables:
    """Take the file apart and unpack the variables asked for, within the limit for all of them together."""
    found = _Variables({}, [])
    room = _MAX_UNPACKED
    for kind, body in _top_level(content, order):
        head = _unpack(body, _HEAD) if kind == _COMPRESSED else body[:_HEAD]
        size, name = _describe(head, order)
        if name not in names:
            found.others.append(name)
            continue
        if name in found.wanted:
            raise _RefusedError(f"variable {name} stands in the file twice")
        room -= 8 + size
        if room < 0:
            raise _RefusedError(f"unpacks to more than {_MAX_UNPACKED >> 20} MiB", "the official files unpack to 3 MiB")
        found.wanted[name] = _unpack(body, 8 + size, whole=True) if kind == _COMPRESSED else bytes(body)
    return found


def _top_level(content: bytes, order: str) -> Iterator[tuple[int, memoryview]]:
    """Kind and bytes of each element of the file: what is compressed without its tag, a matrix with it."""
    at, count = _HEADER, 0
    while at < len(content):
        count += 1
        if count > _MAX_VARIABLES:
            raise _RefusedError(f"more than {_MAX_VARIABLES:,} variables", "the official files have ten")
        if at + 8 > len(content):
            raise _RefusedError("the file is cut off")
        kind, size = struct.unpack_from(f"{order}2I", content, at)
        if kind not in (_MATRIX, _COMPRESSED):
            raise _RefusedError(f"no variable at byte {at}")
        after = at + 8 + size
        if after > len(content):
            raise _RefusedError("the file is cut off")
        yield kind, memoryview(content)[at + 8 * (kind == _COMPRESSED) : after]
        at = after


def _unpack(packed: memoryview, size: int, *, whole: bool = False) -> bytes:
    """The first `size` bytes of what is packed; with `whole` these must be all there are."""
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(packed, size + whole)  # one byte more shows that there are more, and no further ones
    except zlib.error as error:
        raise _RefusedError("a compressed part is damaged") from error
    if whole and (len(data) != size or not unpacker.eof):
        raise _RefusedError("a compressed part is longer or shorter than it says")
    return data


def _describe(head: bytes | memoryview, order: str) -> tuple[int, str]:
    """Size and name of a variable from its first bytes, starting with its tag."""
    if len(head) < 24:
        raise _RefusedError("a variable is cut off")
    kind, size = struct.unpack_from(f"{order}2I", head)
    if kind != _MATRIX:
        raise _RefusedError("a compressed part that holds no variable")
    end = min(len(head), 8 + size)
    array_class = struct.unpack_from(f"{order}I", head, 16)[0] & 0xFF
    at = 24
    if array_class != _OPAQUE:  # the only one that has no dimensions
        _, _, _, at = _tag(head, at, end, order)
    stored, start, length, _ = _tag(head, at, end, order)
    if stored not in (_INT8, _UTF8):
        raise _RefusedError("a variable without a name")
    return size, bytes(head[start : start + length]).decode("latin-1")


def _tag(data: bytes | memoryview, at: int, end: int, order: str) -> tuple[int, int, int, int]:
    """Type, first byte, byte count of the element at `at`, and where the next one starts: every one begins at 8 n."""
    if at + 8 > end:
        raise _RefusedError("an element is cut off")
    kind, size = struct.unpack_from(f"{order}2I", data, at)
    if kind >> 16:  # up to four bytes share the tag's place
        start, size, kind, after = at + 4, kind >> 16, kind & 0xFFFF, at + 8
        if size > 4:
            raise _RefusedError("an element with an impossible size")
    else:
        start, after = at + 8, at + 8 + size + -size % 8
    if after > end:
        raise _RefusedError("an element is longer than what it lies in")
    return kind, start, size, after


class _Check:
    """Walks the elements of variables as scipy will, and refuses what it should not see. Counts over all variables."""

    def __init__(self, order: str) -> None:
        self._order = order
        self._matrices = 0
        self._data = b""

    def variable(self, name: str, element: bytes) -> None:
        """Check one variable, given as an uncompressed element with its tag. Raises _RefusedError."""
        self._data = element
        try:
            self._matrix(8, len(element), 0)
        except _RefusedError as error:
            raise _RefusedError(f"variable {name}: {error.message}", error.hint) from error

    def _matrix(self, at: int, end: int, depth: int) -> None:
        self._matrices += 1
        if self._matrices > _MAX_MATRICES:
            raise _RefusedError(f"more than {_MAX_MATRICES:,} cells", "the official files have some ten thousand")
        if depth > _MAX_DEPTH:
            raise _RefusedError("cells inside cells without end")
        if at == end and depth > 0:
            return  # an empty cell may be a tag and nothing more
        array_class, shape, at = self._header(at, end)
        if array_class == _CELL:
            at = self._cells(shape, at, end, depth)
        else:
            stored, _, size, at = _tag(self._data, at, end, self._order)
            self._values(array_class, shape, stored, size)
        if at != end:
            raise _RefusedError("sizes that do not add up")

    def _header(self, at: int, end: int) -> tuple[int, tuple[int, ...], int]:
        """Class and dimensions of an array, and where its values start. Refuses classes, flags and shapes."""
        stored, start, size, at = _tag(self._data, at, end, self._order)
        if (stored, size) != (_UINT32, 8):
            raise _RefusedError("an array without its flags")
        (flags,) = struct.unpack_from(f"{self._order}I", self._data, start)
        array_class = flags & 0xFF
        if array_class not in _NUMERIC | {_CELL, _CHAR}:
            raise _RefusedError(
                f"holds {_REFUSED.get(array_class, 'something unknown')}; only cells, text and numbers are read",
                "this is not one of the official files",
            )
        if flags & _COMPLEX:
            raise _RefusedError("holds complex numbers", "this is not one of the official files")
        stored, start, size, at = _tag(self._data, at, end, self._order)
        if stored != _INT32 or size % 4 or not 2 <= size // 4 <= _MAX_DIMENSIONS:
            raise _RefusedError("an array without proper dimensions")
        shape = struct.unpack_from(f"{self._order}{size // 4}i", self._data, start)
        if min(shape) < 0 or (0 in shape and math.prod(max(side, 1) for side in shape) > _MAX_EMPTY):
            raise _RefusedError(f"impossible dimensions {_times(shape)}")
        stored, _, _, at = _tag(self._data, at, end, self._order)
        if stored not in (_INT8, _UTF8):
            raise _RefusedError("an array without a name")
        return array_class, shape, at

    def _cells(self, shape: tuple[int, ...], at: int, end: int, depth: int) -> int:
        """Check the cells one after the other; returns where they end."""
        count = math.prod(shape)
        if 8 * count > end - at:
            raise _RefusedError(f"{_times(shape)} cells in {end - at:,} bytes")
        for _ in range(count):
            kind, start, size, _ = _tag(self._data, at, end, self._order)
            if kind != _MATRIX:
                raise _RefusedError("a cell that holds no array")
            at = start + size
            self._matrix(start, at, depth + 1)
        return at

    def _values(self, array_class: int, shape: tuple[int, ...], stored: int, size: int) -> None:
        """Check that numbers or text have as many bytes as their dimensions need."""
        count = math.prod(shape)
        if array_class == _CHAR:
            # A character has one byte or more. Without any, scipy would fill up with blanks.
            fits = stored in _TEXT_TYPES and count <= size
        else:
            fits = stored in _NUMBER_SIZES and count * _NUMBER_SIZES[stored] == size
        if not fits:
            raise _RefusedError(f"an array of {_times(shape)} in {size:,} bytes of type {stored}")


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
