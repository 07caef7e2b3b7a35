"""The values a configuration may have: ranges and names of single keys, and rules that tie keys together.

`check_config` looks at a complete Config whose types are right. It knows nothing of files: load.py adds the places.
"""

from collections.abc import Iterator, Sequence
from dataclasses import Field, dataclass
from itertools import pairwise
from typing import Any

from facetrain.config.names import names_at
from facetrain.config.problems import shorten, show
from facetrain.config.schema import Config, LandmarksConfig, ModelConfig, entries
from facetrain.core.inert import NAME_LENGTH, is_name
from facetrain.core.suggest import choices_hint


@dataclass(frozen=True)
class Violation:
    """A rule that does not hold for a key, or for it and others together. `wrong` and `hint` speak of the key."""

    key: str
    wrong: str
    hint: str | None = None
    others: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The key and what is wrong with it."""
        return f"{self.key}: {self.wrong}"


def check_config(config: Config) -> list[Violation]:
    """Every range and rule that the configuration breaks."""
    model, last = config.model, len(config.model.stages)
    found = [*_ranges(config), *_stages(model), *_data(config), *_train(config), *_names(config)]
    wiring = list(_numbers_of_stages("model.pool_after", model.pool_after, range(last + 1), f"0 (the stem) to {last}"))
    wiring += _maps(model)
    # strides say nothing while pools and maps are wrong in themselves, nor the size while strides are
    return [*found, *(wiring or list(_strides(model)) or _size(config)), *_landmarks(model.landmarks)]


def _ranges(config: Config) -> Iterator[Violation]:
    for key, field, value in entries(config):
        for wrong in _beyond(field, value):
            yield Violation(key, wrong, f"the default is {show(field.default)}")
    for number, source in enumerate(config.data.roots, 1):
        for name, field, value in entries(source):
            for wrong in _beyond(field, value):
                yield Violation("data.roots", f"{name} of set {number} ({shorten(source.root)}) {wrong}")


def _beyond(field: Field[Any], value: Any) -> Iterator[str]:
    """What is wrong with each number that lies outside of the field's range."""
    if "range" in field.metadata:
        for number in _numbers(value):
            if wanted := _outside(number, field.metadata["range"]):
                yield f"must be {wanted}, not {show(number)}"


def _names(config: Config) -> Iterator[Violation]:
    for key, field, value in entries(config):
        if "names" in field.metadata and value != field.default:  # whose table is not even looked for
            names = names_at(field.metadata["names"])
            if value not in names:
                yield Violation(key, f"there is no '{shorten(value)}'", choices_hint(value.lower(), names))


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, tuple):
        for item in value:
            yield from _numbers(item)
    elif value is not None:
        yield value


def _outside(number: float, interval: str) -> str | None:
    """What the interval wants, in words, where the number is not in it."""
    low, high = interval[1:-1].split(", ")
    from_low, to_high = interval[0] == "[", interval[-1] == "]"
    above = number >= float(low) if from_low else number > float(low)
    if above and (number <= float(high) if to_high else number < float(high)):
        return None
    words = f"{'at least' if from_low else 'above'} {low}"
    return words if high == "inf" else f"{words} and {'at most' if to_high else 'below'} {high}"


def _stages(model: ModelConfig) -> Iterator[Violation]:
    channels, middle, given = model.stem
    if channels != 3:
        yield Violation("model.stem", f"images have 3 channels, not {channels}", f"write [3, {middle}, {given}]")
    if not model.stages:
        yield Violation("model.stages", "must have at least one stage", "write a list of [in, out]")
    giver, tied = "the stem", ("model.stem",)
    for number, (taken, out) in enumerate(model.stages, 1):
        if taken != given:
            wrong = f"stage {number} takes {taken} channels, but {giver} gives {given}"
            hint = f"write stage {number} as [{given}, {out}], or change what {giver} gives"
            yield Violation("model.stages", wrong, hint, tied if number == 1 else ())
        given, giver = out, f"stage {number}"


