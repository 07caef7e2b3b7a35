import io
import json
import os
import sys

import pytest

from facetrain import __version__
from facetrain.cli import console
from facetrain.core.errors import UsageError


def test_result_as_text_and_as_json(capsys):
    console.result({"a": 1}, "text")
    assert capsys.readouterr() == ("text\n", "")
    console.result({"a": [{"x": 1}, {"x": None}], "b": [1, 2], "ä": "ä"}, "text", as_json=True)
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "schema": 1,
        "facetrain": __version__,
        "a": [{"x": 1}, {"x": None}],
        "b": [1, 2],
        "ä": "ä",
    }
    assert out.isascii()
    assert err == ""


def test_not_a_number_is_not_json():
    with pytest.raises(ValueError, match="JSON"):
        console.result({"a": [{"b": float("nan")}]}, "", as_json=True)


def test_say_goes_to_stderr(capsys):
    console.say("hello")
    assert capsys.readouterr() == ("", "hello\n")


@pytest.mark.parametrize(
    ("text", "size"), [("320", (320, 320)), ("640x480", (640, 480)), ("1X2", (1, 2)), ("5000x1", (5000, 1))]
)
def test_sizes(text, size):
    assert console.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "320x", "x320", "0", "-3", "1x2x3", "dynamic", "3.5", "640y480"])
def test_what_is_no_size(text):
    with pytest.raises(UsageError, match="--size"):
        console.parse_size(text)


def test_table_aligns_columns():
    text = console.table([["part", "n"], ["backbone", "1"], ["head", "1,000"]])
    assert text == "part          n\nbackbone      1\nhead      1,000"


def test_progress_without_a_terminal_is_a_plain_line_now_and_then(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.progress("detect", 30) as advance:
        for _ in range(30):
            now[0] += 1.0
            advance(note="fine")
    expected = "detect 10/30 fine, about 20 s left\ndetect 20/30 fine, about 10 s left\ndetect 30/30 fine\n"
    assert capsys.readouterr() == ("", expected)


def test_progress_on_a_terminal_stays_off_stdout(monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setitem(os.environ, "TERM", "xterm")
    with console.progress("detect", 3) as advance:
        advance(2, note="[b]ok")
        print("result")
    assert capsys.readouterr().out == "result\n"
    assert "detect" in terminal.getvalue()
    assert "2/3" in terminal.getvalue()
    assert "[b]ok" in terminal.getvalue()


def test_progress_can_be_silent_and_lets_errors_through(capsys):
    with pytest.raises(KeyError), console.progress("x", shown=False) as advance:
        advance()
        raise KeyError
    assert capsys.readouterr() == ("", "")
