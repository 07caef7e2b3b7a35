"""Label files in JSON: read whole, and values of the kind that stands there."""

import json
from pathlib import Path
from typing import Any, TypeVar

from facetrain.core.errors import DataError
from facetrain.data.label_text import MalformedError, read_text

Kind = TypeVar("Kind")

_WORDS = {dict: "an object", list: "a list", str: "a text", int: "a whole number", float: "a number"}


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds. Raises DataError that names the line."""
    try:
        document = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}: not JSON: {error.msg} (column {error.colno})", "was the file cut off?"
        ) from error
    except (RecursionError, ValueError) as error:  # thousands of brackets, a number of thousands of digits
        raise DataError(f"{path}: not JSON that can be read: {str(error).partition(';')[0]}") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: {show(document)}: an object `{{…}}` expected", "is it a file of labels?")
    return document


def value_of(owner: Any, name: str, kind: type[Kind]) -> Kind:
    """The value of a key, of this kind. Raises MalformedError."""
    if not isinstance(owner, dict):
        raise MalformedError(show(owner), "an object `{…}` expected")
    if name not in owner:
        raise MalformedError(show(owner), f"has no `{name}`")
    value = owner[name]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise MalformedError(show(value), f"`{name}` must be {_WORDS[kind]}")
    return value


def size_in(owner: dict[str, Any], width: str, height: str) -> tuple[int, int] | None:
    """(width, height) where both are there. Raises MalformedError where they are no sizes."""
    if owner.get(width) is None or owner.get(height) is None:
        return None
    sides = []
    for name in (width, height):
        value = owner[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 2**31 or value % 1:
            raise MalformedError(show(value), f"`{name}` must be a whole number above 0")
        sides.append(int(value))
    return sides[0], sides[1]


def show(value: Any) -> str:
    """A value as JSON writes it, cut where it is long."""
    if isinstance(value, dict):
        return "{" + ", ".join(list(map(str, value))[:6]) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(show, value[:6]))}{', …' if len(value) > 6 else ''}]"
    return json.dumps(value, ensure_ascii=False)[:80]


def plain(value: float) -> int | float:
    """A whole number without `.0`."""
    return int(value) if value == int(value) else value
