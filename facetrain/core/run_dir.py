"""Names inside a run's folder, and which folder a run gets."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from shlex import quote
from typing import IO

from facetrain.core.errors import InputError, UsageError
from facetrain.core.suggest import nearest

_BEST, _LAST, _PREVIOUS, _NUMBERED = "best.pt", "last.pt", "previous.pt", "step-*.pt"


@dataclass(frozen=True)
class RunDir:
    """The files of one training run."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration; `facetrain train` on it starts the same run again."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON line a logged step, epoch or validation."""
        return self.path / "metrics.jsonl"

    @property
    def last(self) -> Path:
        """The newest complete training state, to resume from."""
        return self.path / _LAST

    @property
    def previous(self) -> Path:
        """The training state before the newest, in case that one is damaged."""
        return self.path / _PREVIOUS

    @property
    def best(self) -> Path:
        """The weights with the best validation AP, with their configuration."""
        return self.path / _BEST

    def numbered(self, step: int) -> Path:
        """Weights kept after so many steps (`train.keep_every`)."""
        return self.path / f"step-{step:08}.pt"

    def all_numbered(self) -> list[Path]:
        """All of these, oldest first."""
        return sorted(self.path.glob(_NUMBERED))

    @property
    def curves(self) -> Path:
        """Loss, rate and AP over the run."""
        return self.path / "curves.png"

    @property
    def first_batch(self) -> Path:
        """The first augmented batch with its boxes and landmarks."""
        return self.path / "first_batch.jpg"

    @property
    def log(self) -> Path:
        """What was said on the screen."""
        return self.path / "log.txt"

    @property
    def environment(self) -> Path:
        """Versions, device, command and label hash."""
        return self.path / "environment.json"


def new_run(root: Path, name: str | None, config_name: str) -> RunDir:
    """The folder for a new run: `name`, which must be free, or the first free `<config>-<n>`."""
    if name is None:
        n = 1
        while os.path.lexists(root / f"{config_name}-{n}"):  # also a link to nowhere takes a name
            n += 1
        return RunDir(root / f"{config_name}-{n}")
    if name in ("", ".", "..") or any(c in "/\\:" or ord(c) < 32 for c in name):
        raise UsageError(
            f"`name` {name!r}: not a name for a run", "letters, digits, - and _; `runs` chooses the folder"
        )
    run = RunDir(root / name)
    if _is_taken(run.path):
        raise UsageError(
            f"{run.path}: a run of this name is there already",
            f"continue it with `resume` {quote(name)}, or choose another `name`",
        )
    return run


def _is_taken(path: Path) -> bool:
    """Whether anything is there; a process killed before its first save leaves a folder with hidden files only."""
    if not path.is_dir():
        return path.exists()
    return any(not inside.name.startswith(".") for inside in path.iterdir())


def claim_run(root: Path, config_name: str) -> RunDir:
    """Make the folder of the first free `<config>-<n>`; of two processes that ask at once each gets its own."""
    while True:
        run = new_run(root, None, config_name)
        try:
            run.path.mkdir(parents=True)
        except FileExistsError:  # another process was faster
            continue
        except OSError as error:
            raise _unwritable(run.path, error) from error
        return run


@contextmanager
def held(run: RunDir, fresh: bool = False) -> Iterator[None]:
    """Keep a run to this process while it goes on. Raises UsageError where another process works on it.

    fresh: the run is a new one, and it is refused if another process has trained it, and ended, since it was chosen

    The system drops the hold with the process, however that ends. Not done on Windows, which has no flock. A folder
    that nothing was written into does not stay.
    """
    lock = run.path / ".lock"
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    except OSError as error:
        raise _unwritable(run.path, error) from error
    with file:
        if not _lock(file, lock):
            raise UsageError(f"{run.path}: another process is training this run", "wait for it, or stop it")
        try:
            if fresh and _is_taken(run.path):
                raise UsageError(
                    f"{run.path}: another process has trained a run of this name meanwhile", "choose another `name`"
                )
            yield
        finally:
            lock.unlink(missing_ok=True)
            with suppress(OSError):  # not empty
                run.path.rmdir()


def _lock(file: IO[str], path: Path) -> bool:
    """Whether this process has the file now, and it is still the one of that name."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(file.fileno()).st_ino == path.stat().st_ino
    except OSError:
        return False


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path}: cannot write here: {error.strerror}", "choose another `runs` folder")


def find_run(root: Path, name: str) -> RunDir:
    """The run that `--resume` means: a folder, a name under `root`, or with an empty name the newest one."""
    if name:
        for path in (Path(name), root / name):
            if (path / _LAST).is_file() or (path / _PREVIOUS).is_file():
                return RunDir(path)
        near = nearest(Path(name).name, [path.parent.name for path in root.glob(f"*/{_LAST}")])
        hint = "`resume` takes a run's name or folder"
        raise InputError(
            f"{name}: no run to resume here (no last.pt in {Path(name)} or {root / name})",
            f"did you mean '{near}'? {hint}" if near else hint,
        )
    runs = sorted(root.glob(f"*/{_LAST}"), key=lambda path: path.stat().st_mtime)
    if not runs:
        raise InputError(f"{root}: no run to resume", "start one with facetrain train yunet_n.yaml")
    return RunDir(runs[-1].parent)


def is_of_run(name: str) -> bool:
    """Whether a file of this name is one of those that every run has."""
    return name in (_BEST, _LAST, _PREVIOUS) or fnmatch(name, _NUMBERED)
