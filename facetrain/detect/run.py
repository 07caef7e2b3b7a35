"""Looking at sources, frame by frame, and giving what was found to the outputs."""

import errno
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from facetrain.core.errors import DataError, FacetrainError, about
from facetrain.core.memory import no_memory_error
from facetrain.core.ordered import ordered
from facetrain.core.uninterrupted import uninterrupted
from facetrain.detect.detector import FaceDetector
from facetrain.detect.looked import Looked, Output
from facetrain.detect.selection import Selection
from facetrain.detect.tracking import Tracker
from facetrain.media.frame import Failure, Frame, Source
from facetrain.media.still import Still


@dataclass(frozen=True)
class Ended:
    """A source is through, or broke off after some frames: what was found in it.

    frames, faces, most: how many were looked at, faces of all, and of the frame that has most
    with_faces:          frames with at least one
    seconds:             what all of it took, reading and writing included
    """

    source: Source
    frames: int = 0
    faces: int = 0
    most: int = 0
    with_faces: int = 0
    seconds: float = 0.0

    def plus(self, faces: int) -> "Ended":
        """With one more frame, which has so many faces."""
        return replace(
            self,
            frames=self.frames + 1,
            faces=self.faces + faces,
            most=max(self.most, faces),
            with_faces=self.with_faces + (faces > 0),
        )


Outcome = Looked | Ended | Failure


@dataclass(frozen=True)
class Counting:
    """Which of the found faces count.

    score:     what a face needs, where the detector looks for weaker ones too
    selection: where in the image, and which not
    tracker:   gives the faces of moving sources numbers
    after:     by the names of moving sources: the last frame that was looked at already
    """

    score: float = 0.0
    selection: Selection = field(default_factory=Selection)
    tracker: Tracker | None = None
    after: Mapping[str, int] = field(default_factory=dict)


def detect_sources(
    detector: FaceDetector,
    sources: Iterable[Source],
    outputs: Sequence[Output] = (),
    counting: Counting = Counting(),
    workers: int = 1,
    unsaid: list[Failure] | None = None,
) -> Generator[Outcome, None, None]:
    """Read each frame, find its faces, hand both to the outputs; a few frames in memory at a time.

    A source that fails is given as a Failure, and the rest goes on; what was looked at of it counts. Where the disk is
    full nothing goes on: raises OutputError.
    Outputs are ended for each source, also where it breaks off or the caller leaves; `finish` is the caller's.

    workers: threads that look at frames at a time, and read and write images; outcomes keep the sources' order
    unsaid:  gets what fails when the caller has left already
    """
    call = _Call(detector, outputs, counting)
    steps = call.steps(sources)
    with closing(steps):
        results = map(call.work, steps) if workers == 1 else ordered(call.work, steps, workers)
        try:
            for step in results:
                yield from call.take(step)
        finally:
            if isinstance(results, Generator):
                results.close()
            name = call.source_name
            late = [Failure(name, failure) for failure in call.end()]
            if unsaid is not None:
                unsaid += late


@dataclass
class _Step:
    """A frame on its way; or of an image its file, which who looks at it reads; or the end of a source.

    taken: by the outputs that take frames in any order
    """

    source: Source
    frame: Frame | None = None
    looked: Looked | None = None
    taken: bool = False
    error: FacetrainError | None = None
    last: bool = False


