"""`facetrain init --json`, with `--list` and with `--print`."""

from typing import Annotated, TypedDict


class InitDocument(TypedDict):
    """A model file that was begun."""

    file: Annotated[str, "where it is"]
    preset: Annotated[str, "that it is a copy of"]
    data: Annotated[str | None, "the set that it was fitted to"]
    images: Annotated[int, "labelled, to train on"]
    faces: Annotated[int, "in them"]
    landmarks: Annotated[list[str], "names of the points"]
    mirror: Annotated[list[list[str]], "pairs of them that change places in a mirrored image"]
    crop_scales: Annotated[list[float], "crop side / shorter side of the image"]
    notes: Annotated[list[str], "what was filled in and why"]


class PrintedDocument(TypedDict):
    """`facetrain init NAME --print --json`: a preset, fitted to a set where one is named, or a recipe."""

    name: Annotated[str, "of the preset or the recipe"]
    text: Annotated[str, "a YAML file's content"]


class StartDocument(TypedDict):
    """A preset or a recipe."""

    name: Annotated[str, "for `init`, `train`, and `recipe` of train"]
    kind: Annotated[str, "preset or recipe"]
    what: Annotated[str, "it is"]


class StartsDocument(TypedDict):
    """`facetrain init --list --json`: what there is to start from."""

    starts: Annotated[list[StartDocument], "presets, then recipes"]
