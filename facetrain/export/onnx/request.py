"""What an ONNX file is asked to be, judged before anything heavy is imported."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from facetrain.core.errors import InputError, UsageError
from facetrain.core.files import check_file
from facetrain.core.suggest import choices_hint, path_hint
from facetrain.detect.find_weights import find_weights
from facetrain.export.checkpoint import export_name

Form = Literal["raw", "rows", "decoded"]
Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")

OPSETS = range(11, 18)


@dataclass(frozen=True)
class OnnxOptions:
    """What a file is made for.

    size:  (width, height) that the input is fixed to; None: free
    batch: number of images that the input is fixed to; None: free
    opset: 11 … 17
    form:  raw: the twelve outputs; rows: decoded boxes of all priors; decoded: faces after suppression
    score, nms: thresholds of the `decoded` form
    """

    size: tuple[int, int] | None = None
    batch: int | None = None
    opset: int = 13
    form: Form = "raw"
    score: float = 0.5
    nms: float = 0.45

    def check(self, strides: tuple[int, ...]) -> None:
        """Raise UsageError for what no file can be made for."""
        multiple = max(strides)
        if self.opset not in OPSETS:
            hint = f"there are: {', '.join(map(str, OPSETS))}; 13 loads everywhere"
            raise UsageError(f"`opset` {self.opset}: not one that is written", hint)
        if self.size is not None and any(side % multiple or side < 1 for side in self.size):
            width, height = self.size
            raise UsageError(
                f"`size` {width}x{height}: both sides must be a multiple of {multiple}, the largest stride",
                f"the next larger one is {-(-width // multiple) * multiple}x{-(-height // multiple) * multiple}",
            )
        if self.size is not None and self.size[0] * self.size[1] > 1 << 26:
            raise UsageError(f"`size` {self.size[0]}x{self.size[1]}: more pixels than any runtime takes")
        if self.batch is not None and not 1 <= self.batch <= 4096:
            raise UsageError(f"`batch` {self.batch}: must be from 1 to 4096, or `dynamic`")
        if self.form == "rows" and self.size is None:
            raise UsageError("`no_nms` needs a fixed size: the grid is a constant of the file", "add `size` 640")
        if not 0 <= self.score <= 1:
            raise UsageError(f"`score` {self.score:g}: must be from 0 to 1")
        if not 0 < self.nms <= 1:
            raise UsageError(f"`nms` {self.nms:g}: must be above 0 and at most 1")


@dataclass(frozen=True)
class Quantised:
    """How a file of lower precision is made and judged.

    calibrate: folder of training images, for int8
    data:      labelled set that AP is measured on, before and after; None: not measured
    max_drop:  the largest loss of AP that is let pass, on each subset
    """

    precision: Precision = "fp32"
    calibrate: Path | None = None
    data: Path | None = None
    max_drop: float | None = None


def check_request(options: OnnxOptions, quantised: Quantised) -> None:
    """Raise UsageError for options that exclude each other or need one more."""
    if quantised.precision not in PRECISIONS:
        raise UsageError(f"`precision` {quantised.precision}: not known", choices_hint(quantised.precision, PRECISIONS))
    lower = quantised.precision != "fp32"
    if lower and options.form != "raw":
        raise UsageError(
            f"`precision` {quantised.precision} and `decoded` exclude each other",
            "coordinates in pixels need float32: decode outside, see the examples",
        )
    if quantised.precision == "int8" and options.opset < 13:
        raise UsageError(f"`opset` {options.opset} has no int8 weights per channel", "take 13 or higher")
    if quantised.precision == "int8" and quantised.calibrate is None:
        raise UsageError(
            "`precision` int8 needs `calibrate` DIR",
            "a folder of training images, which show the range of every layer; never the ones it is judged on",
        )
    for name, value in (("`calibrate`", quantised.calibrate), ("`max_drop`", quantised.max_drop)):
        if value is not None and not lower:
            raise UsageError(f"{name} is for `precision` fp16 and int8")
    if quantised.max_drop is not None and quantised.data is None:
        raise UsageError("`max_drop` needs `data`", "a labelled set to measure AP on")
    if quantised.max_drop is not None and not 0 <= quantised.max_drop <= 1:
        raise UsageError(f"`max_drop` {quantised.max_drop:g}: must be from 0 to 1")


def check_output(output: Path) -> None:
    """Say what is wrong with the place before the work is done, not after. Raises UsageError."""
    if output.suffix.lower() != ".onnx":
        raise UsageError(f"`output` {output}: must end in .onnx", f"such as {output.name or 'model'}.onnx")
    if not output.parent.exists():
        raise InputError(
            f"`output` {output}: no such folder {output.parent}", path_hint(output.parent, "make it first")
        )
    check_file(output, "output")


def check_places(
    weights: str, output: Path | None, options: OnnxOptions, quantised: Quantised, images: Path | None
) -> tuple[Path, Path]:
    """The checkpoint and the file to write, once all that was asked has been judged but for the network itself.

    Raises UsageError, and DataError for weights that are no checkpoint.
    """
    check_request(options, quantised)
    options.check((1,))
    checkpoint = find_weights(weights, "export")
    output = output or Path(default_name(export_name(checkpoint), options, quantised.precision))
    check_output(output)
    for field, path in (("calibrate", quantised.calibrate), ("data", quantised.data), ("check_images", images)):
        drawn = field != "check_images" and str(path) == "sample"  # the set that training knows by this name
        if path is not None and not drawn and not path.exists():
            hint = None if field == "check_images" else "a folder, or `sample` for the drawn set"
            raise InputError(f"`{field}` {path}: no such folder", path_hint(path, hint))
    return checkpoint, output


def default_name(name: str, options: OnnxOptions, precision: Precision) -> str:
    """`<name>.onnx`, with marks for what is not the usual."""
    marks = [name]
    if options.form != "raw":
        marks.append(options.form)
    if options.size is not None:
        marks.append(f"{options.size[0]}x{options.size[1]}")
    if precision != "fp32":
        marks.append(precision)
    return "_".join(marks) + ".onnx"
