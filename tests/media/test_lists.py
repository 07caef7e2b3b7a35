import io
import sys
from pathlib import Path

import pytest

from facetrain.core.errors import DataError, InputError
from facetrain.media.find import find_sources
from facetrain.media.lists import read_list


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current folder with a.jpg, b c.jpg and deep/d.jpg."""
    monkeypatch.chdir(tmp_path)
    Path("deep").mkdir()
    for name in ("a.jpg", "b c.jpg", "deep/d.jpg"):
        Path(name).write_bytes(b"x")
    return tmp_path


def found_in(*words):
    found = find_sources(words)
    return [Path(source.name).as_posix() for source in found.sources], [
        str(one.error.message) for one in found.failures
    ]


@pytest.mark.parametrize("content", [b"a.jpg\nb c.jpg\n\n", b"\xef\xbb\xbfa.jpg\r\nb c.jpg", b"a.jpg\0b c.jpg\0"])
def test_a_path_a_line(folder, content):
    Path("list.txt").write_bytes(content)
    assert found_in("@list.txt") == (["a.jpg", "b c.jpg"], [])


def test_standard_input(folder, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"deep/d.jpg\na.jpg\n")))
    assert found_in("-", "a.jpg") == (["deep/d.jpg", "a.jpg"], [])


def test_lines_mean_what_words_mean(folder):
    Path("list.txt").write_text("deep\n*.jpg\nhttps://host/x.jpg\n")
    assert found_in("@list.txt") == (["deep/d.jpg", "a.jpg", "b c.jpg", "https:/host/x.jpg"], [])


def test_paths_beside_the_list(folder):
    Path("deep/list.txt").write_text("d.jpg\na.jpg\n")
    assert found_in("@deep/list.txt") == (["deep/d.jpg", "a.jpg"], [])


def test_a_line_that_is_wrong_is_named_by_its_number(folder):
    Path("list.txt").write_text("a.jpg\n\nno.jpg\n")
    assert found_in("@list.txt") == (["a.jpg"], ["list.txt:3: no.jpg: no such file or folder"])


def test_a_file_of_such_a_name_wins(folder):
    Path("@a.jpg").write_bytes(b"x")
    assert found_in("@a.jpg") == (["@a.jpg"], [])


def test_text_is_no_list_and_is_said_once(folder):
    Path("letter.txt").write_text("Dear all,\nthis is a letter.\nBye\n")
    sources, [error] = found_in("@letter.txt")
    assert sources == []
    assert error == "letter.txt:1: Dear all,: no such file or folder, and so for all of its 3 lines"


@pytest.mark.parametrize(
    ("content", "kind", "wrong"),
    [
        (b"", DataError, "an empty list"),
        (b" \n\n", DataError, "an empty list"),
        (
            b"\xff\xd8\xff\xc0\x00\x11\x08\x00\x10\x00\x10\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01",
            DataError,
            "an image",
        ),
        (None, InputError, "cannot be read: No such file"),
    ],
)
def test_what_is_no_list(folder, content, kind, wrong):
    if content is not None:
        Path("list.txt").write_bytes(content)
    with pytest.raises(kind, match=f"^list.txt: {wrong}"):
        read_list("@list.txt")


def test_a_terminal_is_not_waited_for(folder, monkeypatch):
    class Terminal(io.TextIOWrapper):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(io.BytesIO()))
    with pytest.raises(InputError, match="a terminal, not a list"):
        read_list("-")


def test_a_line_that_cannot_be_a_path(folder):
    Path("list.txt").write_bytes(b"a.jpg\n" + b"x" * 5000 + b"\n\xff\xfe.jpg\n")
    sources, errors = found_in("@list.txt")
    assert sources == ["a.jpg"]
    assert len(errors) == 2
