"""Two detectors on the same images: how much better one is, and whether that can be told from luck.

Both are measured in the same draws of the images (eval/intervals.py), so that what makes an image hard or easy for both
falls out: the interval of a difference is far narrower than those of the two numbers.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from facetrain.core.documents.common import DifferenceDocument
from facetrain.core.errors import UsageError
from facetrain.eval.intervals import MIN_IMAGES, Estimate, Resampling, critical, estimate, two_sided
from facetrain.eval.metrics import METRICS

if TYPE_CHECKING:
    from facetrain.eval.benchmark import Benchmark
    from facetrain.eval.evaluate import Evaluation

LEVEL = 0.05
_IN_FOUR_OF_FIVE = NormalDist().inv_cdf(0.8)
_SHOWN = 3  # names of images in a message
LANDMARKS = "landmark_error.mean"  # its place among the intervals of details


@dataclass(frozen=True)
class Difference:
    """How much the number of B exceeds that of A on the same images.

    low, high: of the 95 % interval; None where there is none, and `why` says the reason
    p:         probability of a difference as large by luck alone, two-sided; None without an interval
    adjusted:  p, raised for the number of differences that were looked at together (Holm)
    images:    they were measured on
    together:  how many differences were looked at
    """

    value: float
    low: float | None
    high: float | None
    p: float | None
    adjusted: float | None
    images: int
    draws: int
    seed: int
    method: str
    why: str = ""
    together: int = 1

    @property
    def told(self) -> bool | None:
        """Whether the two can be told apart at the 5 % level; None where there is no interval."""
        return None if self.adjusted is None else self.adjusted < LEVEL

    @property
    def needed(self) -> int | None:
        """About how many images would tell a difference of this size four times in five, `together` looked at.

        The interval narrows with the root of the images. None where there is no interval, or no difference.
        """
        if self.low is None or self.high is None or self.value == 0:
            return None
        spread = (self.high - self.low) / 2 / _deviate(LEVEL)
        return max(
            2, ceil(self.images * ((_deviate(LEVEL / self.together) + _IN_FOUR_OF_FIVE) * spread / self.value) ** 2)
        )

    @property
    def same(self) -> bool:
        """Whether no image makes a difference, of enough for an interval."""
        return self.low is None and self.p == 1

    def as_dict(self) -> DifferenceDocument:
        """Plain values for JSON."""
        document: DifferenceDocument = {
            "estimate": self.value,
            "low": self.low,
            "high": self.high,
            "p": self.p,
            "p_holm": self.adjusted,
            "told_apart": self.told,
            "images": self.images,
            "images_needed": self.needed,
            "draws": self.draws,
            "seed": self.seed,
            "method": self.method,
        }
        if self.why:
            document["why"] = self.why
        return document


def difference_of(a: Estimate, b: Estimate, resampling: Resampling) -> Difference:
    """B - A of one number, both measured in these draws."""
    value, images = b.value - a.value, len(resampling.strata)
    if not len(a.samples) or not len(b.samples):
        why = a.why or b.why
        return Difference(value, None, None, None, None, images, resampling.draws, resampling.seed, "none", why)
    influence = b.influence - a.influence
    found = estimate(value, b.samples - a.samples, influence, resampling, "none")
    # on a few images two detectors that differ are often equal
    same = (influence == 0).all() and value == 0 and images >= MIN_IMAGES
    if found.low is None or found.high is None:
        p = 1.0 if same else None
        why = "" if same else found.why
        return Difference(value, None, None, p, p, images, found.draws, found.seed, found.method, why)
    _, freedom = resampling.spread_of(influence)
    middle, spread = (found.low + found.high) / 2, (found.high - found.low) / 2 / critical(freedom)
    p = two_sided(middle / spread, freedom)
    return Difference(value, found.low, found.high, p, p, images, found.draws, found.seed, found.method)


def _deviate(level: float) -> float:
    """What a standard normal exceeds, in either direction, with this probability."""
    return -NormalDist().inv_cdf(level / 2)


def differences(a: Mapping[str, Estimate], b: Mapping[str, Estimate], resampling: Resampling) -> dict[str, Difference]:
    """B - A of every number that both have, p corrected for their number."""
    return holm({name: difference_of(a[name], b[name], resampling) for name in a if name in b})


def holm(found: Mapping[Any, Difference]) -> dict[Any, Difference]:
    """The same differences with p corrected for having looked at all of them (S. Holm, 1979).

    The smallest of m is multiplied by m, the next by m - 1, and so on; none falls below the one before it.
    """
    known = sorted((d.p, place) for place, d in enumerate(found.values()) if d.p is not None)
    adjusted: dict[int, float] = {}
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[place] = largest
    return {
        key: replace(d, adjusted=adjusted.get(place), together=max(1, len(known)))
        for place, (key, d) in enumerate(found.items())
    }


def difference(a: "Evaluation", b: "Evaluation") -> dict[str, Difference]:
    """How much better B is than A: its AP of each subset, and recall, precision, false alarms and landmark error at the
    score that both were asked for.

    Only APs are corrected for their number (Holm); the others explain them. Raises UsageError where the two were not
    measured on the same images with the same ground truth, or by the same protocol: what differs is named.
    """
    check_same_images(a.scores.benchmark, b.scores.benchmark)
    check_same_protocol(a.protocol, b.protocol)
    first, second = a.resampling, b.resampling
    if (first.draws, first.seed) != (second.draws, second.seed):
        raise UsageError(
            f"the two have other draws: {first.draws:,} with seed {first.seed}, {second.draws:,} with seed "
            f"{second.seed}",
            "measure both with the same `draws` and `seed`",
        )
    found = differences(a.intervals, b.intervals, first)
    if a.details.score == b.details.score:
        here, there = a.details.intervals, b.details.intervals
        both = [name for name in (*METRICS, LANDMARKS) if name in here and name in there]
        found |= {name: difference_of(here[name], there[name], first) for name in both}
    return found


def check_same_images(a: "Benchmark", b: "Benchmark") -> None:
    """Raise UsageError where two benchmarks are not of the same images, boxes and subsets."""
    if a is b:
        return
    hint = "measure both on the same data, with the same options"
    if list(a.counted) != list(b.counted):
        raise UsageError(f"AP of {', '.join(a.counted)} here, of {', '.join(b.counted)} there: no same benchmark", hint)
    names, others = ([image.name for image in some.images] for some in (a, b))
    if names != others:
        only, missing = (_some(set(some) - set(rest)) for some, rest in ((names, others), (others, names)))
        parts = [f"only in the first: {only}"] * bool(only) + [f"only in the second: {missing}"] * bool(missing)
        raise UsageError(f"other images were measured: {'; '.join(parts) or 'in another order'}", hint)
    for first, second in zip(a.images, b.images, strict=True):
        if not np.array_equal(first.boxes, second.boxes) or not np.array_equal(first.ignore, second.ignore):
            raise UsageError(f"{first.name}: other labels in the two measurements", hint)
    for subset in a.counted:
        if not np.array_equal(a.counted[subset], b.counted[subset]):
            raise UsageError(f"other faces count in {subset} in the two measurements", hint)


def check_same_protocol(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """Raise UsageError where images were shown in different ways, naming each rule that differs.

    A file that fixes its input size shows images so by its nature and not by the protocol, and result files do not
    always say how they came about: neither is refused.
    """
    if "source" in a or "source" in b:
        shared = [key for key in a if key in b and key not in ("source", "present_only")]
    else:
        shared = [key for key in a if key not in ("images", "present_only")]
    differing = [key for key in shared if a[key] != b.get(key) and not (key == "size" and _fixed(a, b))]
    if differing:
        parts = "; ".join(f"{key} {_plain(a[key])} and {_plain(b.get(key))}" for key in differing)
        raise UsageError(f"the two were measured by different protocols: {parts}", "measure both in the same way")


def verdict(found: Difference, b: str, a: str) -> str:
    """A difference of a number that is better when higher, in a sentence."""
    if found.same:
        return f"{b} and {a} are the same on all {found.images:,} images"
    if found.low is None or found.high is None:
        return f"{b} {signed(found.value)} against {a}; no interval: {found.why}"
    if found.told:
        word = "better" if found.value > 0 else "worse"
        low, high = sorted((abs(found.low), abs(found.high)))
        return f"{b} is {word} than {a} by {plain(abs(found.value))} {brackets(low, high, 4)}"
    span = brackets(found.low, found.high, 4, sign=True)
    more = f"; about {about(found.needed)} would do" if found.needed else ""
    return f"{b} and {a} cannot be told apart on {found.images:,} images: {signed(found.value)} {span}{more}"


def told(found: Difference) -> str:
    """Whether a difference can be told from luck, in a few words."""
    if found.told is None:
        return f"no interval: {found.why}"
    if found.told:
        return "better" if found.value > 0 else "worse"
    if found.same:
        return "the same on all images"
    more = f"; about {about(found.needed)} images would do" if found.needed else ""
    return f"cannot be told apart{more}"


def brackets(low: float | None, high: float | None, digits: int, *, sign: bool = False) -> str:
    """An interval, without zeros before the point; empty where there is none. sign: with + and -."""
    if low is None or high is None:
        return ""
    ends = (f"{end:+.{digits}f}" if sign else f"{end:.{digits}f}" for end in (low, high))
    return f"[{', '.join(map(_without_zero, ends))}]"


def about(count: int) -> str:
    """A number of images to two digits."""
    if count < 100:
        return str(count)
    digits = len(str(count)) - 2
    return f"{round(count, -digits):,}"


def plain(value: float) -> str:
    """An AP or a part of one, to four digits: `.0041`."""
    return _without_zero(f"{value:.4f}")


def _without_zero(number: str) -> str:
    """`-0.12` as `-.12`; `10.12` as it is."""
    return re.sub(r"^([+-]?)0\.", r"\1.", number)


def signed(value: float) -> str:
    """The same with its sign."""
    return ("-" if value < 0 else "+") + plain(abs(value))


def _fixed(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return any(str(some.get("size", "")).startswith("fixed ") for some in (a, b))


def _some(names: set[str]) -> str:
    shown = ", ".join(sorted(names)[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else shown


def _plain(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else f"{value}"
