"""Images of several threads that go through a network together: a GPU is busy with many, and idle with one."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from facetrain.core.faces import Detector, Faces, Image

_PATIENCE = 0.01  # seconds for which a batch waits for one more image: the last ones of a call have no others


@dataclass(eq=False)
class _Asked:
    """What one thread has asked for. taken: it is in a batch that is looked at; done: there is an answer."""

    images: Sequence[Image]
    found: list[Faces] = field(default_factory=list)
    error: Exception | None = None
    taken: bool = False
    done: bool = False


class Gathered:
    """A detector that several threads ask, and that looks at what they ask for together.

    The thread whose images complete a batch looks at all of it; where none come any more, one that has waited does.
    While one batch is looked at, the next is gathered: the network takes one at a time.

    most: images of a batch; one call that has more is looked at at once
    """

    def __init__(self, detector: Detector, most: int) -> None:
        self._detector, self._most = detector, most
        self._changed = threading.Condition()
        self._waiting: list[_Asked] = []
        self._network = threading.Lock()

    def detect_batch(self, images: Sequence[Image]) -> list[Faces]:
        """Faces of each image, (H, W, 3) uint8 BGR. Raises what the detector raises for these images."""
        own = _Asked(images)
        with self._changed:
            self._waiting.append(own)
            if sum(len(asked.images) for asked in self._waiting) < self._most:
                self._changed.wait_for(lambda: own.taken, _PATIENCE)
            if own.taken:
                self._changed.wait_for(lambda: own.done)
                batch = []
            else:
                batch, self._waiting = self._waiting, []
                for asked in batch:
                    asked.taken = True
                self._changed.notify_all()
        if batch:
            self._answer(batch)
        if own.error is not None:
            raise own.error
        return own.found

    def _answer(self, batch: Sequence[_Asked]) -> None:
        """Look at a batch. Where that fails each is looked at alone: others' images are not its error."""
        try:
            with self._network:
                try:
                    self._look(batch)
                except Exception:
                    for asked in batch:
                        self._alone(asked)
        finally:
            with self._changed:
                for asked in batch:
                    asked.done = True
                self._changed.notify_all()

    def _look(self, batch: Sequence[_Asked]) -> None:
        found = iter(self._detector.detect_batch([image for asked in batch for image in asked.images]))
        for asked in batch:
            asked.found = [next(found) for _ in asked.images]

    def _alone(self, asked: _Asked) -> None:
        try:
            asked.found = list(self._detector.detect_batch(asked.images))
        except Exception as error:
            asked.error = error
