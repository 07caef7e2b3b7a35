"""`facetrain weights`: the weights that have a name; `facetrain weights get NAME` fetches public ones."""

from typing import Annotated

import typer

from facetrain.cli import console
from facetrain.cli.completion import public_weights
from facetrain.core.errors import UsageError
from facetrain.core.suggest import nearest

EXAMPLES = """
facetrain weights
facetrain weights get yunet_n_released
facetrain weights get yunet_n_released --only onnx
"""


def run(
    action: Annotated[
        str | None, typer.Argument(metavar="get", help="get: fetch the public weights NAME into the cache.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Such as yunet_n_released.", autocompletion=public_weights),
    ] = None,
    *,
    only: Annotated[
        str | None,
        typer.Option(metavar="onnx|pth", help="With get: one file, to detect with (onnx), or to train from (pth)."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """List the weights that have a name: bundled, and public ones, which `get` fetches."""
    from facetrain.cli.text.weights import fetched_document, fetched_text, list_text, list_weights
    from facetrain.detect.public import public_names

    if action is None:
        if only is not None:
            raise UsageError("--only is for `facetrain weights get NAME`")
        document = list_weights()
        console.result(document, list_text(document), as_json=json)
        return
    names = ", ".join(public_names())
    if action != "get":
        near = "did you mean 'get'? " if nearest(action, ["get"]) else ""
        raise UsageError(
            f"{action}: nothing that `facetrain weights` does", f"{near}facetrain weights get NAME; there are: {names}"
        )
    if name is None:
        raise UsageError("no NAME given", f"facetrain weights get NAME; there are: {names}")
    from facetrain.detect.get_weights import get_weights

    with console.interruptible("what has not come whole was not kept"), console.progress("fetching") as advance:
        files = get_weights(
            name, only, progress=lambda count, file, total: advance(count, f"bytes, {file}", total=total)
        )
    console.result(fetched_document(name, files), fetched_text(name, files), as_json=json)
