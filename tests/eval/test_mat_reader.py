import io
import math
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from facetrain.core.errors import DataError
from facetrain.eval.wider_face import mat_reader
from facetrain.eval.wider_face.mat_reader import read_mat

CELL, STRUCT, OBJECT, CHAR, SPARSE, DOUBLE, UINT8, FUNCTION, OPAQUE = 1, 2, 3, 4, 5, 6, 9, 16, 17


# --- files by hand


def element(kind: int, data: bytes, order: str = "<", size: int | None = None) -> bytes:
    """A tag and its data, filled up to eight bytes. size: what the tag says, if not the truth."""
    return struct.pack(f"{order}2I", kind, len(data) if size is None else size) + data + bytes(-len(data) % 8)


def matrix(array_class: int, shape: tuple[int, ...], *parts: bytes, name: str = "", flags: int = 0, order: str = "<"):
    return element(
        14,
        element(6, struct.pack(f"{order}2I", array_class | flags, 0), order)
        + element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
        + element(1, name.encode(), order)
        + b"".join(parts),
        order,
    )


def compressed(data: bytes) -> bytes:
    packed = zlib.compress(data)
    return struct.pack("<2I", 15, len(packed)) + packed  # without filling up


def mat(*variables: bytes, order: str = "<") -> bytes:
    mark = struct.pack(f"{order}H", 0x0100) + (b"IM" if order == "<" else b"MI")
    return b"MATLAB 5.0 MAT-file, by hand".ljust(116) + bytes(8) + mark + b"".join(variables)


def numbers(values: list[int], name: str = "x", order: str = "<") -> bytes:
    data = struct.pack(f"{order}{len(values)}i", *values)
    return matrix(DOUBLE, (1, len(values)), element(5, data, order), name=name, order=order)


def refusal(tmp_path: Path, content: bytes, *names: str) -> DataError:
    path = tmp_path / "some.mat"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_mat(path, names or ("x",))
    assert caught.value.message.startswith(f"{path}: ")
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


def read_bytes(tmp_path: Path, content: bytes, *names: str) -> dict[str, np.ndarray]:
    path = tmp_path / "some.mat"
    path.write_bytes(content)
    return read_mat(path, names)


# --- what is read


def cells(*values: object) -> np.ndarray:
    out = np.empty((len(values), 1), object)
    for i, value in enumerate(values):
        out[i, 0] = value
    return out


def same(a: np.ndarray, b: np.ndarray) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype == object:
        return all(same(x, y) for x, y in zip(a.ravel(), b.ravel(), strict=True))
    return np.array_equal(a, b)


arrays = st.one_of(
    st.text("abc_-1é世", min_size=1, max_size=9),
    st.tuples(
        st.sampled_from([np.uint8, np.uint16, np.int32, np.float32, np.float64, np.int64, bool]),
        st.tuples(st.integers(0, 4), st.integers(0, 4)),
        st.integers(0, 200),
    ).map(lambda t: (np.arange(math.prod(t[1])) + t[2]).reshape(t[1]).astype(t[0])),
)
nested = st.recursive(arrays, lambda inner: st.lists(inner, min_size=1, max_size=4).map(lambda x: cells(*x)))


@settings(deadline=None, max_examples=60)
@given(values=st.lists(nested, min_size=1, max_size=3), compress=st.booleans())
def test_every_array_comes_as_scipy_reads_it(tmp_path_factory, values, compress):
    path = tmp_path_factory.mktemp("mat") / "some.mat"
    savemat(path, {f"v{i}": value for i, value in enumerate(values)}, do_compression=compress)
    expected = loadmat(path)
    got = read_mat(path, [f"v{i}" for i in range(len(values))])
    assert all(same(got[name], expected[name]) for name in got)
    assert len(got) == len(values)


@pytest.mark.parametrize("name", ["easy", "medium", "hard", "face"])
def test_the_official_files_come_as_scipy_reads_them(shared, name):
    path = shared / f"widerface/labelv2/val/gt/wider_{name}_val.mat"
    names = [key for key in loadmat(path) if not key.startswith("_")]
    got, expected = read_mat(path, names), loadmat(path)
    assert len(names) >= 9
    assert all(same(got[key], expected[key]) for key in names)


