"""`facetrain info`: what is installed, or what a model costs."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facetrain.cli import console
from facetrain.core.errors import DataError, UsageError

if TYPE_CHECKING:
    from facetrain.config.schema import Config
    from facetrain.core.documents.info import (
        ConfigDocument,
        FaceSizes,
        KnownWeights,
        ModelInfo,
        OperatingPointsDocument,
    )

EXAMPLES = """
facetrain info
facetrain info yunet_n --size 640x480
facetrain info my_run --json
facetrain info yunet_n --yaml > my_model.yaml
"""


def run(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="CONFIG|WEIGHTS",
            help="A configuration, or weights (a file, a run, a name); none: the installation.",
        ),
    ] = None,
    *,
    size: Annotated[str, typer.Option(help="Image size to count for: 320, or WIDTHxHEIGHT.")] = "320",
    yaml: Annotated[
        bool, typer.Option("--yaml", help="Print the whole configuration, a comment for each key: a file to copy.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Show versions and devices, or the size and cost of a model."""
    if yaml:
        from facetrain.config.load import config_to_dict, config_to_yaml

        config = _configuration(source)
        whole: ConfigDocument = {"config": config_to_dict(config)}
        console.result(whole, config_to_yaml(config).rstrip(), as_json=json)
    elif source is None:
        from facetrain.cli.text.environment import describe_environment, environment_text

        environment = describe_environment()
        console.result(environment, environment_text(environment), as_json=json)
    else:
        from facetrain.model.cost import describe

        path = _weights_of(source)
        counted = describe(source if path is None else str(path), console.parse_size(size))
        known = None if path is None else _known(path)
        sizes, points = (None, None) if path is None else _said(path)
        model: ModelInfo = {
            **counted,
            "source": source,
            "face_range": sizes,
            "operating_points": points,
            "known_as": known,
        }
        console.result(model, _model_text(model), as_json=json)


def _weights_of(source: str) -> Path | None:
    """The file of weights that is meant; None for a configuration, whose name goes first: `yunet_n` is the preset."""
    from facetrain.config.load import config_name, preset_names
    from facetrain.core import images
    from facetrain.detect.find_weights import SUFFIXES, find_weights

    path = Path(source)
    is_weights = path.suffix.lower() in SUFFIXES
    if path.suffix.lower() in images.SUFFIXES and os.path.isfile(path):  # noqa: PTH113
        raise UsageError(
            f"{source}: an image, neither a configuration nor weights", f"facetrain detect {shlex.quote(source)}"
        )
    is_config = path.suffix.lower() in (".yaml", ".yml") or os.path.isfile(path)  # noqa: PTH113
    if not is_weights and (is_config or config_name(source) in preset_names()):
        return None
    return find_weights(source)


def _known(path: Path) -> "KnownWeights | None":
    from facetrain.detect.public import recognised

    known = recognised(path)
    return None if known is None else {"name": known.name, "file": known.what}


def _said(path: Path) -> "tuple[FaceSizes | None, OperatingPointsDocument | None]":
    """What a file says its network finds; nothing of an ONNX file that is no detector of a known family."""
    from facetrain.detect.detector import FaceDetector

    try:
        detector = FaceDetector(path)
    except DataError:
        return None, None
    sizes, points = detector.face_range, detector.operating_points
    return {"least": sizes.least, "most": sizes.most}, None if points is None else points.as_dict()


def _configuration(source: str | None) -> "Config":
    from facetrain.config.load import load_config

    if source is None:
        raise UsageError("--yaml needs a CONFIG", "facetrain info yunet_n --yaml")
    path = _weights_of(source)
    if path is None:
        return load_config(source)
    if path.suffix.lower() != ".onnx":
        from facetrain.model.weights import load_checkpoint

        if (config := load_checkpoint(path).config) is not None:
            return config
    raise UsageError(f"{source}: holds no configuration", "--yaml is for model files and facetrain's own checkpoints")


def _model_text(model: "ModelInfo") -> str:
    """A model's cost as a table. Sizes are (width, height) in pixels."""
    width, height = model["size"]
    rows = [["part", "parameters", "multiply-adds", "published MFLOPs"]]
    for part in [*model["parts"], model["total"]]:
        mflops = "-" if part["mflops"] is None else f"{part['mflops']:.1f}"
        rows.append([part["name"], f"{part['parameters']:,}", f"{part['multiply_adds']:,}", mflops])
    lines = [f"{model['source']} ({model['kind']}) on an image of {width}x{height}", "", console.table(rows)]
    if model["known_as"] is not None:
        lines.insert(1, f"these are {model['known_as']['name']}: the file is {model['known_as']['file']}")
    if model["strides"]:  # an ONNX file does not say
        strides, landmarks = " ".join(map(str, model["strides"])), ", ".join(model["landmarks"]) or "none"
        lines += ["", f"strides    {strides}", f"landmarks  {landmarks}"]
    if (sizes := model["face_range"]) is not None:
        lines += [] if model["strides"] else [""]
        least, most = sizes["least"], sizes["most"]
        lines.append(f"faces      {least:g} to {most:g} pixels of the image as the network is shown it")
    if (points := model["operating_points"]) is not None:
        lines += ["", f"scores on {points['images']:,} images at their original size, 95 % intervals in brackets", ""]
        lines.append(console.table(_point_rows(points)))
    return "\n".join(lines)


def _point_rows(points: "OperatingPointsDocument") -> list[list[str]]:
    """A row for each precision."""
    rows = [["precision", "score", "recall"]]
    for point in points["points"]:
        low, high = point["low"], point["high"]
        span = "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
        rows.append([f"{point['precision']:g}", f"{point['score']:.3f}{span}", f"{point['recall']:.3f}"])
    return rows
