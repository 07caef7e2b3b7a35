"""Detectors of any family side by side: what they cost, how fast they are, what they find. Top to bottom."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from facetrain.compare.accuracy import KnownBenchmark, load_widerface, measure_accuracy
from facetrain.compare.agreement import agreements
from facetrain.compare.models import OpenModel, cost_of, distinct_names, open_model, timed_work
from facetrain.compare.pairs import Pair, compare_pairs, intervals_of
from facetrain.compare.results import Comparison, Look, Row, Speed
from facetrain.compare.timing import REPEATS, ROUNDS, time_in_turn, times_of
from facetrain.core.documents.common import ProtocolDocument
from facetrain.core.documents.compare import TimingDocument
from facetrain.core.errors import FacetrainError, UsageError
from facetrain.core.faces import Image
from facetrain.core.files import sha256
from facetrain.core.images import read_image
from facetrain.core.machine import available_cores, check_threads, describe_machine
from facetrain.detect.views import AUTO
from facetrain.eval.intervals import DRAWS, SEED, check_draws
from facetrain.eval.protocol import EvalProtocol, ProtocolDetector

MOST_SIDE = 4096  # pixels of a timed image's side
Part = Literal["network", "end_to_end"]
Progress = Callable[[str, int], AbstractContextManager[Callable[..., None]]]


@dataclass(frozen=True)
class CompareSettings:
    """How to compare.

    protocol:     how images are shown for AP and for the one image that is looked at
    timed_size:   (width, height) of the image that is timed; files with a fixed size are timed at that
    threads:      of the times on all cores, and for measuring AP; None: all that this process may use
    at_score:     least score of a face where faces are drawn, compared and timed
    rounds, repeats: how many turns each model has, and how many runs are measured in a turn
    fresh:        measure AP anew even if it is known
    draws, seed:  of the images, for the intervals of AP and its differences; 0: none
    """

    protocol: EvalProtocol = field(default_factory=EvalProtocol)
    timed_size: tuple[int, int] = (320, 320)
    threads: int | None = None
    at_score: float = 0.5
    rounds: int = ROUNDS
    repeats: int = REPEATS
    fresh: bool = False
    draws: int = DRAWS
    seed: int = SEED

    def __post_init__(self) -> None:
        """Refuse a size or a score that means nothing."""
        if not all(1 <= side <= MOST_SIDE for side in self.timed_size):
            width, height = self.timed_size
            raise UsageError(f"`fps_size` {width}x{height}: sides must be from 1 to {MOST_SIDE}")
        if not 0 <= self.at_score <= 1:
            raise UsageError(f"`at_score` {self.at_score:g}: must be from 0 to 1")
        check_threads(self.threads)
        check_draws(self.draws)


def compare_models(
    models: Sequence[str | Path],
    *,
    families: Mapping[str, str] | None = None,
    widerface: str | Path | None = None,
    ground_truth: str | Path | None = None,
    present_only: bool = False,
    image: str | Path | None = None,
    settings: CompareSettings | None = None,
    progress: Progress | None = None,
    report: Callable[[FacetrainError], None] | None = None,
) -> Comparison:
    """Compare models: ONNX files and checkpoints, runs and names, see `find_weights`.

    families:  the family to take a model for, by the model as it stands in `models`
    widerface: folder of the WIDER FACE images to measure AP on; ground_truth, present_only: see `evaluate_model`
    image:     an image to look at with every model
    progress:  gives a context with `advance(done)` for a title and a number of steps
    report:    hears of each model's error as soon as it happens

    A model that fails has its error in its row and the others go on; after Ctrl-C what was finished is returned.
    Raises InputError or DataError for data and images that are not there, before any model is begun.
    """
    settings = settings or CompareSettings()
    cores = available_cores()  # before the work, which may be moved to other ones
    threads = settings.threads or cores
    widerface, ground_truth, image = (None if p is None else Path(p) for p in (widerface, ground_truth, image))
    known = None if widerface is None else load_widerface(widerface, ground_truth, present_only=present_only)
    pixels = None if image is None else read_image(image)
    given = [str(model) for model in models]
    rows = [Row(name, text) for name, text in zip(distinct_names(given), given, strict=True)]
    run = _Run(rows, {}, settings, progress or _silent, report or _ignore)
    look, interrupted, pairs = None, False, list[Pair]()
    try:
        _open(run, families or {})
        _time(run, 1)
        if threads > 1:
            _time(run, threads)
        if image is not None and pixels is not None:
            look = _look(run, image, pixels)
        if known is not None:
            _measure(run, known, threads)
    except KeyboardInterrupt:
        interrupted = True
    shown: ProtocolDocument | None = None
    if known is not None:
        pairs = _tell_apart(run, known)  # of what was measured, after Ctrl-C too
        shown = {**settings.protocol.as_dict(), "images": len(known.benchmark.images), "present_only": present_only}
        shown |= {"draws": settings.draws, "seed": settings.seed}
    timing: TimingDocument = {
        "size": list(settings.timed_size),
        "score": settings.at_score,
        "nms": settings.protocol.nms,
        "rounds": settings.rounds,
        "repeats": settings.repeats,
    }
    machine, size = describe_machine(cores, threads), settings.protocol.size
    return Comparison(rows, machine, timing, shown, look, interrupted, pairs, size)


@dataclass(frozen=True)
class _Run:
    """A comparison under way: `rows` are replaced as more is known, `opened` are the models that have not failed."""

    rows: list[Row]
    opened: dict[int, OpenModel]
    settings: CompareSettings
    progress: Progress
    report: Callable[[FacetrainError], None]

    def know(self, number: int, **values: Any) -> None:
        """Write values into a row."""
        self.rows[number] = replace(self.rows[number], **values)

    def fail(self, number: int, error: FacetrainError) -> None:
        """A model's first error ends its part in the comparison."""
        if self.rows[number].error is None:
            self.know(number, error=error)
            self.opened.pop(number, None)
            self.report(error)

    def reopen(self, weights: str, family: str | None, threads: int) -> OpenModel:
        """A model as its faces are drawn and timed. Raises FacetrainError."""
        protocol = self.settings.protocol
        return open_model(
            weights,
            family=family,
            score=self.settings.at_score,
            nms=protocol.nms,
            max_candidates=protocol.max_candidates,
            threads=threads,
        )


