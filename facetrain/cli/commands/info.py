"""`facetrain info`: what is installed, or what a model costs."""

from typing import TYPE_CHECKING, Annotated

import typer

from facetrain.cli import console

if TYPE_CHECKING:
    from facetrain.core.documents.info import ModelDocument


def run(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="CONFIG|WEIGHTS", help="A configuration, checkpoint or ONNX file; none: the installation."
        ),
    ] = None,
    *,
    size: Annotated[str, typer.Option(help="Image size to count for: 320, or WIDTHxHEIGHT.")] = "320",
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Show versions and devices, or the size and cost of a model."""
    if source is None:
        from facetrain.cli.text.environment import describe_environment, environment_text

        environment = describe_environment()
        console.result(environment, environment_text(environment), as_json=json)
    else:
        from facetrain.model.cost import describe

        model = describe(source, console.parse_size(size))
        console.result(model, _model_text(model), as_json=json)


def _model_text(model: "ModelDocument") -> str:
    """A model's cost as a table. Sizes are (width, height) in pixels."""
    width, height = model["size"]
    rows = [["part", "parameters", "multiply-adds", "published MFLOPs"]]
    for part in [*model["parts"], model["total"]]:
        mflops = "-" if part["mflops"] is None else f"{part['mflops']:.1f}"
        rows.append([part["name"], f"{part['parameters']:,}", f"{part['multiply_adds']:,}", mflops])
    lines = [f"{model['source']} ({model['kind']}) on an image of {width}x{height}", "", console.table(rows)]
    if model["strides"]:  # an ONNX file does not say
        strides, landmarks = " ".join(map(str, model["strides"])), ", ".join(model["landmarks"]) or "none"
        lines += ["", f"strides    {strides}", f"landmarks  {landmarks}"]
    return "\n".join(lines)