def _numbers_of_stages(key: str, numbers: Sequence[int], stages: range, hint: str) -> Iterator[Violation]:
    yield from _ascending(key, numbers)
    for number in numbers:
        if number not in stages:
            yield Violation(key, f"there is no stage {number}", hint, ("model.stages",))


def _maps(model: ModelConfig) -> Iterator[Violation]:
    key, tied = "model.maps", ("model.stages",)
    last = len(model.stages)
    if not model.maps:
        yield Violation(key, "the neck needs at least one map", f"name stages from 1 to {last}")
    yield from _numbers_of_stages(key, model.maps, range(1, last + 1), f"stages are 1 to {last}")
    if not model.maps or not all(1 <= stage <= last for stage in model.maps):
        return
    if max(model.maps) < last:
        unused = " and ".join(str(stage) for stage in range(max(model.maps) + 1, last + 1))
        wrong = f"nothing uses stage {unused}, after the last map ({max(model.maps)})"
        yield Violation(key, wrong, f"add {last} to model.maps, or remove what is unused from model.stages", tied)
    channels = [model.stages[stage - 1][1] for stage in model.maps]
    if len(set(channels)) > 1:
        wrong = f"the neck adds the maps {show(model.maps)}, but their stages give {show(channels)} channels"
        yield Violation(key, wrong, "make the out channels of these stages equal", tied)


def _strides(model: ModelConfig) -> Iterator[Violation]:
    """The stem halves the image, and so does every pool before a map's stage."""
    strides = [2 * 2 ** sum(pool < stage for pool in model.pool_after) for stage in model.maps]
    broken = False
    for (upper, upper_stride), (lower, lower_stride) in pairwise(zip(model.maps, strides, strict=True)):
        if lower_stride == 2 * upper_stride:
            continue
        broken = True
        pools = [stage for stage in model.pool_after if upper <= stage < lower]
        wrong = (
            f"the neck needs exactly one pool between neighbouring maps, but stages {upper} and {lower} "
            f"have {len(pools)} (strides {upper_stride} and {lower_stride})"
        )
        one = " or ".join(str(stage) for stage in (pools or range(upper, lower)))
        hint = f"in model.pool_after, keep only one of {one}" if pools else f"add {one} to model.pool_after"
        yield Violation("model.maps", wrong, hint, ("model.pool_after",))
    if not broken and list(model.strides) != strides:
        given = f"stem and pools give the maps {show(model.maps)} the strides {show(strides)}"
        hint = f"write strides: {show(strides)}, or change model.pool_after or model.maps"
        tied = ("model.pool_after", "model.maps")
        yield Violation("model.strides", f"{show(model.strides)}, but {given}", hint, tied)


def _size(config: Config) -> Iterator[Violation]:
    size, stride = config.data.size, config.model.strides[-1]
    if size % stride:
        below = size // stride * stride
        hint = f"the nearest are {below} or {below + stride}" if below > 0 else f"write {stride}"
        wrong = f"{size} is not a multiple of the largest stride, {stride}"
        yield Violation("data.size", wrong, hint, ("model.strides",))


def _landmarks(landmarks: LandmarksConfig) -> Iterator[Violation]:
    key, mirror = "model.landmarks.names", "model.landmarks.mirror"
    known = set(landmarks.names)
    if any(not name.strip() for name in known):
        yield Violation(key, "a name is empty", "name every point; [] for no landmarks")
    for name in landmarks.names:
        if name.strip() and not is_name(name):
            hint = f"letters, digits, blank, _ . and -, at most {NAME_LENGTH} of them"
            yield Violation(key, f"{show(name)} is not a name", hint)
    yield from _repeated(key, landmarks.names, known, "rename one")
    pairs = [name for pair in landmarks.mirror for name in pair]
    unknown = [name for name in dict.fromkeys(pairs) if name not in known]
    if unknown:
        listed = ", ".join(f"'{name}'" for name in unknown)
        hint = choices_hint(unknown[0], known) if known and len(unknown) == 1 else "pair the new names; [] for no pairs"
        yield Violation(mirror, f"there is no landmark {listed}", hint, (key,))
    yield from _repeated(
        mirror, pairs, known, "a point has one partner; leave out points on the middle line of the face"
    )


