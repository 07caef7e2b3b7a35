"""`facetrain eval --json`, and `protocol.json` beside result files (`ProtocolDocument`)."""

from typing import Annotated, NotRequired, TypedDict

from facetrain.core.documents.check import LabelsDocument
from facetrain.core.documents.common import DifferenceDocument, EstimateDocument, ProtocolDocument


class SizeRecallDocument(TypedDict):
    """Recall of the faces of one range of sizes."""

    low: Annotated[int, "least shorter side, pixels"]
    high: Annotated[int | None, "shorter side is below this; null: no limit"]
    faces: Annotated[int, "that count"]
    found: Annotated[int, "of them"]
    recall: Annotated[float | None, "found / faces"]


class OperatingPointDocument(TypedDict):
    """The lowest threshold that keeps a wanted precision."""

    precision: Annotated[float, "the wanted one"]
    score: Annotated[float, "the threshold; detections that reach it are kept"]
    reached: Annotated[float, "precision at it"]
    recall: Annotated[float, "at it"]
    false_alarms: Annotated[float, "an image, at it"]


class LandmarkErrorDocument(TypedDict):
    """Distance between found and labelled landmarks, as a share of the root of the labelled box's area."""

    mean: Annotated[float, "over the faces"]
    per_point: Annotated[list[float | None], "of each landmark; null where no face has it"]
    names: Annotated[list[str], "of the landmarks"]
    faces: Annotated[int, "found, with at least one usable point"]


class DetailsDocument(TypedDict):
    """Numbers beside AP."""

    images: Annotated[int, "measured"]
    faces: Annotated[int, "that count"]
    score: Annotated[float, "threshold of the following"]
    recall: Annotated[float | None, "share of the faces found"]
    precision: Annotated[float | None, "share of the detections that are faces"]
    false_alarms: Annotated[float | None, "an image"]
    by_size: Annotated[list[SizeRecallDocument], "recall by the shorter side of the face"]
    by_size_any: Annotated[list[SizeRecallDocument], "the same, however low the score"]
    wanted_precision: Annotated[float, "of the operating point"]
    operating_point: Annotated[OperatingPointDocument | None, "null where no threshold keeps the precision"]
    landmark_error: Annotated[LandmarkErrorDocument | None, "null without labelled landmarks"]
    intervals: Annotated[dict[str, EstimateDocument], "by the number's place, such as `by_size.2.recall`"]


class ComparedNumber(DifferenceDocument):
    """A number of two detectors, and by how much the first has more."""

    own: Annotated[float, "of the detector that is measured"]
    other: Annotated[float, "of that of `against`"]


class AgainstDocument(TypedDict):
    """The other detector of `against`. Differences are own less other."""

    own: Annotated[str, "name of the detector that is measured"]
    other: Annotated[str, "name of the other"]
    protocol: Annotated[ProtocolDocument, "how images were shown to the other; without `size`: not known"]
    differences: Annotated[dict[str, ComparedNumber], "by the number's name"]


class EvalDocument(TypedDict):
    """A measurement. WIDER FACE has easy, medium and hard, any other labelled set has `all`."""

    benchmark: Annotated[str, "widerface, or labelled"]
    easy: NotRequired[Annotated[float | None, "AP; null where no face counts"]]
    medium: NotRequired[Annotated[float | None, "AP"]]
    hard: NotRequired[Annotated[float | None, "AP"]]
    all: NotRequired[Annotated[float | None, "AP at IoU .5 over all faces that are not ignored"]]
    images: Annotated[int, "measured"]
    intervals: Annotated[dict[str, EstimateDocument], "of each AP"]
    protocol: Annotated[ProtocolDocument, "how images were shown"]
    seconds: Annotated[dict[str, float], "of each part of the work"]
    details: Annotated[DetailsDocument, "numbers beside AP"]
    missing_predictions: Annotated[list[str], "images without a result file: nothing was found in them"]
    labels: Annotated[LabelsDocument, "what cannot be right in them; on WIDER FACE nothing is ever changed"]
    in_training: Annotated[int | None, "of the images, that are training images too; null: never compared"]
    against: NotRequired[Annotated[AgainstDocument, "where `against` was given"]]
