"""`facetrain data audit --json`."""

from typing import Annotated, Literal, TypedDict

from facetrain.core.documents.common import Problem


class AuditFinding(TypedDict):
    """A place where labels and detectors disagree."""

    image: Annotated[str, "its name in the set"]
    kind: Annotated[Literal["missing", "unseen", "landmarks"], "no label, no detection, or landmarks far apart"]
    box: Annotated[list[float], "x1, y1, x2, y2 of the face that was found, or of the label"]
    label: Annotated[int | None, "which label of the image, from 1; null where there is none"]
    score: Annotated[float, "of the detection; 0 where there is none"]
    strength: Annotated[float, "how strange it is, 0 to 1"]
    said: Annotated[str, "in words"]


class AuditDocument(TypedDict):
    """Where labels and detectors disagree."""

    images: Annotated[int, "looked at"]
    counts: Annotated[dict[str, int], "findings of each kind"]
    findings: Annotated[list[AuditFinding], "strangest first"]
    errors: Annotated[list[Problem], "images that could not be read"]


class AppliedDocument(TypedDict):
    """`facetrain data audit --apply LIST --to DIR --json`."""

    labels: Annotated[str, "the label file that was written"]
    decisions: Annotated[int, "of the list, that changed something"]
    images: Annotated[int, "in it"]
    faces: Annotated[int, "in it, with those to be ignored"]
    lost: Annotated[dict[str, int], "what the label format has no room for"]
