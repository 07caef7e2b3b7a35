"""Cells, text and numbers of MATLAB v5 files, read here: a file from elsewhere may say anything of itself.

Nothing is unpacked, and no array made, before its bytes are there and within a limit; scipy's reader does both as the
file says. The format: MathWorks, "MAT-File Format", level 5.
"""

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetrain.core.errors import DataError
from facetrain.core.files import is_lfs_pointer

# A file of WIDER FACE has half a megabyte and unpacks to three; its 61 events are cells of cells.
_MAX_BYTES = 64 << 20
_MAX_UNPACKED = 24 << 20  # text takes four times as much in NumPy
_MAX_VARIABLES = 10_000
_MAX_MATRICES = 500_000  # an empty one takes 8 bytes in the file and over 100 in memory
_MAX_DEPTH = 16
_MAX_DIMENSIONS = 8
_MAX_EMPTY = 64  # product of the other dimensions of an empty array: NumPy cannot have any

_SHOWN = 20  # names of variables in a message
_HEADER = 128
_HEAD = 512  # enough for flags, dimensions and name of a variable
_MATRIX, _COMPRESSED = 14, 15  # types of elements
_INT8, _INT32, _UINT32, _UTF8 = 1, 5, 6, 16
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_ENCODINGS = {1: "utf-8", 2: "utf-8", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
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

    Numbers have the type that they are stored in, cells are object arrays, text is an array of one string. Other
    variables of the file are not looked into. Raises DataError where the file cannot be read, is not what it should
    be, lacks a variable, or where a variable holds anything else (objects, function handles, structs, sparse or complex
    numbers, text of several rows) or more than there is room for.
    """
    try:
        content = _read_bytes(path)
        order = _byte_order(content)
        wanted, others = _variables(content, order, frozenset(names))
        if missing := [name for name in names if name not in wanted]:
            # Objects come with a part that has no name; and a name could be anything, also what moves a cursor.
            there = sorted(name for name in [*wanted, *others] if name.isidentifier())
            shown = f"its variables: {', '.join(there[:_SHOWN])}{', …' if len(there) > _SHOWN else ''}"
            raise _RefusedError(f"no variable {', '.join(missing)} in this file", shown if there else "it has none")
        reader = _Reader(order)
        return {name: reader.variable(name, wanted[name]) for name in names}
    except _RefusedError as error:
        raise DataError(f"{path}: {error.message}", error.hint) from error


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
    raise _RefusedError("not a MATLAB v5 file", f"if it is a MATLAB v4 file, {_SAVE_V7}; else get it again")


def _variables(content: bytes, order: str, names: frozenset[str]) -> tuple[dict[str, bytes], list[str]]:
    """The variables asked for, as uncompressed elements with their tags, and the names of the rest.

    Unpacks what was asked for alone, within the limit for all of it together.
    """
    wanted: dict[str, bytes] = {}
    others: list[str] = []
    room = _MAX_UNPACKED
    for kind, body in _top_level(content, order):
        head = _unpack(body, _HEAD) if kind == _COMPRESSED else body[:_HEAD]
        size, name = _describe(head, order)
        if name not in names:
            others.append(name)
            continue
        if name in wanted:
            raise _RefusedError(f"variable {name} stands in the file twice")
        room -= 8 + size
        if room < 0:
            raise _RefusedError(f"unpacks to more than {_MAX_UNPACKED >> 20} MiB", "the official files unpack to 3 MiB")
        wanted[name] = _unpack(body, 8 + size, whole=True) if kind == _COMPRESSED else bytes(body)
    return wanted, others


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


class _Reader:
    """Makes arrays of variables. Counts over all of them."""

    def __init__(self, order: str) -> None:
        self._order = order
        self._matrices = 0
        self._data = b""

    def variable(self, name: str, element: bytes) -> NDArray[Any]:
        """One variable, given as an uncompressed element with its tag. Raises _RefusedError."""
        self._data = element
        try:
            return self._matrix(8, len(element), 0)
        except _RefusedError as error:
            raise _RefusedError(f"variable {name}: {error.message}", error.hint) from error

    def _matrix(self, at: int, end: int, depth: int) -> NDArray[Any]:
        self._matrices += 1
        if self._matrices > _MAX_MATRICES:
            raise _RefusedError(f"more than {_MAX_MATRICES:,} cells", "the official files have some ten thousand")
        if depth > _MAX_DEPTH:
            raise _RefusedError("cells inside cells without end")
        if at == end and depth > 0:
            return np.zeros((1, 0))  # an empty cell may be a tag and nothing more
        array_class, shape, at = self._header(at, end)
        if array_class == _CELL:
            values, at = self._cells(shape, at, end, depth)
        else:
            stored, start, size, at = _tag(self._data, at, end, self._order)
            make = _text if array_class == _CHAR else _numbers
            values = make(self._data[start : start + size], stored, shape, self._order)
        if at != end:
            raise _RefusedError("sizes that do not add up")
        return values

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

    def _cells(self, shape: tuple[int, ...], at: int, end: int, depth: int) -> tuple[NDArray[Any], int]:
        """The cells, one after the other, and where they end."""
        count = math.prod(shape)
        if 8 * count > end - at:
            raise _RefusedError(f"{_times(shape)} cells in {end - at:,} bytes")
        cells = np.empty(count, object)
        for place in range(count):
            kind, start, size, _ = _tag(self._data, at, end, self._order)
            if kind != _MATRIX:
                raise _RefusedError("a cell that holds no array")
            at = start + size
            cells[place] = self._matrix(start, at, depth + 1)
        return cells.reshape(shape, order="F"), at


def _numbers(data: bytes, stored: int, shape: tuple[int, ...], order: str) -> NDArray[Any]:
    kind = np.dtype(order + _NUMBERS[stored]) if stored in _NUMBERS else None
    if kind is None or math.prod(shape) * kind.itemsize != len(data):
        raise _misfit(data, stored, shape)
    return np.frombuffer(data, kind).reshape(shape, order="F")


def _text(data: bytes, stored: int, shape: tuple[int, ...], order: str) -> NDArray[Any]:
    """An array (1,) of the string; (0,) for none."""
    count = math.prod(shape)
    if stored not in _ENCODINGS or count > len(data):  # a character has one byte or more
        raise _misfit(data, stored, shape)
    if count == 0:
        return np.empty(0, "U1")
    if count != shape[-1]:
        raise _RefusedError(f"text of several rows ({_times(shape)})", "this is not one of the official files")
    encoding = _ENCODINGS[stored]
    try:
        text = data.decode(encoding if encoding == "utf-8" else f"{encoding}-{'le' if order == '<' else 'be'}")
    except UnicodeDecodeError as error:
        raise _RefusedError("text that does not decode") from error
    if len(text) != count:
        raise _misfit(data, stored, shape)
    return np.array([text])


def _misfit(data: bytes, stored: int, shape: tuple[int, ...]) -> _RefusedError:
    return _RefusedError(f"an array of {_times(shape)} in {len(data):,} bytes of type {stored}")


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
