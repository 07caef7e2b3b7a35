"""What a training run looks like: a live table on a terminal, plain lines elsewhere, and log.txt in its folder."""

import logging
import os
import shlex
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from facetrain.cli import console
from facetrain.core.documents.train import TrainDocument
from facetrain.core.inert import for_terminal
from facetrain.train.events import Progress
from facetrain.train.loop import TrainResult
from facetrain.train.validation import format_ap

_TAUGHT = "teacher_"  # what the names of a teacher's loss terms begin with
_PLAIN_SECONDS = 10.0  # between two progress lines where there is no terminal


class TrainScreen:
    """Shows the events of a run on stderr.

    shown: False in a process that leaves that to another one
    """

    def __init__(self, shown: bool = True) -> None:
        self.shown = shown
        self.live: Any = None  # rich's Live on a terminal
        self.bars: Any = None  # in it: how far training and other work is …
        self.table: Any = None  # … and the numbers of the last step
        self.task: Any = None
        self.work_task: tuple[str, Any] | None = None
        self.spoken = time.monotonic()
        self.rates: list[tuple[float, int]] = []  # (time, steps done) of the last lines, for the remaining time
        self.log: TextIO | None = None
        self.early: list[str] = []  # notes from before the run's folder is there

    def __enter__(self) -> "TrainScreen":
        handler = _NoteHandler(self)
        self.handler = handler
        logging.getLogger("facetrain").addHandler(handler)
        if self.shown and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            from rich.console import Console
            from rich.live import Live
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bars

            columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=20))
            self.bars = Bars(*columns, TextColumn("{task.fields[text]}", markup=False))
            screen = Console(stderr=True, highlight=False)
            self.live = Live(get_renderable=self._render, console=screen, transient=True, refresh_per_second=4)
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger("facetrain").removeHandler(self.handler)
        if self.live is not None:
            self.live.stop()
        if error is not None and self.log is not None:
            self._write(f"{kind.__name__ if kind else ''}: {error}")
        self._close_log()

    def keep_log(self, path: Path) -> None:
        """From now on write everything to `path` too."""
        self.log = path.open("a", encoding="utf-8")
        early, self.early = self.early, []
        for text in early:
            self._write(text)

    def note(self, text: str) -> None:
        """Show a line that stays."""
        if not self.shown:
            return
        self._keep(text)
        if self.live is not None:
            self.live.console.print(for_terminal(text), markup=False, soft_wrap=True)
        else:
            console.say(text)
        if text.startswith("run: ") and self.log is None:
            self.keep_log(Path(text.removeprefix("run: ")) / "log.txt")

    def work(self, what: str, done: int, total: int) -> None:
        """Show how far a preparation or validation is."""
        if self.bars is None:
            if self.shown and done < total and time.monotonic() - self.spoken > _PLAIN_SECONDS:
                self.spoken = time.monotonic()
                console.say(f"{what} {done}/{total}")
            return
        if self.work_task is None or self.work_task[0] != what:
            self.work_task = (what, self.bars.add_task(what, total=total, text=""))
        self.bars.update(self.work_task[1], completed=done, text=f"{done}/{total}")
        if done == total:
            self.bars.remove_task(self.work_task[1])
            self.work_task = None
            self.rates = []

    def progress(self, progress: Progress) -> None:
        """Show where training stands."""
        left = self._remaining(progress)
        text = progress_text(progress, left)
        self._keep(text)
        if self.bars is not None:
            if self.task is None:
                self.task = self.bars.add_task("training", total=progress.steps, text="")
            self.bars.update(
                self.task,
                completed=progress.step,
                total=progress.steps,
                text=f"{progress.step}/{progress.steps}, {left} left",
            )
            self.table = progress_table(progress)
        elif time.monotonic() - self.spoken > _PLAIN_SECONDS or progress.step in (1, progress.steps):
            self.spoken = time.monotonic()
            console.say(text)

    def _render(self) -> Any:
        from rich.console import Group

        return Group(*([self.table] if self.table is not None else []), self.bars)

    def _remaining(self, progress: Progress) -> str:
        """Time left by the speed of the last lines, validation not counted."""
        self.rates = [*self.rates[-20:], (time.monotonic(), progress.step)]
        (then, first), (now, last) = self.rates[0], self.rates[-1]
        if last == first:
            return "?"
        seconds = round((progress.steps - last) * (now - then) / (last - first))
        hours, minutes = divmod(seconds // 60, 60)
        return f"{hours}:{minutes:02}:{seconds % 60:02}"

    def _keep(self, text: str) -> None:
        text = for_terminal(text)
        stamped = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}"
        if self.log is None:
            self.early.append(stamped)
        else:
            self._write(stamped)

    def _write(self, text: str) -> None:
        """A line of log.txt. A disk that is full ends a run where numbers are lost, not for the sake of its log."""
        if self.log is not None:
            try:
                self.log.write(text + "\n")
                self.log.flush()
            except OSError as error:
                self._close_log()
                console.say(f"warning: log.txt cannot be written: {error.strerror or error}")

    def _close_log(self) -> None:
        if self.log is not None:
            with suppress(OSError):
                self.log.close()
        self.log = None


