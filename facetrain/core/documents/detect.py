"""`facetrain detect --json`, and the lines of `--save jsonl=`."""

from typing import Annotated, NotRequired, TypedDict

from facetrain.core.documents.common import Face, Header, Problem


class DetectedImage(TypedDict):
    """The faces of one image, or of one frame of a video, an animation or a camera."""

    path: Annotated[str, "as it was given or found"]
    frame: NotRequired[Annotated[int, "number of the frame, from 0; still images have none"]]
    time: NotRequired[Annotated[float, "seconds from the start of the video or camera; still images have none"]]
    width: Annotated[int, "pixels, upright"]
    height: Annotated[int, "pixels"]
    scales: Annotated[list[float], "at which it was looked at, shown / original, the finest first"]
    smallest_face: Annotated[float, "pixels of the shorter side: what such a look finds mostly"]
    faces: Annotated[list[Face], "best first"]


class DetectRules(TypedDict):
    """How faces were looked for: the first line of JSON lines."""

    weights: Annotated[str, "as they were given"]
    score: Annotated[float, "the least score of a face"]
    nms: Annotated[float, "IoU above which the weaker of two goes"]
    size: Annotated[str, "how images were shown: auto, original, vga, a number or WxH"]
    landmark_names: Annotated[list[str], "of each face's points, in their order; empty where there are none"]


class LinesHead(Header, DetectRules):
    """The first line of JSON lines: all that the lines below depend on."""

    weights_sha256: Annotated[str, "of the weights' file"]
    min_face: Annotated[float | None, "the smallest face that was asked for, pixels"]
    region: Annotated[list[str], "where faces count; everywhere if empty"]
    excepted: Annotated[list[str], "where they do not, or whose do not"]
    every: Annotated[int, "of moving sources each so-manieth frame"]
    begin: Annotated[str, "of moving sources, seconds"]
    end: Annotated[str | None, "of moving sources, seconds"]
    tracked: Annotated[bool, "faces have numbers over the frames of a video"]


class VideoEnd(TypedDict):
    """The line behind the last frame of a moving source."""

    path: Annotated[str, "as it was given or found"]
    frames: Annotated[int, "the last frame's number, and one"]


class FailedLine(TypedDict):
    """A line of what could not be read or written."""

    path: Annotated[str, "as it was given or found"]
    error: Annotated[Problem, "why"]


class DetectDocument(DetectRules):
    """Faces of images."""

    images: Annotated[list[DetectedImage], "in the order given"]
    skipped: Annotated[list[str], "files of folders that are no images"]
    interrupted: Annotated[bool, "stopped by Ctrl-C: the rest was not looked at"]
    errors: Annotated[list[Problem], "images that could not be read or written"]
