"""`facetrain detect`: faces in pictures, folders of pictures and patterns."""

from pathlib import Path
from typing import Annotated

import typer

from facetrain.cli import console
from facetrain.core.errors import UsageError


def run(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH", help="Pictures, folders or patterns such as 'photos/*.jpg'.")
    ],
    *,
    weights: Annotated[
        str, typer.Option("--weights", "-w", help="A bundled model's name, an ONNX file or a checkpoint.")
    ] = "yunet_n",
    family: Annotated[
        str | None, typer.Option(help="Detector family of an ONNX file; by default it is recognised.")
    ] = None,
    score: Annotated[float, typer.Option(help="Least score of a face, 0 to 1.")] = 0.5,
    nms: Annotated[float, typer.Option(help="Of faces that overlap by a higher IoU only the best stays.")] = 0.45,
    output: Annotated[str, typer.Option("--output", "-o", help="Folder for the drawn pictures.")] = "detections",
    json: Annotated[bool, typer.Option("--json", help="Print boxes and landmarks as JSON.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, a GPU's number, or mps (checkpoints).")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="CPU threads; all that are there by default.")] = None,
) -> None:
    """Find faces and draw boxes, scores and landmarks."""
    from facetrain.detect.load import FaceDetector
    from facetrain.detect.output import detect_files, make_output_folder
    from facetrain.detect.sources import Failure, find_sources

    if not output:
        raise UsageError("--output is empty", "name a folder, or leave it out for ./detections")
    detector = FaceDetector(weights, device=device, score=score, nms=nms, threads=threads, family=family)
    found = find_sources(paths, Path(output))
    sources, failures = found.sources, found.failures
    for failure in failures:
        console.say_error(failure.error)
    if found.skipped:
        console.say(found.skipped_text())
    if not sources and any(isinstance(failure.error, UsageError) for failure in failures):
        raise typer.Exit(UsageError.exit_code)
    if sources:
        make_output_folder(Path(output))

    images, pictures, faces = [], 0, 0
    shown = len(sources) > 1 and (
        json or not console.stdout_is_terminal()
    )  # lines of a result on a terminal tell enough
    with console.progress("detect", len(sources), shown=shown) as advance:
        for outcome in detect_files(detector, sources):
            if isinstance(outcome, Failure):
                failures.append(outcome)
                console.say_error(outcome.error)
            else:
                pictures, faces = pictures + 1, faces + len(outcome.faces)
                if json:
                    images.append(outcome.as_dict())
                else:
                    console.line(outcome.as_text())
            advance()

    held = max(score, detector.own_threshold)
    summary = f"{console.count(faces, 'face')} in {console.count(pictures, 'picture')}"
    summary += f", drawn in {output}" if pictures else ""
    summary += f"; {len(failures)} failed" if failures else ""
    if held > score:
        summary += f"; at score {held:g}, below which the file itself drops faces, not at {score:g}"
    document = {
        "weights": weights,
        "score": held,
        "nms": nms,
        "images": images,
        "skipped": [str(path) for path in found.skipped],
        "errors": [console.error_entry(failure.error, failure.path) for failure in failures],
    }
    console.result(document, summary, as_json=json)
    if failures:
        raise typer.Exit(1)
