"""How the standalone detector is tried: a program around it that prints the faces of images."""

from collections.abc import Mapping
from importlib.resources import files as resources
from pathlib import Path

from facetrain.export.cpp.targets.options import CppOptions, Program


def program(files: Mapping[str, str], options: CppOptions, library: Path | None) -> Program | str:
    """A program that runs what was written."""
    template = resources("facetrain.export.cpp.targets") / "standalone" / "check.cpp"
    text = template.read_text(encoding="utf-8").replace("@name@", options.name)
    source = f"{options.name}_check.cpp"
    return Program({source: text}, (source, f"{options.name}.cpp"))
