"""`facetrain data prepare --json`."""

from typing import Annotated, TypedDict


class PreparedPart(TypedDict):
    """The training or the validation part of a data set that was prepared."""

    images: Annotated[int, "in the folder"]
    events: Annotated[int, "kinds of scene, a folder each"]
    written: Annotated[int, "images that were not there before"]
    labels_from: Annotated[str | None, "what the label file was made of; null where there is none"]
    faces: Annotated[int, "in the label file"]
    with_landmarks: Annotated[int, "of these"]
    ignored: Annotated[int, "of these"]
    boxes_without_area: Annotated[int, "left out"]
    unlabelled: Annotated[int, "images without labels"]
    absent: Annotated[int, "labelled images that are not there, left out"]


class PreparedDocument(TypedDict):
    """A published data set as a folder to train on."""

    folder: Annotated[str, "that was built"]
    complete: Annotated[bool, "images and labels of both parts are there"]
    parts: Annotated[dict[str, PreparedPart], "train and val, where there are images"]
    ground_truth: Annotated[list[str], "official files for easy, medium and hard that are there"]
    missing: Annotated[dict[str, str], "what is missing, and where it comes from"]
