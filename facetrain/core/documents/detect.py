"""`facetrain detect --json`."""

from typing import Annotated, TypedDict

from facetrain.core.documents.common import Face, Problem


class DetectedImage(TypedDict):
    """The faces of one image."""

    path: Annotated[str, "as it was given or found"]
    width: Annotated[int, "pixels, upright"]
    height: Annotated[int, "pixels"]
    scales: Annotated[list[float], "at which it was looked at, shown / original, the finest first"]
    smallest_face: Annotated[float, "pixels of the shorter side: what such a look finds mostly"]
    faces: Annotated[list[Face], "best first"]


class DetectDocument(TypedDict):
    """Faces of images."""

    weights: Annotated[str, "as they were given"]
    score: Annotated[float, "the least score of a face"]
    nms: Annotated[float, "IoU above which the weaker of two goes"]
    size: Annotated[str, "how images were shown: auto, original, vga, a number or WxH"]
    landmark_names: Annotated[list[str], "of each face's points, in their order; empty where there are none"]
    images: Annotated[list[DetectedImage], "in the order given"]
    skipped: Annotated[list[str], "files of folders that are no images"]
    interrupted: Annotated[bool, "stopped by Ctrl-C: the rest was not looked at"]
    errors: Annotated[list[Problem], "images that could not be read or written"]
