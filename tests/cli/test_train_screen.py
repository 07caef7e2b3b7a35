"""What a training run shows: the line, the table, the log, and the commands it ends with."""

import io
import shlex
from pathlib import Path

import pytest
import typer
from rich.console import Console

from facetrain.cli.app import build_app
from facetrain.cli.text.train import TrainScreen, next_commands, progress_table, progress_text, result_text
from facetrain.core.run_dir import RunDir
from facetrain.train.events import Progress
from facetrain.train.loop import TrainResult

LOSSES = {"cls": 0.25, "obj": 2.5, "box": 1.125, "landmarks": 0.0625, "total": 3.9375}


def progress(step: int, memory: int | None = None, best_ap: float | None = None) -> Progress:
    return Progress(1, 24, step, 768, 0.006, LOSSES, 55.0, 41.25, 0.031, best_ap, memory)


def result(run: RunDir | None, **changes: object) -> TrainResult:
    values = {"step": 768, "total_steps": 768, "ap": 0.5, "best_ap": 0.625, "best_epoch": 20, "interrupted": False}
    return TrainResult(run=run, **(values | {"data": "my faces"} | changes))  # type: ignore[arg-type]


def test_line_tells_losses_speed_waiting_memory_and_time() -> None:
    text = progress_text(progress(32), "0:10:00")
    assert text == (
        "epoch 2/24 step 32/768 loss 3.938 (cls 0.250 obj 2.500 box 1.125 landmarks 0.062) lr 0.006 "
        "41.2 images/s, waiting 3%, 0:10:00 left"
    )
    assert "waiting 3%, 3.5 GiB of the GPU, 1:00:00 left" in progress_text(progress(32, 7 << 29), "1:00:00")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_terminal_shows_a_table_and_keeps_the_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    for name, value in {"TERM": "xterm", "COLUMNS": "140", "LINES": "40"}.items():
        monkeypatch.setenv(name, value)
    with TrainScreen() as screen:
        screen.note("epoch 1: AP 0.5, best 0.5 [not markup]")
        screen.work("validating", 1, 4)
        screen.progress(progress(32, 7 << 29, 0.5))
        screen.live.refresh()
    shown = terminal.getvalue()
    for text in ("landmarks", "best AP", "0.500", "3.938", "41.2", "GPU memory", "3.5 GiB", "waiting", "32/768"):
        assert text in shown, text
    assert "best 0.5 [not markup]" in shown
    assert "validating" in shown


def test_process_that_is_not_shown_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with TrainScreen(shown=False) as screen:
        screen.note(f"run: {tmp_path}")
        screen.work("validating", 1, 4)
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_log_that_cannot_be_written_ends_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with TrainScreen() as screen:
        screen.keep_log(Path("/dev/full"))
        screen.note("one")
        screen.note("two")
    said = capsys.readouterr().err
    assert said.count("warning: log.txt cannot be written: No space left on device") == 1
    assert "one\n" in said
    assert "two\n" in said


@pytest.mark.parametrize("official", [False, True])
def test_run_ends_with_commands_that_are_there(tmp_path: Path, official: bool) -> None:
    """Each is taken apart by the command itself: an option that does not exist is an error."""
    run = RunDir(tmp_path / "a run")
    run.path.mkdir()
    run.best.write_bytes(b"")
    text = result_text(result(run, official=official))
    assert f"best AP 0.625 at epoch 20: {run.best}" in text
    lines = [line for line in text.splitlines() if "facetrain " in line]
    assert [line.split(":")[0] for line in lines] == ["try", "measure", "export", "compare"]
    application = typer.main.get_command(build_app())
    for line in lines:
        _, name, *arguments = shlex.split(line.partition(":")[2])
        command = application.commands[name]  # type: ignore[attr-defined]
        values = command.make_context(name, arguments).params
        assert str(run.best) in (str(values.get("weights")), *map(str, values.get("models") or []))
        if name in ("eval", "compare"):
            assert bool(values["widerface"]) == official
        if name == "eval":
            assert str(values["data"]) == "my faces"


def test_run_without_validation_proposes_no_measurement(tmp_path: Path) -> None:
    commands = next_commands(tmp_path / "best.pt", result(RunDir(tmp_path), best_ap=None))
    assert [name for name, _ in commands] == ["try", "export", "compare"]
    assert "no validation images; the last weights: " in result_text(
        result(RunDir(tmp_path), best_ap=None, validated=False)
    )
    assert "no validation yet" in result_text(result(RunDir(tmp_path), best_epoch=None))
    assert result_text(result(None)) == "dry run: nothing was written"


@pytest.mark.parametrize("labels", [{}, {"cls": 0.25, "obj": 1.5, "box": 2.0, "landmarks": 0.125}])
def test_a_teachers_terms_fit_into_80_columns(labels: dict[str, float]) -> None:
    taught = {"teacher_cls": 10.228, "teacher_obj": 123.293, "teacher_box": 4.534, "teacher_landmarks": 0.779}
    losses = labels | taught | {"total": 12345.678}
    shown = Progress(99, 640, 12345, 99999, 0.00012345, losses, 3.0, 1234.5, 0.05, best_ap=0.5, memory=79 << 30)
    screen = Console(width=80, file=io.StringIO(), force_terminal=False)
    screen.print(progress_table(shown))
    assert isinstance(screen.file, io.StringIO)
    text = screen.file.getvalue()
    assert "…" not in text
    assert [line.split()[0] for line in text.splitlines() if "123.293" in line] == ["teacher"]
    assert ("labels" in text) == bool(labels)
