"""`facetrain export-onnx`: a checkpoint becomes a checked ONNX file, or an error and no file."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import onnx

from facetrain.core.documents.export import OnnxDocument, PrecisionDocument
from facetrain.core.errors import ExportError
from facetrain.core.faces import Image
from facetrain.core.files import sha256, write_bytes
from facetrain.detect.said import said_of
from facetrain.export.images import check_images
from facetrain.export.network.fold import fold
from facetrain.export.network.folded import FoldedNet
from facetrain.export.onnx.check import Check, check_lower, check_onnx, failed
from facetrain.export.onnx.model import onnx_bytes, onnx_model, variant
from facetrain.export.onnx.request import OnnxOptions, Precision, Quantised, check_places
from facetrain.model.weights import load_checkpoint, model_of
from facetrain.model.yunet import YuNet

Say = Callable[[str], None]  # told what is being done
Advance = Callable[..., None]  # advance(done=1, total=None): images that are looked at


@dataclass(frozen=True)
class OnnxExport:
    """What was written and how it was checked."""

    path: Path
    size: int  # bytes
    sha256: str
    checkpoint: Path
    variant: str
    options: OnnxOptions
    precision: Precision
    checks: list[Check]
    comparison: PrecisionDocument | None  # with float32, where the precision is lower
    examples: Path | None  # folder of programs that use such a file

    def as_dict(self) -> OnnxDocument:
        """For JSON."""
        return {
            "file": str(self.path),
            "bytes": self.size,
            "sha256": self.sha256,
            "checkpoint": str(self.checkpoint),
            "variant": self.variant,
            "form": self.options.form,
            "precision": self.precision,
            "size": None if self.options.size is None else list(self.options.size),
            "batch": self.options.batch,
            "opset": self.options.opset,
            "checks": [check.as_dict() for check in self.checks],
            "comparison": self.comparison,
            "examples": None if self.examples is None else str(self.examples),
        }


def export_onnx(
    weights: str | Path,
    output: str | Path | None = None,
    options: OnnxOptions | None = None,
    quantised: Quantised | None = None,
    images: str | Path | None = None,
    say: Say = lambda what: None,
    advance: Advance = lambda done=1, total=None: None,
) -> OnnxExport:
    """Export the weights, check the file, and only then put it where it belongs.

    weights:   a bundled name, a checkpoint, or a run
    output:    None is `<name>.onnx` here
    options:   form, sizes, opset and what a form with decoding inside needs
    quantised: a lower precision, what it is calibrated and judged on, and how much AP it may lose
    images:    folder to check on

    Raises UsageError before anything is done,
    ExportError where a check fails, OutputError where the file cannot be written; then a file that was there stays.
    """
    options, quantised = options or OnnxOptions(), quantised or Quantised()
    output, images = (None if place is None else Path(place) for place in (output, images))
    checkpoint, output = check_places(str(weights), output, options, quantised, images)
    shown, calibration = check_images(images), _calibration(quantised)
    loaded = load_checkpoint(checkpoint)
    model = model_of(loaded)
    options.check(model.config.strides)
    net = fold(model)
    extra = {"checkpoint_sha256": sha256(checkpoint), "precision": quantised.precision}
    extra |= said_of(loaded.info, same_scores=quantised.precision != "int8")
    say(f"writing {variant(model.config)} as {options.form} ONNX")
    file = onnx_model(net, extra, options)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="facetrain-")))
        scratch = folder / "model.onnx"
        scratch.write_bytes(onnx_bytes(file))
        say("checking against the network")
        checks = check_onnx(scratch, model, options, shown)
        _refuse(checks)
        comparison = None
        if quantised.precision != "fp32":
            lower = folder / "lower.onnx"
            lower.write_bytes(onnx_bytes(_lower(net, extra, options, quantised, calibration, say, advance)))
            checks, comparison = _judge(
                scratch, lower, model, options, quantised, shown, say, advance, len(calibration)
            )
            scratch = lower
        write_bytes(output, scratch.read_bytes())
    return OnnxExport(
        output,
        output.stat().st_size,
        sha256(output),
        checkpoint,
        variant(model.config),
        options,
        quantised.precision,
        checks,
        comparison,
        examples_folder(),
    )


def examples_folder() -> Path | None:
    """Where the example programs lie: beside the package in a checkout, inside it once installed."""
    package = Path(__file__).parents[1]
    for folder in (package / "examples", package.parent / "examples"):
        if (folder / "onnx_numpy.py").is_file():
            return folder
    return None


def _refuse(checks: Sequence[Check]) -> None:
    bad = failed(checks)
    if bad:
        lines = [f"{check.name}: {_finding(check)}" for check in bad]
        raise ExportError(
            "the file does not do what the network does; nothing was written\n" + "\n".join(lines),
            "please report it with what `facetrain info` prints",
        )


def _finding(check: Check) -> str:
    if check.largest is None:
        return check.note
    return f"differs by {check.largest:.2g}, allowed is {check.limit:.2g} ({check.note})"


def _calibration(quantised: Quantised) -> list[Path]:
    """The images to calibrate with, none of which may be judged on."""
    if quantised.calibrate is None:
        return []
    from facetrain.export.precision.int8 import calibration_images, judged_images, refuse_overlap

    paths = calibration_images(quantised.calibrate)
    if quantised.data is not None:
        refuse_overlap(paths, judged_images(quantised.data))
    return paths


def _lower(
    net: FoldedNet,
    extra: Mapping[str, str],
    options: OnnxOptions,
    quantised: Quantised,
    calibration: list[Path],
    say: Say,
    advance: Advance,
) -> onnx.ModelProto:
    """The file in fp16 or int8."""
    if quantised.precision == "fp16":
        from facetrain.export.precision.fp16 import Float16

        return onnx_model(net, extra, options, Float16(net))
    from facetrain.export.precision.int8 import quantize

    say(f"calibrating on {len(calibration)} images")
    advance(0, total=len(calibration))
    return quantize(net, calibration, extra, options, advance)


def _judge(
    before: Path,
    after: Path,
    model: YuNet,
    options: OnnxOptions,
    quantised: Quantised,
    shown: Sequence[Image],
    say: Say,
    advance: Advance,
    calibrated: int,
) -> tuple[list[Check], PrecisionDocument]:
    """Checks of the lower file, and how it compares. Raises ExportError where it loses more AP than allowed."""
    from facetrain.export.precision.measure import measure

    checks = check_lower(after, before, model, options, shown)
    _refuse(checks)
    say("comparing with float32")
    comparison = measure(
        before, after, quantised.data, progress=lambda done, total: advance(1, total=calibrated + 2 * total)
    )
    if quantised.max_drop is not None:
        _refuse_drop(quantised.precision, comparison["largest_drop"], comparison["far_drop"], quantised.max_drop, say)
    return checks, comparison


def _refuse_drop(precision: str, drop: float | None, far: float | None, most: float, say: Say) -> None:
    """Raise ExportError where the images do not rule out a larger loss of AP than is allowed."""
    if drop is None:
        return
    if far is None:
        say("`max_drop` is held against the drop itself: there are too few images for an interval")
    if max(drop, far or drop) > most:
        span = "" if far is None else f", and up to {far:.4f} by the far end of its 95 % interval"
        hint = "calibrate with more images, or take fp16 or fp32"
        if drop <= most:
            hint = f"judge on more images, which narrows the interval; {hint}"
        raise ExportError(
            f"{precision} loses {drop:.4f} AP{span}; `max_drop` allows {most:g}; nothing was written", hint
        )
