"""`facetrain train --json`, and what stands in a run's folder: `metrics.jsonl` (a line each) and `environment.json`."""

from typing import Annotated, Literal, NotRequired, TypedDict


class TrainDocument(TypedDict):
    """The end of a run."""

    run: Annotated[str | None, "its folder; null for a dry run"]
    step: Annotated[int, "steps done"]
    total_steps: Annotated[int | None, "steps planned"]
    ap: Annotated[float | None, "of the last validation"]
    best_ap: Annotated[float | None, "of best.pt"]
    best_epoch: Annotated[int | None, "of best.pt, from 1"]
    interrupted: Annotated[bool, "stopped before its end; `resume` goes on"]
    gave_up: Annotated[bool, "ended by `train.patience`: validations brought nothing better"]


class TrainLine(TypedDict):
    """Some steps of training."""

    kind: Annotated[Literal["train"], "of line"]
    step: Annotated[int, "steps done"]
    epoch: Annotated[int, "under way, from 0"]
    lr: Annotated[float, "learning rate"]
    losses: Annotated[dict[str, float], "means over the steps by their names, and `total`"]
    positives: Annotated[float, "priors a step that answer for a face"]
    images_per_s: Annotated[float, "trained on"]
    wait_share: Annotated[float, "of the time spent waiting for images"]
    memory_bytes: NotRequired[Annotated[int, "most that was used of the GPU's"]]


class ValidationLine(TypedDict):
    """A validation."""

    kind: Annotated[Literal["val"], "of line"]
    step: Annotated[int, "steps done"]
    epoch: Annotated[int, "under way, from 0"]
    ap: Annotated[float | None, "mean of the subsets, or `all`"]
    easy: NotRequired[Annotated[float | None, "AP, on WIDER FACE"]]
    medium: NotRequired[Annotated[float | None, "AP, on WIDER FACE"]]
    hard: NotRequired[Annotated[float | None, "AP, on WIDER FACE"]]
    images: Annotated[int, "measured"]
    detections: Annotated[int, "in them"]
    unreadable: Annotated[int, "images that could not be read"]


class PlanLine(TypedDict):
    """A new number of steps, where the clock plans them."""

    kind: Annotated[Literal["plan"], "of line"]
    step: Annotated[int, "steps done"]
    total: Annotated[int | None, "steps planned"]


class NamedFile(TypedDict):
    """A file that a run depends on."""

    path: Annotated[str, "where it was"]
    sha256: Annotated[str, "of its content"]


class EnvironmentDocument(TypedDict):
    """Where a run takes place."""

    versions: Annotated[dict[str, str], "of facetrain, Python and packages"]
    platform: Annotated[str, "the system"]
    processor: Annotated[str, "its name"]
    cores: Annotated[int, "that may be used"]
    threads: Annotated[int, "of torch"]
    processes: Annotated[int, "that train together"]
    device: Annotated[str, "of rank 0"]
    device_name: Annotated[str | None, "of a GPU"]
    precision: Annotated[str, "of the network's arithmetic"]
    command: Annotated[list[str], "that started it"]
    commit: Annotated[str | None, "of the checkout, where there is one"]
    labels: Annotated[NamedFile | None, "null where none are used"]
    teacher: Annotated[NamedFile | None, "null without one"]
    images: Annotated[int, "to train on"]
    validation_images: Annotated[int, "to validate on"]
