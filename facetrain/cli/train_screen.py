"""What a training run looks like: a live line on a terminal, plain lines elsewhere, and log.txt in its folder."""

import logging
import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from facetrain.cli import console
from facetrain.train.events import Progress
from facetrain.train.loop import TrainResult
from facetrain.train.validation import format_ap

_PLAIN_SECONDS = 10.0  # between two progress lines where there is no terminal


class TrainScreen:
    """Shows the events of a run on stderr."""

    def __init__(self) -> None:
        self.live: Any = None  # rich's Progress on a terminal
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
        if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bars

            columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=20))
            screen = Console(stderr=True, highlight=False)
            self.live = Bars(*columns, TextColumn("{task.fields[text]}", markup=False), console=screen, transient=True)
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger("facetrain").removeHandler(self.handler)
        if self.live is not None:
            self.live.stop()
        if error is not None and self.log is not None:
            self.log.write(f"{kind.__name__ if kind else ''}: {error}\n")
        if self.log is not None:
            self.log.close()

    def keep_log(self, path: Path) -> None:
        """From now on write everything to `path` too."""
        self.log = path.open("a", encoding="utf-8")
        self.log.writelines(text + "\n" for text in self.early)
        self.early = []

    def note(self, text: str) -> None:
        """Show a line that stays."""
        self._keep(text)
        if self.live is not None:
            self.live.console.print(text, markup=False, soft_wrap=True)
        else:
            console.say(text)
        if text.startswith("run: ") and self.log is None:
            self.keep_log(Path(text.removeprefix("run: ")) / "log.txt")

    def work(self, what: str, done: int, total: int) -> None:
        """Show how far a preparation or validation is."""
        if self.live is None:
            if done < total and time.monotonic() - self.spoken > _PLAIN_SECONDS:
                self.spoken = time.monotonic()
                console.say(f"{what} {done}/{total}")
            return
        if self.work_task is None or self.work_task[0] != what:
            self.work_task = (what, self.live.add_task(what, total=total, text=""))
        self.live.update(self.work_task[1], completed=done, text=f"{done}/{total}")
        if done == total:
            self.live.remove_task(self.work_task[1])
            self.work_task = None
            self.rates = []

    def progress(self, progress: Progress) -> None:
        """Show where training stands."""
        text = self._describe(progress)
        self._keep(text)
        if self.live is not None:
            if self.task is None:
                self.task = self.live.add_task("training", total=progress.steps, text="")
            self.live.update(self.task, completed=progress.step, text=text)
        elif time.monotonic() - self.spoken > _PLAIN_SECONDS or progress.step in (1, progress.steps):
            self.spoken = time.monotonic()
            console.say(text)

    def _describe(self, progress: Progress) -> str:
        terms = " ".join(f"{name} {value:.3f}" for name, value in progress.losses.items() if name != "total")
        return (
            f"epoch {progress.epoch + 1}/{progress.epochs} step {progress.step}/{progress.steps} "
            f"loss {progress.losses['total']:.3f} ({terms}) lr {progress.lr:.2g} "
            f"{progress.images_per_s:.1f} images/s, waiting {progress.wait_share:.0%}, {self._remaining(progress)} left"
        )

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
        stamped = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}"
        if self.log is None:
            self.early.append(stamped)
        else:
            self.log.write(stamped + "\n")
            self.log.flush()


class _NoteHandler(logging.Handler):
    """Warnings of the core become notes."""

    def __init__(self, screen: TrainScreen) -> None:
        super().__init__(logging.WARNING)
        self.screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        self.screen.note(f"{record.levelname.lower()}: {record.getMessage()}")


def result_document(result: TrainResult) -> dict[str, Any]:
    """The JSON document of a run's end."""
    return {
        "run": str(result.run.path) if result.run else None,
        "step": result.step,
        "total_steps": result.total_steps,
        "ap": result.ap,
        "best_ap": result.best_ap,
        "best_epoch": result.best_epoch,
        "interrupted": result.interrupted,
    }


def result_text(result: TrainResult) -> str:
    """The end of a run in words."""
    if result.run is None:
        return "dry run: nothing was written"
    if result.best_epoch is None:
        return f"{result.run.path}: step {result.step:,} of {result.total_steps:,}, no validation yet"
    weights = result.run.best if result.run.best.is_file() else result.run.last
    best = f"best AP {format_ap(result.best_ap)} at epoch {result.best_epoch}"
    return (
        f"{result.run.path}: step {result.step:,} of {result.total_steps:,}, {best}\n"
        f"try it: facetrain detect PICTURE --weights {weights}"
    )
