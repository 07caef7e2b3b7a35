"""How much of a number is luck: intervals by a bootstrap over images.

The images of a benchmark are a sample of all that might have been taken. Each draw takes as many of them anew, with
replacement, and the spread of a number over the draws is what it owes to the choice. Faces of one image share its
light, its crowd and its camera, so images are drawn and not faces.

Where images come in strata (the events of WIDER FACE), each is drawn from apart. A stratum of n images gives n - 1
draws, each weighing n / (n - 1): drawing n of n would make the spread too small by (n - 1) / n, a seventh for the six
images an event of a small part of WIDER FACE (J. Rao, C. Wu: Resampling inference with complex survey data, JASA 1988).
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import erfc, sqrt

import numpy as np
from numpy.typing import NDArray

from facetrain.core.documents.common import EstimateDocument
from facetrain.core.errors import UsageError
from facetrain.eval.average_precision import Tally, ap_influence, weighted_ap, without

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]

DRAWS = 2000
SEED = 0
MOST_DRAWS = 100_000
MIN_IMAGES = 20
MIN_FREEDOM = 3.0
_NOTHING = 1e-9  # a deviation that is rounding
_NORMAL = 1.959963985  # 97.5 % point of the normal distribution


def check_draws(draws: int) -> None:
    """Raise UsageError for a number of draws that gives no interval: 0 asks for none, else at least 100."""
    if draws != 0 and not 100 <= draws <= MOST_DRAWS:
        raise UsageError(
            f"`draws` {draws}: must be 0, or from 100 to {MOST_DRAWS:,}",
            "0 prints no intervals; an end of a 95 % interval is a 40th of the draws",
        )


def image_weights(strata: Sequence[Hashable], draws: int, seed: int = SEED) -> Floats:
    """How often each image counts in each draw, the same for the same strata and seed.

    strata: the stratum of each image; one that holds a single image is joined with the others of its kind

    Returns (draws, images) float32. In one stratum these are whole numbers (their common factor changes no ratio); in
    several, multiples of n / (n - 1) for a stratum of n.
    """
    images = len(strata)
    weights = np.zeros((draws, images), np.float32)
    rng = np.random.Generator(np.random.PCG64(seed))
    groups = groups_of(strata)
    for group in groups:
        n = len(group)
        if n == 1:  # nothing to draw from
            weights[:, group] = 1
            continue
        drawn = rng.integers(0, n, (draws, n - 1)) + np.arange(draws)[:, None] * n
        counts = np.bincount(drawn.ravel(), minlength=draws * n).reshape(draws, n)
        weights[:, group] = counts if len(groups) == 1 else counts * (n / (n - 1))
    return weights


def groups_of(strata: Sequence[Hashable]) -> list[NDArray[np.int64]]:
    """The numbers of the images of each stratum; one that holds a single image is joined with others of its kind."""
    members: dict[Hashable, list[int]] = {}
    for number, stratum in enumerate(strata):
        members.setdefault(stratum, []).append(number)
    groups = [group for group in members.values() if len(group) > 1]
    alone = [group[0] for group in members.values() if len(group) == 1]
    if len(alone) == 1 and groups:
        smallest = min(groups, key=len)
        smallest.extend(alone)  # one image by itself would never vary
        alone = []
    return [np.array(group) for group in ([*groups, alone] if alone else groups)]


@dataclass(frozen=True)
class Resampling:
    """The draws of a benchmark's images, made once and used for every number of it, and for every detector.

    strata: the stratum of each image
    draws:  how many; 0: no intervals
    """

    strata: Sequence[Hashable]
    draws: int = DRAWS
    seed: int = SEED

    def __post_init__(self) -> None:
        """Refuse a number of draws that gives no interval."""
        check_draws(self.draws)

    @cached_property
    def weights(self) -> Floats:
        """(draws, images) float32, how often each image counts in each draw."""
        return image_weights(self.strata, self.draws, self.seed)

    def spread_of(self, influence: Doubles) -> tuple[float, float]:
        """Standard deviation of a number, and the degrees of freedom that this deviation is known with.

        influence: (images,) what leaving each image out does to the number

        The degrees follow from the fourth moment of the influences (Satterthwaite): where a few crowded images decide
        the number, its spread is known as badly as from few images, about two degrees for each of them.
        """
        rest = np.array(influence, np.float64)
        groups = groups_of(self.strata)
        for group in groups:
            n = len(group)
            rest[group] = (rest[group] - rest[group].mean()) * np.sqrt(n / max(n - 1, 1))
        square, fourth, n = float((rest**2).sum()), float((rest**4).sum()), len(rest)
        if square < _NOTHING**2:
            return 0.0, 0.0
        beyond = n * fourth - square**2
        most = max(n - len(groups), 0)
        return square**0.5, min(2 * n * square**2 / beyond, most) if beyond > 0 else most


@dataclass(frozen=True)
class Estimate:
    """A number measured on images, and the interval that holds its value on all such images in 95 of 100 cases.

    low, high: ends of the interval; None where there is none, and `why` says the reason
    method:    how the ends come from the draws
    samples:   (draws,) the number in each draw, NaN where it has no value; none without draws
    influence: (images,) what leaving each image out does to the number; none without draws
    """

    value: float
    low: float | None
    high: float | None
    draws: int
    seed: int
    method: str
    why: str = ""
    samples: Doubles = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)
    influence: Doubles = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)

    def as_dict(self) -> EstimateDocument:
        """Plain values for JSON."""
        document: EstimateDocument = {
            "estimate": self.value,
            "low": self.low,
            "high": self.high,
            "draws": self.draws,
            "seed": self.seed,
            "method": self.method,
        }
        if self.why:
            document["why"] = self.why
        return document


@dataclass(frozen=True)
class Envelope:
    """How AP departs from a number whose draws spread around it as it spreads around the true value.

    Under AP each precision is the best of its own and all later ones: a sample's AP exceeds the true value a little,
    and a sample of the sample again, but by less, since its images repeat. The two factors are what the simulation
    gives.

    bias:   how much more a sample exceeds the true value than a draw exceeds the sample
    spread: by how much a sample's AP spreads wider than the draws
    """

    bias: float
    spread: float


_PLAIN, _AP = Envelope(bias=1.0, spread=1.0), Envelope(bias=2.0, spread=1.05)


@dataclass(frozen=True)
class Sums:
    """A number that is one sum over images by another: recall is found faces by faces.

    name:        what the number is called
    numerator, denominator: (images,)
    share:       whether it lies between 0 and 1; else it is positive
    """

    name: str
    numerator: Doubles
    denominator: Doubles
    share: bool


def ap_estimate(ap: float, tally: Tally, resampling: Resampling) -> Estimate:
    """The AP of a subset with its interval."""
    if not resampling.draws:
        return _without_draws(ap, resampling)
    samples, influence = weighted_ap(tally, resampling.weights), ap_influence(tally)
    return estimate(ap, samples, influence, resampling, "logit", _AP)


def mean_estimate(parts: Sequence[Estimate], resampling: Resampling) -> Estimate | None:
    """The mean of several numbers from the same draws, such as that of the three APs; None of none."""
    if not parts:
        return None
    value = float(np.mean([part.value for part in parts]))
    if not resampling.draws:
        return _without_draws(value, resampling)
    samples, influence = (np.mean([getattr(part, name) for part in parts], axis=0) for name in ("samples", "influence"))
    return estimate(value, samples, influence, resampling, "logit", _AP)


def sum_estimates(sums: Sequence[Sums], resampling: Resampling) -> dict[str, Estimate]:
    """Each number that has a value, with its interval."""
    known = [some for some in sums if some.denominator.sum() > 0]
    if not known:
        return {}
    columns = np.stack([column for some in known for column in (some.numerator, some.denominator)], axis=1)
    totals = resampling.weights @ columns  # (draws, 2 * numbers)
    found = {}
    for number, some in enumerate(known):
        whole = float(some.denominator.sum())
        value = float(some.numerator.sum()) / whole
        above, below = totals[:, 2 * number], totals[:, 2 * number + 1]
        samples = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
        influence = without((some.numerator - value * some.denominator) / whole, some.denominator)
        found[some.name] = estimate(value, samples, influence, resampling, "logit" if some.share else "log")
    return found


def estimate(
    value: float,
    samples: Doubles,
    influence: Doubles,
    resampling: Resampling,
    scale: str,
    envelope: Envelope = _PLAIN,
) -> Estimate:
    """A number with the interval that follows from its draws.

    The interval is one of Student's on a scale without bounds: `logit` for a share, `log` for a positive number, none
    for a difference. Its middle is the number less what the draws exceed it by on average. Its deviation is the larger
    of that of the draws and that of the influences, and the correction's own size is added to it. For AP both are
    larger than the draws say, see `Envelope`. tests/benchmarks/coverage.py shows how often the interval holds the
    true value, beside the percentiles of the draws and BCa.
    """
    draws, seed = resampling.draws, resampling.seed
    deviation, freedom = resampling.spread_of(influence)
    known = samples[np.isfinite(samples)]
    why = _why_not(len(influence), len(known), draws, deviation, freedom)
    if not why and scale != "none" and not (0 < value < 1 or (scale == "log" and value > 0)):
        why = "it lies at the end of its range"
    if why:
        return Estimate(value, None, None, draws, seed, "none", why, samples, influence)
    excess = float(known.mean()) - value
    bias = envelope.bias * excess
    middle = value - bias if _inside(value - bias, scale) else value
    spread = envelope.spread * float(np.hypot(max(deviation, float(known.std(ddof=1))), excess))
    half = critical(freedom) * spread
    low, high = (_moved(middle, sign * half, scale) for sign in (-1, 1))
    name = f"bootstrap over images, Student's t, {scale} scale" if scale != "none" else "paired bootstrap, Student's t"
    return Estimate(value, low, high, draws, seed, name, "", samples, influence)


def critical(freedom: float) -> float:
    """The 97.5 % point of Student's t (D. Wallace, 1959; within .3 % from 5 degrees on)."""
    corrected = _NORMAL * (8 * freedom + 3) / (8 * freedom + 1)
    return float(np.sqrt(freedom * np.expm1(corrected**2 / freedom)))


