"""Names that try to act: through every generator, and no trace of what they would do."""

import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facetrain.cli import console
from facetrain.cli.app import run_cli
from facetrain.cli.text.compare import _escape
from facetrain.cli.text.train import next_commands
from facetrain.config.load import load_config
from facetrain.config.schema import Config, LandmarksConfig, ModelConfig
from facetrain.core.errors import ConfigError
from facetrain.core.inert import for_cpp_comment, for_markdown, for_plot, for_terminal, is_name
from facetrain.core.plots import new_figure
from facetrain.export.cpp.targets.options import CppOptions
from facetrain.export.cpp.targets.standalone import files
from facetrain.export.network.fold import fold
from facetrain.model.weights import save_checkpoint
from facetrain.model.yunet import build

ACT = 'extern "C" int name_ran() { return 1; }'
HOSTILE = [
    f"eye\n{ACT}//",
    f"eye\r{ACT}//",
    f"eye\u2028{ACT}//",
    f"eye\u2029{ACT}//",
    f"eye\x0b{ACT}//",
    f"eye\x0c{ACT}//",
    f"eye\x85{ACT}//",
    f"*/ {ACT} /*",
    "eye ??/",
    "eye \\",
    "eye \\ ",
    f'")"; {ACT} //',
    "<script>name_ran()</script>",
    "$(touch name_ran)",
    "`touch name_ran`",
    "\x1b]0;name_ran\x07\x1b[2J\x1b[31m",
    "\x9b31m",
    "right\u202eeye",
    "@weights@",
    "![x](http://name_ran/x.png) | a | [link](javascript:name_ran())",
    "$\\frac{1$",
]
SMALL = ModelConfig(stem=(3, 4, 8), stages=((8, 12),), pool_after=(), maps=(1,), strides=(2,), shared_convs=0)


def with_names(*names: str) -> ModelConfig:
    return replace(SMALL, landmarks=LandmarksConfig(names, ()))


# Where a configuration enters


@pytest.mark.parametrize("name", [*HOSTILE, "x" * 65, "left/eye", "a,b", "\u200b", "a\u00a0b"])
def test_a_landmark_is_called_by_a_plain_name(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = json.dumps(name)
    with pytest.raises(ConfigError, match="is not a name") as caught:
        load_config("yunet_n", [f"model.landmarks.names=[{text}]", "model.landmarks.mirror=[]"])
    assert "letters, digits, blank, _ . and -, at most 64" in str(caught.value.hint)
    path = tmp_path / "weights.pt"
    save_checkpoint(path, build(with_names(name), 0).state_dict(), Config(model=with_names(name)), {})
    for command in (["export-cpp", "--output", str(tmp_path / "out")], ["export-onnx"], ["detect", "x.jpg"]):
        assert run_cli([*command, "--weights", str(path)]) == 2
    said = capsys.readouterr()
    assert said.err.count("is not a name") >= 2
    assert "Traceback" not in said.err
    assert not any(character in said.out + said.err for character in "\x1b\x9b\x07\u2028\u202e")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["right_eye", "левый глаз", "左目", "आँख", "coin gauche", "p-1.5", "_", "7", "é" * 64])
def test_names_of_any_script_are_names(name: str) -> None:
    assert is_name(name)
    load_config("yunet_n", [f"model.landmarks.names=[{json.dumps(name)}]", "model.landmarks.mirror=[]"])


# C++, even if such a name came past the check


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_reaches_cpp(name: str) -> None:
    net = fold(build(with_names(name, "nose"), 0).eval())
    written = files(net, CppOptions("detector"))
    harmless = files(fold(build(with_names("x", "nose"), 0).eval()), CppOptions("detector"))
    for path, text in written.items():
        if path != "README.md":  # line by line the same program: only a comment differs
            assert len(text.splitlines()) == len(harmless[path].splitlines()), path
        assert "name_ran()" not in "\n".join(line.partition("//")[0] for line in text.splitlines()), path
        assert not any(character in text for character in "\x1b\x9b\x07\u2028\u2029\u202e\x0b\x0c\r"), path


