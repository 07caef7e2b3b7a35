"""Images and videos with faces blurred past recognition."""

from facetrain.detect.covering import WISHES, Covering
from facetrain.detect.covers import COVER_SCORE, blurred
from facetrain.detect.looked import Wishes
from facetrain.detect.place import Place

HELP = "faces blurred past recognition: a folder, or one image or video"
WHERE = "pixels"
USES = WISHES
SCORE = COVER_SCORE


def make(place: Place, wishes: Wishes) -> Covering:
    """The output. Raises UsageError for wishes that mean nothing."""
    return Covering(place, wishes, blurred)
