"""`facetrain detect`: faces in images, folders of images and patterns."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from facetrain.cli import console
from facetrain.core.errors import UsageError

if TYPE_CHECKING:
    from facetrain.core.documents.detect import DetectDocument, DetectedImage
    from facetrain.detect.output import ImageFaces
    from facetrain.detect.sources import Found


class _Rules(TypedDict):
    """Which faces are looked for, and which of them count."""

    score: float
    nms: float
    size: str
    min_face: float | None


@dataclass
class _Done:
    """What was done so far.

    before: paths that failed before anything was looked at
    sought, sides: of each image the smallest face that was looked for, and its shorter side, pixels
    """

    before: int
    images: list["DetectedImage"] = field(default_factory=list)
    done: int = 0
    faces: int = 0
    sought: list[float] = field(default_factory=list)
    sides: list[int] = field(default_factory=list)

    def add(self, outcome: "ImageFaces", *, json: bool) -> None:
        """An image is done: keep it for the document, or say it at once."""
        self.done, self.faces = self.done + 1, self.faces + len(outcome.faces)
        self.sought.append(outcome.seen.smallest)
        self.sides.append(min(outcome.width, outcome.height))
        if json:
            self.images.append(outcome.as_dict())
        else:
            console.line(outcome.as_text())


def _is_drawn(output: str | None, draw: bool | None, json: bool) -> bool:
    """Whether drawn images are written. Raises UsageError for options that contradict each other."""
    if output == "":
        raise UsageError("--output is empty", "name a folder, or leave it out for ./detections")
    if draw is False and output is not None:
        raise UsageError("--no-draw and --output exclude each other", "leave one of them out")
    return (output is not None or not json) if draw is None else draw


def _say_what_was_not_found(found: "Found") -> None:
    """The paths that failed and what was skipped. Ends the command where wrong paths are all there is."""
    for failure in found.failures:
        console.say_error(failure.error)
    if found.skipped:
        console.say(found.skipped_text())
    if not found.sources and any(isinstance(failure.error, UsageError) for failure in found.failures):
        raise typer.Exit(UsageError.exit_code)


def run(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH", help="Images, folders or patterns such as 'photos/*.jpg'.")
    ],
    *,
    weights: Annotated[
        str,
        typer.Option("--weights", "-w", help="A name, a file (ONNX or checkpoint) or a run; see `facetrain weights`."),
    ] = "yunet_n",
    family: Annotated[
        str | None, typer.Option(help="Detector family of an ONNX file; by default it is recognised.")
    ] = None,
    size: Annotated[
        str,
        typer.Option(
            help="How an image is shown: auto (as often as faces of all sizes ask for), original, vga, 640 or WxH."
        ),
    ] = "auto",
    min_face: Annotated[
        float | None, typer.Option(help="Look for faces from this size on, in pixels; smaller ones take longer.")
    ] = None,
    score: Annotated[float, typer.Option(help="Least score of a face, 0 to 1.")] = 0.5,
    nms: Annotated[float, typer.Option(help="Of faces that overlap by a higher IoU only the best stays.")] = 0.45,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Folder for the drawn images; by default ./detections.")
    ] = None,
    draw: Annotated[
        bool | None,
        typer.Option("--draw/--no-draw", help="Write drawn images. By default yes, with --json only with --output."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print boxes and landmarks as JSON.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, a GPU's number, or mps (checkpoints).")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="CPU threads; all that are there by default.")] = None,
) -> None:
    """Find faces and draw boxes, scores and landmarks."""
    from facetrain.cli.text.detect import sought_text, summary_text
    from facetrain.core.files import check_folder
    from facetrain.detect.detector import FaceDetector, check_settings, check_size
    from facetrain.detect.output import detect_files, make_output_folder
    from facetrain.detect.sources import Failure, find_sources

    drawn = _is_drawn(output, draw, json)
    folder = Path(output or "detections")
    check_settings(score, nms, threads=threads)
    check_size(size, min_face)
    if drawn:
        check_folder(folder, "output")
    found = find_sources(paths, folder, drawn=drawn)
    sources, failures = found.sources, found.failures
    _say_what_was_not_found(found)
    rules: _Rules = {"score": score, "nms": nms, "size": size, "min_face": min_face}
    detector = FaceDetector(weights, device=device, threads=threads, family=family, **rules)
    if sources and drawn:
        make_output_folder(folder)

    done = _Done(before=len(failures))
    shown = len(sources) > 1 and (
        json or not console.stdout_is_terminal()
    )  # lines of a result on a terminal tell enough
    with (
        console.interruptible() as interruption,
        console.progress("detect", len(sources), shown=shown) as advance,
    ):
        for outcome in detect_files(detector, sources, draw=drawn):
            if isinstance(outcome, Failure):
                failures.append(outcome)
                console.say_error(outcome.error)
            else:
                done.add(outcome, json=json)
            advance()

    if done.sought and not json:
        console.say(sought_text(done.sought, done.sides, size, min_face))
    held = max(score, detector.own_threshold)
    left = len(sources) - done.done - len(failures) + done.before if interruption else None
    summary = summary_text(done.done, done.faces, folder if drawn else None, len(failures), left)
    if held > score:
        summary += f"; at score {held:g}, below which the file itself drops faces, not at {score:g}"
    document: DetectDocument = {
        "weights": weights,
        "score": held,
        "nms": nms,
        "size": size,
        "landmark_names": list(detector.landmark_names),
        "images": done.images,
        "skipped": [str(path) for path in found.skipped],
        "interrupted": bool(interruption),
        "errors": [console.error_entry(failure.error, failure.path) for failure in failures],
    }
    console.result(document, summary, as_json=json)
    if interruption:
        raise typer.Exit(130)
    if failures:
        raise typer.Exit(1)
