"""`facetrain data label --json`."""

from typing import Annotated, TypedDict

from facetrain.core.documents.common import Problem


class LabelledDocument(TypedDict):
    """Labels that detectors gave to a folder of images."""

    labels: Annotated[str, "the label file"]
    detections: Annotated[str, "all that was found, with scores, a line of JSON for each image"]
    landmarks: Annotated[list[str], "names of the points"]
    images: Annotated[int, "labelled"]
    images_without_faces: Annotated[int, "of these"]
    looked: Annotated[int, "images that this call looked at; the others were known"]
    faces: Annotated[int, "labelled, those to be ignored left out"]
    with_landmarks: Annotated[int, "of these"]
    ignored: Annotated[int, "faces between the two scores, marked to be ignored"]
    lost: Annotated[dict[str, int], "what the label format has no room for"]
    skipped: Annotated[list[str], "images of formats that are not read"]
    errors: Annotated[list[Problem], "images that could not be read"]