@pytest.mark.parametrize("order", ["<", ">"])
def test_files_by_hand_are_read(tmp_path, order):
    """So that the refusals below are for the flaw they have and for nothing else."""
    inner = matrix(CELL, (2, 1), numbers([1, 2], "", order), element(14, b"", order), order=order)
    text = matrix(CHAR, (1, 3), element(1, b"abc", order), order=order)
    content = mat(
        numbers([7, 8, 9], order=order), matrix(CELL, (1, 2), inner, text, name="c", order=order), order=order
    )
    got = read_bytes(tmp_path, content, "x", "c")
    assert got["x"].tolist() == [[7, 8, 9]]
    assert got["c"][0, 0][0, 0].tolist() == [[1, 2]]
    assert got["c"][0, 0][1, 0].size == 0
    assert got["c"][0, 1].tolist() == ["abc"]


def test_small_data_shares_the_place_of_its_tag(tmp_path):
    small = struct.pack("<HH4s", 2, 3, bytes([5, 6, 7]))
    got = read_bytes(tmp_path, mat(matrix(UINT8, (3, 1), small, name="x")), "x")
    assert got["x"].tolist() == [[5], [6], [7]]


def test_a_compressed_variable_is_read(tmp_path):
    assert read_bytes(tmp_path, mat(compressed(numbers([7, 8]))), "x")["x"].tolist() == [[7, 8]]


@pytest.mark.parametrize("array_class", [STRUCT, OBJECT, SPARSE, FUNCTION])
def test_variables_that_nobody_asked_for_do_not_matter(tmp_path, array_class):
    content = mat(matrix(array_class, (1, 1), b"rubbish!", name="other"), numbers([7]))
    assert read_bytes(tmp_path, content, "x")["x"].tolist() == [[7]]


def test_an_object_that_nobody_asked_for_does_not_matter(tmp_path):
    flags, name = element(6, struct.pack("<2I", OPAQUE, 0)), element(1, b"other")
    assert read_bytes(tmp_path, mat(element(14, flags + name), numbers([7])), "x")["x"].tolist() == [[7]]


# --- what is no MATLAB v5 file


def test_a_folder(tmp_path):
    with pytest.raises(DataError, match="not a file"):
        read_mat(tmp_path, ["x"])


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_mat(tmp_path / "none.mat", ["x"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 409036\n", "git-lfs pointer"),
        (b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM" + bytes(400), "v7.3"),
        (b"\x89HDF\r\n\x1a\n" + bytes(400), "v7.3"),
        (bytes(512) + b"\x89HDF\r\n\x1a\n" + bytes(400), "v7.3"),
        (b"<!DOCTYPE html><html><body>Not found</body></html>" * 9, "text, not a MATLAB file"),
        (b"PK\x03\x04" + bytes(400), "not a MATLAB v5 file"),
        (bytes(4000), "not a MATLAB v5 file"),
        (mat()[:100], "cut off"),
        (mat()[:124] + b"\x00\x03IM", "damaged header"),
    ],
)
def test_other_files_are_named_as_what_they_are(tmp_path, content, message):
    assert message in refusal(tmp_path, content).message


def test_a_v4_file(tmp_path):
    buffer = io.BytesIO()
    savemat(buffer, {"x": np.arange(40.0)}, format="4")
    error = refusal(tmp_path, buffer.getvalue())
    assert "not a MATLAB v5 file" in error.message
    assert "if it is a MATLAB v4 file" in (error.hint or "")
    assert "-v7" in (error.hint or "")


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path):
    path = tmp_path / "some.mat"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    with pytest.raises(DataError, match="too large"):
        read_mat(path, ["x"])


# --- damaged and hostile files


def test_missing_variables_are_named_beside_those_that_are_there(tmp_path):
    error = refusal(tmp_path, mat(numbers([1], "b"), numbers([2], "a")), "gt_list", "a", "file_list")
    assert "no variable gt_list, file_list" in error.message
    assert error.hint == "its variables: a, b"


def test_names_that_would_spoil_the_message_are_not_shown(tmp_path):
    error = refusal(
        tmp_path, mat(numbers([1], ""), numbers([1], "\x1b[2J"), *(numbers([1], f"v{i:02}") for i in range(30)))
    )
    assert "no variable x" in error.message
    assert error.hint == f"its variables: {', '.join(f'v{i:02}' for i in range(20))}, …"
    assert refusal(tmp_path, mat()).hint == "it has none"


def test_too_many_variables(tmp_path, monkeypatch):
    monkeypatch.setattr(mat_reader, "_MAX_VARIABLES", 3)
    assert read_bytes(tmp_path, mat(*(numbers([1], name) for name in "abx")), "x")
    assert "more than 3 variables" in refusal(tmp_path, mat(*(numbers([1], name) for name in "abxd"))).message


