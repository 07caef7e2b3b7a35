"""Images with the ground truth that detections are measured by, and what a detector's faces on them are worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from facetrain.core.faces import Faces, LabelledImage
from facetrain.data.plausibility.judge import Judgement
from facetrain.eval.average_precision import Curve, Matches, Tally, curve, match, tally
from facetrain.eval.details import Details, measure_details
from facetrain.eval.intervals import DRAWS, SEED, Estimate, Resampling, ap_estimate, mean_estimate
from facetrain.eval.outcomes import Outcome, outcomes_of

Mask = NDArray[np.bool_]
Item = TypeVar("Item")
OFFICIAL = "widerface"


@dataclass(frozen=True)
class Benchmark:
    """Images and their ground truth.

    name:       widerface, or labelled
    images:     what `ignore` says there is what recall, false alarms and their like go by
    counted:    per subset (K,) which boxes of all images count; the others are ignored in that subset
    strata:     of each image, for the bootstrap
    skip_empty: detections in images without boxes are no false alarms in AP, though their scores take part in
                normalising: the official rule of WIDER FACE
    labels:     what was found in the labels that cannot be right; None where nobody has looked
    landmarks:  names of the labels' points; (): they are not told
    """

    name: str
    images: Sequence[LabelledImage]
    counted: Mapping[str, Mask]
    strata: Sequence[str]
    skip_empty: bool
    labels: Judgement | None = None
    landmarks: tuple[str, ...] = ()

    @property
    def official(self) -> bool:
        """Whether it is WIDER FACE's, with its easy, medium and hard, and not the labels of a set."""
        return self.name == OFFICIAL

    def thinned(self, limit: int | None) -> "Benchmark":
        """At most `limit` of the images, see `thin`."""
        kept = thin(range(len(self.images)), limit)
        owner = np.repeat(np.arange(len(self.images)), [len(image.boxes) for image in self.images])
        stay = np.isin(owner, kept)
        return replace(
            self,
            images=[self.images[i] for i in kept],
            counted={name: mask[stay] for name, mask in self.counted.items()},
            strata=[self.strata[i] for i in kept],
        )

    def resampling(self, draws: int = DRAWS, seed: int = SEED) -> Resampling:
        """Draws of these images, the same for every detector."""
        return Resampling(self.strata, draws, seed)

    def score(self, found: Sequence[Faces]) -> "Scores":
        """Match the faces found in each image to its boxes, once for everything that is measured of them.

        found: one an image, in order, best first
        """
        matches = match([(f.boxes, f.scores, i.boxes) for f, i in zip(found, self.images, strict=True)])
        return Scores(self, found, matches, self.tallies(matches))

    def tallies(self, matches: Matches) -> dict[str, Tally]:
        """What each image adds to the curve of each subset."""
        skipped = np.array([len(image.boxes) == 0 for image in self.images], bool) if self.skip_empty else None
        return {name: tally(matches, mask, skipped) for name, mask in self.counted.items()}


@dataclass(frozen=True)
class Scores:
    """What a detector's faces are worth on a benchmark.

    tallies: per subset what each image adds to its curve
    """

    benchmark: Benchmark
    found: Sequence[Faces]
    matches: Matches
    tallies: Mapping[str, Tally]

    @cached_property
    def curves(self) -> dict[str, Curve]:
        """The curve of each subset."""
        return {name: curve(part) for name, part in self.tallies.items()}

    @property
    def ap(self) -> dict[str, float | None]:
        """AP of each subset; None where no face of it is among the images."""
        return {name: curve.ap for name, curve in self.curves.items()}

    @property
    def mean_ap(self) -> float | None:
        """Mean of the subsets that have an AP: what chooses the best weights while training."""
        known = [ap for ap in self.ap.values() if ap is not None]
        return sum(known) / len(known) if known else None

    @cached_property
    def outcomes(self) -> list[Outcome]:
        """What became of every detection and of every face, at any score."""
        return outcomes_of(self.matches, self.benchmark.images)

    def details(self, *, score: float = 0.5, precision: float = 0.95, resampling: Resampling | None = None) -> Details:
        """Recall, false alarms, landmark error and their like; with intervals where a resampling is given.

        score:     threshold for recall, precision and false alarms
        precision: what a threshold is looked for, above 0 and at most 1
        """
        return measure_details(
            self.outcomes,
            self.found,
            self.benchmark.images,
            landmarks=self.benchmark.landmarks,
            score=score,
            precision=precision,
            resampling=resampling,
        )

    def intervals(self, resampling: Resampling) -> dict[str, Estimate]:
        """AP of each subset that has one, with its interval."""
        return {name: ap_estimate(ap, self.tallies[name], resampling) for name, ap in self.ap.items() if ap is not None}

    def mean_interval(self, resampling: Resampling) -> Estimate | None:
        """`mean_ap` with its interval."""
        return mean_estimate(list(self.intervals(resampling).values()), resampling)


def thin(items: Sequence[Item], limit: int | None) -> list[Item]:
    """At most `limit` items, evenly over the list: label files are sorted by kind of scene."""
    if limit is None or limit >= len(items):
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, limit).round().astype(int)]
