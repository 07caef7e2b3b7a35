"""Damaged and hostile files of every kind that facetrain reads: no traceback, no hang, no gigabytes.

    python tests/benchmarks/fuzz.py                       # all kinds, more than 20,000 inputs, seed 0
    python tests/benchmarks/fuzz.py images onnx --inputs 500 --seed 3 --keep bad

Each input is a whole file with a few mutations of its kind. What comes out must be a result or a FacetrainError. Every
kind runs in a process of its own, so that its peak of memory is its own. --keep FOLDER keeps what did harm.
"""

import argparse
import json
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from fuzz_inputs import KINDS

from facetrain.core.errors import FacetrainError

_HANG = 10  # seconds
_MEMORY = 2 << 30


@dataclass
class Outcome:
    """What became of the inputs of one kind."""

    kind: str
    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    tracebacks: list[str] = field(default_factory=list)
    hangs: int = 0
    slowest_s: float = 0.0
    peak_bytes: int = 0


class HangError(BaseException):
    """Raised by the alarm; no FacetrainError, and no Exception that a reader could take for one of its own."""


@contextmanager
def alarm(seconds: int) -> Iterator[None]:
    """Raise HangError in what takes longer."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run_kind(kind: str, inputs: int, seed: int, keep: Path | None = None) -> Outcome:
    """Feed so many inputs of one kind, in this process."""
    outcome = Outcome(kind)
    cases = KINDS[kind][0](random.Random(f"{kind} {seed}"))
    with tempfile.TemporaryDirectory() as folder:
        for number in range(inputs):
            content, read, suffix = next(cases)
            path = Path(folder) / f"a{suffix}"
            path.write_bytes(content)
            began = time.perf_counter()
            outcome.inputs += 1
            bad = True
            try:
                with alarm(_HANG):
                    read(path)
                outcome.accepted += 1
                bad = False
            except FacetrainError as error:
                str(error).encode("utf-8", "backslashreplace")
                outcome.refused += 1
                bad = False
            except HangError:
                outcome.hangs += 1
            except Exception:
                outcome.tracebacks.append(traceback.format_exc(limit=-4))
            outcome.slowest_s = max(outcome.slowest_s, time.perf_counter() - began)
            if bad and keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{kind}-{seed}-{number}{suffix}").write_bytes(content)
            path.unlink(missing_ok=True)
    outcome.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return outcome


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []])
    parser.add_argument("--inputs", type=int, help="of each kind; by default a number that fits its speed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the inputs that did harm")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        [kind] = options.kinds
        print(json.dumps(vars(run_kind(kind, options.inputs or KINDS[kind][1], options.seed, options.keep))))
        return
    total = harm = 0
    for kind in options.kinds or KINDS:
        extra = ["--inputs", str(options.inputs)] if options.inputs else []
        extra += ["--keep", str(options.keep)] if options.keep else []
        command = [sys.executable, __file__, kind, "--one", "--seed", str(options.seed), *extra]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            print(f"{kind}: the process ended with {done.returncode}")
            harm += 1
            continue
        outcome = Outcome(**json.loads(done.stdout.splitlines()[-1]))
        total += outcome.inputs
        harm += len(outcome.tracebacks) + outcome.hangs + (outcome.peak_bytes > _MEMORY)
        print(
            f"{kind:12} {outcome.inputs:6,} inputs: {outcome.accepted:,} accepted, {outcome.refused:,} refused, "
            f"{len(outcome.tracebacks)} tracebacks, {outcome.hangs} hangs; slowest {outcome.slowest_s:.2f} s, "
            f"peak {outcome.peak_bytes >> 20:,} MiB",
            flush=True,
        )
        for text in dict.fromkeys(outcome.tracebacks):
            print(text)
    print(f"{total:,} inputs, {harm} did harm")
    sys.exit(harm > 0)


if __name__ == "__main__":
    main()
