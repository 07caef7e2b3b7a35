"""Draws of images, the AP of each by the literal rules, derivatives by leaving out, and the ends of intervals."""

from collections.abc import Sequence
from math import lcm

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.average_precision import Image, official

from facetrain.core.errors import UsageError
from facetrain.eval.average_precision import Tally, ap_influence, curve, match, tally, weighted_ap
from facetrain.eval.intervals import (
    MIN_IMAGES,
    Resampling,
    Sums,
    ap_estimate,
    critical,
    estimate,
    groups_of,
    image_weights,
    sum_estimates,
    two_sided,
)


def drawn_images(count: int, seed: int) -> list[Image]:
    """Boxes, some of which do not count; detections on and beside them, scores in hundredths."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        faces = int(rng.integers(0, 4))
        boxes = [(*rng.integers(0, 400, 2).tolist(), *rng.integers(8, 40, 2).tolist()) for _ in range(faces)]
        found = [
            (x + rng.integers(-2, 3), y, w, h, rng.integers(20, 100) / 100)
            for x, y, w, h in boxes
            if rng.random() < 0.8
        ]
        found += [(*rng.integers(0, 400, 2).tolist(), 20, 20, rng.integers(1, 70) / 100) for _ in range(rng.poisson(1))]
        images.append(Image(found, boxes, (rng.random(faces) < 0.8).tolist()))
    return images


def corners(rows: Sequence[Sequence[float]]) -> np.ndarray:
    table = np.array([row[:4] for row in rows], np.float64).reshape(-1, 4)
    return np.concatenate([table[:, :2], table[:, :2] + table[:, 2:]], 1)


def tally_of(images: Sequence[Image], *, skip_empty: bool = False) -> Tally:
    found = match([(corners(p.detections), np.array([d[4] for d in p.detections]), corners(p.boxes)) for p in images])
    counted = np.array([flag for p in images for flag in p.counted], bool)
    skipped = np.array([not p.boxes for p in images], bool) if skip_empty else None
    return tally(found, counted, skipped)


def literal(images: Sequence[Image], times: np.ndarray, *, skip_empty: bool = False) -> float | None:
    """The official program on images that stand there several times; the whole set's ends of score stay."""
    scores = [d[4] for p in images for d in p.detections]
    # two detections on an ignored box carry the lowest and highest score: they are neither true nor false
    ends = Image([(900, 900, 9, 9, min(scores)), (900, 900, 9, 9, max(scores))], [(900, 900, 9, 9)], [False])
    several = [image for image, count in zip(images, times, strict=True) for _ in range(int(count))]
    return official([*several, ends], skip_empty=skip_empty).ap


@pytest.mark.parametrize("skip_empty", [False, True])
@pytest.mark.parametrize("strata", ["one", "events"])
def test_fifty_draws_are_the_literal_program(strata: str, skip_empty: bool) -> None:
    images = drawn_images(11, 3)
    groups = ["a"] * 11 if strata == "one" else ["a"] * 3 + ["b"] * 3 + ["c"] * 5
    weights = image_weights(groups, 50, seed=4)
    aps = weighted_ap(tally_of(images, skip_empty=skip_empty), weights)
    # weights of strata are multiples of n / (n - 1): by so much more they are whole numbers, and AP stays the same
    whole = 1 if strata == "one" else lcm(2, 4)
    times = (weights * whole).round()
    assert np.abs(times - weights * whole).max() < 1e-4
    expected = [literal(images, row, skip_empty=skip_empty) for row in times]
    assert aps == pytest.approx(expected, abs=2e-6)
    assert len({round(ap, 6) for ap in aps}) > 40


def test_all_images_once_is_the_ap_itself_and_no_face_has_none() -> None:
    images = drawn_images(30, 1)
    known = tally_of(images)
    empty = np.flatnonzero(known.faces == 0)
    weights = np.ones((2, 30), np.float32)
    weights[1] = 0
    weights[1, empty] = 1
    aps = weighted_ap(known, weights)
    assert aps[0] == pytest.approx(curve(known).ap, abs=1e-7)
    assert np.isnan(aps[1])
    nothing = tally(match([]), np.zeros(0, bool))
    assert np.isnan(weighted_ap(nothing, np.zeros((3, 0), np.float32))).all()
    assert len(ap_influence(nothing)) == 0


