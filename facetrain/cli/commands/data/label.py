"""`facetrain data label`: labels for images that have none, by one detector or several."""

from pathlib import Path
from typing import Annotated

import typer

from facetrain.cli import console

EXAMPLES = """
facetrain data label photos --to labelled
facetrain data label photos --to labelled -w yunet_n -w scrfd.onnx --flip
facetrain data label photos --to labelled --score 0.7 --ignore-score 0.4
"""


def run(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="A folder of images, with all below.")],
    *,
    to: Annotated[Path, typer.Option("--to", help="Folder for labels and images, away from IMAGES.")],
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights", "-w", help="A name, a file or a run; by default yunet_n. May be repeated: several are fused."
        ),
    ] = None,
    score: Annotated[float, typer.Option(help="Least score of a face that is labelled.")] = 0.5,
    ignore_score: Annotated[
        float, typer.Option(help="Faces from this score on are marked ignored, weaker ones left out.")
    ] = 0.3,
    nms: Annotated[
        float, typer.Option(help="Of a detector's faces that overlap by a higher IoU the best stays.")
    ] = 0.45,
    flip: Annotated[bool, typer.Option("--flip", help="Look at the mirrored image too, and merge.")] = False,
    scales: Annotated[str, typer.Option(help="Look at these scales, such as 0.5,1,2, and merge.")] = "1",
    family: Annotated[
        str | None, typer.Option(help="Detector family of ONNX files; by default it is recognised.")
    ] = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the images in place of linking to them.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, a GPU's number, or mps (checkpoints).")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="CPU threads; all that are there by default.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Label images by detectors, as a set to train on.

    Goes on where it was interrupted. Look at the labels before they teach anything.
    """
    from facetrain.cli.text.label import labelled_document, labelled_text
    from facetrain.label.labels import Thresholds
    from facetrain.label.look import Looks, Observers
    from facetrain.label.make import check_places, label_images

    thresholds = Thresholds(score, ignore_score)
    check_places(images, to)
    looks = Looks(score=ignore_score, nms=nms, flip=flip, scales=console.parse_scales(scales))
    observers = Observers(weights or ["yunet_n"], looks, family=family, device=device, threads=threads)
    for detector in observers.detectors:
        if detector.own_threshold > ignore_score:
            console.say(f"{detector.path}: drops faces below {detector.own_threshold:g} itself")
    with (
        console.interruptible("the same command goes on; what was looked at is kept"),
        console.progress("images") as advance,
    ):
        seen = 0

        def progress(done: int, total: int, name: str) -> None:
            nonlocal seen
            advance(done - seen, name, total=total)
            seen = done

        made = label_images(images, to, observers, thresholds, copy=copy, progress=progress)
    for failure in made.failures:
        console.say_error(failure.error)
    console.result(labelled_document(made, observers), labelled_text(made), as_json=json)
    if made.failures:
        raise typer.Exit(1)