def test_a_variable_that_stands_there_twice(tmp_path):
    assert "variable x stands in the file twice" in refusal(tmp_path, mat(numbers([1]), numbers([2]))).message


def test_memory_stays_near_what_the_limits_say(tmp_path):
    """The most that text, numbers and empty cells may be, packed into a small file or none of it."""
    text = compressed(matrix(CHAR, (1, 22 << 20), element(1, bytes(22 << 20)), name="x"))
    cells = compressed(matrix(CELL, (400_000, 1), element(14, b"") * 400_000, name="x"))
    for part in (text, cells):
        content = mat(part)
        assert len(content) < 100_000
        tracemalloc.start()
        assert read_bytes(tmp_path, content, "x")["x"].size
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < 300 << 20


@pytest.mark.parametrize("pack", [compressed, bytes])
def test_a_file_cut_off_anywhere(tmp_path, pack):
    content = mat(pack(matrix(CELL, (1, 2), numbers([1, 2, 3], ""), numbers([4], ""), name="x")))
    assert read_bytes(tmp_path, content, "x")["x"].shape == (1, 2)
    for size in range(1, len(content)):
        refusal(tmp_path, content[:size])


def test_a_bomb_stops_at_what_it_says_it_unpacks_to(tmp_path, monkeypatch):
    """Eight kilobytes that would become eight megabytes, behind a tag that says so."""
    monkeypatch.setattr(mat_reader, "_MAX_UNPACKED", 1 << 20)
    bomb = compressed(matrix(UINT8, (1, 8 << 20), element(2, bytes(8 << 20)), name="x"))
    assert len(bomb) < 10_000
    error = refusal(tmp_path, mat(bomb))
    assert "unpacks to more than 1 MiB" in error.message


def test_bombs_are_counted_together(tmp_path, monkeypatch):
    monkeypatch.setattr(mat_reader, "_MAX_UNPACKED", 1 << 20)
    parts = [compressed(matrix(UINT8, (1, 1 << 19), element(2, bytes(1 << 19)), name=name)) for name in "xy"]
    assert "unpacks to more than 1 MiB" in refusal(tmp_path, mat(*parts), "x", "y").message
    assert read_bytes(tmp_path, mat(*parts), "x")["x"].shape == (1, 1 << 19)


def test_a_bomb_that_says_it_is_small_is_not_unpacked_further(tmp_path, monkeypatch):
    sizes = []
    unpack = mat_reader._unpack

    def watched(*args, **kwargs):
        sizes.append(args[1])
        return unpack(*args, **kwargs)

    monkeypatch.setattr(mat_reader, "_unpack", watched)
    bomb = compressed(numbers([1, 2]) + bytes(8 << 20))
    assert "longer or shorter than it says" in refusal(tmp_path, mat(bomb)).message
    assert max(sizes) <= 512


def test_damaged_compression_is_found_by_its_checksum(tmp_path):
    content = bytearray(mat(compressed(matrix(CHAR, (1, 60), element(1, bytes(range(60))), name="x"))))
    content[-1] ^= 1
    assert "damaged" in refusal(tmp_path, bytes(content)).message


@pytest.mark.parametrize(
    ("array_class", "shown"),
    [
        (STRUCT, "a struct"),
        (OBJECT, "an object"),
        (SPARSE, "a sparse matrix"),
        (FUNCTION, "a function"),
        (99, "unknown"),
    ],
)
@pytest.mark.parametrize("deep", [False, True])
def test_classes_other_than_cells_text_and_numbers(tmp_path, array_class, shown, deep):
    bad = matrix(array_class, (1, 1), element(5, bytes(4)), name="" if deep else "x")
    message = refusal(tmp_path, mat(matrix(CELL, (1, 1), bad, name="x") if deep else bad)).message
    assert message.partition(": ")[2].startswith("variable x: holds ")
    assert shown in message


def test_an_object_of_a_newer_class(tmp_path):
    flags, name = element(6, struct.pack("<2I", OPAQUE, 0)), element(1, b"x")
    assert "holds an object" in refusal(tmp_path, mat(element(14, flags + name + element(1, b"MCOS")))).message