def test_many_images_go_through_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    known, weights = tally_of(drawn_images(40, 2)), image_weights([0] * 40, 130)
    whole = weighted_ap(known, weights)
    monkeypatch.setattr("facetrain.eval.average_precision._IMAGES", 7)
    monkeypatch.setattr("facetrain.eval.average_precision._DRAWS", 9)
    monkeypatch.setattr("facetrain.eval.average_precision._FEW_DRAWS", 11)
    assert weighted_ap(known, weights).tolist() == whole.tolist()


def test_faces_of_which_none_is_found_have_an_ap_of_0() -> None:
    missed = [Image([(300, 300, 20, 20, 0.9)], [(0, 0, 20, 20)], [True]) for _ in range(5)]
    assert weighted_ap(tally_of(missed), image_weights([0] * 5, 4)).tolist() == [0, 0, 0, 0]


def test_false_alarms_between_and_after_the_steps_of_found_faces_count() -> None:
    """By hand: a face at .9, alarms at .6 and .5, a face at .4, an alarm at .1; the alarms come 0 to 3 times."""
    hit = [(0, 0, 20, 20, 0.9), (100, 0, 20, 20, 0.4)]
    alarms = [(300, y, 20, 20, score) for y, score in ((0, 0.6), (100, 0.5), (200, 0.1))]
    images = [Image(hit, [(0, 0, 20, 20), (100, 0, 20, 20)], [True, True]), Image(alarms, [], [])]
    weights = np.array([[1, times] for times in range(4)], np.float32)
    assert weighted_ap(tally_of(images), weights) == pytest.approx([1, 3 / 4, 2 / 3, 5 / 8], abs=1e-7)
    shut = weighted_ap(tally_of(images, skip_empty=True), weights)
    assert shut == pytest.approx([1, 1, 1, 1])


def test_the_influence_is_the_derivative_and_what_leaving_out_does() -> None:
    images = drawn_images(60, 5)
    known = tally_of(images)
    influence = ap_influence(known)
    step = 2.0**-6
    moved = weighted_ap(known, (1 + step * np.eye(60)).astype(np.float32))
    share = known.faces / known.faces.sum()
    derivative = (moved - curve(known).ap) / step
    # where a step moves the envelope to another threshold the two differ a little
    assert influence * (1 - share) == pytest.approx(derivative, abs=2e-4)
    assert np.abs(influence).max() > 2e-3
    left = weighted_ap(known, (1 - np.eye(60)).astype(np.float32))
    assert np.corrcoef(curve(known).ap - left, influence)[0, 1] > 0.995
    assert influence.sum() == pytest.approx(0, abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from("abcdefg"), min_size=2, max_size=40), st.integers(0, 9))
def test_weights_of_strata(strata: list[str], seed: int) -> None:
    weights = image_weights(strata, 100, seed)
    groups = groups_of(strata)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(strata)))
    assert all(len(group) > 1 for group in groups)
    for group in groups:
        n = len(group)
        whole = n - 1 if len(groups) == 1 else n
        assert weights[:, group].sum(1) == pytest.approx(np.full(100, whole), rel=1e-5)
    assert (weights >= 0).all()
    assert image_weights(strata, 100, seed).tolist() == weights.tolist()
    assert image_weights(strata, 100, seed + 1).tolist() != weights.tolist()


def test_strata_take_their_spread_out() -> None:
    """Two kinds of images, all alike within: by strata nothing varies, without them the mixture does."""
    hits = np.array([1.0] * 40 + [0.0] * 40)
    number = [Sums("recall", hits, np.ones(80), share=True)]
    apart = sum_estimates(number, Resampling(["a"] * 40 + ["b"] * 40))["recall"]
    mixed = sum_estimates(number, Resampling([""] * 80))["recall"]
    assert (apart.low, apart.why) == (None, "no image differs from the others in it")
    assert mixed.low == pytest.approx(0.39, abs=0.02)
    assert mixed.high == pytest.approx(0.61, abs=0.02)


