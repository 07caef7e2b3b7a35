"""The sets of images that a training reads: one, or several with their shares; named, checked, moved."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from facetrain.config.schema import Config, DataConfig, SourceConfig
from facetrain.core.errors import InputError, UsageError
from facetrain.data.layout import Reading, find_images, find_split, reading_of

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def sources_of(config: DataConfig) -> tuple[SourceConfig, ...]:
    """`data.roots`, or the one of `data.root`."""
    return config.roots or (SourceConfig(config.root),)


def reading_of_source(source: SourceConfig, config: DataConfig) -> Reading:
    """How its labels are to be read."""
    of_all = reading_of(config)
    return replace(of_all, format=source.format or of_all.format, classes=source.classes or of_all.classes)


def source_of(text: str) -> SourceConfig:
    r"""A source as a command names it: FOLDER or FOLDER:SHARE, divided at the last colon when a number follows.

    So `C:\\faces` and `a:b/c` are folders. Raises UsageError for what is no share behind a folder.
    """
    place, colon, end = text.rpartition(":")
    if colon and place and _NUMBER.fullmatch(end):
        if not 0 < float(end) <= 1:
            raise UsageError(f"`data` {text}: a share must be above 0 and at most 1", f"such as {place}:0.3")
        return SourceConfig(place, float(end))
    if colon and place and not Path(text).exists() and Path(place).exists():
        raise UsageError(f"`data` {text}: {end or 'nothing'} is no share", f"a number, such as {place}:0.3")
    return SourceConfig(text)


def named(source: SourceConfig) -> str:
    """A source as `source_of` reads it."""
    return source.root if source.share is None else f"{source.root}:{source.share:g}"


def settle_sources(config: Config) -> tuple[Config, tuple[str, ...]]:
    """Look whether the sources are there; those without labels, behind the first, are a teacher's alone.

    Returns the configuration with that in it, and a line for each of them. One source of its own is left as it is.
    Raises InputError for a source that is there twice, has no labels and no teacher, or no images.
    """
    roots = config.data.roots
    if not roots:
        return config, ()
    _refuse_twice(roots)
    taught = config.train.teacher is not None and config.train.teacher_weight > 0
    settled, notes = [], []
    for number, root in enumerate(roots):
        source = root
        if not _drawn(source.root) and config.train.label_weight > 0 and source.label_weight > 0:
            try:
                find_split(Path(source.root), "train", reading_of_source(source, config.data))
            except InputError as error:
                folder = Path(source.root).is_dir() and reading_of_source(source, config.data).format is None
                if not folder or number == 0:
                    raise
                if not taught:
                    alone = "without labels a teacher can teach on its images alone: `teacher`"
                    error.hint = f"{error.hint}\n{alone}" if error.hint else alone
                    raise
                source = replace(source, label_weight=0.0)
                notes.append(f"{source.root}: no labels ({error.message}): the teacher alone teaches on its images")
        if source.label_weight == 0 and not _drawn(source.root):
            find_images(Path(source.root), ())
        settled.append(source)
    return replace(config, data=replace(config.data, roots=tuple(settled))), tuple(notes)


def moved(config: DataConfig, places: Sequence[str]) -> DataConfig:
    """The same sources at new places, given in the same order; a share may be given again, but not another.

    Raises UsageError where these are not as many, or have other shares.
    """
    if not config.roots:
        if len(places) != 1:
            raise UsageError(f"`data`: the run has one set, and {len(places)} are given", "name its new place")
        return replace(config, root=places[0])
    if len(places) != len(config.roots):
        raise UsageError(
            f"`data`: the run has {len(config.roots)} sets, and {len(places)} are given",
            f"name all of them, in the order of the run: {', '.join(map(named, config.roots))}",
        )
    given = [source_of(text) for text in places]
    for new, old in zip(given, config.roots, strict=True):
        if new.share not in (None, old.share):
            share = "none" if old.share is None else f"{old.share:g}"
            raise UsageError(f"`data` {named(new)}: its share in the run is {share}", "a run keeps its shares")
    roots = [replace(old, root=new.root) for new, old in zip(given, config.roots, strict=True)]
    return replace(config, roots=tuple(roots))


def _drawn(root: str) -> bool:
    return root == "sample" and not Path(root).is_dir()


def _refuse_twice(roots: Sequence[SourceConfig]) -> None:
    seen: dict[str, str] = {}
    for source in roots:
        place = source.root if _drawn(source.root) else str(Path(source.root).resolve())
        if place in seen:
            raise InputError(
                f"`data` {source.root}: the same set as {seen[place]}",
                "name each set once; its share says how often its images come",
            )
        seen[place] = source.root
