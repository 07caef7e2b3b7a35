"""How often the intervals hold the true value: samples of images from a population whose AP is known.

    python tests/benchmarks/coverage.py --processes 2
    python tests/benchmarks/coverage.py --part pairs

intervals   1,000 samples from 100,000 images: the share of samples whose interval holds the population's AP, for the
            percentiles of the draws, BCa (B. Efron, 1987), and facetrain's own; and how often facetrain prints none.
            `crowds`: faces an image as in WIDER FACE, three in the middle and up to 300; `one`: a face an image.
pairs       1,000 pairs of detectors that are equal by construction (the same images are hard for both, their scores
            differ by chance): the share of pairs that is told apart, which should be 5 %.
needed      pairs that differ, first on 400 images and then on as many as the first said would do: the share of the
            second that is told apart, which should be about 80 %.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from facetrain.eval.average_precision import Matches, Tally, curve, tally
from facetrain.eval.average_precision import _steps as steps_of
from facetrain.eval.difference import difference_of
from facetrain.eval.intervals import Resampling, ap_estimate

POPULATION = 100_000
DRAWS = 600
NORMAL = NormalDist()
LEVELS = {"crowds": {0.6: -2.35, 0.8: -1.25, 0.95: 0.28}, "one": {0.6: -1.97, 0.8: -0.87, 0.95: 0.9}}


@dataclass(frozen=True)
class Images:
    """Images with their faces and detections, flat and in the images' order.

    faces: (I,) of each image; image, score: (D,) of each detection; true: (D,) whether it finds a face
    """

    faces: NDArray[np.int64]
    image: NDArray[np.int64]
    score: NDArray[np.float64]
    true: NDArray[np.bool_]

    def take(self, which: NDArray[np.int64]) -> "Images":
        ends = np.searchsorted(self.image, np.arange(len(self.faces) + 1))
        start, count = ends[which], ends[which + 1] - ends[which]
        rows = np.repeat(start - np.append(0, count.cumsum()[:-1]), count) + np.arange(count.sum())
        return Images(self.faces[which], np.repeat(np.arange(len(which)), count), self.score[rows], self.true[rows])

    def tally(self) -> Tally:
        """As `match` and `tally` would give it: each true detection has a box of its own."""
        owner = np.repeat(np.arange(len(self.faces)), self.faces)
        first = self.faces.cumsum() - self.faces
        rank = np.cumsum(self.true) - 1
        before = np.searchsorted(self.image[self.true], np.arange(len(self.faces)))
        box = np.where(self.true, first[self.image] + rank - before[self.image], -1)
        matches = Matches(steps_of(self.score), box, self.image, owner, len(self.faces))
        return tally(matches, np.ones(len(owner), bool))


def scenes(kind: str, count: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Faces of each image, and how easy it is."""
    if kind == "one":
        faces = np.ones(count, np.int64)
    else:
        faces = np.minimum(1 + np.floor(np.exp(rng.normal(1.0, 1.4, count))), 300).astype(np.int64)
    return faces, rng.normal(0, 1, count) - 0.25 * np.log(faces)


def seen(
    faces: NDArray[np.int64], ease: NDArray[np.float64], level: float, shared: "Shared", rng: np.random.Generator
) -> Images:
    """What a detector of this level says of the images: true detections and false alarms with their scores."""
    owner = np.repeat(np.arange(len(faces)), faces)
    noise = np.sqrt(shared.share) * shared.noise + np.sqrt(1 - shared.share) * rng.normal(0, 1, len(owner))
    latent = level + ease[owner] + 1.5 * noise
    alarms = np.repeat(np.arange(len(faces)), rng.poisson(2 * shared.clutter))
    wrong = -4 + rng.exponential(0.9, len(alarms))
    hit = latent > -3.9
    image = np.concatenate([owner[hit], alarms])
    order = np.argsort(image, kind="stable")
    score = 1 / (1 + np.exp(-np.concatenate([latent[hit], wrong])))
    true = np.concatenate([np.ones(hit.sum(), bool), np.zeros(len(alarms), bool)])
    return Images(faces, image[order], score[order], true[order])


@dataclass(frozen=True)
class Shared:
    """What two detectors share: a part of what makes a face hard, and how cluttered each image is."""

    noise: NDArray[np.float64]
    clutter: NDArray[np.float64]
    share: float


def shared_of(faces: NDArray[np.int64], share: float, rng: np.random.Generator) -> Shared:
    return Shared(rng.normal(0, 1, int(faces.sum())), rng.gamma(0.5, 2, len(faces)), share)


