"""A part of a set kept for validation by the names of its images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as some

from facetrain.core.faces import LabelledImage
from facetrain.data.held_out import hold_out, is_held_out


def image(name: str) -> LabelledImage:
    nothing = np.zeros((0, 4), np.float32), np.zeros((0, 5, 3), np.float32), np.zeros(0, np.bool_)
    return LabelledImage(Path(name), name, (9, 9), *nothing)


def looks(count: int, seed: int = 0) -> list[bytes]:
    rng = np.random.default_rng(seed)
    return [rng.bytes(32) for _ in range(count)]


@given(
    some.sets(some.text(min_size=1), max_size=40), some.sets(some.text(min_size=1), max_size=40), some.floats(0.01, 0.9)
)
def test_images_that_are_added_move_no_other(old: set[str], new: set[str], share: float) -> None:
    before, after = sorted(old), sorted(old | new)
    held = hold_out([image(name) for name in before], looks(len(before)), share).held
    later = hold_out([image(name) for name in after], looks(len(after), 1), share).held
    assert {i.name for i in held} == {i.name for i in later} & old


def test_the_share_is_met() -> None:
    names = [f"{number}.jpg" for number in range(4000)]
    assert abs(sum(is_held_out(name, 0.1) for name in names) / 4000 - 0.1) < 0.02
    assert all(is_held_out(name, 0.3) for name in names if is_held_out(name, 0.1))


def test_images_that_look_alike_stay_together() -> None:
    names = [f"{number}.jpg" for number in range(60)]
    copies = [f"copies/{number}.png" for number in range(60)]
    own = looks(60)
    nearly = [bytes([look[0] ^ 1, *look[1:]]) for look in own]
    parts = hold_out([image(name) for name in names + copies], own + nearly, 0.3)
    out = {i.name for i in parts.held}
    assert len(parts.train) + len(parts.held) == 120
    for name, copy in zip(names, copies, strict=True):
        assert (name in out) == (copy in out) == is_held_out(name, 0.3)  # the shorter name decides
    assert (
        parts.followed
        == sum(is_held_out(n, 0.3) != is_held_out(c, 0.3) for n, c in zip(names, copies, strict=True))
        > 0
    )


def test_images_without_a_look_are_apart() -> None:
    some_images = [image("a"), replace(image("b"), source=0)]
    parts = hold_out(some_images, [b"", b""], 0.5)
    assert len(parts.train) + len(parts.held) == 2
    assert parts.followed == 0
