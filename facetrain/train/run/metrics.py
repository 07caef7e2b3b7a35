"""The numbers of a run: metrics.jsonl, and the curves drawn from it."""

import json
from io import FileIO
from pathlib import Path
from shlex import quote
from typing import cast

from facetrain.core.documents.train import PlanLine, TrainLine, ValidationLine
from facetrain.core.errors import OutputError
from facetrain.core.files import replacing, write_text
from facetrain.core.inert import for_plot
from facetrain.core.plots import new_figure
from facetrain.core.run_dir import RunDir
from facetrain.train.run.board import Board, open_board

Line = TrainLine | ValidationLine | PlanLine
_NEEDED = {"train": {"epoch", "lr", "losses"}, "val": {"epoch", "ap"}, "plan": {"total"}}  # by kind of line


class MetricsLog:
    """Appends JSON lines, and TensorBoard events where that is installed; without a run nothing is kept.

    On resume, lines past the saved step are cut off first, and the validation of an epoch that was not closed.
    """

    def __init__(self, run: RunDir | None, step: int, epoch: int) -> None:
        self.run = run
        self.file: FileIO | None = None
        self.board: Board | None = None
        if run is None:
            return
        lines = [line for line in read_metrics(run.metrics) if line["step"] <= step]
        kept = [line for line in lines if line["kind"] != "val" or line["epoch"] < epoch or line["step"] < step]
        write_text(run.metrics, "".join(json.dumps(line) + "\n" for line in kept))
        # no buffer: a killed run keeps its lines, and a full disk is noticed where it is told
        self.file = run.metrics.open("ab", buffering=0)
        self.board = open_board(run, step)

    def write(self, line: Line) -> None:
        """One line. Raises OutputError where the disk is full."""
        if self.run is None or self.file is None:
            return
        try:
            self.file.write((json.dumps(line) + "\n").encode())
        except OSError as error:
            raise OutputError(
                f"{self.run.metrics}: cannot be written: {error.strerror or error}",
                f"free some space, then go on with `resume` {quote(str(self.run.path))}",
            ) from error
        if self.board is not None:
            numbers = {name: value for name, value in line.items() if name not in ("kind", "step")}
            self.board.add(line["kind"], line["step"], numbers)

    def close(self) -> None:
        """Close the file."""
        if self.file is not None:
            self.file.close()
        if self.board is not None:
            self.board.close()


def read_metrics(path: Path) -> list[Line]:
    """All complete lines of a metrics file; a line that a crash or a person has torn is left out."""
    if not path.exists():
        return []
    lines: list[Line] = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            needed = _NEEDED.get(str(line.get("kind")))
            if needed is not None and needed <= line.keys():
                lines.append(cast(Line, line))
    return lines


def draw_curves(run: RunDir) -> None:
    """Loss terms, learning rate and validation AP over the steps, as curves.png."""
    lines = read_metrics(run.metrics)
    steps = [line for line in lines if line["kind"] == "train"]
    validations = [(line["step"], line["ap"]) for line in lines if line["kind"] == "val" and line["ap"] is not None]
    if not steps:
        return
    figure = new_figure(9, 9)
    losses, rate, precision = figure.subplots(3, 1, sharex=True, height_ratios=[3, 1, 2])
    x = [line["step"] for line in steps]
    for name in steps[0]["losses"]:
        width = 2.0 if name == "total" else 1.0
        losses.plot(x, [line["losses"][name] for line in steps], label=name, linewidth=width)
    losses.set(yscale="log", ylabel="loss", title=for_plot(run.path.name))
    losses.legend()
    rate.plot(x, [line["lr"] for line in steps], color="black")
    rate.set(ylabel="learning rate", ylim=(0, None))
    if validations:
        precision.plot(*zip(*validations, strict=True), marker="o")
        best = max(validations, key=lambda point: point[1])
        precision.annotate(f"{best[1]:.3f}", best, textcoords="offset points", xytext=(0, 6))
    precision.set(ylabel="validation AP", xlabel="step", ylim=(0, 1))
    for axes in (losses, rate, precision):
        axes.grid(alpha=0.3)
    with replacing(run.curves) as scratch:
        figure.savefig(scratch, dpi=110)