def two_sided(t: float, freedom: float) -> float:
    """The probability of a larger |t| by chance: below .05 exactly where |t| exceeds `critical`."""
    z = (8 * freedom + 1) / (8 * freedom + 3) * np.sqrt(freedom * np.log1p(t**2 / freedom))
    return erfc(float(z) / sqrt(2))


def _why_not(images: int, known: int, draws: int, deviation: float, freedom: float) -> str:
    """Why there is no interval; empty where there is one."""
    if images < 2:
        return "one image says nothing of others" if images else "no images"
    if images < MIN_IMAGES:
        return f"{images} images are too few, {MIN_IMAGES} are needed"
    if deviation == 0:
        return "no image differs from the others in it"
    if freedom < MIN_FREEDOM:
        return "too few images decide it"
    if known < 0.95 * draws:
        return "it has no value in many draws: too few images have faces"
    return ""


def _inside(value: float, scale: str) -> bool:
    return scale == "none" or (value > 0 and (scale == "log" or value < 1))


def _moved(value: float, step: float, scale: str) -> float:
    """The value moved by a step, which is taken on the scale that has no bounds."""
    if scale == "log":
        return float(value * np.exp(step / value))
    if scale == "logit":
        odds = value / (1 - value) * np.exp(step / (value * (1 - value)))
        return float(1 if np.isinf(odds) else odds / (1 + odds))
    return value + step


def _without_draws(value: float, resampling: Resampling) -> Estimate:
    return Estimate(value, None, None, 0, resampling.seed, "none", "no draws were asked for")
