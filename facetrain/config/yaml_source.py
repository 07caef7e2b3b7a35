"""YAML text to plain values that remember where they stand, without YAML's surprises.

PyYAML follows YAML 1.1, where `no` is false, `010` is 8, `1:30` is 90 and `1e-3` is text. Here every unquoted word is
text unless it is true, false, null, ~, or a decimal number. Tags are refused, so that no file can run code, and a
key that occurs twice is a problem, where PyYAML would let the last one win.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Union

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
_MOST_NODES = 10_000  # after aliases are followed: nine lines of them can stand for a billion values
_LONGEST_NUMBER = 400  # characters; Python refuses to read integers of some thousand digits


@dataclass(frozen=True)
class Node:
    """A value and where it came from. Values in a section stand at their key."""

    value: Union[Scalar, "list[Node]", "dict[str, Node]"]
    place: str

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


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


class _RefusedError(yaml.MarkedYAMLError):
    """YAML that is right in itself, but has no place here. `note` is the hint."""


class _Composer(yaml.SafeLoader):
    """PyYAML up to the node graph; its constructors, which make Python objects, are never reached."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        tag = getattr(event, "tag", None)
        if tag is not None:
            name = tag.replace("tag:yaml.org,2002:", "!!")
            text, hint = (
                f"tags ({shorten(name)}) are not allowed",
                "leave it out; put text that starts with ! in quotes",
            )
            raise _RefusedError(problem=text, problem_mark=event.start_mark, note=hint)
        if self.depth == _DEEPEST:
            raise _RefusedError(problem=f"nested more than {_DEEPEST} deep", problem_mark=event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


_Composer.yaml_implicit_resolvers = {}  # plain_value decides what a word means, not YAML 1.1's table


def read_yaml(text: str, source: str, problems: list[Problem], positions: bool = True) -> Node | None:
    """Read one YAML document. Adds what is wrong to `problems`; None where the text is not YAML at all.

    source:    the file's name, or what stands in for it in messages
    positions: whether places get line and column; without them, a comment that cuts off the value is a problem,
               since on a command line it is never meant
    """

    def place(line: int, column: int) -> str:
        return f"{source}:{line + 1}:{column + 1}" if positions else source

    try:
        root = _Composer(text).get_single_node()
        rest = text[root.end_mark.index :] if root else text
        if not positions and "#" in rest:
            problems.append(Problem(source, "a # after a space starts a comment in YAML", "put the value in quotes"))
        if root is None:
            return Node(None, place(0, 0))
        return _Converter(source, problems, positions).node(root, 0)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = place(mark.line, mark.column) if mark else source
        if isinstance(error, _RefusedError):
            problems.append(Problem(where, f"{error.problem}", error.note))
        else:
            text = f"{error.problem or error.context}"
            problems.append(Problem(where, f"not valid YAML: {text}", _syntax_hint(text, positions)))
    except yaml.reader.ReaderError as error:
        before = text[: error.position].splitlines() or [""]
        where = place(len(before) - 1, len(before[-1]))
        problems.append(Problem(where, f"not valid YAML: the character U+{error.character:04X} is not allowed"))
    except (ValueError, OverflowError):  # "\UFFFFFFFF" goes to chr() as it is, %YAML 1.999… to int()
        problems.append(Problem(source, "not valid YAML: a character escape or a version number is out of range"))
    return None


def _syntax_hint(message: str, in_file: bool) -> str:
    if "'\\t'" in message:
        return "indent with spaces, not with tabs"
    if in_file:
        return "look at indentation, brackets and quotes here and in the line above"
    return "put text with special characters in quotes, and key=value as a whole in quotes for the shell"


class _Converter:
    """PyYAML's node graph to a tree of Node, within limits on depth and size."""

    def __init__(self, source: str, problems: list[Problem], positions: bool) -> None:
        self.source, self.problems, self.positions = source, problems, positions
        self.nodes = 0

    def place(self, node: yaml.Node) -> str:
        mark = node.start_mark
        return f"{self.source}:{mark.line + 1}:{mark.column + 1}" if self.positions else self.source

    def node(self, node: yaml.Node, depth: int, place: str | None = None) -> Node:
        self.nodes += 1
        if self.nodes > _MOST_NODES or depth > _DEEPEST:
            # An alias inside its own anchor is endlessly deep; aliases of aliases grow without end.
            text = f"more than {_MOST_NODES} values, or nested more than {_DEEPEST} deep"
            raise _RefusedError(problem=text, problem_mark=node.start_mark, note="aliases (*name) count each time")
        place = place or self.place(node)
        if isinstance(node, yaml.MappingNode):
            return Node(self.section(node, depth), place)
        if isinstance(node, yaml.SequenceNode):
            return Node([self.node(child, depth + 1) for child in node.value], place)
        quoted = isinstance(node, yaml.ScalarNode) and node.style is not None
        return Node(node.value if quoted else plain_value(node.value), place)

    def section(self, node: yaml.MappingNode, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            place = self.place(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(Problem(place, "a key must be a word, not a list or a section"))
                continue
            key = key_node.value
            line = key_node.start_mark.line + 1
            if key in entries:
                text = f"the key '{shorten(key)}' stands here a second time"
                first = f"; the first is in line {lines[key]}" if self.positions else ""
                self.problems.append(Problem(place, text + first, "keep one of the two"))
            lines.setdefault(key, line)
            entries[key] = self.node(value_node, depth + 1, place)
        return entries


def node_of(document: Any, place: str, problems: list[Problem]) -> Node:
    """A plain value as a tree of Node that all stand at `place`. What is no plain value is added to `problems`."""
    nodes = 0

    def convert(value: Any, depth: int) -> Node:
        nonlocal nodes
        nodes += 1
        if nodes > _MOST_NODES or depth > _DEEPEST:
            text = f"more than {_MOST_NODES} values, or nested more than {_DEEPEST} deep"
            raise ConfigError(f"{place}: {text}", "is this a configuration?")
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    problems.append(Problem(place, f"a key must be text, not a value of type {type(key).__name__}"))
            return Node({k: convert(v, depth + 1) for k, v in value.items() if isinstance(k, str)}, place)
        if isinstance(value, list | tuple):
            return Node([convert(item, depth + 1) for item in value], place)
        if value is not None and type(value) not in (bool, int, float, str):
            problems.append(Problem(place, f"a value of type {type(value).__name__} has no place in a configuration"))
            return Node(None, place)
        return Node(value, place)

    return convert(document, 0)