def progress_text(progress: Progress, left: str) -> str:
    """The numbers of a step in one line."""
    terms = " ".join(f"{name} {value:.3f}" for name, value in progress.losses.items() if name != "total")
    memory = f", {_gib(progress.memory)} of the GPU" if progress.memory is not None else ""
    return (
        f"epoch {progress.epoch + 1}/{progress.epochs} step {progress.step}/{progress.steps} "
        f"loss {progress.losses['total']:.3f} ({terms}) lr {progress.lr:.2g} "
        f"{progress.images_per_s:.1f} images/s, waiting {progress.wait_share:.0%}{memory}, {left} left"
    )


def progress_table(progress: Progress) -> Any:
    """The same as a table with a heading, for a terminal of 80 columns.

    Where a teacher's terms stand beside the labels' they get a table of their own, with a row for each.
    """
    from rich.console import Group

    taught = any(name.startswith(_TAUGHT) for name in progress.losses)
    terms = {name: f"{value:.3f}" for name, value in progress.losses.items() if name != "total"}
    cells = {
        "epoch": f"{progress.epoch + 1}/{progress.epochs}",
        "loss": f"{progress.losses['total']:.3f}",
        **({} if taught else terms),
        "rate": f"{progress.lr:.2g}",
        "images/s": f"{progress.images_per_s:.1f}",
        "waiting": f"{progress.wait_share:.0%}",
        **({"GPU memory": _gib(progress.memory)} if progress.memory is not None else {}),
        "best AP": "–" if progress.best_ap is None else format_ap(progress.best_ap),
    }
    table = _table([*cells])
    table.add_row(*cells.values())
    if not taught:
        return table
    names = list(dict.fromkeys(name.removeprefix(_TAUGHT) for name in terms))
    by = _table(["loss by", *names])
    for who, prefix in (("labels", ""), ("teacher", _TAUGHT)):
        row = [terms.get(prefix + name, "") for name in names]
        if any(row):
            by.add_row(who, *row)
    return Group(table, by)


def _table(names: list[str]) -> Any:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"


class _NoteHandler(logging.Handler):
    """Warnings of the core become notes."""

    def __init__(self, screen: TrainScreen) -> None:
        super().__init__(logging.WARNING)
        self.screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        self.screen.note(f"{record.levelname.lower()}: {record.getMessage()}")


def result_document(result: TrainResult) -> TrainDocument:
    """The JSON document of a run's end."""
    return {
        "run": str(result.run.path) if result.run else None,
        "step": result.step,
        "total_steps": result.total_steps,
        "ap": result.ap,
        "best_ap": result.best_ap,
        "best_epoch": result.best_epoch,
        "interrupted": result.interrupted,
        "gave_up": result.gave_up,
    }


def result_text(result: TrainResult) -> str:
    """The end of a run in words: the best AP, where it is, and the commands that follow."""
    if result.run is None:
        return "dry run: nothing was written"
    if result.best_epoch is None:
        return f"{result.run.path}: step {result.step:,} of {result.total_steps:,}, no validation yet"
    best = result.run.best if result.run.best.is_file() else result.run.last
    ap = f"best AP {format_ap(result.best_ap)} at epoch {result.best_epoch}: {best}"
    if not result.validated:
        ap = f"no validation images; the last weights: {best}"
    early = ", ended by train.patience" if result.gave_up else ""
    lines = [f"{result.run.path}: step {result.step:,} of {result.total_steps:,}{early}", ap]
    return "\n".join(lines + [f"{name + ':':9}facetrain {command}" for name, command in next_commands(best, result)])


def next_commands(weights: Path, result: TrainResult) -> list[tuple[str, str]]:
    """What to do with the weights of a run: (purpose, arguments of facetrain)."""
    file = shlex.quote(str(weights))
    images = ("--widerface --present-only " if result.official else "") + f"--data {shlex.quote(result.data)}"
    commands = [
        ("try", f"detect IMAGE --weights {file}"),
        ("measure", f"eval --weights {file} {images}"),
        ("export", f"export-onnx --weights {file}"),
        ("compare", f"eval --weights {file} --against yunet_n {images}"),
    ]
    if result.best_ap is None:
        commands = [commands[0], commands[2], ("compare", f"compare {file} yunet_n")]
    return commands
