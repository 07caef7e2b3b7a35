"""What chooses the best weights while training: AP, never the loss."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import cast

from facetrain.config.schema import Config
from facetrain.core.documents.train import ValidationLine
from facetrain.core.errors import DataError, InputError
from facetrain.core.faces import Detector, Faces, LabelledImage
from facetrain.data.layout import find_split, load_split, undivided
from facetrain.data.sources import reading_of_source, sources_of
from facetrain.detect.operating_points import OperatingPoints
from facetrain.eval.benchmark import Benchmark
from facetrain.eval.intervals import Estimate, Resampling
from facetrain.eval.labelled import labelled_benchmark, size_check
from facetrain.eval.operating_points import operating_points
from facetrain.eval.pipeline import detect_images
from facetrain.eval.wider_face.benchmark import official_benchmark
from facetrain.train.events import Events
from facetrain.train.parallel.world import ALONE, World


@dataclass(frozen=True)
class ValidationResult:
    """AP over the validation images.

    ap:       mean of the subsets, or the labelled AP; None where no face counts
    estimate: the same with its interval and its draws, to be compared with that of other weights
    points:   scores that give the usual precisions; None where none does
    """

    ap: float | None
    subsets: dict[str, float | None]
    images: int
    detections: int
    unreadable: list[str]
    estimate: Estimate | None = field(default=None, repr=False, compare=False)
    points: OperatingPoints | None = field(default=None, repr=False, compare=False)

    def as_line(self, step: int, epoch: int) -> ValidationLine:
        """Its line in metrics.jsonl."""
        line: ValidationLine = {
            "kind": "val",
            "step": step,
            "epoch": epoch,
            "ap": self.ap,
            **cast("ValidationLine", self.subsets),
            "images": self.images,
            "detections": self.detections,
            "unreadable": len(self.unreadable),
        }
        return line

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {format_ap(ap)}" for name, ap in self.subsets.items())
        return f"AP {format_ap(self.ap)}" + (f" ({parts})" if parts else "") + f" on {self.images:,} images"


@dataclass(frozen=True)
class Validation:
    """The benchmark to validate on: WIDER FACE's official one, or the labels of a set."""

    benchmark: Benchmark

    @cached_property
    def resampling(self) -> Resampling:
        """Draws of the images, the same for all weights of a run."""
        return self.benchmark.resampling()

    @property
    def official(self) -> bool:
        """Whether it is WIDER FACE's, with its easy, medium and hard."""
        return self.benchmark.official

    @property
    def images(self) -> Sequence[LabelledImage]:
        """The images."""
        return self.benchmark.images

    def measure(
        self,
        detector: Detector,
        progress: Callable[[int, int], None],
        stopped: Callable[[], bool] = lambda: False,
        world: World = ALONE,
        *,
        batch: int = 1,
        workers: int = 1,
    ) -> ValidationResult | None:
        """Run the detector and measure it; None if `stopped` says so meanwhile, in any process.

        batch: images handed to the detector together; workers: threads that look at images side by side.
        Several processes take every n-th image each, and all of them get the result. An image that cannot be read,
        or has another size than its label says, counts as without detections.
        """
        own = self.images[world.rank :: world.size]
        results: list[Faces | DataError] = []
        whole = True
        paths = [image.path for image in own]
        with closing(
            detect_images(detector, paths, batch=batch, workers=workers, check=size_check(own), progress=progress)
        ) as detections:
            for faces in detections:
                if stopped():
                    whole = False
                    break
                results.append(faces)
        parts = world.gather(results if whole else None)
        gathered: list[Faces | DataError] = [Faces.none()] * len(self.images)
        for rank, part in enumerate(parts):
            if part is None:
                return None
            gathered[rank :: world.size] = part
        unreadable = [faces.message for faces in gathered if isinstance(faces, DataError)]
        found = [Faces.none() if isinstance(faces, DataError) else faces for faces in gathered]
        scores = self.benchmark.score(found)
        subsets = scores.ap if self.official else {}
        count = sum(len(faces) for faces in found)
        estimate = scores.mean_interval(self.resampling)
        points = operating_points(scores, self.resampling)
        return ValidationResult(scores.mean_ap, subsets, len(found), count, unreadable, estimate, points)


def find_validation(root: Path, config: Config, events: Events, training: Path | None = None) -> Validation | None:
    """The validation images that are there, by the official .mat files if there are any; says which it is.

    training: the labels that are trained on, which are none to validate on
    """
    limit = config.eval.limit
    try:
        if (official := official_benchmark(root)) is not None:
            benchmark = official.thinned(limit)
            events.note(
                f"validation: {len(benchmark.images):,} WIDER FACE images are there; the mean of the official easy, "
                "medium and hard AP over them chooses best.pt"
            )
            return Validation(benchmark)
        reading = reading_of_source(sources_of(config.data)[0], config.data)
        place = find_split(root, "val", reading)
        if place.whole and place.labels == training:
            raise InputError(f"{root}: {undivided(root, reading)} (data.val=0.1 keeps a tenth)")
        labels = load_split(root, "val", config.model.landmarks.names, reading)
    except InputError as error:
        events.note(f"no validation: {error.message}; best.pt will be the last weights")
        return None
    there = [image for image in labels.images if image.path.is_file()]
    if not there:
        events.note("no validation: none of its images is there; best.pt will be the last weights")
        return None
    found = labelled_validation(there, limit)
    faces = sum(int((~image.ignore).sum()) for image in found.images)
    if labels.place is not None and labels.place.format != "labelv2":
        events.note(f"validation labels: {labels.said()}")
    for line in labels.remarks():
        events.note(f"validation labels: {line}")
    events.note(
        f"validation: {len(found.images):,} of {len(labels.images):,} labelled images ({len(there):,} are there), "
        f"{faces:,} faces; the AP at IoU 0.5 over all of them chooses best.pt"
    )
    return found


def labelled_validation(images: Sequence[LabelledImage], limit: int | None) -> Validation:
    """The labelled AP over such images, at most `limit` of them."""
    return Validation(labelled_benchmark(images).thinned(limit))


def format_ap(ap: float | None) -> str:
    """Three digits, or that there is none."""
    return "undefined (no face counts)" if ap is None else f"{ap:.3f}"
