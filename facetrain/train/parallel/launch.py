"""One process per device from one command: starts them, hands signals on, and ends all when one has ended badly.

What starts them needs no torch. A worker gets the variables that torchrun sets, and a file to meet at.

torch's elastic_launch would be 47 lines less; it was tried (torch 2.14) and refused. It logs tracebacks beside the one
message, from modules that have to be silenced by name. Of two runs whose parent was killed one left without saving: it
sends the workers a signal of its own then. It waits for ever for a worker that leaves by os._exit, as one does whose
threads wait for a dead process. And what starts the workers holds torch: 510 MiB in place of 19, and a port.
"""

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

from facetrain.core import errors
from facetrain.core.errors import FacetrainError, TrainingError, UsageError
from facetrain.core.files import write_text
from facetrain.core.machine import available_cores

# Seconds that the others get when one has ended badly. Those that wait for it in NCCL would wait for ever; those in
# gloo notice, and the first process still saves what it has.
_GRACE = 10.0
# … and seconds to finish the step, save and leave after Ctrl-C, or after the death of the process that started them
_LAST_STEP = 120.0

Work = Callable[..., int]


def has_launcher() -> bool:
    """Whether this process is one of several already, started below or by torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_rank_0() -> bool:
    """Whether this process writes and prints for all."""
    return not has_launcher() or os.environ.get("RANK") == "0"


def own_device(devices: Sequence[str]) -> str:
    """The device of this process: its own of several that --gpus names, or the one named for all."""
    rank = int(os.environ.get("LOCAL_RANK", "0")) if has_launcher() else 0
    if len(devices) == 1:
        return devices[0]
    if rank >= len(devices):
        raise UsageError(
            f"process {rank} of this machine has no device: `gpus` names {len(devices)}",
            "name one for each process, or leave `gpus` out",
        )
    return devices[rank]


def run_workers(devices: Sequence[str], work: Work, arguments: Mapping[str, Any]) -> int:
    """Call `work(**arguments)`, an importable function that returns an exit code, in one new process per device.

    Returns the first process's exit code, 130 after Ctrl-C. Raises the FacetrainError of the process that failed first;
    nothing that was started is left then. Only the first process may print: what others print is shown if they fail.
    """
    context = multiprocessing.get_context("spawn")
    with TemporaryDirectory(prefix="facetrain-") as name:
        folder = Path(name)
        workers = [
            context.Process(target=_worker, args=(rank, len(devices), folder, work, dict(arguments)))
            for rank in range(len(devices))
        ]
        try:
            with _signals_handed_on(workers) as stopping:
                for worker in workers:
                    worker.start()
                failed = _wait(workers, stopping)
        finally:
            for worker in workers:
                if worker.pid is not None:
                    worker.kill()
                    worker.join()
        if failed is None:
            return workers[0].exitcode or 0
        if stopping.is_set():
            return 130
        raise _failure(devices, failed, workers, folder)


@contextmanager
def _signals_handed_on(workers: Sequence[SpawnProcess]) -> Iterator[threading.Event]:
    """An event set by Ctrl-C, a polite kill or a lost terminal; the workers, in sessions of their own, get it too."""
    stopping = threading.Event()

    def stop(number: int, _: FrameType | None) -> None:
        again = stopping.is_set() and number == signal.SIGINT
        stopping.set()
        for worker in workers:
            if worker.pid is not None and worker.is_alive():
                os.kill(worker.pid, signal.SIGINT if again else signal.SIGTERM)

    names = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    in_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, stop) for number in names} if in_main else {}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(workers: Sequence[SpawnProcess], stopping: threading.Event) -> list[int] | None:
    """Until all have ended; those that go on after one failed are killed. Returns the failed ranks, first one first."""
    failed: list[int] = []
    deadline = float("inf")
    running = list(range(len(workers)))
    while running:
        wait([workers[rank].sentinel for rank in running], timeout=0.5)
        for rank in [rank for rank in running if not workers[rank].is_alive()]:
            running.remove(rank)
            if workers[rank].exitcode not in (0, 130):
                failed.append(rank)
        if failed or stopping.is_set():
            deadline = min(deadline, time.monotonic() + (_GRACE if failed else _LAST_STEP))
        if time.monotonic() > deadline:
            for rank in running:
                workers[rank].kill()
            failed += running
            break
    return failed or None


def _failure(
    devices: Sequence[str], failed: Sequence[int], workers: Sequence[SpawnProcess], folder: Path
) -> FacetrainError:
    """What the process that failed first has to say; that another one is gone says nothing."""
    for rank in failed:
        report = folder / f"error-{rank}.json"
        if report.is_file():
            error = json.loads(report.read_text(encoding="utf-8"))
            if error["kind"] == "LostContactError":
                continue
            of = "" if rank == 0 else f"process {rank} ({devices[rank]}): "
            kind: type[FacetrainError] = getattr(errors, error["kind"], TrainingError)
            return kind(of + error["message"], error["hint"])
    silent = [rank for rank in failed if not (folder / f"error-{rank}.json").is_file()]
    rank = (silent or list(failed))[0]
    code = workers[rank].exitcode or 0
    how = f"was killed by signal {-code} ({_signal_name(-code)})" if code < 0 else f"ended with exit code {code}"
    said = folder / f"said-{rank}.txt"
    lines = said.read_text(encoding="utf-8", errors="replace").splitlines()[-30:] if said.is_file() else []
    text = "\n".join([f"process {rank} ({devices[rank]}) {how}; the others were ended too", *lines])
    return TrainingError(
        text,
        "`resume` goes on from the last saved step; a process killed by signal 9 has mostly taken more "
        "memory than there is",
    )


def _signal_name(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return "unknown"


def _worker(rank: int, size: int, folder: Path, work: Work, arguments: Mapping[str, Any]) -> None:
    """The life of one process."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C comes from the starting process, once, and not from the terminal as well
    if rank > 0:
        descriptor = os.open(folder / f"said-{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for stream in (1, 2):
            os.dup2(descriptor, stream)
    os.environ |= {name: str(rank) for name in ("RANK", "LOCAL_RANK")}
    os.environ |= {name: str(size) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")}
    os.environ["FACETRAIN_MEETING"] = str(folder / "meeting")
    # all of them are on this machine: no name to look up, no firewall to pass
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // size)))
    threading.Thread(target=_follow_parent, daemon=True).start()
    try:
        code = work(**arguments)
    except FacetrainError as error:
        document = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
        with suppress(FacetrainError):
            write_text(folder / f"error-{rank}.json", json.dumps(document))
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    except Exception:  # a bug of ours: told here, because leaving in the ordinary way could wait for the others
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads that wait for a process which is gone must not hold this one


def _follow_parent() -> None:
    """End in order when the process that started this one is gone, whatever ended it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_LAST_STEP)
        os._exit(1)
