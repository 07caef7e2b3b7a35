"""YAML text to plain values and the places where they stand, without YAML's surprises.

PyYAML follows YAML 1.1, where `no` is false, `010` is 8, `1:30` is 90 and `1e-3` is text. Here every unquoted word is
text unless it is true, false, null, ~, or a decimal number. Tags are refused, so that no file can run code, and a
key that occurs twice is a problem, where PyYAML would let the last one win.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from facetrain.config.problems import Problem, shorten
from facetrain.core.errors import ConfigError

Scalar = bool | int | float | str | None

# YAML 1.2's decimal forms, less leading zeros: 010 is 8 to one reader and 10 to the next, so here it stays text.
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = {".nan": math.nan, ".inf": math.inf, "+.inf": math.inf, "-.inf": -math.inf}
_WORDS = {
    form: value
    for word, value in {"true": True, "false": False, "null": None}.items()
    for form in (word, word.title(), word.upper())
} | {"~": None, "": None}

_DEEPEST = 20  # lists and sections inside each other; ours need 4
_MOST_VALUES = 10_000  # after aliases are followed: nine lines of them can stand for a billion values
_TOO_MUCH = f"more than {_MOST_VALUES} values, or nested more than {_DEEPEST} deep"
_LONGEST_NUMBER = 400  # characters; Python refuses to read integers of some thousand digits

Path = tuple[str | int, ...]  # to a value inside a document: keys of sections, positions in lists


@dataclass(frozen=True)
class Source:
    """A document of plain values, and where they stand. Values in a section stand at their key."""

    document: Any
    name: str  # the file, or what stands in for it in messages; all is there that has no place of its own
    places: Mapping[Path, str] = field(default_factory=dict)

    def place(self, path: Path) -> str:
        """Where a value stands, in a message's words."""
        return self.places.get(path, self.name)


def plain_value(text: str) -> Scalar:
    """What an unquoted YAML word means here."""
    if text in _WORDS:
        return _WORDS[text]
    if text.lower() in _NOT_FINITE:
        return _NOT_FINITE[text.lower()]
    if len(text) <= _LONGEST_NUMBER:
        if _INT.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
    return text


def read_yaml(text: str, name: str, problems: list[Problem], in_file: bool = True) -> Source | None:
    """Read one YAML document. Adds what is wrong to `problems`; None where the text is not YAML at all.

    name:    the file's, or what stands in for it in messages
    in_file: whether places get line and column; without them, a comment that cuts off the value is a problem, since
             on a command line it is never meant
    """
    reader = _Reader(name, problems, in_file)
    try:
        root = _Composer(text).get_single_node()
        if not in_file and "#" in (text[root.end_mark.index :] if root else text):
            problems.append(Problem(name, "a # after a space starts a comment in YAML", "put the value in quotes"))
        document = reader.value(root, (), root.start_mark) if root else None
        return Source(document, name, reader.places if in_file else {})
    except yaml.MarkedYAMLError as error:
        place = reader.place(error.problem_mark or error.context_mark)
        wrong = f"{error.problem or error.context}"
        if isinstance(error, _RefusedError):
            problems.append(Problem(place, wrong, error.note))
        else:
            problems.append(Problem(place, f"not valid YAML: {wrong}", _syntax_hint(wrong, in_file)))
    except yaml.reader.ReaderError as error:
        before = text[: error.position].splitlines() or [""]
        place = reader.place(yaml.Mark(name, 0, len(before) - 1, len(before[-1]), None, 0))
        problems.append(Problem(place, f"not valid YAML: the character U+{error.character:04X} is not allowed"))
    except (ValueError, OverflowError):  # "\UFFFFFFFF" goes to chr() as it is, %YAML 1.999… to int()
        problems.append(Problem(name, "not valid YAML: a character escape or a version number is out of range"))
    return None