class _Call:
    """What one call is doing. `steps` and `take` belong to the thread that calls, `work` to any."""

    def __init__(self, detector: FaceDetector, outputs: Sequence[Output], counting: Counting) -> None:
        self._detector = detector
        self._outputs = outputs
        self._counting = counting
        self._ended: Ended | None = None  # of the source that is being taken
        self._begun = 0.0
        self._broken_off: Source | None = None
        self._interrupted = False

    def steps(self, sources: Iterable[Source]) -> Generator[_Step, None, None]:
        """What is to be done, in order. Frames of moving sources are read here, images by `work`."""
        for source in sources:
            if isinstance(source, Still):
                yield _Step(source, last=True)
                continue
            error: FacetrainError | None = None
            try:
                frames = source.frames(self._detector.needed)
                after = self._counting.after.get(source.name, -1)
                while self._broken_off is not source and (frame := _next(frames, source)) is not None:
                    if frame.index > after:
                        yield _Step(source, frame)
            except FacetrainError as problem:
                error = problem
            yield _Step(source, error=error, last=True)

    def work(self, step: _Step) -> _Step:
        """Look at a frame, and of an image do all that needs no order."""
        if step.error is not None or (step.frame is None and not isinstance(step.source, Still)):
            return step
        try:
            with no_memory_error(step.source.name):
                frame = step.frame or next(step.source.frames(self._detector.needed))
                step.looked = self._look(step.source, frame)
                if isinstance(step.source, Still):
                    step.looked = self._counted(step.looked)
                    for output in self._outputs:
                        if output.any_order:
                            output.add(step.looked)
                    step.taken = True
        except FacetrainError as error:
            step.error = error
        return step

    def _look(self, source: Source, frame: Frame) -> Looked:
        begun = time.perf_counter()
        seen = self._detector.look(frame.image)
        return Looked(source, frame, seen, seen.faces, time.perf_counter() - begun)

    def _counted(self, looked: Looked) -> Looked:
        """With the faces that count."""
        faint, image, tracker = looked.faint, looked.frame.image, self._counting.tracker
        if tracker is not None and looked.frame.time is not None:
            faint = tracker.follow(faint, looked.frame.time)
        faint = self._counting.selection.of(faint, image.width, image.height)
        return replace(looked, seen=replace(looked.seen, faces=faint.at_least(self._counting.score)), faint=faint)

    def take(self, step: _Step) -> Iterator[Outcome]:
        """The outcomes of a step, once it has its turn."""
        if self._ended is None or self._ended.source is not step.source:
            self._ended, self._begun = Ended(step.source), time.perf_counter()
            if self._counting.tracker is not None:
                self._counting.tracker.begin()
        going = self._broken_off is not step.source
        if going and step.error is None and step.looked is not None:
            looked = self._hand_over(step, step.looked)
            if looked is not None:
                self._ended = self._ended.plus(len(looked.faces))
                yield looked
            if self._interrupted:  # heard while the frame was handed over, which counts
                raise KeyboardInterrupt
        failures: list[FacetrainError] = []
        if going and step.error is not None:
            if _is_full(step.error):
                raise step.error
            self._broken_off = step.source  # what follows of it is not asked for
            failures.append(about(step.source.name, step.error) if isinstance(step.error, DataError) else step.error)
        if step.last:
            ended = replace(self._ended, seconds=time.perf_counter() - self._begun)
            late = self.end()
            if full := next(filter(_is_full, late), None):
                raise full
            failures += late
            yield ended
        yield from (Failure(step.source.name, failure) for failure in failures)

    def _hand_over(self, step: _Step, looked: Looked) -> Looked | None:
        """Give a frame to the outputs that have not taken it; None where one fails, which the step then tells."""
        try:
            looked = looked if step.taken else self._counted(looked)
            left = [output for output in self._outputs if not (step.taken and output.any_order)]
            try:
                with uninterrupted():  # Ctrl-C leaves no frame in some of the outputs alone
                    for output in left:
                        if not output.waits:
                            output.add(looked)
            except KeyboardInterrupt:
                self._interrupted = True
                return looked
            for output in left:
                if output.waits:
                    output.add(looked)
        except FacetrainError as error:
            step.error = error
            return None
        return looked

    @property
    def source_name(self) -> str:
        """Of the source that is being taken."""
        return "" if self._ended is None else self._ended.source.name

    def end(self) -> list[FacetrainError]:
        """End all outputs for the source; what goes wrong in one keeps none of the others from it."""
        ended, self._ended = self._ended, None
        failures: list[FacetrainError] = []
        if ended is None:
            return failures
        with uninterrupted():
            for output in self._outputs:
                try:
                    output.end(ended.source)
                except FacetrainError as error:
                    failures.append(error)
        return failures


def _next(frames: Iterator[Frame], source: Source) -> Frame | None:
    with no_memory_error(source.name):
        return next(frames, None)


def _is_full(error: FacetrainError) -> bool:
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT)
