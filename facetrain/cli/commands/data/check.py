"""`facetrain data check`: what is in a labelled set, and what cannot be right."""

from pathlib import Path
from typing import Annotated

import typer

from facetrain.cli import console
from facetrain.cli.label_flags import CLASSES, FORMAT, TRUST, class_list

EXAMPLES = """
facetrain data check my_faces
facetrain data check my_faces --report page
facetrain data check my_faces --format coco --classes face,head
facetrain data check sample --json
"""


def run(
    data: Annotated[
        str, typer.Argument(metavar="DIR", help="Folder of images and labels in any layout, a label file, or `sample`.")
    ],
    *,
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            metavar="CONFIG",
            help="What it is to train, yunet_n by default: its crops and augmentations are shown, and landmarks "
            "without names must be as many as its own.",
        ),
    ] = None,
    format: FORMAT = None,
    classes: CLASSES = None,
    trust_labels: TRUST = False,
    report: Annotated[Path | None, typer.Option(help="Write a page with images into this folder.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Look over a labelled set: what is in it, and what cannot be right. Ends with 1 where it has errors."""
    from facetrain.cli.text.check import check_document, check_text
    from facetrain.config.load import load_config
    from facetrain.data.check.look_over import check_set
    from facetrain.data.check.write import check_report_folder, write_report
    from facetrain.data.layout import Reading
    from facetrain.data.sample_set.make import sample_root

    settings = load_config(config or "yunet_n")
    if report is not None:
        check_report_folder(report)
    root = sample_root() if data == "sample" and not Path(data).exists() else Path(data)
    reading = Reading(format, tuple(class_list(classes)), trust_labels)
    with console.interruptible("nothing was changed; what was looked at is kept"):
        with console.progress("images") as advance:
            checked = check_set(
                root, settings, reading, chosen=config is not None, progress=lambda done, total: advance(1, total=total)
            )
        page = None
        if report is not None:
            page = write_report(report, checked, settings.data, settings.train.seed)
            console.say(f"report: {page}")
    for error in checked.errors:
        console.say_error(error)
    console.result(check_document(checked, page), check_text(checked), as_json=json)
    if checked.errors:
        raise typer.Exit(1)