@pytest.mark.slow
def test_what_is_compiled_has_no_trace_of_names(tmp_path: Path) -> None:
    compiler, nm = shutil.which("g++"), shutil.which("nm")
    if compiler is None or nm is None:
        pytest.skip("needs g++ and nm")
    net = fold(build(with_names(*HOSTILE), 0).eval())
    for path, text in files(net, CppOptions("detector")).items():
        (tmp_path / path).write_text(text, encoding="utf-8")
    for extra in ([], ["-trigraphs"]):
        done = subprocess.run(
            [compiler, "-std=c++17", "-O0", *extra, "-Wall", "-Werror", "-c", "detector.cpp", "-o", "detector.o"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        symbols = subprocess.run([nm, "-C", "detector.o"], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert "name_ran" not in symbols.stdout
    assert not (tmp_path / "name_ran").exists()


@given(st.text())
def test_a_comment_stays_a_comment(text: str) -> None:
    made = for_cpp_comment(text)
    assert len(made.splitlines()) <= 1
    assert not set(made) & set("\\/*?\"'<>()$`\n\r")


# Markdown, figures, terminals, shells


@pytest.mark.parametrize("name", HOSTILE)
def test_markdown_shows_it_as_it_is(name: str) -> None:
    made = for_markdown(name)
    assert _escape(name) == made
    assert len(made.splitlines()) == 1
    bare = made.replace("\\\\", "")
    for mark in "`|<[]*$":
        assert bare.count(mark) == bare.count(f"\\{mark}")


@pytest.mark.parametrize("name", HOSTILE)
def test_figures_show_it_as_text(name: str, tmp_path: Path) -> None:
    figure = new_figure(2, 2)
    figure.subplots().set(title=for_plot(name))
    figure.savefig(tmp_path / "plot.svg")
    assert "<script>" not in (tmp_path / "plot.svg").read_text()


@given(st.text())
def test_terminals_get_no_command(text: str) -> None:
    made = for_terminal(text)
    assert not any(ord(c) < 32 and c not in "\n\t" for c in made)
    assert not any(0x7F <= ord(c) < 0xA0 for c in made)
    assert not set(made) & set("\u2028\u2029\u202a\u202b\u202d\u202e\u2066\u2067\u2068\ufeff")
    assert for_terminal(made) == made


def test_what_commands_print_is_inert(capsys: pytest.CaptureFixture[str]) -> None:
    for name in HOSTILE:
        console.say(f"warning: {name}")
        console.line(name)
        console.result({"name": name}, name)
        console.result({"name": name}, name, as_json=True)
    said = capsys.readouterr()
    for text in said:
        assert not any(character in text for character in "\x1b\x9b\x07\x0b\x0c\r\x85\u2028\u2029\u202e")


def test_progress_bars_are_inert(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with console.progress("images", 2) as advance:
        advance(1, note="\x1b]0;name_ran\x07")
    assert "\x1b]0" not in screen.getvalue()


@pytest.mark.skipif(sys.platform == "win32", reason="file names of Unix")
def test_a_folder_of_hostile_file_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [name.replace("/", "_") for name in HOSTILE]
    for name in names:
        (tmp_path / f"{name}.jpg").write_bytes(b"no image")
    run_cli(["detect", str(tmp_path), "--output", str(tmp_path / "out")])
    run_cli(["eval", "--data", str(tmp_path / names[0])])
    run_cli(["train", str(tmp_path / f"{names[15]}.yaml")])
    run_cli(["compare", str(tmp_path / f"{names[15]}.jpg"), "--image", str(tmp_path / f"{names[1]}.jpg")])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert not any(c in said.out + said.err for c in "\x1b\x9b\x07\x0b\x0c\r\x85\u2028\u2029\u202e")


def test_commands_to_paste_are_quoted(tmp_path: Path) -> None:
    result: Any = SimpleNamespace(official=True, best_ap=0.5, data="$(touch name_ran)")
    for _, line in next_commands(tmp_path / "$(touch name_ran).pt", result):
        done = subprocess.run(["sh", "-c", f"echo {line}"], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert "$(touch name_ran)" in done.stdout or "--data" not in line
    assert not (tmp_path / "name_ran").exists()
