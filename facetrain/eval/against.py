"""A measurement beside that of another detector, in words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from facetrain.core.documents.common import ProtocolDocument
from facetrain.core.documents.eval import AgainstDocument
from facetrain.core.errors import InputError, UsageError
from facetrain.core.run_dir import is_of_run
from facetrain.detect.find_weights import best_of_run, find_weights
from facetrain.eval.difference import LANDMARKS, Difference, check_same_protocol, difference, verdict
from facetrain.eval.evaluate import Evaluation, Source, evaluate_on
from facetrain.eval.metrics import METRICS
from facetrain.eval.prediction_files import read_protocol
from facetrain.eval.protocol import EvalProtocol


@dataclass(frozen=True)
class Against:
    """A detector measured against another one on the same images.

    own, name:  the two as they are called; a difference is own less other
    numbers:    (own, other) value of each difference
    protocols:  (own, other) how images were shown; of result files as far as it is known
    """

    own: str
    name: str
    differences: Mapping[str, Difference]
    numbers: Mapping[str, tuple[float, float]]
    protocols: tuple[ProtocolDocument, ProtocolDocument]

    @staticmethod
    def of(own: Evaluation, other: Evaluation, names: tuple[str, str]) -> "Against":
        """The differences of two measurements. Raises UsageError as `difference` does."""
        found = difference(other, own)
        here, there = ({**some.intervals, **some.details.intervals} for some in (own, other))
        numbers = {name: (here[name].value, there[name].value) for name in found}
        return Against(*names, found, numbers, (own.protocol, other.protocol))

    def sentences(self) -> list[str]:
        """What can be said of each AP."""
        return [
            f"{key}: {verdict(d, self.own, self.name)}" for key, d in self.differences.items() if not _is_beside_ap(key)
        ]

    def others(self) -> list[str]:
        """The numbers beside AP, a line each."""
        lines = []
        for key, found in self.differences.items():
            if _is_beside_ap(key):
                own, other = self.numbers[key]
                span = "" if found.low is None or found.high is None else f" [{found.low:+.4f}, {found.high:+.4f}]"
                title = METRICS[key].title if key in METRICS else "landmark error"
                lines.append(f"{title}: {own:.4f} against {other:.4f}, {found.value:+.4f}{span}")
        return lines

    def note(self) -> str:
        """How the differences were found."""
        first = next(iter(self.differences.values()), None)
        if first is None or not first.draws:
            return "no draws, no intervals"
        if all(found.low is None for found in self.differences.values()):
            return "no intervals of the differences: " + (first.why or "image by image both have the same")
        aps = sum(not _is_beside_ap(key) for key in self.differences)
        several = f"; {aps} APs looked at together, told apart at 5 % in all (Holm)" if aps > 1 else ""
        return (
            f"in brackets: 95 % intervals of the difference, {first.draws:,} draws of the same images for both{several}"
        )

    def remarks(self) -> list[str]:
        """What the two do not share, or is not known of them, though they may be compared."""
        sizes = [protocol.get("size") for protocol in self.protocols]
        unknown = [name for name, size in zip((self.own, self.name), sizes, strict=True) if size is None]
        if unknown:
            why = "how images were shown is not known, no protocol.json beside its files says it"
            return [f"{name}: {why}" for name in unknown]
        # others than those of a file with a size of its own were refused
        return [f"shown otherwise: size {sizes[0]} and {sizes[1]}"] if sizes[0] != sizes[1] else []

    def as_dict(self) -> AgainstDocument:
        """Plain values for JSON. `estimate` is own less other."""
        return {
            "own": self.own,
            "other": self.name,
            "protocol": self.protocols[1],
            "differences": {
                key: {"own": self.numbers[key][0], "other": self.numbers[key][1], **found.as_dict()}
                for key, found in self.differences.items()
            },
        }


def other_source(what: str, protocol: EvalProtocol, device: str, threads: int | None) -> Source:
    """Weights, or a folder of result files, which is none of a run. Raises InputError where there is neither.

    UsageError where nothing is named, and where the files say that they came about by another protocol than this one:
    what differs is named.
    """
    if not what.strip():  # as a path it would be the current folder
        raise UsageError("`against` is empty", "name weights, or a folder of result files")
    if Path(what).is_dir() and best_of_run(Path(what)) is None:
        check_same_protocol(protocol.as_dict(), {**read_protocol(Path(what)), "source": "prediction files"})
        return Source(None, Path(what))
    find_weights(what)
    return Source(what, None, device, threads)


def against(
    result: Evaluation,
    source: Source,
    other: Source,
    protocol: EvalProtocol,
    progress: Callable[[int, int], None] | None = None,
) -> Against:
    """Measure another detector on the images of `result` and say how the two compare.

    source: what `result` was measured of. Raises InputError where result files of the other are missing.
    """
    measured = evaluate_on(
        result.scores.benchmark,
        other,
        protocol,
        score=result.details.score,
        precision=result.details.wanted_precision,
        draws=result.resampling.draws,
        seed=result.resampling.seed,
        progress=progress,
    )
    if measured.missing:
        count, some = len(measured.missing), ", ".join(measured.missing[:3])
        raise InputError(
            f"`against` {other.predictions}: of other images: no file for {count:,} of {len(measured.found):,}, "
            f"such as {some}",
            "both must be of the same images",
        )
    return Against.of(result, measured, _names(source, other))


def _is_beside_ap(key: str) -> bool:
    return key in METRICS or key == LANDMARKS


def _names(*sources: Source) -> tuple[str, str]:
    """Two short names, longer ones where the short ones are the same."""
    given = [str(some.predictions or some.weights) for some in sources]
    paths = [Path(name) for name in given]
    short = [str(Path(*path.parts[-2:])) if is_of_run(path.name) else path.name for path in paths]
    if given[0] == given[1]:
        return short[0], f"{short[1]} (again)"
    first, second = given if short[0] == short[1] else short
    return first, second
