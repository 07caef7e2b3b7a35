"""The one place that knows what `weights`, `teacher` and a model's name can mean: a file, a run, or a name.

What is there as a path goes first: a file, or the folder of a run. Then names that mean the same everywhere: those of
bundled weights, those of public ones that are in the cache. Then the names of runs. So no run takes the place of the
weights that come along by being called like them. Nothing is fetched here.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Literal

from facetrain.config.problems import shorten
from facetrain.core.errors import DataError, InputError, about
from facetrain.core.files import is_lfs_pointer
from facetrain.core.run_dir import RunDir
from facetrain.core.suggest import nearest, nearest_path
from facetrain.detect import bundled
from facetrain.detect.bundled import bundled_names, bundled_weights
from facetrain.detect.public import cache_folder, cached, public_names, public_weights, state_of

Use = Literal["detect", "train", "teach", "export"]

CHECKPOINT_SUFFIXES = (".pt", ".pth")
SUFFIXES = (".onnx", *CHECKPOINT_SUFFIXES)
RUNS = Path("runs")  # where runs are kept, unless `train` is told otherwise


def find_weights(weights: str | Path, use: Use = "detect", runs: Path = RUNS) -> Path:
    """The file that `weights` means.

    weights: a file, the folder of a run, a bundled or public name, or the name of a run below `runs`
    use:     `detect` takes ONNX files and checkpoints, and of a name the ONNX file; `train` and `teach` take YuNet's
             ONNX files besides checkpoints, and of a name the checkpoint; `export` needs a checkpoint

    Raises InputError where there is none, with the nearest name and all there are, or for a public name whose file is
    not in the cache, with the command that fetches it; DataError for a file that is no weights or was damaged.
    """
    name = str(weights)
    path = _expanded(Path(weights))
    # os.path answers no for a file behind a closed folder, Path.is_file raises
    if name and os.path.isfile(path):  # noqa: PTH113
        return _checked(path, use)
    if name and (best := best_of_run(path)) is not None:
        return _checked(best, use)
    if path.name == name != "":
        suffix = ".onnx" if use == "detect" else ".pt"
        if name in bundled_names(suffix):
            return _checked(bundled_weights(name, suffix), use)
        if public_weights(name) is not None:
            return _from_cache(name, use)
        if (best := best_of_run(runs / name)) is not None:
            return _checked(best, use)
    raise _not_found(name, path, use, runs)


def find_teacher(teacher: str, runs: Path = RUNS) -> Path:
    """The checkpoint of `train.teacher`. Raises as `find_weights`, and names the setting."""
    try:
        return find_weights(teacher, "teach", runs)
    except InputError as error:
        raise about("train.teacher", error) from error


def best_of_run(folder: Path) -> Path | None:
    """The best weights of a run; None for what is no folder of a run. Raises InputError where there are none yet."""
    run = RunDir(folder)
    if os.path.isfile(run.best):  # noqa: PTH113
        return run.best
    if os.path.isfile(run.last):  # noqa: PTH113
        raise InputError(
            f"{folder}: a run without best.pt: it has not come to a validation", f"its weights of now are {run.last}"
        )
    return None


def lasting_name(weights: str, path: Path) -> str:
    """What to write down so that `path`, which `weights` has come to, is found from any folder: a name, or a path."""
    is_name = path.parent in (bundled.FOLDER, cache_folder()) and weights in (path.stem, *bundled_names(), path.name)
    return weights if is_name and not os.path.isfile(weights) else str(path.resolve())  # noqa: PTH113


def names_hint(near: str | None = None) -> str:
    """A hint that lists what has a name. near: what was probably meant."""
    own = ", ".join(sorted({*bundled_names(), *bundled_names(".pt")}))
    listed = f"by name there are: {own}" if own else "this installation has no bundled weights"
    listed += f"; public ones: {', '.join(public_names())}"
    return f"did you mean '{near}'? {listed}" if near else listed


def _expanded(path: Path) -> Path:
    """The path with ~ as the home, where there is one: a configuration is read by no shell."""
    with suppress(RuntimeError):
        return path.expanduser()
    return path


def _checked(path: Path, use: Use) -> Path:
    """The path of a file that is there, unless its name or its first bytes say that it will not do."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if is_lfs_pointer(start):
        raise DataError(f"{path}: a git-lfs pointer, not weights", "run `git lfs pull` where it came from")
    if not start:
        raise DataError(f"{path}: the file is empty")
    suffix = path.suffix.lower()
    if use == "export" and suffix == ".onnx":
        hint = f"give the checkpoint (.pt, .pth) that it was made from; {names_hint()}"
        raise InputError(f"{path}: an ONNX file, which cannot be exported again", hint)
    if use == "detect" and suffix not in SUFFIXES:  # a checkpoint's reader goes by the content, whatever its name
        raise DataError(f"{path}: not weights by its name", "an ONNX file ends in .onnx, a checkpoint in .pt or .pth")
    return path


def _from_cache(name: str, use: Use) -> Path:
    """A public name's file. It is hashed at each use: a third of a megabyte, and a cache is open to many programs."""
    row = public_weights(name)
    assert row is not None
    file = row.file(".onnx" if use == "detect" else ".pth")
    path, command = cached(row, file), f"facetrain weights get {name}"
    state = state_of(row, file)
    if state == "absent":
        raise InputError(f"{name}: public weights that are not on this machine: no {path}", f"fetch them: {command}")
    if state == "damaged":
        raise DataError(f"{path}: not the file that {name} is: its SHA-256 is another", f"fetch it again: {command}")
    return path


def _not_found(name: str, path: Path, use: Use, runs: Path) -> InputError:
    """What to say where nothing is found: as of a path where it looks like one, else as of a name."""
    if not name:
        return InputError("no weights are named: the name is empty", names_hint())
    if os.path.isdir(path):  # noqa: PTH112
        return InputError(f"{path}: a folder, not weights", f"a run keeps its best weights in best.pt; {names_hint()}")
    if os.path.exists(path):  # noqa: PTH110
        return InputError(f"{path}: not a file")
    known = [*bundled_names(".onnx" if use == "detect" else ".pt"), *public_names()]
    if path.name == name and path.suffix.lower() not in SUFFIXES:
        near = nearest(name.lower(), [*known, *(best.parent.name for best in _listed(runs, "*/best.pt"))])
        return InputError(f"{shorten(name)}: neither a file, nor a run, nor weights with this name", names_hint(near))
    meant = nearest_path(path)
    near = str(meant) if meant else path.stem if path.name == name and path.stem in known else None
    return InputError(f"{path}: no such file", names_hint(near))


def _listed(folder: Path, pattern: str) -> list[Path]:
    try:
        return list(folder.glob(pattern))
    except (OSError, ValueError):
        return []