def bca(ap: float, samples: NDArray[np.float64], influence: NDArray[np.float64]) -> NDArray[np.float64]:
    below = ((samples < ap).mean() + (samples <= ap).mean()) / 2
    if not 0 < below < 1:
        return np.quantile(samples, [0.025, 0.975])
    middle = NORMAL.inv_cdf(float(below))
    skew = float((influence**3).sum() / max(6 * (influence**2).sum() ** 1.5, 1e-12))
    ends = [middle + end for end in (NORMAL.inv_cdf(0.025), NORMAL.inv_cdf(0.975))]
    return np.quantile(samples, [NORMAL.cdf(middle + end / (1 - skew * end)) for end in ends])


def intervals(kind: str, ap: float, images: int, samples: int) -> dict[str, object]:
    rng = np.random.default_rng(1)
    faces, ease = scenes(kind, POPULATION, rng)
    everything = seen(faces, ease, LEVELS[kind][ap], shared_of(faces, 0.5, rng), rng)
    true_ap = curve(everything.tally()).ap or 0.0
    resampling = Resampling([0] * images, DRAWS)
    holds: dict[str, list[bool]] = {"percentile": [], "BCa": [], "facetrain": []}
    above = below = 0
    widths = []
    for _ in range(samples):
        known = everything.take(rng.choice(POPULATION, images, replace=False)).tally()
        found = ap_estimate(curve(known).ap or 0.0, known, resampling)
        draws = found.samples[np.isfinite(found.samples)]
        for name, (low, high) in (
            ("percentile", np.quantile(draws, [0.025, 0.975])),
            ("BCa", bca(found.value, draws, found.influence)),
        ):
            holds[name].append(bool(low <= true_ap <= high))
        if found.low is not None and found.high is not None:
            holds["facetrain"].append(found.low <= true_ap <= found.high)
            above, below = above + (true_ap > found.high), below + (true_ap < found.low)
            widths.append(found.high - found.low)
    given = len(holds["facetrain"])
    shares = {name: round(100 * float(np.mean(some)), 1) if some else None for name, some in holds.items()}
    return {
        "images of": kind,
        "AP": round(true_ap, 3),
        "images": images,
        **shares,
        "true value above, below": f"{100 * above / max(given, 1):.1f}, {100 * below / max(given, 1):.1f}",
        "width": round(float(np.median(widths)), 3) if widths else None,
        "none": round(100 * (1 - given / samples), 1),
    }


def told(kind: str, levels: Sequence[float], images: int, share: float, rng: np.random.Generator) -> object:
    """The difference of two detectors of these levels on images drawn anew."""
    faces, ease = scenes(kind, images, rng)
    both = shared_of(faces, share, rng)
    resampling = Resampling([0] * images, DRAWS)
    first, second = (seen(faces, ease, level, both, rng).tally() for level in levels)
    a, b = (ap_estimate(curve(some).ap or 0.0, some, resampling) for some in (first, second))
    return difference_of(a, b, resampling)


def pairs(kind: str, ap: float, images: int, samples: int) -> dict[str, object]:
    rng = np.random.default_rng(2)
    level = LEVELS[kind][ap]
    found = [told(kind, [level, level], images, share, rng) for share in (0.5, 0.95) for _ in range(samples // 2)]
    known = [d for d in found if d.p is not None]
    return {
        "images of": kind,
        "AP": ap,
        "images": images,
        "told apart, %": round(100 * sum(bool(d.told) for d in known) / max(len(known), 1), 1),
        "none": round(100 * (1 - len(known) / len(found)), 1),
    }


def needed(kind: str, ap: float, images: int, samples: int) -> dict[str, object]:
    rng = np.random.default_rng(3)
    level = LEVELS[kind][ap]
    large = [told(kind, [level, level + 0.12], 6400, 0.9, rng) for _ in range(8)]
    count = int(np.median([d.needed for d in large]))
    there = [told(kind, [level, level + 0.12], count, 0.9, rng) for _ in range(samples // 4)]
    return {
        "images of": kind,
        "AP": ap,
        "difference": round(float(np.mean([d.value for d in large])), 4),
        "would do": count,
        "told apart there, %": round(100 * float(np.mean([bool(d.told) for d in there])), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["intervals", "pairs", "needed"], action="append")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--images", type=int, action="append", help="by default 400, and fewer for intervals")
    parser.add_argument("--processes", type=int, default=1)
    args = parser.parse_args()
    works: list[tuple[Callable[..., dict[str, object]], str, float, int]] = []
    for part in args.part or ["intervals", "pairs", "needed"]:
        work = {"intervals": intervals, "pairs": pairs, "needed": needed}[part]
        sizes = args.images or ([400, 100, 50, 30, 20] if part == "intervals" else [400])
        works += [(work, kind, ap, size) for size in sizes for kind in LEVELS for ap in LEVELS[kind]]
    with ProcessPoolExecutor(args.processes) as pool:
        waiting = [pool.submit(work, kind, ap, size, args.samples) for work, kind, ap, size in works]
        for one in waiting:
            print(json.dumps(one.result(), ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
