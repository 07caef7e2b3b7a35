"""`facetrain detect --json`."""

from typing import Annotated, TypedDict

from facetrain.core.documents.common import Face, Problem


class DetectedImage(TypedDict):
    """The faces of one image."""

    path: Annotated[str, "as it was given or found"]
    width: Annotated[int, "pixels, upright"]
    height: Annotated[int, "pixels"]
    faces: Annotated[list[Face], "best first"]


class DetectDocument(TypedDict):
    """Faces of images."""

    weights: Annotated[str, "as they were given"]
    score: Annotated[float, "the least score of a face"]
    nms: Annotated[float, "IoU above which the weaker of two goes"]
    landmark_names: Annotated[list[str], "of each face's points, in their order; empty where there are none"]
    images: Annotated[list[DetectedImage], "in the order given"]
    skipped: Annotated[list[str], "files of folders that are no images"]
    interrupted: Annotated[bool, "stopped by Ctrl-C: the rest was not looked at"]
    errors: Annotated[list[Problem], "images that could not be read or written"]
