"""What is wrong with a configuration, where, and what to do about it: collected, then raised as one ConfigError."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from facetrain.core.errors import ConfigError
from facetrain.core.inert import for_terminal

_MOST = 20  # problems listed; past this a reader starts again with the first ones anyway
_WIDTH = 60  # characters of a value that are shown


@dataclass(frozen=True)
class Problem:
    """One thing to correct."""

    place: str  # file:line:column, `--set key=value`, or the name a caller gave
    text: str  # names the dotted key, what is wrong, and the value seen
    hint: str | None = None

    def __str__(self) -> str:
        line = f"{self.place}: {self.text}"
        return f"{line} ({self.hint})" if self.hint else line


def raise_problems(problems: Sequence[Problem]) -> None:
    """Raise one ConfigError for all problems; do nothing if there are none.

    A single problem keeps its hint apart. Of several, each stands in a line of its own together with its hint.
    """
    if len(problems) == 1:
        raise ConfigError(f"{problems[0].place}: {problems[0].text}", problems[0].hint)
    if problems:
        lines = [str(problem) for problem in problems[:_MOST]]
        if len(problems) > _MOST:
            lines.append(f"… and {len(problems) - _MOST} more")
        raise ConfigError("\n".join(lines))


def shorten(text: str) -> str:
    """Cut a text that is too long for a message, and write what no terminal can print as an escape."""
    text = for_terminal(text.encode("utf-8", "backslashreplace").decode())
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"


def show(value: Any) -> str:
    """A value as it would stand in YAML, on one line, cut where it is long."""
    try:
        return shorten(json.dumps(value, ensure_ascii=False, default=vars))
    except ValueError:  # Python refuses to print integers of some thousand digits
        return "a huge number"
