"""Images and videos with faces made of a few squares."""

from facetrain.detect.covering import WISHES, Covering
from facetrain.detect.covers import COVER_SCORE, pixelated
from facetrain.detect.looked import Wishes
from facetrain.detect.place import Place

HELP = "faces made of a few squares: a folder, or one image or video"
WHERE = "pixels"
USES = WISHES
SCORE = COVER_SCORE


def make(place: Place, wishes: Wishes) -> Covering:
    """The output. Raises UsageError for wishes that mean nothing."""
    return Covering(place, wishes, pixelated)
