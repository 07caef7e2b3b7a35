"""What a run begins with: its folder, held from here on, its configuration, and a resumed one's state."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import Field, dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any

from facetrain.config.load import load_config
from facetrain.config.problems import show
from facetrain.config.schema import Config, DataConfig, entries
from facetrain.core.errors import ConfigError, InputError, UsageError
from facetrain.core.files import check_folder
from facetrain.core.run_dir import RunDir, claim_run, held, new_run
from facetrain.data.sources import moved, settle_sources, sources_of
from facetrain.train.run.checkpoint import Saved, load_state, saved_config
from facetrain.train.teacher import TeacherFile, with_teacher


@dataclass(frozen=True)
class Beginning:
    """saved: the state to go on from; notes: lines to say."""

    config: Config
    run: RunDir
    saved: Saved | None
    teacher: TeacherFile | None
    notes: tuple[str, ...]


def begin_new(
    config: Config, runs: Path, name: str | None, config_name: str, hold: ExitStack, *, dry_run: bool
) -> Beginning:
    """A new run. Its folder is taken now, before any work; a dry run takes none.

    Raises UsageError where the name is taken, InputError or DataError for a teacher that does not fit.
    """
    config, notes = settle_sources(replace(config, data=_absolute_data(config.data)))
    config, teacher = with_teacher(config, None, None, runs)
    if dry_run:
        return Beginning(config, new_run(runs, name, config_name), None, teacher, notes)
    run = new_run(runs, name, config_name)
    check_folder(run.path, "runs")
    if not runs.exists():
        hold.callback(_remove_if_empty, runs)
    if name is None:
        run = claim_run(runs, config_name)
    hold.enter_context(held(run, fresh=True))
    return Beginning(config, run, None, teacher, notes)


def begin_again(run: RunDir, data: Sequence[str], teacher: str | None, hold: ExitStack, *, dry_run: bool) -> Beginning:
    """A run that goes on. data, teacher: where these lie now, if not where they were; of several sets all, in order.

    Raises UsageError where another process trains it or where its config.yaml was changed in what a run cannot change.
    """
    check_folder(run.path, "runs")
    if not dry_run:
        hold.enter_context(held(run))
    saved = load_state(run)
    config, notes = _with_changes(saved_config(saved, run.last), run)
    if data:
        config = replace(config, data=_absolute_data(moved(config.data, data)))
    for source in sources_of(config.data):
        if not data and source.root != "sample" and not Path(source.root).exists():
            raise InputError(
                f"{source.root}: the data that the run began with is no longer there",
                "`resume` with `data` FOLDER names its new place"
                + ("; with several sets all of them, in their order" if config.data.roots else ""),
            )
    config, taught = with_teacher(config, teacher, saved["state"].get("teacher"), run.path.parent)
    return Beginning(config, run, saved, taught, notes)


def _not_allowed(key: str, field: Field[Any], own: Any, other: Any) -> Iterator[str]:
    """Lines for what may not change of two values of a key; sections of a list are held against each other."""
    if field.metadata.get("may_change"):
        return  # data and teacher may lie elsewhere now, and are checked by hashes
    if isinstance(own, tuple) and own and is_dataclass(own[0]) and len(own) == len(other):
        for number, both in enumerate(zip(own, other, strict=True), 1):
            for (name, each, mine), (_, _, theirs) in zip(*map(entries, both), strict=True):
                if mine != theirs:
                    yield from _not_allowed(f"{key}, set {number}, {name}", each, mine, theirs)
    else:
        yield f"  {key}: {show(own)} in the run, {show(other)} in the file"


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _absolute_data(config: DataConfig) -> DataConfig:
    """The same places as they are found from anywhere."""
    roots = tuple(replace(source, root=_absolute(source.root)) for source in config.roots)
    return replace(config, root=_absolute(config.root), roots=roots)


def _absolute(root: str) -> str:
    """A data folder as it is found from anywhere; `sample` is none, unless there is a folder of that name."""
    path = Path(root)
    return root if root == "sample" and not path.is_dir() else str(path.absolute())


def _with_changes(config: Config, run: RunDir) -> tuple[Config, tuple[str, ...]]:
    """The saved configuration with what its config.yaml says otherwise and may say, and a line for each change."""
    if not run.config.is_file():
        return config, ()
    try:
        edited = load_config(run.config)
    except (ConfigError, InputError) as error:
        error.hint = f"{error.hint or 'correct it'}; without the file the run goes on with its own settings"
        raise
    changes = [
        (key, field, own, other)
        for (key, field, own), (_, _, other) in zip(entries(config), entries(edited), strict=True)
        if own != other and not is_dataclass(own) and key != "train.plan"
    ]
    lines = [line for key, field, own, other in changes for line in _not_allowed(key, field, own, other)]
    if lines:
        raise UsageError(
            "\n".join([f"{run.config}: was changed in what a run cannot change while it goes on:", *lines]),
            "put it back, or start a new run from its weights with `weights` runs/<name>/best.pt",
        )
    notes = tuple(f"changed in {run.config}: {key} from {show(own)} to {show(other)}" for key, _, own, other in changes)
    return replace(edited, train=replace(edited.train, plan=config.train.plan)), notes
