"""`facetrain compare`: detectors of any family side by side."""

from pathlib import Path
from typing import Annotated

import typer

from facetrain.cli import console

EXAMPLES = """
facetrain compare yunet_n yunet_s
facetrain compare yunet_n scrfd.onnx --widerface --data data/widerface
facetrain compare yunet_n runs/mine --image party.jpg -o sheet.png
facetrain compare yunet_n other.onnx --family other.onnx=scrfd
"""


def run(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL", help="ONNX files of any known family, checkpoints, runs, names.")
    ],
    *,
    widerface: Annotated[
        bool, typer.Option("--widerface", help="Measure easy, medium and hard AP on the images below --data.")
    ] = False,
    data: Annotated[str, typer.Option(help="With --widerface: folder in the WIDER FACE layout.")] = "data/widerface",
    present_only: Annotated[
        bool, typer.Option("--present-only", help="Measure on the images that are there, if some are missing.")
    ] = False,
    ground_truth: Annotated[Path | None, typer.Option(help="Folder of the official .mat files.")] = None,
    size: Annotated[
        str, typer.Option(help="Images are shown so: original, vga, a number such as 640, WxH, or auto.")
    ] = "original",
    fps_size: Annotated[str, typer.Option(help="Size that is timed: 320, or WIDTHxHEIGHT.")] = "320",
    threads: Annotated[int | None, typer.Option(help="Threads of the second timing; by default all cores.")] = None,
    score: Annotated[float, typer.Option(help="For AP detections must score more than this.")] = 0.02,
    nms: Annotated[float, typer.Option(help="Of detections that overlap by a higher IoU only the best stays.")] = 0.45,
    at_score: Annotated[float, typer.Option(help="Least score of a face that is drawn, compared and timed.")] = 0.5,
    family: Annotated[
        list[str] | None,
        typer.Option(metavar="[FILE=]FAMILY", help="Take all models, or one, for this family. May be repeated."),
    ] = None,
    image: Annotated[Path | None, typer.Option(help="Look at this image with every model; needs --output.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="With --image: sheet with its faces by every model."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="With --widerface: draw AP (hard) over latency as .png, .svg or .pdf.")
    ] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the table as Markdown.")] = None,
    draws: Annotated[
        int, typer.Option(help="Draws of the images that the 95 % intervals come from; 0 for none.")
    ] = 2000,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure AP anew, even if it is known.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compare detectors: size, operations, speed, AP, and what they find."""
    from facetrain.cli.text.compare import comparison_text
    from facetrain.cli.text.compare_files import check_files, families_of, write_files
    from facetrain.compare.compare import CompareSettings, compare_models
    from facetrain.core.errors import UsageError
    from facetrain.eval.protocol import EvalProtocol

    check_files(plot=plot, sheet=output, markdown=markdown, image=image, widerface=widerface)
    found = compare_models(
        models,
        families=families_of(family or [], models),
        widerface=Path(data) if widerface else None,
        ground_truth=ground_truth,
        present_only=present_only,
        image=image,
        settings=CompareSettings(
            protocol=EvalProtocol(size=size, score=score, nms=nms),
            timed_size=console.parse_size(fps_size, "--fps-size"),
            threads=threads,
            at_score=at_score,
            fresh=fresh,
            draws=draws,
        ),
        progress=console.progress,
        report=console.say_error,
    )
    errors = [(row.given, row.error) for row in found.rows if row.error]
    if not found.interrupted and len(errors) == len(found.rows) and all(isinstance(e, UsageError) for _, e in errors):
        raise typer.Exit(UsageError.exit_code)
    document = {**found.as_dict(), "errors": [console.error_entry(error, path) for path, error in errors]}
    console.result(document, comparison_text(found), as_json=json)
    for path in write_files(found, plot=plot, sheet=output, markdown=markdown):
        console.say(f"written: {path}")
    if found.interrupted:
        raise typer.Exit(130)
    if errors:
        raise typer.Exit(1)
