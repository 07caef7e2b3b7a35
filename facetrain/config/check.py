"""The values a configuration may have: ranges of single keys, and rules that tie keys together.

`check_config` looks at a complete Config whose types are right. It knows nothing of files: load.py adds the places.
"""

from collections.abc import Iterator, Sequence
from dataclasses import Field, dataclass, fields, is_dataclass
from itertools import pairwise
from typing import Any

from facetrain.config.names import names_at
from facetrain.config.problems import shorten, show
from facetrain.config.schema import Config, LandmarksConfig, ModelConfig
from facetrain.core.inert import NAME_LENGTH, is_name
from facetrain.core.suggest import choices_hint


@dataclass(frozen=True)
class Violation:
    """A rule that does not hold."""

    keys: tuple[str, ...]  # the dotted keys that the rule ties together; the text speaks of the first
    text: str
    hint: str | None = None


def check_config(config: Config) -> list[Violation]:
    """Every range and rule that the configuration breaks."""
    found = [*_ranges(config), *_stages(config.model), *_data(config), *_train(config), *_names(config)]
    wiring = [*_pools(config.model), *_maps(config.model)]
    if not wiring:  # strides say nothing while pools and maps are wrong in themselves
        wiring = list(_strides(config.model))
    if not wiring:
        wiring = list(_size(config))
    return [*found, *wiring, *_landmarks(config.model.landmarks)]


def keys(section: Any, start: str = "") -> Iterator[tuple[str, Field[Any], Any]]:
    """Every key below a section with its field of the schema and its value; sections are gone through."""
    for each in fields(section):
        key, value = f"{start}{each.name}", getattr(section, each.name)
        if is_dataclass(value):
            yield from keys(value, f"{key}.")
        else:
            yield key, each, value


def _ranges(config: Config) -> Iterator[Violation]:
    for key, field, value in keys(config):
        interval = field.metadata.get("range", "(-inf, inf)")
        for item in _numbers(value):
            if not _inside(item, interval):
                text = f"{key}: must be {_in_words(interval)}, not {show(item)}"
                yield Violation((key,), text, f"the default is {show(_plain(field.default))}")


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, tuple):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float):
        yield value


def _inside(value: float, interval: str) -> bool:
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    return above and (value <= high if interval[-1] == "]" else value < high)


def _in_words(interval: str) -> str:
    low, high = interval[1:-1].split(", ")
    words = f"{'at least' if interval[0] == '[' else 'above'} {low}"
    return words if high == "inf" else f"{words} and {'at most' if interval[-1] == ']' else 'below'} {high}"


def _stages(model: ModelConfig) -> Iterator[Violation]:
    if model.stem[0] != 3:
        text = f"model.stem: images have 3 channels, not {model.stem[0]}"
        yield Violation(("model.stem",), text, f"write [3, {model.stem[1]}, {model.stem[2]}]")
    if not model.stages:
        yield Violation(("model.stages",), "model.stages: must have at least one stage", "write a list of [in, out]")
    given, giver = model.stem[2], "the stem"
    for number, (taken, out) in enumerate(model.stages, 1):
        if taken != given:
            keys = ("model.stages", "model.stem") if number == 1 else ("model.stages",)
            text = f"model.stages: stage {number} takes {taken} channels, but {giver} gives {given}"
            yield Violation(keys, text, f"write stage {number} as [{given}, {out}], or change what {giver} gives")
        given, giver = out, f"stage {number}"


def _pools(model: ModelConfig) -> Iterator[Violation]:
    yield from _ascending("model.pool_after", model.pool_after)
    last = len(model.stages)
    for stage in model.pool_after:
        if not 0 <= stage <= last:
            keys = ("model.pool_after", "model.stages")
            yield Violation(keys, f"model.pool_after: there is no stage {stage}", f"0 (the stem) to {last}")


def _maps(model: ModelConfig) -> Iterator[Violation]:
    keys = ("model.maps", "model.stages")
    last = len(model.stages)
    if not model.maps:
        yield Violation(("model.maps",), "model.maps: the neck needs at least one map", f"name stages from 1 to {last}")
        return
    yield from _ascending("model.maps", model.maps)
    missing = [stage for stage in model.maps if not 1 <= stage <= last]
    for stage in missing:
        yield Violation(keys, f"model.maps: there is no stage {stage}", f"stages are 1 to {last}")
    if missing or not last:
        return
    if max(model.maps) < last:
        unused = " and ".join(str(stage) for stage in range(max(model.maps) + 1, last + 1))
        text = f"model.maps: nothing uses stage {unused}, after the last map ({max(model.maps)})"
        yield Violation(keys, text, f"add {last} to model.maps, or remove what is unused from model.stages")
    channels = [model.stages[stage - 1][1] for stage in model.maps]
    if len(set(channels)) > 1:
        text = (
            f"model.maps: the neck adds the maps {_list(model.maps)}, but their stages give {_list(channels)} channels"
        )
        yield Violation(("model.maps", "model.stages"), text, "make the out channels of these stages equal")