def _open(run: _Run, families: Mapping[str, str]) -> None:
    """Open each model once, to be timed on one core, and write into its row what it is."""
    for number, row in enumerate(run.rows):
        try:
            model = run.reopen(row.given, families.get(row.given), 1)
            run.know(
                number,
                path=model.path,
                kind=model.kind,
                family=model.family,
                bytes=model.path.stat().st_size,
                sha256=sha256(model.path),
                static_shape=model.static_shape is not None,
                landmark_names=model.detector.landmark_names,
                cost=cost_of(model, timed_work(model, run.settings.timed_size, 1).size),
            )
            run.opened[number] = model
        except FacetrainError as error:
            run.fail(number, error)


def _time(run: _Run, threads: int) -> None:
    """Time all models in turn on so many threads."""
    works: dict[tuple[int, Part], Callable[[], object]] = {}
    for number, model in list(run.opened.items()):
        try:
            # onnxruntime's threads belong to the session, torch's to the process
            timed = run.reopen(str(model.path), model.family, threads) if threads > 1 else model
            work = timed_work(timed, run.settings.timed_size, threads)
        except FacetrainError as error:
            run.fail(number, error)
        else:
            works |= {(number, "network"): work.network, (number, "end_to_end"): work.end_to_end}
    seconds: dict[tuple[int, Part], list[float]] = {key: [] for key in works}
    rounds, repeats = run.settings.rounds, run.settings.repeats
    try:
        with run.progress(f"time on {threads} thread{'s' if threads > 1 else ''}", rounds * len(works)) as advance:
            for key, outcome in time_in_turn(works, rounds=rounds, repeats=repeats):
                if isinstance(outcome, FacetrainError):
                    run.fail(key[0], outcome)
                else:
                    seconds[key] += outcome
                    advance(len(outcome) // repeats)
    finally:  # after Ctrl-C too: fewer runs are measured times all the same
        for number in run.opened:
            network, whole = (times_of(seconds.get((number, part), [])) for part in ("network", "end_to_end"))
            if network and whole:
                run.know(number, **{"one_core" if threads == 1 else "all_cores": Speed(network, whole)})


def _look(run: _Run, path: Path, image: Image) -> Look:
    """The image through every model, shown as the protocol says."""
    found = {}
    for number, model in list(run.opened.items()):
        # what reaches the score is a face: the detector has that threshold already
        protocol = replace(run.settings.protocol, score=0.0)
        auto = protocol.size == AUTO
        if model.static_shape is not None and not auto:
            protocol = replace(protocol, size="original")  # the file itself fits every image into its own size
        try:
            detector = model.detector.looks if auto else model.detector
            found[number] = ProtocolDetector(detector, protocol).detect_batch([image])[0]
        except FacetrainError as error:
            run.fail(number, error)
    return Look(path, image, found, agreements(found))


def _measure(run: _Run, known: KnownBenchmark, threads: int) -> None:
    """AP of one model after the other, each with a bar of its own."""
    for number, model in list(run.opened.items()):
        with run.progress(run.rows[number].name, len(known.benchmark.images)) as advance:
            try:
                accuracy = measure_accuracy(
                    model,
                    known,
                    run.settings.protocol,
                    threads=threads,
                    fresh=run.settings.fresh,
                    progress=lambda done, total, advance=advance: advance(1),  # type: ignore[misc]
                )
                run.know(number, accuracy=accuracy)
            except FacetrainError as error:
                run.fail(number, error)


def _tell_apart(run: _Run, known: KnownBenchmark) -> list[Pair]:
    """The interval of each AP, and of the difference of every two, from one set of draws."""
    resampling = known.benchmark.resampling(run.settings.draws, run.settings.seed)
    for number, row in enumerate(run.rows):
        if row.accuracy is not None:
            run.know(number, intervals=intervals_of(row.accuracy, resampling))
    measured = {number: row.intervals for number, row in enumerate(run.rows) if row.intervals}
    return compare_pairs(measured, resampling)


@contextmanager
def _silent(title: str, total: int) -> Iterator[Callable[..., None]]:
    yield lambda done=1: None


def _ignore(error: FacetrainError) -> None:
    pass
