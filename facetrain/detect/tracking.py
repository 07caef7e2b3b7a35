"""The same face in the frames of a video, by ByteTrack (`pip install 'facetrain[track]'`).

Y. Zhang et al.: ByteTrack. ECCV 2022. Boxes are told apart by where they are, not by who is in them: a face that was
gone for longer than a second comes back under a new number. Boxes stay as they were found.
"""

import warnings
from fractions import Fraction
from typing import Any

import numpy as np

from facetrain.core.errors import FacetrainError
from facetrain.core.faces import Faces

_NOBODY = -1


class Tracker:
    """Gives the faces of a video's frames numbers, from 1; a face has one from the second frame on that shows it."""

    def __init__(self, score: float) -> None:
        """score: what a face needs to be followed at all; weaker ones only go on with what is followed already."""
        self._library = _library()
        self._score = score
        self._tracker: Any = None

    def begin(self) -> None:
        """A new video: numbers start again."""
        self._tracker = None

    def follow(self, faces: Faces, time: Fraction) -> Faces:
        """The same faces with numbers; -1 for one that is not followed yet. time: seconds from the video's start."""
        trackers, supervision = self._library
        if self._tracker is None:
            self._tracker = trackers.ByteTrackTracker(
                track_activation_threshold=self._score,
                high_conf_det_threshold=self._score,
                minimum_consecutive_frames=1,
            )
        ids = np.full(len(faces), _NOBODY, np.int64)
        rows = np.arange(len(faces))
        found = supervision.Detections(
            xyxy=faces.boxes.astype(np.float32), confidence=faces.scores.astype(np.float32), data={"row": rows}
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of frames that come at the same time
            followed = self._tracker.update(found, timestamp=float(time))
        if len(followed):
            known = followed.tracker_id >= 0
            ids[followed.data["row"][known]] = followed.tracker_id[known] + 1
        return Faces(faces.boxes, faces.scores, faces.landmarks, ids)


def _library() -> tuple[Any, Any]:
    try:
        import supervision
        import trackers
    except ImportError as error:
        raise FacetrainError(
            f"following faces needs the package trackers: {error}", "pip install 'facetrain[track]'"
        ) from error
    return trackers, supervision
