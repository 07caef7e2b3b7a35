"""Lays plain values over a configuration, guided by the type hints of the dataclasses in schema.py.

Understood are bool, int, float, str, `X | None`, Literal of words, tuple[X, ...], tuple[X, Y] and nested dataclasses:
a new field of one of these types needs nothing here.
"""

import math
from dataclasses import dataclass, field, is_dataclass, replace
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from facetrain.config.problems import Problem, shorten, show
from facetrain.config.yaml_source import Node, plain_value
from facetrain.core.suggest import nearest

T = TypeVar("T")

_LARGEST = 2**63 - 1  # what an integer may be: torch holds seeds and indices in 64 bits
_BOOLS_OF_YAML_1_1 = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
_REFUSED = object()


@dataclass
class Layer:
    """What is found while one source is laid over a configuration."""

    problems: list[Problem] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)  # dotted key -> where its value stands

    def lay(self, node: Node, base: T) -> T:
        """Return the dataclass `base` with the values of `node`. Wrong values are left out and become problems."""
        return cast(T, self._section(node, base, (), type(base)))

    def _section(self, node: Node, base: Any, path: tuple[str, ...], root: type) -> Any:
        if not isinstance(node.value, dict):
            seen = show(node.plain())
            text = f"{'.'.join(path)}: must be a section with keys" if path else "must hold sections with keys"
            hint = "leave the section out to keep its defaults" if path and node.value is None else None
            self._problem(node, f"{text}, not {seen}", hint)
            return base
        hints = get_type_hints(type(base))
        changes = {}
        for key, child in node.value.items():
            child_path = (*path, key)
            dotted = ".".join(child_path)
            if key not in hints:
                self._problem(child, f"unknown key '{shorten(dotted)}'", unknown_key_hint(root, child_path, hints))
                continue
            self.places[dotted] = child.place
            if is_dataclass(hints[key]):
                changes[key] = self._section(child, getattr(base, key), child_path, root)
            elif (value := self._value(hints[key], child, dotted)) is not _REFUSED:
                changes[key] = value
        return replace(base, **changes)

    def _value(self, wanted: Any, node: Node, name: str) -> Any:
        value = node.value
        hint, optional = without_none(wanted)
        if value is None and optional:
            return None
        if get_origin(hint) is tuple and isinstance(value, list):
            return self._items(hint, value, node, name)
        if get_origin(hint) is Literal and isinstance(value, str) and value in get_args(hint):
            return value
        if hint is float and type(value) in (int, float):
            return self._float(cast(float, value), node, name)
        if hint in (bool, int, str) and type(value) is hint:
            if hint is int and abs(cast(int, value)) > _LARGEST:
                return self._problem(node, f"{name}: {show(value)} is too large", f"at most {_LARGEST}")
            if hint is str and any("\ud800" <= character <= "\udfff" for character in cast(str, value)):
                return self._problem(node, f"{name}: {show(value)} is not valid Unicode")  # no file could hold it
            return value
        return self._wrong(wanted, node, name)

    def _items(self, hint: Any, items: list[Node], node: Node, name: str) -> Any:
        hints = get_args(hint)
        if hints[-1] is Ellipsis:
            hints = (hints[0],) * len(items)
        if len(hints) != len(items):
            return self._wrong(hint, node, name)
        pairs = enumerate(zip(hints, items, strict=True), 1)
        values = [self._value(item_hint, item, f"item {number} of {name}") for number, (item_hint, item) in pairs]
        return _REFUSED if any(value is _REFUSED for value in values) else tuple(values)

    def _float(self, value: float, node: Node, name: str) -> Any:
        try:
            number = float(value)
        except OverflowError:  # an integer past 1e308
            number = math.inf
        if math.isfinite(number):
            return number
        return self._problem(node, f"{name}: must be a finite number, not {show(value)}")

    def _wrong(self, wanted: Any, node: Node, name: str) -> Any:
        value = node.plain()
        return self._problem(node, f"{name}: must be {describe(wanted)}, not {show(value)}", value_hint(wanted, value))

    def _problem(self, node: Node, text: str, hint: str | None = None) -> object:
        self.problems.append(Problem(node.place, text, hint))
        return _REFUSED


def dotted_keys(schema: type) -> tuple[str, ...]:
    """Every key below a dataclass, sections too, such as `train` and `train.lr`."""
    keys: list[str] = []
    for name, hint in get_type_hints(schema).items():
        keys.append(name)
        if is_dataclass(hint):
            keys.extend(f"{name}.{below}" for below in dotted_keys(cast(type, hint)))
    return tuple(keys)


def without_none(hint: Any) -> tuple[Any, bool]:
    """`X | None` -> (X, True), any other X -> (X, False)."""
    if get_origin(hint) not in (Union, UnionType):
        return hint, False
    (inner,) = (arg for arg in get_args(hint) if arg is not NoneType)
    return inner, True


def describe(hint: Any, plural: bool = False) -> str:
    """A type in the reader's words: 'a list of 3 whole numbers'."""
    hint, optional = without_none(hint)
    args = get_args(hint)
    names = {bool: ("true or false",) * 2, int: ("a whole number", "whole numbers"), float: ("a number", "numbers")}
    names[str] = ("text", "texts")
    if hint in names:
        text = names[hint][plural]
    elif get_origin(hint) is Literal:
        text = ("words from " if plural else "one of ") + ", ".join(args)
    elif get_origin(hint) is tuple:
        lists = "lists of" if plural else "a list of"
        if args[-1] is Ellipsis:
            text = f"{lists} {describe(args[0], plural=True)}"
        elif len(set(args)) == 1:
            text = f"{lists} {len(args)} {describe(args[0], plural=True)}"
        else:
            text = f"{lists} {len(args)} values: {', '.join(describe(arg) for arg in args)}"
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
    if value is None:
        return "write [] for an empty list"
    return f"write [{show(value)}]" if get_args(hint)[-1] is Ellipsis and not isinstance(value, list | dict) else None


def unknown_key_hint(root: type, path: tuple[str, ...], siblings: dict[str, Any]) -> str:
    """Where an unknown key probably belongs: in another section, or a sibling with nearly its name."""
    keys = dotted_keys(root)
    *above, key = path
    if key in keys and "." in key:
        section, _, name = key.rpartition(".")
        return f"sections are nested: write '{name}' below '{section}'"
    key = key.rpartition(".")[2].lower()
    meant = [other for other in keys if other.rpartition(".")[2] == key]
    if not meant:
        close = nearest(key, [*siblings, *(other.rpartition(".")[2] for other in keys)])
        if close in siblings:
            meant = [".".join((*above, close))]
        else:
            meant = [other for other in keys if close and other.rpartition(".")[2] == close]
    if meant:
        return "did you mean " + " or ".join(f"'{other}'" for other in meant) + "?"
    return "there are: " + ", ".join(siblings)
