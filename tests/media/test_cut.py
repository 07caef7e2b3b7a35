from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facetrain.core.errors import UsageError
from facetrain.core.images import Reduced
from facetrain.media.cut import Cut, parse_time
from facetrain.media.frame import Frame

NOTHING = Reduced(np.zeros((1, 1, 3), np.uint8), 1, 1, 1)


def indices(cut, frames=100, rate=10):
    return [f.index for f in cut.of(Frame(NOTHING, i, Fraction(i, rate)) for i in range(frames))]


def test_a_part():
    assert indices(Cut(), 3) == [0, 1, 2]
    assert indices(Cut(3, Fraction(1), Fraction(2))) == [10, 13, 16, 19]
    assert indices(Cut(1, Fraction("9.9"))) == [99]


@given(st.integers(1, 7), st.fractions(0, 5), st.fractions(0, 12), st.integers(1, 30))
def test_the_count_is_about_what_comes(every, start, length, rate):
    cut = Cut(every, start, start + length + Fraction(1, 100))
    assert abs(cut.count(100, Fraction(rate)) - len(indices(cut, 100, rate))) <= 1


def test_what_follows_the_end_is_not_asked_for():
    def frames():
        yield Frame(NOTHING, 0, Fraction(0))
        yield Frame(NOTHING, 1, Fraction(1))
        raise AssertionError

    assert [frame.index for frame in Cut(end=Fraction(1)).of(frames())] == [0]


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("12.5", 12.5), ("12.5s", 12.5), ("1:30", 90), ("1:02:03.5", 3723.5), (" 7 ", 7)]
)
def test_times(text, seconds):
    assert parse_time(text, "from") == seconds


@pytest.mark.parametrize("text", ["", "-1", "1:", "a", "1:2:3:4", "1e3", "∞", "nan"])
def test_no_times(text):
    with pytest.raises(UsageError, match=f"`to` {text}: not a time"):
        parse_time(text, "to")
