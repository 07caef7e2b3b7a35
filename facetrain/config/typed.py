"""Lays plain values over a configuration, guided by the type hints of the dataclasses in schema.py.

Understood are bool, int, float, str, `X | None`, Literal of words, tuple[X, ...], tuple[X, Y], nested dataclasses and
tuples of these: a new field of one of these types needs nothing here.
"""

import sys
from collections.abc import Iterable
from dataclasses import Field, fields, is_dataclass, replace
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from facetrain.config.names import names_at
from facetrain.config.problems import Problem, shorten, show
from facetrain.config.schema import entries
from facetrain.config.yaml_source import Path, Source, plain_value
from facetrain.core.suggest import nearest

T = TypeVar("T")

_LARGEST = 2**63 - 1  # what an integer may be: torch holds seeds and indices in 64 bits
_BOOLS_OF_YAML_1_1 = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
_WORDS = {  # of one value, and of several
    bool: ("true or false", "true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("text", "texts"),
}
_REFUSED = object()


def lay(source: Source, base: T, problems: list[Problem]) -> tuple[T, dict[str, str]]:
    """The dataclass `base` with the values of a source, and the places of its dotted keys.

    Wrong values are left out and become problems.
    """
    layer = _Layer(source, base, problems)
    return cast(T, layer.section(source.document, base, ())), layer.places


class _Layer:
    """One source while it is laid over a configuration."""

    def __init__(self, source: Source, base: Any, problems: list[Problem]) -> None:
        self.source, self.base, self.problems = source, base, problems
        self.places: dict[str, str] = {}

    def section(self, document: Any, base: Any, path: Path) -> Any:
        if not isinstance(document, dict):
            if not path:
                self.refuse(path, f"must hold sections with keys, not {show(document)}")
            else:
                hint = "leave the section out to keep its defaults" if document is None else None
                self.refuse(path, f"must be a section with keys, not {show(document)}", hint)
            return base
        hints = get_type_hints(type(base))
        changes = {}
        for key, value in document.items():
            below = (*path, key)
            place = self.source.place(below)
            if key not in hints:
                hint = unknown_key_hint([known for known, *_ in entries(self.base)], below, hints)
                self.problems.append(Problem(place, f"unknown key '{shorten(_name(below))}'", hint))
                continue
            self.places[_name(below)] = place
            if is_dataclass(hints[key]):
                changes[key] = self.section(value, getattr(base, key), below)
            elif (read := self.value(hints[key], value, below)) is not _REFUSED:
                changes[key] = read
        return replace(base, **changes)

    def value(self, wanted: Any, value: Any, path: Path) -> Any:
        hint, optional = without_none(wanted)
        hints = get_args(hint)
        if get_origin(hint) is tuple and isinstance(value, list):
            if hints[-1] is Ellipsis:
                hints = hints[:1] * len(value)
            if len(hints) == len(value):
                items = [self.value(hints[at], item, (*path, at)) for at, item in enumerate(value)]
                return _REFUSED if any(item is _REFUSED for item in items) else tuple(items)
        elif is_dataclass(hint) and isinstance(value, dict):
            return self.section(value, cast(type, hint)(), path)
        elif hint is float and type(value) in (int, float):
            finite = abs(value) <= sys.float_info.max  # neither NaN nor an integer past 1e308
            return float(value) if finite else self.refuse(path, f"must be a finite number, not {show(value)}")
        elif type(value) is hint and (limit := _past_limits(value)):
            return self.refuse(path, *limit)
        elif type(value) is hint or (value is None and optional) or (type(value) is str and value in hints):
            return value
        return self.refuse(path, f"must be {describe(wanted)}, not {show(value)}", value_hint(wanted, value))

    def refuse(self, path: Path, wrong: str, hint: str | None = None) -> object:
        text = f"{_name(path)}: {wrong}" if path else wrong
        self.problems.append(Problem(self.source.place(path), text, hint))
        return _REFUSED


def _past_limits(value: Any) -> tuple[str, str | None] | None:
    """What is wrong with a value of the right type that no file and no tensor could hold, and a hint."""
    if isinstance(value, int) and abs(value) > _LARGEST:
        return f"{show(value)} is too large", f"at most {_LARGEST}"
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        return f"{show(value)} is not valid Unicode", None
    return None


def _name(path: Path) -> str:
    """`item 2 of model.stages` for ("model", "stages", 1)."""
    items = [f"item {step + 1} of " for step in reversed(path) if isinstance(step, int)]
    return "".join(items) + ".".join(step for step in path if isinstance(step, str))


def without_none(hint: Any) -> tuple[Any, bool]:
    """`X | None` -> (X, True), any other X -> (X, False)."""
    if get_origin(hint) not in (Union, UnionType):
        return hint, False
    (inner,) = (arg for arg in get_args(hint) if arg is not NoneType)
    return inner, True


def choices(key: Field[Any]) -> tuple[str, ...]:
    """The words that a field of the schema may hold: those of its Literal, or the names of its table; else none."""
    if "names" in key.metadata:
        return names_at(key.metadata["names"])
    hint, _ = without_none(key.type)
    return get_args(hint) if get_origin(hint) is Literal else ()


def describe(hint: Any, plural: bool = False) -> str:
    """A type in the reader's words: 'a list of 3 whole numbers'."""
    hint, optional = without_none(hint)
    args = get_args(hint)
    if hint in _WORDS:
        text = _WORDS[hint][plural]
    elif get_origin(hint) is Literal:
        text = ("words from " if plural else "one of ") + ", ".join(args)
    elif is_dataclass(hint):
        text = f"{'sections' if plural else 'a section'} with {', '.join(field.name for field in fields(hint))}"
    elif get_origin(hint) is tuple:
        if args[-1] is Ellipsis:
            items = describe(args[0], plural=True)
        elif len(set(args)) == 1:
            items = f"{len(args)} {describe(args[0], plural=True)}"
        else:
            items = f"{len(args)} values: {', '.join(describe(arg) for arg in args)}"
        text = f"{'lists' if plural else 'a list'} of {items}"
    else:
        raise TypeError(f"the schema has a field of type {hint}, which YAML values are not checked against")
    return f"{text} or null" if optional else text


def value_hint(wanted: Any, value: Any) -> str | None:
    """What to write instead of a value of the wrong type, where that can be guessed."""
    hint, optional = without_none(wanted)
    word = value.strip().lower() if isinstance(value, str) else ""
    if optional and word in ("none", "nil", "nul"):
        return "write null"
    if hint in (bool, int, float) and isinstance(value, str) and type(plain_value(value)) in (bool, int, float):
        return "write it without quotes"
    if hint is bool:
        return f"write {_BOOLS_OF_YAML_1_1[word]}" if word in _BOOLS_OF_YAML_1_1 else None
    if hint in (int, float):
        if isinstance(value, float) and value.is_integer():
            return f"write {int(value)}" if abs(value) <= _LARGEST else None
        # 010 and 1:30 are 8 and 90 to YAML 1.1; a reader may have meant something else.
        digits = word[:1].isdigit() or word[:1] in "+-."
        return "write decimal digits, without leading zeros, _ , : % or 0x" if word and digits else None
    if hint is str:
        scalar = not isinstance(value, list | dict)
        return "put text that looks like a number or like true, false, null in quotes" if scalar else None
    if get_origin(hint) is Literal:
        close = nearest(word, get_args(hint))
        return f"did you mean '{close}'?" if close else None
    if is_dataclass(hint):
        return f"write {{{fields(hint)[0].name}: {shorten(value)}}}" if isinstance(value, str) else None
    if value is None:
        return "write [] for an empty list"
    return f"write [{show(value)}]" if get_args(hint)[-1] is Ellipsis and not isinstance(value, list | dict) else None


def unknown_key_hint(known: list[str], path: Path, siblings: Iterable[str]) -> str:
    """Where an unknown key probably belongs: in another section, or a sibling with nearly its name."""
    key = str(path[-1])
    if key in known and "." in key:
        section, _, name = key.rpartition(".")
        return f"sections are nested: write '{name}' below '{section}'"
    key = key.rpartition(".")[2].lower()
    named = {dotted: dotted.rpartition(".")[2] for dotted in known}
    meant = [dotted for dotted, name in named.items() if name == key]
    if not meant:
        close = nearest(key, [*siblings, *named.values()]) or ""
        meant = [dotted for dotted, name in named.items() if name == close]
        if close in siblings:
            meant = [_name((*path[:-1], close))]
    if meant:
        return "did you mean " + " or ".join(f"'{dotted}'" for dotted in meant) + "?"
    return "there are: " + ", ".join(siblings)
