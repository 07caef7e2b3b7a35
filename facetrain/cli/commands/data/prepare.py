"""`facetrain data prepare`: a published data set's own archives as a folder to train on."""

from pathlib import Path
from typing import Annotated

import typer

from facetrain.cli import console
from facetrain.core.errors import UsageError
from facetrain.core.suggest import nearest

EXAMPLES = """
facetrain data prepare widerface --from downloads
facetrain data prepare widerface --from downloads --to wider --partial
"""


def run(
    name: Annotated[str, typer.Argument(metavar="widerface", help="The data set; there is one.")],
    *,
    source: Annotated[
        Path, typer.Option("--from", help="Folder of the published files: WIDER_train.zip, wider_face_split.zip …")
    ],
    to: Annotated[Path, typer.Option("--to", help="Folder to build.")] = Path("data/widerface"),
    partial: Annotated[
        bool, typer.Option("--partial", help="Take fewer images than were published, if some are missing.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Build the folder to train and to measure on from WIDER FACE's published files.

    Goes on where it was interrupted. Says what is missing, and where that comes from.
    """
    from facetrain.cli.text.prepare import prepared_document, prepared_text
    from facetrain.eval.wider_face.prepare import prepare_widerface

    if name != "widerface":
        near = "did you mean 'widerface'? " if nearest(name, ["widerface"]) else ""
        raise UsageError(f"{name}: no data set that can be prepared", f"{near}there is: widerface")
    with (
        console.interruptible("the same command goes on; what is there is whole"),
        console.progress("images") as advance,
    ):
        prepared = prepare_widerface(
            source, to, partial=partial, progress=lambda done, total, image: advance(1, image, total=total)
        )
    console.result(prepared_document(prepared), prepared_text(prepared), as_json=json)
    if not prepared.complete:
        raise typer.Exit(1)
