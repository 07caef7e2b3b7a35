"""Parts that several documents share. Every document of a command begins with the fields of `Header`."""

from typing import Annotated, NotRequired, TypedDict


class Header(TypedDict):
    """What every document begins with."""

    schema: Annotated[int, "1; raised when a field changes its meaning or goes"]
    facetrain: Annotated[str, "the version that wrote it"]


class Problem(TypedDict):
    """Something that failed while the rest went on."""

    path: Annotated[str | None, "what it was about, as it was given"]
    code: Annotated[str, "a short name for the kind of failure"]
    message: Annotated[str, "what was wrong, and where"]
    hint: Annotated[str | None, "what to do"]


class Face(TypedDict):
    """A face that was found."""

    box: Annotated[list[float], "x1, y1, x2, y2 in pixels of the image; may lie outside of it"]
    score: Annotated[float, "0 to 1"]
    landmarks: Annotated[list[list[float]] | None, "x, y of each point; null where the model has none"]
    id: NotRequired[Annotated[int, "the same in all frames that show the same face; where faces are followed"]]


class _Interval(TypedDict):
    """A 95 % interval and where it comes from."""

    estimate: Annotated[float, "the number"]
    low: Annotated[float | None, "lower end; null where there is no interval"]
    high: Annotated[float | None, "upper end"]
    draws: Annotated[int, "draws of the images that it comes from"]
    seed: Annotated[int, "of the draws"]
    method: Annotated[str, "how the ends come from the draws"]
    why: NotRequired[Annotated[str, "why there is no interval"]]


class EstimateDocument(_Interval):
    """A number measured on images, with its 95 % interval."""


class DifferenceDocument(_Interval):
    """A difference between two detectors on the same images, with its 95 % interval."""

    p: Annotated[float | None, "how probable one as large is where the two are equal"]
    p_holm: Annotated[float | None, "the same, corrected for all that is looked at together"]
    told_apart: Annotated[bool | None, "whether p_holm is below .05"]
    images: Annotated[int, "how many it was measured on"]
    images_needed: Annotated[int | None, "about how many would tell such a difference"]


class ProtocolDocument(TypedDict, total=False):
    """How images were shown and which detections count. Of files that others wrote little is known."""

    size: Annotated[str, "original, vga, a number, WxH; `fixed WxH` where the file takes no other"]
    score: Annotated[float, "detections must score more"]
    nms: Annotated[float, "IoU above which the weaker of two goes"]
    max_candidates: Annotated[int, "best detections of an image that enter the suppression"]
    flip: Annotated[bool, "the mirrored image is looked at too"]
    scales: Annotated[list[float], "factors at which an image is looked at"]
    evaluator: Annotated[int, "raised when the same detections would give another number"]
    source: Annotated[str, "`prediction files` where no network was run"]
    images: Annotated[int, "how many were measured"]
    present_only: Annotated[bool, "only those that are there count"]
    draws: Annotated[int, "of the intervals (`compare`)"]
    seed: Annotated[int, "of the draws (`compare`)"]
