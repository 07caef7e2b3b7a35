"""What the documents of `facetrain.core.documents` say of their fields, and whether a value is as they say."""

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

from facetrain.core.documents.eval import DetailsDocument
from facetrain.eval.metrics import METRICS


def hints(document: type) -> dict[str, tuple[Any, str, bool]]:
    """By field: its type, what it means, and whether it is always there."""
    found = {}
    for name, hint in get_type_hints(document, include_extras=True).items():
        required = name in document.__required_keys__
        kind, meaning = get_args(get_args(hint)[0] if get_origin(hint) is NotRequired else hint)
        found[name] = (kind, meaning, required)
    if document is DetailsDocument:  # a metric's meaning stands in its row
        found |= {name: (float | None, row.title, True) for name, row in METRICS.items() if name not in found}
    return found


def parts(document: type) -> list[type]:
    """The documents that stand inside of one, each once, in the order of the fields."""
    inside: list[type] = []
    for kind, _, _ in hints(document).values():
        for part in _documents(kind):
            inside += [some for some in [part, *parts(part)] if some not in inside]
    return inside


def _documents(kind: Any) -> Iterator[type]:
    if is_typeddict(kind):
        yield kind
    for part in get_args(kind):
        yield from _documents(part)


def in_words(kind: Any) -> str:
    """A type as it is called in JSON."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(in_words(some) for some in arguments)
    if origin is list:
        return f"list of {in_words(arguments[0])}"
    if origin is dict:
        return f"object of {in_words(arguments[1])}"
    if origin is Literal:
        return ", ".join(f'"{some}"' for some in arguments)
    if is_typeddict(kind):
        return title(kind)
    words = {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "null"}
    return (words | {object: "any value"})[kind]


def title(document: type) -> str:
    """The name of a document's kind on a page."""
    words = document.__name__.removesuffix("Document")
    return "".join(f" {c.lower()}" if c.isupper() else c for c in words).strip()


def misfits(value: Any, kind: Any, place: str = "$") -> list[str]:
    """Where a value from JSON is not what its type says: nothing is missing, nothing more is there."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return misfits(value, arguments[0], place)
    if origin in (Union, types.UnionType):
        each = [misfits(value, some, place) for some in arguments]
        return [] if [] in each else min(each, key=len)
    if kind is object:
        return []
    if origin is Literal:
        return [] if value in arguments else [f"{place}: {value!r}"]
    if origin is list:
        if not isinstance(value, list):
            return [f"{place}: {value!r} is no list"]
        return [text for i, some in enumerate(value) for text in misfits(some, arguments[0], f"{place}[{i}]")]
    if origin is dict or is_typeddict(kind):
        if not isinstance(value, dict):
            return [f"{place}: {value!r} is no object"]
        if origin is dict:
            return [text for key, some in value.items() for text in misfits(some, arguments[1], f"{place}.{key}")]
        return _of_document(value, kind, place)
    fits = isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))
    return [] if fits else [f"{place}: {value!r} is no {kind.__name__}"]


def _of_document(value: dict[str, Any], document: type, place: str) -> list[str]:
    known = hints(document)
    texts = [f"{place}.{name}: not described" for name in value if name not in known]
    for name, (kind, _, required) in known.items():
        if name in value:
            texts += misfits(value[name], kind, f"{place}.{name}")
        elif required:
            texts.append(f"{place}.{name}: missing")
    return texts
