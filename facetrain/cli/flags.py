"""From the fields that the core's messages name to the flags of the command that is running.

The core writes a field in backticks, as Python knows it: `score`, `no_check`, `train.batch`, `data.store=ram`. A field
that the command has no option for stays a word, so that no message names a flag that cannot be typed.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

_FIELD = re.compile(r"`([a-z_]+(?:\.[a-z_]+)*)(=[^`\s]+)?`")
# Settings of a configuration that `train` has a flag of its own for.
SETTINGS = {
    "data.root": "--data",
    "data.roots": "--data",
    "data.val": "--val",
    "data.format": "--format",
    "data.classes": "--classes",
    "data.trust_labels": "--trust-labels",
    "train.teacher": "--teacher",
    "train.epochs": "--epochs",
    "train.batch": "--batch",
    "train.seed": "--seed",
    "data.workers": "--workers",
    "data.limit": "--limit",
}


def flags_of(command: Any) -> dict[str, str]:
    """Field -> flag of a Typer command: by the parameter's name, and by the flag's own (`set` for --set)."""
    flags: dict[str, str] = {}
    for parameter in getattr(command, "params", ()):
        for option in (*parameter.opts, *parameter.secondary_opts):
            if option.startswith("--"):
                flags.setdefault(parameter.name, option)
                flags[option.removeprefix("--").replace("-", "_")] = option
    return flags | SETTINGS if "settings" in flags else flags


def in_flags(text: str, flags: Mapping[str, str]) -> str:
    """A message with the command's flags in place of fields."""
    from facetrain.config.schema import Config

    sections = {section.name for section in dataclasses.fields(Config)}

    def flag(found: re.Match[str]) -> str:
        field, value = found[1], found[2] or ""
        if value and "set" in flags:
            return f"--set {field}{value}"
        if field in flags:
            return flags[field] + value.replace("=", " ")
        if "set" in flags and field.split(".")[0] in sections and "." in field:
            return f"--set {field}{value}"
        return found[0]

    return _FIELD.sub(flag, text)
