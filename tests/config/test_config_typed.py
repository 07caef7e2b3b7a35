"""Values are checked by the type hints alone, so a schema of the test's own is checked as well as the real one."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from facetrain.config.schema import entries
from facetrain.config.typed import describe, lay
from facetrain.config.yaml_source import read_yaml


@dataclass(frozen=True)
class Inner:
    ratio: float = 1.0
    kind: Literal["a", "b"] | None = None


@dataclass(frozen=True)
class Outer:
    """Every kind of field that the schema may have."""

    flag: bool = False
    count: int = 1
    name: str = "x"
    note: str | None = None
    sizes: tuple[int, ...] = ()
    pair: tuple[str, float] = ("a", 1.0)
    table: tuple[tuple[int, int], ...] = ()
    maybe: tuple[float, ...] | None = None
    kinds: tuple[Literal["a", "b"], ...] = ()
    flags: tuple[bool, ...] = ()
    inner: Inner = field(default_factory=Inner)


@dataclass(frozen=True)
class Unsupported:
    anything: dict[str, int] = field(default_factory=dict)


def laid(text, base=None):
    problems = []
    config, places = lay(read_yaml(text, "x", problems), base or Outer(), problems)
    return config, [str(problem) for problem in problems], places


def test_every_kind_of_value():
    config, problems, places = laid(
        """
flag: true
count: 3
name: no
note: on
sizes: [1, 2]
pair: [b, 2]
table: [[1, 2], [3, 4]]
maybe: [1e-3]
kinds: [b, a]
flags: [true, false]
inner: {ratio: 2, kind: b}
"""
    )
    assert problems == []
    assert config == Outer(
        True, 3, "no", "on", (1, 2), ("b", 2.0), ((1, 2), (3, 4)), (0.001,), ("b", "a"), (True, False), Inner(2.0, "b")
    )
    assert places["count"] == "x:3:1"
    assert places["inner.kind"] == "x:12:19"
    assert set(places) == {key for key, *_ in entries(Outer())}


def test_nulls_and_what_is_not_named():
    base = Outer(note="n", maybe=(1.0,), inner=Inner(3.0, "a"))
    config, problems, _ = laid("note: null\nmaybe:\ninner: {kind: ~}", base)
    assert problems == []
    assert config == Outer(inner=Inner(3.0, None))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("pair: [1, 2]", "item 1 of pair: must be text, not 1 (put text that looks like a number or like"),
        ("pair: [a]", 'pair: must be a list of 2 values: text, a number, not ["a"]'),
        ("maybe: 3", "maybe: must be a list of numbers or null, not 3 (write [3])"),
        ("kinds: [c]", 'item 1 of kinds: must be one of a, b, not "c"'),
        ("kinds: c", 'kinds: must be a list of words from a, b, not "c"'),
        ("flags: [yes]", 'item 1 of flags: must be true or false, not "yes" (write true)'),
        ("note: 3", "note: must be text or null, not 3"),
        ("inner: {kind: A}", "inner.kind: must be one of a, b or null, not \"A\" (did you mean 'a'?)"),
        ("inner: {count: 3}", "unknown key 'inner.count' (did you mean 'count'?)"),
        ("ratio: 3", "unknown key 'ratio' (did you mean 'inner.ratio'?)"),
    ],
)
def test_wrong_values_are_left_out(text, problem):
    config, problems, _ = laid(text)
    assert config == Outer()
    assert len(problems) == 1
    assert problem in problems[0]


def test_right_values_beside_wrong_ones_are_kept():
    config, problems, _ = laid("count: x\nname: y")
    assert config == Outer(name="y")
    assert len(problems) == 1


def test_a_schema_with_another_type_is_a_bug_that_says_so():
    with pytest.raises(TypeError, match="field of type dict"):
        laid("anything: {a: 1}", Unsupported())


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (tuple[tuple[int, int], ...], "a list of lists of 2 whole numbers"),
        (tuple[tuple[float, ...], ...], "a list of lists of numbers"),
        (int | None, "a whole number or null"),
    ],
)
def test_types_in_words(hint, words):
    assert describe(hint) == words