def _repeated(key: str, names: Sequence[str], known: set[str], hint: str) -> Iterator[Violation]:
    for name in sorted(known):
        if names.count(name) > 1:
            yield Violation(key, f"'{name}' stands there {names.count(name)} times", hint)


def _data(config: Config) -> Iterator[Violation]:
    if not config.data.root.strip():
        yield Violation("data.root", "is empty", "name a folder, or `sample`")
    yield from _roots(config)
    first = [source.label_weight for source in config.data.roots[:1]]
    if config.data.val is not None and 0 in (config.train.label_weight, *first):
        yield Violation("data.val", "wants labels, and none are read", "leave it out", ("train.label_weight",))
    if not config.data.crop_scales:
        yield Violation("data.crop_scales", "must have at least one scale", "[1.0] crops squares")
    smallest, largest = config.data.cutout.area
    if smallest > largest:
        wrong = f"the smallest share, {smallest:g}, is above the largest, {largest:g}"
        yield Violation("data.cutout.area", wrong, f"write [{largest:g}, {smallest:g}]")


def _roots(config: Config) -> Iterator[Violation]:
    key, roots, train = "data.roots", config.data.roots, config.train
    for number, source in enumerate(roots, 1):
        if not source.root.strip():
            yield Violation(key, f"set {number} has no root", "write {root: FOLDER}")
        if source.label_weight == 0 and (train.teacher is None or train.teacher_weight == 0):
            wrong = f"label_weight 0 of set {number} ({shorten(source.root)}) with no teacher leaves nothing to learn"
            yield Violation(key, wrong, "name a `train.teacher`, or let its labels count", ("train.teacher",))
    shares = [source.share for source in roots if source.share is not None]
    total = sum(shares)
    if len(shares) == len(roots) and roots and abs(total - 1) > 1e-6:
        wrong = f"the shares are {total:g} together, not 1"
        yield Violation(key, wrong, "leave one share out: it takes what the others leave")
    elif len(shares) < len(roots) and total >= 1:
        wrong = f"the shares are {total:g} together, which leaves nothing for the sets without one"
        yield Violation(key, wrong, "give smaller shares, which add up to less than 1")


def _train(config: Config) -> Iterator[Violation]:
    train = config.train
    yield from _ascending("train.milestones", train.milestones)
    for key, every in (("train.keep_every", train.keep_every), ("eval.every", config.eval.every)):
        if every is not None and every > 1 and every != int(every):
            wrong = f"{every:g} is neither whole epochs nor a share of the run"
            yield Violation(key, wrong, f"write {round(every)}, or a share below 1 such as 0.1")
    if train.label_weight == 0 and (train.teacher is None or train.teacher_weight == 0):
        key = "train.teacher" if train.teacher is None else "train.teacher_weight"
        wrong = f"0 with {f'no {key}' if train.teacher is None else f'{key} 0'} leaves nothing to learn from"
        hint = "name a checkpoint as train.teacher, or let labels count: train.label_weight: 1"
        yield Violation("train.label_weight", wrong, hint, (key,))
    if train.plan is not None:
        yield from _plan(train.plan)


def _plan(plan: Sequence[tuple[int, int]]) -> Iterator[Violation]:
    steps = [step for step, _ in plan]
    if not plan or steps[0] < 0 or any(after <= before for before, after in pairwise(steps)):
        wrong = f"the steps {show(steps)} must be ascending, from 0 on, and there must be one"
        yield Violation("train.plan", wrong, "[[0, 500]] is a run of 500 steps; null: by train.epochs")
    for step, total in plan:
        if total < max(step, 1):
            yield Violation("train.plan", f"at step {step} a run of {total} steps is over")


def _ascending(key: str, values: Sequence[float]) -> Iterator[Violation]:
    if any(after <= before for before, after in pairwise(values)):
        wrong = f"must be ascending without repeats, not {show(values)}"
        yield Violation(key, wrong, f"write {show(sorted(set(values)))}")