def test_the_interval_of_a_share_is_the_textbook_s() -> None:
    """Recall of one face an image: the binomial's interval. Seeded: the same numbers on every machine."""
    hits = np.array([1.0] * 160 + [0.0] * 40)
    found = sum_estimates([Sums("recall", hits, np.ones(200), share=True)], Resampling([""] * 200))["recall"]
    assert (found.value, found.draws, found.seed) == (0.8, 2000, 0)
    deviation = (0.8 * 0.2 / 199) ** 0.5
    odds = np.log(4) + np.array([-1, 1]) * critical(found_freedom(hits)) * deviation / 0.16
    assert [found.low, found.high] == pytest.approx(1 / (1 + np.exp(-odds)), abs=0.004)
    assert [found.low, found.high] == pytest.approx([0.737475, 0.850039], abs=1e-5)


def found_freedom(hits: np.ndarray) -> float:
    return Resampling([""] * len(hits)).spread_of(hits - hits.mean())[1]


def test_the_interval_of_an_ap_is_seeded() -> None:
    known = tally_of(drawn_images(80, 7))
    first = ap_estimate(curve(known).ap, known, Resampling([0] * 80))
    assert [first.low, first.high] == pytest.approx([0.544127, 0.725358], abs=1e-5)
    again = ap_estimate(curve(known).ap, known, Resampling([0] * 80))
    assert (first.low, first.high) == (again.low, again.high)
    other = ap_estimate(curve(known).ap, known, Resampling([0] * 80, seed=1))
    assert other.low != first.low
    assert other.low == pytest.approx(first.low, abs=0.01)


def test_what_has_no_interval_says_why() -> None:
    def why(hits: list[float], faces: list[float] | None = None, **settings: int) -> str:
        numbers = [Sums("recall", np.array(hits), np.array(faces or [1.0] * len(hits)), share=True)]
        found = sum_estimates(numbers, Resampling([0] * len(hits), **settings))["recall"]
        assert (found.low, found.high, found.method) == (None, None, "none")
        return found.why

    assert why([1.0]) == "one image says nothing of others"
    assert why([1.0, 0.0] * 5) == f"10 images are too few, {MIN_IMAGES} are needed"
    assert why([1.0] * 100) == "no image differs from the others in it"
    assert why([1.0] * 99 + [0.0]) == "too few images decide it"
    assert why([500.0, 1.0] + [0.0] * 98, [999.0, 1.0] + [1.0] * 98) == "too few images decide it"
    assert sum_estimates([Sums("recall", np.zeros(30), np.zeros(30), share=True)], Resampling([0] * 30)) == {}
    known = tally_of(drawn_images(30, 1))
    assert ap_estimate(0.5, known, Resampling([0] * 30, draws=0)).why == "no draws were asked for"


@pytest.mark.parametrize("draws", [-1, 1, 99, 100_001])
def test_a_number_of_draws_that_gives_no_interval_is_refused(draws: int) -> None:
    with pytest.raises(UsageError, match="`draws`"):
        Resampling([0] * 30, draws)


def test_an_interval_stays_inside_its_range() -> None:
    rng = np.random.default_rng(0)
    resampling = Resampling([0] * 40)
    influence = rng.normal(0, 0.02, 40)
    for value, scale, top in ((0.99, "logit", 1.0), (0.01, "logit", 1.0), (0.001, "log", np.inf)):
        found = estimate(value, value + rng.normal(0, 0.1, 2000), influence, resampling, scale)
        assert found.low is not None
        assert found.high is not None
        assert 0 <= found.low < value < found.high <= top


@pytest.mark.parametrize(("freedom", "t"), [(5, 2.5706), (8, 2.3060), (20, 2.0860), (100, 1.9840), (1e6, 1.9600)])
def test_students_t_by_its_table(freedom: float, t: float) -> None:
    assert critical(freedom) == pytest.approx(t, rel=3e-3)
    assert two_sided(critical(freedom), freedom) == pytest.approx(0.05, abs=1e-6)
    assert two_sided(0.0, freedom) == 1.0
