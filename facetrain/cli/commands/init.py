"""`facetrain init`: a model file of one's own, begun as a copy of a preset and fitted to a set of images."""

import textwrap
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from facetrain.cli import console
from facetrain.cli.label_flags import CLASSES, FORMAT, TRUST, class_list
from facetrain.core.errors import InputError, UsageError
from facetrain.core.suggest import choices_hint, path_hint

if TYPE_CHECKING:
    from facetrain.core.documents.init import InitDocument, StartDocument

EXAMPLES = """
facetrain init --list
facetrain init yunet_s --data my_faces
facetrain init yunet_n -o my_model.yaml
facetrain init quick --print
"""


def run(
    name: Annotated[
        str, typer.Argument(metavar="PRESET", help="What to copy: yunet_n or yunet_s; with --print a recipe too.")
    ] = "yunet_n",
    *,
    data: Annotated[
        str | None,
        typer.Option(help="The images that it is for, as for train: landmarks and crops are fitted to them."),
    ] = None,
    format: FORMAT = None,
    classes: CLASSES = None,
    trust_labels: TRUST = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="By default PRESET.yaml, beside the images of --data."),
    ] = None,
    list_all: Annotated[bool, typer.Option("--list", help="Show presets and recipes, and write nothing.")] = False,
    print_it: Annotated[bool, typer.Option("--print", help="Print the file, and write nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Begin a model file of your own: a preset with its comments, fitted to your images."""
    from facetrain.config.load import config_name, recipe_names, recipe_text
    from facetrain.core.files import check_file, write_text
    from facetrain.data.layout import Reading
    from facetrain.data.model_file import model_file

    if list_all:
        starts = _starts()
        console.result({"starts": starts}, "\n".join(map(_listed, starts)), as_json=json)
        return
    if print_it and output is not None:
        raise UsageError("--print and --output exclude each other", "leave one of them out")
    preset = config_name(name)
    _check_name(preset, recipes=print_it)
    if print_it and preset in recipe_names():
        if data is not None:
            raise UsageError(f"--data does not go with the recipe {preset}", "it is laid over a model file: --recipe")
        text = recipe_text(preset)
        console.result({"name": preset, "text": text}, text.rstrip(), as_json=json)
        return
    if data is not None and data != "sample" and not Path(data).exists():
        hint = path_hint(Path(data), "name a set of labelled images, as for train")
        raise InputError(f"--data {data}: no such folder", hint)
    place = output or _beside(data) / f"{preset}.yaml"
    if not print_it:
        if place.exists() or place.is_symlink():
            raise UsageError(f"{place}: is there already, and nothing is replaced", "name another file with --output")
        check_file(place, "output")
    made = model_file(preset, data, Reading(format, tuple(class_list(classes)), trust_labels))
    for note in made.notes:
        console.say(note)
    if print_it:
        console.result({"name": preset, "text": made.text}, made.text.rstrip(), as_json=json)
        return
    document: InitDocument = {
        "file": str(place),
        "preset": preset,
        "data": data,
        "images": made.images,
        "faces": made.faces,
        "landmarks": list(made.config.model.landmarks.names),
        "mirror": [list(pair) for pair in made.config.model.landmarks.mirror],
        "crop_scales": list(made.config.data.crop_scales),
        "notes": list(made.notes),
    }
    write_text(place, made.text)
    console.result(document, _next(place, preset, data), as_json=json)


def _check_name(name: str, *, recipes: bool) -> None:
    """Raise InputError for what is no preset, nor, where they do as well, a recipe."""
    from facetrain.config.load import preset_names, recipe_names

    known = [*preset_names(), *(recipe_names() if recipes else ())]
    if name not in known:
        raise InputError(f"{name}: no such preset{' or recipe' if recipes else ''}", choices_hint(name, known))


def _beside(data: str | None) -> Path:
    """The folder for a file that belongs to these images."""
    folder = Path(data or ".")
    return folder if folder.is_dir() else folder.parent


def _starts() -> "list[StartDocument]":
    from facetrain.config.load import preset_names, preset_text, recipe_names, recipe_text

    presets = [("preset", name, preset_text(name)) for name in preset_names()]
    recipes = [("recipe", name, recipe_text(name)) for name in recipe_names()]
    return [{"name": name, "kind": kind, "what": _first_sentence(text)} for kind, name, text in [*presets, *recipes]]


def _listed(start: "StartDocument") -> str:
    """A preset or recipe with what it is, in lines of 80."""
    head = f"{start['name']:8} {start['kind']:7}  "
    return textwrap.fill(start["what"], 80, initial_indent=head, subsequent_indent=" " * len(head))


def _first_sentence(text: str) -> str:
    """The first sentence of a file's comment."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines).partition(". ")[0].rstrip(".")


def _next(place: Path, preset: str, data: str | None) -> str:
    """Where the file is, and what to do with it."""
    from facetrain.detect.bundled import bundled_names

    file = quote(str(place))
    lines = [f"{place}: a copy of {preset}" + ("" if data is None else f", fitted to {data}")]
    if data is None:
        return "\n".join([*lines, f"train:     facetrain train {file} --data FOLDER"])
    lines.append(f"train:     facetrain train {file}")
    if preset in bundled_names(".pt"):
        lines.append(f"fine-tune: facetrain train {file} --weights {preset}")
    return "\n".join(lines)
