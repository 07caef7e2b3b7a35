"""What a comparison gives: a row for each model, and all of them with how they were measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from facetrain.compare.accuracy import Accuracy
from facetrain.compare.agreement import Agreement, agreement_dict
from facetrain.compare.models import Cost
from facetrain.compare.pairs import Pair
from facetrain.compare.timing import Times
from facetrain.core.documents.common import ProtocolDocument
from facetrain.core.documents.compare import CompareDocument, MachineDocument, ModelRow, SpeedDocument, TimingDocument
from facetrain.core.errors import FacetrainError
from facetrain.core.faces import Faces, Image
from facetrain.detect.views import ORIGINAL
from facetrain.eval.intervals import Estimate


@dataclass(frozen=True)
class Speed:
    """Times on a number of threads. network: the network alone; end_to_end: from decoded image to faces."""

    network: Times
    end_to_end: Times

    @property
    def fps(self) -> float:
        """Images per second, end to end, one after the other."""
        return 1e3 / self.end_to_end.median if self.end_to_end.median else 0.0

    def as_dict(self) -> SpeedDocument:
        """Plain values for JSON."""
        return {
            "network": self.network.as_dict(),
            "end_to_end": self.end_to_end.as_dict(),
            "fps": round(self.fps, 2),
        }


@dataclass(frozen=True)
class Row:
    """One model of the comparison. What could not be had, or was not asked for, is None.

    name:      its file's name, as long as is needed to tell it from the others
    one_core, all_cores: its speed; all_cores is None where only one thread was asked for
    intervals: of the AP of each subset
    error:     what went wrong; what was known before stays
    """

    name: str
    given: str
    path: Path | None = None
    kind: str | None = None
    family: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    static_shape: bool = False
    landmark_names: tuple[str, ...] | None = None
    cost: Cost | None = None
    one_core: Speed | None = None
    all_cores: Speed | None = None
    accuracy: Accuracy | None = None
    intervals: Mapping[str, Estimate] = field(default_factory=dict)
    error: FacetrainError | None = None

    def as_dict(self, smallest: int | None) -> ModelRow:
        """The row in JSON. smallest: parameters of the smallest model."""
        cost, accuracy = self.cost, self.accuracy
        ap = accuracy.ap if accuracy else {}
        return {
            "name": self.name,
            "path": None if self.path is None else str(self.path),
            "kind": self.kind,
            "family": self.family,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "size": list(cost.size) if cost else None,
            "static_shape": self.static_shape,
            "landmark_names": None if self.landmark_names is None else list(self.landmark_names),
            "parameters": cost.parameters if cost else None,
            "parameters_ratio": ratio(cost, smallest),
            "multiply_adds": cost.multiply_adds if cost else None,
            "mflops": cost.mflops if cost else None,
            "published_mflops": cost.published if cost else None,
            "one_core": self.one_core.as_dict() if self.one_core else None,
            "all_cores": self.all_cores.as_dict() if self.all_cores else None,
            "easy": ap.get("easy"),
            "medium": ap.get("medium"),
            "hard": ap.get("hard"),
            "intervals": {subset: some.as_dict() for subset, some in self.intervals.items()},
            "detections": accuracy.detections if accuracy else None,
            "ap_size": accuracy.size if accuracy else None,
            "ap_cached": accuracy.cached if accuracy else None,
            "failed": self.error is not None,
        }


@dataclass(frozen=True)
class Look:
    """One image through every model. found: by the row's number; pairs: how far each two agree."""

    path: Path
    image: Image
    found: Mapping[int, Faces]
    pairs: Sequence[Agreement]


@dataclass(frozen=True)
class Comparison:
    """What came out.

    protocol: of the AP columns; None where AP was not asked for
    look:     the image that was looked at, if one was given
    pairs:    which of two models has the higher AP, each with each
    interrupted: somebody stopped it; what was finished by then is there
    size:     how images were shown, as the protocol has it
    """

    rows: Sequence[Row]
    machine: MachineDocument
    timing: TimingDocument
    protocol: ProtocolDocument | None
    look: Look | None
    interrupted: bool
    pairs: Sequence[Pair] = ()
    size: str = ORIGINAL

    @property
    def smallest(self) -> int | None:
        """Parameters of the smallest model."""
        counts = [row.cost.parameters for row in self.rows if row.cost and row.cost.parameters]
        return min(counts, default=None)

    def as_dict(self) -> CompareDocument:
        """The JSON document, but for `errors`."""
        names = {number: row.name for number, row in enumerate(self.rows)}
        look = self.look
        return {
            "machine": self.machine,
            "timing": self.timing,
            "protocol": self.protocol,
            "models": [row.as_dict(self.smallest) for row in self.rows],
            "pairs": [pair.as_dict(names) for pair in self.pairs],
            "image": str(look.path) if look else None,
            "faces": {names[number]: faces.as_dicts() for number, faces in look.found.items()} if look else None,
            "agreement": [agreement_dict(pair, names) for pair in look.pairs] if look else None,
            "interrupted": self.interrupted,
        }


def ratio(cost: Cost | None, smallest: int | None) -> float | None:
    """How many times the parameters of the smallest model."""
    return round(cost.parameters / smallest, 3) if cost and cost.parameters and smallest else None