def test_complex_numbers(tmp_path):
    part = element(9, struct.pack("<d", 1))
    assert "complex" in refusal(tmp_path, mat(matrix(DOUBLE, (1, 1), part, part, name="x", flags=0x800))).message


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        (matrix(CELL, (2**31 - 1, 2**31 - 1), name="x"), "cells in 0 bytes"),
        (matrix(CELL, (1000, 1), element(14, b""), name="x"), "1000 x 1 cells in 8 bytes"),
        (matrix(CELL, (65536, 65536, 65536, 65536), name="x"), "cells in 0 bytes"),  # 2^64, which is 0 in 64 bits
        (matrix(CELL, (2, 1), element(14, b""), element(9, bytes(8)), name="x"), "a cell that holds no array"),
        (matrix(CELL, (1, 1), element(14, b""), element(14, b""), name="x"), "do not add up"),
        (matrix(CELL, (0, 2**31 - 1), name="x"), "impossible dimensions"),
        (matrix(CELL, (-1, -1), element(14, b""), name="x"), "impossible dimensions"),
        (matrix(CHAR, (1, 2**30), element(1, b""), name="x"), "1 x 1073741824 in 0 bytes"),  # none to fill it up with
        (matrix(CHAR, (2**31 - 1, 0), element(1, b""), name="x"), "impossible dimensions"),
        (matrix(CHAR, (1, 1), element(9, bytes(8)), name="x"), "of type 9"),
        (matrix(CHAR, (2, 2), element(1, b"abcd"), name="x"), "text of several rows (2 x 2)"),
        (matrix(CHAR, (1, 2), element(16, "é".encode()), name="x"), "1 x 2 in 2 bytes of type 16"),
        (matrix(CHAR, (1, 2), element(1, b"\xff\xfe"), name="x"), "does not decode"),
        (matrix(CHAR, (1, 2), element(17, b"\x00\xd8a\x00"), name="x"), "does not decode"),  # half a pair
        (matrix(CHAR, (1, 1), element(18, b"\xff\xff\xff\xff"), name="x"), "does not decode"),
        (matrix(DOUBLE, (2**31 - 1, 2**31 - 1), element(9, bytes(8)), name="x"), "in 8 bytes"),
        (matrix(DOUBLE, (1, 2), element(9, bytes(8)), name="x"), "1 x 2 in 8 bytes"),
        (matrix(DOUBLE, (1, 1), element(16, bytes(8)), name="x"), "of type 16"),
        (matrix(DOUBLE, (1,), element(9, bytes(8)), name="x"), "dimensions"),
        (matrix(DOUBLE, (1,) * 9, element(9, bytes(8)), name="x"), "dimensions"),
        (matrix(DOUBLE, (1, 1), element(9, bytes(8), size=2**32 - 1), name="x"), "longer than what it lies in"),
        (matrix(DOUBLE, (1, 1), struct.pack("<HH4x", 2, 5), name="x"), "impossible size"),
        (matrix(DOUBLE, (1, 1), name="x"), "an element is cut off"),
        (element(9, bytes(8)), "no variable at byte 128"),
        (compressed(element(9, bytes(64))), "no variable"),
        (compressed(b""), "cut off"),
        (element(14, b""), "cut off"),
    ],
)
def test_sizes_that_cannot_be(tmp_path, variable, message):
    assert message in refusal(tmp_path, mat(variable)).message


def test_cells_inside_cells_without_end(tmp_path):
    inner = numbers([1], "")
    for _ in range(200):
        inner = matrix(CELL, (1, 1), inner)
    assert "without end" in refusal(tmp_path, mat(matrix(CELL, (1, 1), inner, name="x"))).message


def test_too_many_cells(tmp_path, monkeypatch):
    monkeypatch.setattr(mat_reader, "_MAX_MATRICES", 100)
    content = mat(matrix(CELL, (100, 1), *[element(14, b"")] * 100, name="x"))
    assert "more than 100 cells" in refusal(tmp_path, content).message


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_no_change_of_bytes_gives_anything_but_an_array_or_an_error(tmp_path_factory, data):
    inner = matrix(CELL, (2, 1), numbers([1, 2, 3], ""), matrix(CHAR, (1, 3), element(1, b"abc")))
    content = bytearray(mat(matrix(CELL, (1, 2), inner, element(14, b""), name="x")))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(116, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("mat") / "some.mat"
    path.write_bytes(content)
    try:
        assert isinstance(read_mat(path, ["x"])["x"], np.ndarray)
    except DataError as error:
        assert str(path) in error.message
