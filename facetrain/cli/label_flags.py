"""Options of every command that reads labels: which format they have, and which of their classes are faces."""

from typing import Annotated

import typer

FORMAT = Annotated[
    str | None,
    typer.Option("--format", help="Label format, such as coco or yolo; by default it is recognised."),
]
CLASSES = Annotated[
    str | None,
    typer.Option("--classes", help="Classes that are faces; by default the only one, or the one called a face."),
]
TRUST = Annotated[
    bool, typer.Option("--trust-labels", help="Take labels as they are, also where they cannot be right.")
]


def class_list(text: str | None) -> list[str]:
    """The classes that --classes names, with commas between."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]