def _syntax_hint(wrong: str, in_file: bool) -> str:
    if "'\\t'" in wrong:
        return "indent with spaces, not with tabs"
    if in_file:
        return "look at indentation, brackets and quotes here and in the line above"
    return "put text with special characters in quotes, and key=value as a whole in quotes for the shell"


class _RefusedError(yaml.MarkedYAMLError):
    """YAML that is right in itself, but has no place here. `note` is the hint."""


class _Composer(yaml.SafeLoader):
    """PyYAML up to the node graph; its constructors, which make Python objects, are never reached."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if (tag := getattr(event, "tag", None)) is not None:
            wrong = f"tags ({shorten(tag.replace('tag:yaml.org,2002:', '!!'))}) are not allowed"
            hint = "leave it out; put text that starts with ! in quotes"
            raise _RefusedError(problem=wrong, problem_mark=event.start_mark, note=hint)
        if self.depth == _DEEPEST:
            raise _RefusedError(problem=f"nested more than {_DEEPEST} deep", problem_mark=event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


_Composer.yaml_implicit_resolvers = {}  # plain_value decides what a word means, not YAML 1.1's table


class _Reader:
    """PyYAML's node graph to plain values and their places, within limits on depth and size."""

    def __init__(self, name: str, problems: list[Problem], in_file: bool) -> None:
        self.name, self.problems, self.in_file = name, problems, in_file
        self.places: dict[Path, str] = {}
        self.left = iter(range(_MOST_VALUES))

    def place(self, mark: yaml.Mark | None) -> str:
        return f"{self.name}:{mark.line + 1}:{mark.column + 1}" if mark and self.in_file else self.name

    def value(self, node: yaml.Node, path: Path, mark: yaml.Mark) -> Any:
        """The node's value, which stands at the mark."""
        if len(path) > _DEEPEST or next(self.left, None) is None:
            # An alias inside its own anchor is endlessly deep; aliases of aliases grow without end.
            hint = "aliases (*name) count each time"
            raise _RefusedError(problem=_TOO_MUCH, problem_mark=node.start_mark, note=hint)
        self.places[path] = self.place(mark)
        if isinstance(node, yaml.MappingNode):
            return self.section(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, at), item.start_mark) for at, item in enumerate(node.value)]
        quoted = isinstance(node, yaml.ScalarNode) and node.style is not None
        return node.value if quoted else plain_value(node.value)

    def section(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        section: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            mark, key = key_node.start_mark, key_node.value
            place = self.place(mark)
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(Problem(place, "a key must be a word, not a list or a section"))
                continue
            if key in section:
                first = f"; the first is in line {lines[key]}" if self.in_file else ""
                wrong = f"the key '{shorten(key)}' stands here a second time{first}"
                self.problems.append(Problem(place, wrong, "keep one of the two"))
            lines.setdefault(key, mark.line + 1)
            section[key] = self.value(value_node, (*path, key), mark)
        return section


def plain_document(document: Any, name: str, problems: list[Problem]) -> Source:
    """A document from elsewhere as a source without places. What is no plain value in it is added to `problems`."""
    left = iter(range(_MOST_VALUES))

    def plain(value: Any, depth: int) -> Any:
        if depth > _DEEPEST or next(left, None) is None:
            raise ConfigError(f"{name}: {_TOO_MUCH}", "is this a configuration?")
        if isinstance(value, Mapping):
            for kind in (type(key).__name__ for key in value if not isinstance(key, str)):
                problems.append(Problem(name, f"a key must be text, not a value of type {kind}"))
            return {key: plain(item, depth + 1) for key, item in value.items() if isinstance(key, str)}
        if isinstance(value, list | tuple):
            return [plain(item, depth + 1) for item in value]
        if value is None or type(value) in (bool, int, float, str):
            return value
        problems.append(Problem(name, f"a value of type {type(value).__name__} has no place in a configuration"))
        return None

    return Source(plain(document, 0), name)
