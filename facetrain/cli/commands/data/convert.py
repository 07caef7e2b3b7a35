"""`facetrain data convert`: a labelled set in another label format."""

from pathlib import Path
from typing import Annotated

import typer

from facetrain.cli import console
from facetrain.cli.label_flags import CLASSES, FORMAT, class_list
from facetrain.core.errors import UsageError
from facetrain.core.suggest import choices_hint

_IMAGES = ("link", "copy", "none")

EXAMPLES = """
facetrain data convert my_faces --to my_coco --as coco
facetrain data convert my_faces --to my_yolo --as yolo --images copy
facetrain data convert labels.csv --to mended --boxes xywh
"""


def run(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="Folder of a labelled set, its label file, or `sample`.")
    ],
    *,
    to: Annotated[Path, typer.Option("--to", help="Folder to make; it must be new or empty.")],
    target: Annotated[
        str, typer.Option("--as", metavar="FORMAT", help="Label format to write, such as coco, yolo, voc, csv.")
    ] = "labelv2",
    images: Annotated[
        str, typer.Option(help="link, copy, or none: labels alone. Links share the source's files.")
    ] = "link",
    format: FORMAT = None,
    classes: CLASSES = None,
    boxes: Annotated[
        str | None, typer.Option(help="What the boxes really are: xywh, cxcywh-shares … as `data check` says.")
    ] = None,
    landmarks: Annotated[
        str | None, typer.Option(help="What the landmarks really are: yx, box-shares, shares …")
    ] = None,
    order: Annotated[
        str | None, typer.Option(help="Names of the landmarks as they really stand, with commas between.")
    ] = None,
    rescale: Annotated[
        bool, typer.Option("--rescale", help="Scale boxes from the size that labels tell to that of the files.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write the labels of a set in another format, and say what that format cannot hold."""
    from facetrain.cli.text.convert import converted_document, converted_text
    from facetrain.data.convert import convert
    from facetrain.data.corrections import Corrections
    from facetrain.data.layout import Reading
    from facetrain.data.sample_set.make import sample_root

    if images not in _IMAGES:
        raise UsageError(f"--images {images}: no such way", choices_hint(images, _IMAGES))
    if str(source) == "sample" and not source.exists():
        source = sample_root()
    with console.interruptible("nothing was written"), console.progress("images") as advance:
        parts = convert(
            source,
            to,
            target,
            reading=Reading(format, tuple(class_list(classes))),
            corrections=Corrections(boxes, landmarks, tuple(class_list(order)), rescale),
            images=images,  # type: ignore[arg-type]  # one of _IMAGES
            progress=lambda done, total: advance(1, total=total),
        )
    document = converted_document(to, target, images, parts)
    console.result(document, converted_text(document), as_json=json)
