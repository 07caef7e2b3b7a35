"""`facetrain data check --json`, and what `eval --json` says of labels."""

from typing import Annotated, NotRequired, TypedDict

from facetrain.core.documents.common import Problem


class FindingDocument(TypedDict):
    """A face, or an image, that cannot be right."""

    image: Annotated[str, "its name in the labels"]
    face: Annotated[int | None, "its place in the image, from 0; null where it is about the image"]
    value: Annotated[str, "what the labels say"]


class KindDocument(TypedDict):
    """A way in which labels cannot be right."""

    kind: Annotated[str, "its name"]
    words: Annotated[str, "what it means, behind the number"]
    count: Annotated[int, "how many are of it"]
    of: Annotated[int, "how many could be: faces, faces with landmarks, or images"]
    done: Annotated[str, "left out, clipped or kept"]
    first: Annotated[list[FindingDocument], "some of them"]


class LabelsDocument(TypedDict):
    """What was found in labels, and what was left out or clipped for it."""

    changed: Annotated[int, "faces or images that were left out or clipped"]
    kinds: Annotated[list[KindDocument], "that were found"]


class HistogramBar(TypedDict):
    """How many are from `low` on and below `high`."""

    low: Annotated[int, "pixels, or faces"]
    high: Annotated[int | None, "null: no limit"]
    count: Annotated[int, "how many"]


class SurveyDocument(TypedDict):
    """A part of a set in numbers, without what was left out."""

    images: Annotated[int, "labelled"]
    images_without_faces: Annotated[int, "without a face that counts"]
    faces: Annotated[int, "that count"]
    ignored: Annotated[int, "further ones, marked to be ignored"]
    with_landmarks: Annotated[int, "of the faces, with at least one point"]
    hidden_points: Annotated[int, "labelled, but not visible"]
    landmarks: Annotated[dict[str, int], "by point, how many faces have it"]
    face_side_percentiles: Annotated[list[float], "5, 50 and 95 % of the faces' shorter sides, pixels"]
    most_faces: Annotated[int, "in one image"]
    small_in_crops: Annotated[float, "share of the faces below `small_below`, over all scales of training crops"]
    small_in_all_crops: Annotated[float, "share of the faces below it at every scale"]
    small_below: Annotated[float, "pixels of the crop"]
    histograms: Annotated[dict[str, list[HistogramBar]], "face_sides, faces_per_image and image_sides"]


class PartDocument(TypedDict):
    """The training or the validation part."""

    labels: Annotated[str, "the label file or folder"]
    images: Annotated[str, "the folder of images"]
    format: Annotated[str, "of the labels"]
    notes: Annotated[list[str], "what the reader says of them"]
    survey: Annotated[SurveyDocument, "in numbers"]
    found: Annotated[LabelsDocument, "what cannot be right"]
    twice: Annotated[list[list[str]], "pairs of names of images that look the same"]
    unlabelled: Annotated[int, "images of the folder that no label names"]


class CheckDocument(TypedDict):
    """A set as it was found."""

    data: Annotated[str, "its folder or label file"]
    train: NotRequired[Annotated[PartDocument, "where it is there"]]
    val: NotRequired[Annotated[PartDocument, "where it is there"]]
    absent: Annotated[dict[str, str], "by part, why it is not there"]
    in_both: Annotated[list[list[str]], "validation images with the training image that looks the same"]
    errors: Annotated[list[Problem], "what keeps the set from being used"]
    report: Annotated[str | None, "the page that was written"]