def _strides(model: ModelConfig) -> Iterator[Violation]:
    """The stem halves the image, and so does every pool before a map's stage."""
    keys = ("model.strides", "model.pool_after", "model.maps")
    strides = [2 * 2 ** sum(pool < stage for pool in model.pool_after) for stage in model.maps]
    broken = False
    for (upper, upper_stride), (lower, lower_stride) in pairwise(zip(model.maps, strides, strict=True)):
        if lower_stride == 2 * upper_stride:
            continue
        broken = True
        pools = [stage for stage in model.pool_after if upper <= stage < lower]
        text = (
            f"model.maps: the neck needs exactly one pool between neighbouring maps, but stages {upper} and {lower} "
            f"have {len(pools)} (strides {upper_stride} and {lower_stride})"
        )
        one = " or ".join(str(stage) for stage in (pools or range(upper, lower)))
        hint = f"in model.pool_after, keep only one of {one}" if pools else f"add {one} to model.pool_after"
        yield Violation(("model.maps", "model.pool_after"), text, hint)
    if not broken and list(model.strides) != strides:
        text = (
            f"model.strides: {_list(model.strides)}, but stem and pools give the maps {_list(model.maps)} the strides"
        )
        hint = f"write strides: {_list(strides)}, or change model.pool_after or model.maps"
        yield Violation(keys, f"{text} {_list(strides)}", hint)


def _size(config: Config) -> Iterator[Violation]:
    size, stride = config.data.size, config.model.strides[-1]
    if size % stride:
        below = size // stride * stride
        near = f"{below} or {below + stride}" if below > 0 else f"{stride}"
        text = f"data.size: {size} is not a multiple of the largest stride, {stride}"
        yield Violation(
            ("data.size", "model.strides"), text, f"the nearest are {near}" if below > 0 else f"write {near}"
        )


def _landmarks(landmarks: LandmarksConfig) -> Iterator[Violation]:
    names, mirror = ("model.landmarks.names", "model.landmarks.mirror")
    known = set(landmarks.names)
    if any(not name.strip() for name in known):
        yield Violation((names,), f"{names}: a name is empty", "name every point; [] for no landmarks")
    for name in landmarks.names:
        if name.strip() and not is_name(name):
            hint = f"letters, digits, blank, _ . and -, at most {NAME_LENGTH} of them"
            yield Violation((names,), f"{names}: {show(name)} is not a name", hint)
    for name in sorted(known):
        if landmarks.names.count(name) > 1:
            yield Violation(
                (names,), f"{names}: '{name}' stands there {landmarks.names.count(name)} times", "rename one"
            )
    pairs = [name for pair in landmarks.mirror for name in pair]
    unknown = [name for name in dict.fromkeys(pairs) if name not in known]
    if unknown:
        listed = ", ".join(f"'{name}'" for name in unknown)
        hint = choices_hint(unknown[0], known) if known and len(unknown) == 1 else "pair the new names; [] for no pairs"
        yield Violation((mirror, names), f"{mirror}: there is no landmark {listed}", hint)
    for name in sorted(known):
        if pairs.count(name) > 1:
            text = f"{mirror}: '{name}' stands there {pairs.count(name)} times"
            yield Violation((mirror,), text, "a point has one partner; leave out points on the middle line of the face")


def _data(config: Config) -> Iterator[Violation]:
    if not config.data.root.strip():
        yield Violation(("data.root",), "data.root: is empty", "name a folder, or `sample`")
    if not config.data.crop_scales:
        yield Violation(("data.crop_scales",), "data.crop_scales: must have at least one scale", "[1.0] crops squares")
    smallest, largest = config.data.cutout.area
    if smallest > largest:
        text = f"data.cutout.area: the smallest share, {smallest:g}, is above the largest, {largest:g}"
        yield Violation(("data.cutout.area",), text, f"write [{largest:g}, {smallest:g}]")


def _train(config: Config) -> Iterator[Violation]:
    train = config.train
    yield from _ascending("train.milestones", train.milestones)
    for key, every in (("train.keep_every", train.keep_every), ("eval.every", config.eval.every)):
        if every is not None and every > 1 and every != int(every):
            text = f"{key}: {every:g} is neither whole epochs nor a share of the run"
            yield Violation((key,), text, f"write {round(every)}, or a share below 1 such as 0.1")
    if train.label_weight == 0 and (train.teacher is None or train.teacher_weight == 0):
        key = "train.teacher" if train.teacher is None else "train.teacher_weight"
        seen = f"no {key}" if train.teacher is None else f"{key} 0"
        text = f"train.label_weight: 0 with {seen} leaves nothing to learn from"
        hint = "name a checkpoint as train.teacher, or let labels count: train.label_weight: 1"
        yield Violation(("train.label_weight", key), text, hint)
    if train.plan is not None:
        yield from _plan(train.plan)


def _names(config: Config) -> Iterator[Violation]:
    """What is `named` and not a key of its table."""
    for key, field, value in keys(config):
        if "names" not in field.metadata or value == field.default:
            continue  # defaults are in their tables, which are not even looked for
        if value not in (names := names_at(field.metadata["names"])):
            yield Violation((key,), f"{key}: there is no '{shorten(value)}'", choices_hint(value.lower(), names))


def _plan(plan: Sequence[tuple[int, int]]) -> Iterator[Violation]:
    steps = [step for step, _ in plan]
    if not plan or steps[0] < 0 or any(after <= before for before, after in pairwise(steps)):
        text = f"train.plan: the steps {_list(steps)} must be ascending, from 0 on, and there must be one"
        yield Violation(("train.plan",), text, "[[0, 500]] is a run of 500 steps; null: by train.epochs")
    for step, total in plan:
        if total < max(step, 1):
            yield Violation(("train.plan",), f"train.plan: at step {step} a run of {total} steps is over", None)


def _ascending(key: str, values: Sequence[float]) -> Iterator[Violation]:
    if any(after <= before for before, after in pairwise(values)):
        text = f"{key}: must be ascending without repeats, not {_list(values)}"
        yield Violation((key,), text, f"write {_list(sorted(set(values)))}")


def _list(values: Sequence[float]) -> str:
    return show(list(values))


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
