"""Images a second of whole training runs on a CPU, by the command itself: loads, sizes, threads, versions, one table.

    python tests/benchmarks/train_speed.py --data data/widerface --before ../old --teacher teacher.pth

Every cell is a run of its own in a process of its own, validation and the first steps left out; the cells of a row are
gone through in turn, `--rounds` times, and the median is told.
  plain    the plain loop of train_throughput.py, by as many threads as torch takes
  before   a checkout of an earlier version (--before), by as many threads as it takes
  before 1 the same by one thread
  one      this version by one thread
  all      this version by all: a lane for each
  network  forward and backward of the network alone, this version's kernels, one thread … and by all
Rows: 256x256 (batch 16), 640x640 (batch 8, groups of 4), 320x320 with a teacher and no labels, Muon (batch 32), each
on a quiet machine and beside one busy program. A column that a version cannot do stays empty. Below it: the
multiply-adds of the network (the teacher not counted) as a share of what the processor does in one large product.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUSY = "x = 0\nwhile True: x += 1"
ROWS: dict[str, dict[str, Any]] = {
    "256x256": {"data.size": 256, "train.batch": 16},
    "640x640": {"data.size": 640, "train.batch": 8},
    "320x320, teacher": {"data.size": 320, "train.batch": 32, "train.label_weight": 0, "train.optimizer": "muon"},
}
OWN = {8: {"train.norm_group": 4}}  # of this version, by the batch: one that small is one group by itself
COLUMNS = ("plain", "before", "before 1", "one", "all", "network 1", "network all")


def training(args: argparse.Namespace, checkout: Path, settings: dict[str, Any], threads: int | None) -> float:
    """Images a second of a run by a checkout's command."""
    own = {"train.lr": 1e-4, "eval.limit": 1, "eval.every": 100000, "data.store": "ram"}
    with tempfile.TemporaryDirectory() as scratch:
        chosen = [part for key, value in (own | settings).items() for part in ("--set", f"{key}={value}")]
        command = [
            *(sys.executable, "-P", "-m", "facetrain", "train", "yunet_n", "--data", str(args.data.resolve())),
            *("--gpus", "cpu", "--limit", str(args.images), "--runs", scratch, "--name", "r", "--epochs", "100000"),
            *("--max-time", f"{args.seconds}s", *chosen),
        ]
        environment = os.environ | {"PYTHONPATH": str(checkout)}
        environment.pop("OMP_NUM_THREADS", None)
        if threads:
            environment["OMP_NUM_THREADS"] = str(threads)
        subprocess.run(command, check=True, capture_output=True, env=environment, cwd=scratch)
        lines = [json.loads(line) for line in (Path(scratch) / "r/metrics.jsonl").read_text().splitlines()]
    rates = [line.get("images_per_s", line.get("pictures_per_s")) for line in lines if line["kind"] == "train"]
    usual = rates[len(rates) // 4 :]
    return len(usual) / sum(1 / rate for rate in usual)


def other(args: argparse.Namespace, column: str, settings: dict[str, Any], threads: int | None) -> float:
    """Images a second of a column of train_throughput.py."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("OMP_NUM_THREADS", None)
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    size, batch = settings["data.size"], settings["train.batch"]
    line = [sys.executable, str(HERE / "train_throughput.py"), "--column", column, "--data", str(args.data)]
    line += ["--size", str(size), "--batch", str(batch), "--images", str(args.images)]
    done = subprocess.run(line, check=True, capture_output=True, env=environment, text=True)
    seconds = json.loads(done.stdout)
    return batch * len(seconds) / sum(seconds)


def cell(args: argparse.Namespace, column: str, settings: dict[str, Any]) -> float | None:
    """One measurement; None where there is nothing to measure."""
    if "train.label_weight" in settings:
        if args.teacher is None or column in ("plain", "network 1", "network all"):
            return None
        settings = settings | {"train.teacher": str(args.teacher.resolve())}
    checkout = ROOT if column in ("one", "all") else args.before_teacher if "train.teacher" in settings else args.before
    if column in ("one", "all", "before", "before 1"):
        if checkout is None:
            return None
        if checkout == ROOT:
            settings = settings | OWN.get(settings["train.batch"], {})
        return training(args, checkout.resolve(), settings, 1 if column in ("one", "before 1") else None)
    return other(args, column.split(maxsplit=1)[0], settings, 1 if column.endswith("1") else None)


def peak(threads: int | None) -> float:
    """Multiply-adds a second of a large product of bfloat16 matrices, or of float32 where the processor has none."""
    code = (
        "import time, torch; from facetrain.train.machine import choose_precision\n"
        "dtype = choose_precision('auto', torch.device('cpu')); a = torch.ones(2048, 2048, dtype=dtype); a @ a\n"
        "began = time.perf_counter(); [a @ a for _ in range(8)]; print(8 * 2048**3 / (time.perf_counter() - began))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("OMP_NUM_THREADS", None)
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment, text=True)
    return float(done.stdout)


def multiply_adds(size: int) -> int:
    """Of a step's forward and backward pass, for each image: the backward pass takes twice the forward's."""
    from facetrain.config.load import load_config
    from facetrain.model.cost import convolutions

    return 3 * sum(c.multiply_adds for c in convolutions(load_config("yunet_n", []).model, size, size))


@contextmanager
def load(busy: bool) -> Iterator[None]:
    """Beside a program that takes a processor whole, or not."""
    if not busy:
        yield
        return
    program = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        yield
    finally:
        program.send_signal(signal.SIGKILL)
        program.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/widerface"))
    parser.add_argument("--before", type=Path, help="checkout of an earlier version")
    parser.add_argument("--before-teacher", type=Path, help="the same for the rows that it cannot do, by default none")
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rows", nargs="*", default=list(ROWS))
    parser.add_argument("--columns", nargs="*", default=list(COLUMNS))
    parser.add_argument("--loads", nargs="*", default=["quiet", "busy"])
    args = parser.parse_args()
    document: dict[str, dict[str, list[float]]] = {}
    for row in args.rows:
        for name in args.loads:
            found: dict[str, list[float]] = {}
            with load(name == "busy"):
                for _ in range(args.rounds):
                    for column in args.columns:
                        rate = cell(args, column, ROWS[row])
                        if rate is not None:
                            found.setdefault(column, []).append(round(rate, 1))
                            print(f"{row}, {name}: {column} {rate:.1f} images/s", file=sys.stderr, flush=True)
            document[f"{row}, {name}"] = found
    print(json.dumps(document, indent=1))
    print(f"| crops, load | {' | '.join(args.columns)} |\n|---|{'---:|' * len(args.columns)}")
    for row, found in document.items():
        cells = (f"{statistics.median(found[column]):.0f}" if column in found else "" for column in args.columns)
        print(f"| {row} | {' | '.join(cells)} |")
    most = peak(None)
    print(f"\na product of matrices, all threads: {most / 1e9:.0f} thousand million multiply-adds a second; of that")
    for row, found in document.items():
        size = ROWS[row.rpartition(",")[0]]["data.size"]
        shares = (
            f"{column} {multiply_adds(size) * statistics.median(found[column]) / most:.0%}"
            for column in ("all", "network all")
            if column in found
        )
        print(f"  {row}: {', '.join(shares)}")


if __name__ == "__main__":
    main()
