"""Archives that are damaged, or made to do damage, are refused before anything is unpacked."""

import io
import stat
import struct
import zipfile
import zlib

import pytest

from facetrain.core import archives
from facetrain.core.archives import opened
from facetrain.core.errors import DataError


def archive(path, members, **more):
    """A zip archive of (name or ZipInfo, content)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **more) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def link(name, target):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info, target


def refused(path):
    with pytest.raises(DataError) as caught, opened(path):
        pytest.fail("was opened")
    assert caught.value.message.startswith(f"{path}: ")
    assert caught.value.hint
    return caught.value.message


def test_members_come_out_whole(tmp_path):
    path = archive(tmp_path / "a.zip", [("a/", ""), ("a/b.txt", "one"), ("a/ü 1.txt", "two" * 1000)])
    with opened(path) as found:
        assert sorted(found.members) == ["a/b.txt", "a/ü 1.txt"]
        target = tmp_path / "out/b.txt"
        assert not found.is_unpacked("a/b.txt", target)
        found.unpack("a/b.txt", target)
        assert target.read_text() == "one"
        assert found.is_unpacked("a/b.txt", target)
        target.write_text("two")
        assert not found.is_unpacked("a/b.txt", target)
    assert [path.name for path in target.parent.iterdir()] == ["b.txt"]


@pytest.mark.parametrize(
    "name",
    ["../out.txt", "a/../../out.txt", "/etc/passwd", "C:/out.txt", "a\\..\\..\\out.txt", "a\x01b", "a\nb", "//host/a"],
)
def test_a_name_that_leads_elsewhere(tmp_path, name):
    path = archive(tmp_path / "a.zip", [("good.txt", "1"), (name, "bad")])
    assert "a name that leads out of the folder" in refused(path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_link(tmp_path):
    assert "a link or a device" in refused(archive(tmp_path / "a.zip", [link("a", "/etc")]))


def test_a_bomb_by_ratio(tmp_path):
    path = archive(tmp_path / "a.zip", [("a.jpg", bytes(8 << 20))])
    assert "that would unpack to 8,388,608" in refused(path)


def test_a_bomb_by_size(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_MOST_BYTES", 100)
    assert "at most 100 are taken of one file" in refused(archive(tmp_path / "a.zip", [("a.jpg", bytes(101))]))
    monkeypatch.setattr(archives, "_MOST_BYTES", 1000)
    monkeypatch.setattr(archives, "_MOST_ALTOGETHER", 1500)
    path = archive(tmp_path / "a.zip", [(f"{number}", bytes(600)) for number in range(3)])
    assert "would unpack to 1,800 bytes" in refused(path)


def test_too_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_MOST_MEMBERS", 2)
    assert "3 files in it" in refused(archive(tmp_path / "a.zip", [(f"{number}", "") for number in range(3)]))


def test_members_within_each_other(tmp_path):
    """One packed member that the list names again and again, as bombs do that need no ratio."""
    content = io.BytesIO()
    packed = zlib.compress(bytes(range(256)) * 8, 9)[2:-4]
    checksum = zlib.crc32(bytes(range(256)) * 8)
    common = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, checksum, len(packed), 2048, 1, 0)
    content.write(b"PK\3\4" + common + b"a" + packed)
    start = content.tell()
    for name in (b"a", b"b"):
        entry = struct.pack("<HHHHHHIIIHHHHHII", 20, 20, 0, 8, 0, 33, checksum, len(packed), 2048, 1, 0, 0, 0, 0, 0, 0)
        content.write(b"PK\1\2" + entry + name)
    length = content.tell() - start
    content.write(b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 2, 2, length, start, 0))
    (tmp_path / "a.zip").write_bytes(content.getvalue())
    assert "lies within" in refused(tmp_path / "a.zip")


def test_a_member_twice(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        path = archive(tmp_path / "a.zip", [("a", "1"), ("a", "2")])
    assert "stands in it twice" in refused(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html><html>Virus scan warning", "a web page, not an archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a git-lfs pointer"),
        (b"Rar!\x1a\x07", "not a zip archive"),
    ],
)
def test_what_is_no_archive(tmp_path, content, said):
    (tmp_path / "a.zip").write_bytes(content)
    assert said in refused(tmp_path / "a.zip")


def test_one_that_was_cut_off(tmp_path):
    path = archive(tmp_path / "a.zip", [("a.txt", "some text" * 50), ("b.txt", "more")])
    whole = path.read_bytes()
    for length in (10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "cut off" in refused(path)


def test_one_changed_byte_is_found_or_does_no_harm(tmp_path):
    """Any byte: refused on opening or on reading, or the very same content."""
    members = {"a.txt": bytes(range(64)), "b.txt": b"more of it" * 3}
    path = archive(tmp_path / "a.zip", members.items())
    whole = path.read_bytes()
    outcomes = set()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            with opened(path) as found:
                got = {name: found.read(name) for name in found.members}
        except DataError:
            outcomes.add("refused")
        else:
            outcomes.add("same")
            assert sorted(got.values()) == sorted(members.values()) or len(got) < 2
    assert outcomes == {"refused", "same"}


def test_a_size_that_is_a_lie(tmp_path):
    """The list says fewer bytes than there are: never more than it says are unpacked, and the checksum tells."""
    path = archive(tmp_path / "a.zip", [("a.txt", b"x" * 5000)])
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<I", 5000), struct.pack("<I", 50)))
    with opened(path) as found, pytest.raises(DataError, match="damaged"):
        found.read("a.txt")


def test_an_encrypted_one(tmp_path):
    path = archive(tmp_path / "a.zip", [("a.txt", "1")])
    content = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(mark) + flags] |= 1
    path.write_bytes(content)
    assert "encrypted" in refused(path)


def test_one_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="cannot be read"), opened(tmp_path / "a.zip"):
        pass
