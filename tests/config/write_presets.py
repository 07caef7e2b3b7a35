"""Writes the presets, which show every key with its comment, anew after a change of the schema."""

from itertools import takewhile
from pathlib import Path

import facetrain.config.presets
from facetrain.config.load import config_to_yaml, load_config

FOLDER = Path(facetrain.config.presets.__file__).parent


def written(path: Path) -> str:
    """What the file of a preset should hold: the comment at its top stays, and its values."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(takewhile(lambda line: line.startswith("#"), lines)) + "\n" + config_to_yaml(load_config(path))


if __name__ == "__main__":
    for path in FOLDER.glob("*.yaml"):
        path.write_text(written(path), encoding="utf-8")
