"""Runs that are planned by time: by a clock of the test's own, which a slow machine cannot disturb."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from train_runs import Crash, Recorder, assert_same, crash_at, tiny_config

from facetrain.config.load import load_config
from facetrain.config.schema import Config, EvalConfig, TrainConfig
from facetrain.core.run_dir import RunDir
from facetrain.model.safe_file import read_tensors
from facetrain.model.weights import load_checkpoint
from facetrain.train.loop import train_model
from facetrain.train.optim.optimizers import learning_rate, progress_of
from facetrain.train.optim.pace import Budget, Pace
from facetrain.train.parallel.world import ALONE
from facetrain.train.run.metrics import read_metrics

COSINE = TrainConfig(optimizer="adamw", lr=1.0, lr_batch=32, schedule="cosine", warmup_steps=100, warmup_limit=0.05)


class Clock:
    """Time that only work makes pass: `step_s(step)` seconds a step."""

    def __init__(self, step_s: Callable[[int], float]) -> None:
        self.now, self.steps, self.step_s = 100.0, 0, step_s

    def __call__(self) -> float:
        return self.now

    def step(self) -> None:
        self.now += self.step_s(self.steps)
        self.steps += 1


def walk(
    clock: Clock, seconds: float, config: Config | None = None, steps_per_epoch: int = 50
) -> tuple[Pace, list[float]]:
    """Go through a run without training; returns its pace and the rate of every step."""
    pace = Pace(config or Config(train=COSINE), steps_per_epoch, Budget(seconds), clock, began=clock())
    step, rates = 0, []
    while not pace.over(step):
        rates.append(pace.rate(step // steps_per_epoch, step))
        clock.step()
        step += 1
        pace.look_at_clock(step, ALONE)
        assert step < 10**6
    return pace, rates


@pytest.mark.parametrize("seconds", [5.0, 60.0, 3600.0, 86400.0])
@pytest.mark.parametrize("step_s", [0.01, 0.2, 0.9])
def test_a_steady_machine_ends_on_time_with_its_cosine(seconds: float, step_s: float) -> None:
    if seconds / step_s > 500_000:
        pytest.skip("more steps than are needed to show it")
    clock = Clock(lambda step: step_s)
    pace, rates = walk(clock, seconds)
    assert pace.spent() == pytest.approx(seconds, rel=0.03, abs=2 * step_s)
    assert rates[-1] <= 0.05 or len(rates) < 40
    assert max(rates) == pytest.approx(1.0, abs=0.02) or len(rates) < 40


def test_the_first_steps_are_slow_and_do_not_count() -> None:
    clock = Clock(lambda step: 8.0 if step < 2 else 0.5)
    pace, rates = walk(clock, 600)
    assert pace.spent() == pytest.approx(600, rel=0.02)
    assert len(rates) == pytest.approx((600 - 16) / 0.5, rel=0.02)


@pytest.mark.parametrize("factor", [3.0, 0.4, 20.0])
def test_a_machine_that_changes_half_way_still_ends_on_time(factor: float) -> None:
    clock = Clock(lambda step: 0.5 * (factor if step > 600 else 1))
    pace, rates = walk(clock, 600)
    assert pace.plan is not None
    assert len(pace.plan) > 1  # it planned again
    assert pace.spent() == pytest.approx(600, rel=0.05)
    assert rates[-1] < 0.05
    after = rates[rates.index(max(rates)) :]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(after))  # never up again


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0.05, 4.0), min_size=3, max_size=12), st.floats(30, 4000))
def test_any_machine_ends_on_time(speeds: list[float], seconds: float) -> None:
    clock = Clock(lambda step: speeds[step // 40 % len(speeds)])
    pace, rates = walk(clock, seconds)
    assert pace.spent() <= seconds * 1.05 + 45 * max(speeds)
    assert rates == pytest.approx([learning_rate(COSINE, 0, step, 0, _known(pace, step)) for step in range(len(rates))])


def _known(pace: Pace, step: int) -> Any:
    """The plans that were there when a step was made: a plan made after step n serves from step n on."""
    return tuple(plan for plan in pace.plan or () if plan[0] <= step)


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 90)), min_size=1, max_size=6))
def test_progress_never_goes_back_and_ends_at_one(gaps: list[tuple[int, int]]) -> None:
    plan, step = [], 0
    for gap, left in gaps:
        plan.append((step, step + max(left, gap + 1)))
        step += gap
    total = plan[-1][1]
    values = [progress_of(tuple(plan), step) for step in range(total + 1)]
    assert values[0] == 0
    assert values[-1] == pytest.approx(1)
    assert all(a <= b for a, b in pairwise(values))


def test_one_plan_from_the_beginning_is_a_run_of_so_many_steps() -> None:
    for step in range(500):
        wanted = learning_rate(COSINE, 0, step, 500)
        assert learning_rate(COSINE, 0, step, 123, ((0, 500),)) == wanted


@pytest.mark.parametrize("seconds", [2.0, 60.0])
@pytest.mark.parametrize("warmup", [{}, {"warmup_steps": 0}, {"warmup_limit": 0.0}, {"schedule": "steps"}])
def test_a_repeat_has_the_rates_of_the_run_that_was_timed(seconds: float, warmup: dict[str, Any]) -> None:
    """From the first step on, where the run knew no plan yet, and where its warm-up came to no step at all."""
    config = replace(COSINE, **warmup)
    pace, rates = walk(Clock(lambda step: 0.4), seconds, Config(train=config))
    assert pace.plan
    assert pace.plan[0][0] > 0
    assert rates == [learning_rate(config, 0, step, 0, pace.plan) for step in range(len(rates))]


def test_milestones_are_shares_of_a_planned_run() -> None:
    config = TrainConfig(lr=1.0, milestones=(0.5, 0.8), warmup_limit=0.0)
    rates = [learning_rate(config, 0, step, 0, ((0, 100),)) for step in range(100)]
    assert rates[:50] == [1.0] * 50
    assert rates[50:80] == pytest.approx([0.1] * 30)
    assert rates[80:] == pytest.approx([0.01] * 20)


def test_validations_are_left_time_for_and_rare_where_they_are_dear() -> None:
    def spent(every: float, validation_s: float) -> tuple[float, int]:
        clock = Clock(lambda step: 0.5)
        config = Config(train=COSINE, eval=EvalConfig(every=every))
        pace = Pace(config, 20, Budget(1000), clock, began=clock(), validation_steps=2 * validation_s)
        step, count = 0, 0
        while not pace.over(step):
            clock.step()
            step += 1
            pace.look_at_clock(step, ALONE)
            at_end = pace.over(step)
            if at_end or (step % 20 == 0 and pace.worth_validating((step - 1) // 20, step, ALONE)):
                clock.now += validation_s
                pace.validated(validation_s)
                count += 1
        return pace.spent(), count

    for every in (5, 0.2):
        for validation_s in (1.0, 30.0, 200.0):
            taken, count = spent(every, validation_s)
            assert taken == pytest.approx(1000, rel=0.04), (every, validation_s)
            assert (count == 1) == (validation_s > 50), (every, validation_s)


def test_due_by_epochs_and_by_shares() -> None:
    clock = Clock(lambda step: 1.0)
    pace = Pace(Config(train=TrainConfig(epochs=10)), 7, None, clock, began=0)
    assert [epoch for epoch in range(10) if pace.due(3, epoch, 7 * (epoch + 1))] == [2, 5, 8]
    assert [epoch for epoch in range(10) if pace.due(0.25, epoch, 7 * (epoch + 1))] == [2, 4, 7, 9]
    assert [epoch for epoch in range(10) if pace.due(0.1, epoch, 7 * (epoch + 1))] == list(range(10))
    assert not any(pace.due(None, epoch, 7) for epoch in range(10))


# Whole runs


class Ticking(Recorder):
    """A clock that a run's own logged steps move."""

    def __init__(self, step_s: float, at: Callable[[Any], None] = lambda _: None) -> None:
        super().__init__(at)
        self.now, self.step_s = 0.0, step_s

    def clock(self) -> float:
        self.now += self.step_s / 4  # the loop looks at the clock a few times a step
        return self.now


@pytest.fixture
def planned(data: Path, tmp_path: Path) -> RunDir:
    """A run that had 100 of its clock's seconds."""
    events = Ticking(1.0)
    result = train_model(
        tiny_config(data, epochs=1), runs=tmp_path, name="planned", budget=100.0, clock=events.clock, events=events
    )
    assert result.run is not None
    assert any(note.startswith("plan: ") for note in events.notes)
    return result.run


@pytest.mark.slow
def test_a_planned_run_records_its_plans_and_a_repeat_replays_them(planned: RunDir, tmp_path: Path) -> None:
    config = load_config(planned.config)
    assert config.train.plan is not None
    lines = read_metrics(planned.metrics)
    assert [line["step"] for line in lines if line["kind"] == "plan"] == [step for step, _ in config.train.plan]
    rates = [line["lr"] for line in lines if line["kind"] == "train"]
    again = train_model(config, runs=tmp_path, name="again")
    assert again.run is not None
    assert [line["lr"] for line in read_metrics(again.run.metrics) if line["kind"] == "train"] == rates
    for part in ("model", "optimizer"):  # the clock decides when there is time to validate, not what is learnt
        assert_same(read_tensors(planned.last)[part], read_tensors(again.run.last)[part])


@pytest.mark.slow
def test_a_resumed_run_keeps_its_plan_and_the_rest_of_its_time(data: Path, tmp_path: Path) -> None:
    config = tiny_config(data, epochs=1)
    broken = Ticking(1.0, at=crash_at(20).at)
    with pytest.raises(Crash):
        train_model(config, runs=tmp_path, budget=100.0, clock=broken.clock, events=broken)
    run = RunDir(tmp_path / "run-1")
    saved = read_tensors(run.last)["state"]
    assert saved["budget"] == 100.0
    assert 0 < saved["spent"] < 60
    plan = read_tensors(run.last)["config"]["train"]["plan"]
    events = Ticking(1.0)
    result = train_model(resume=run, clock=events.clock, events=events)
    assert load_config(run.config).train.plan[: len(plan)] == tuple(tuple(pair) for pair in plan)  # type: ignore[index]
    assert events.now == pytest.approx(100.0 - saved["spent"], rel=0.2)
    assert not result.interrupted
    events = Ticking(1.0)
    done = train_model(resume=run, clock=events.clock, events=events)  # nothing is left to do
    assert (done.step, events.steps) == (result.step, [])


def test_time_that_is_over_before_the_first_step_still_trains_a_few(data: Path, tmp_path: Path) -> None:
    result = train_model(tiny_config(data, epochs=1), runs=tmp_path, budget=1e-3)
    assert 1 <= result.step <= 6
    assert result.run is not None
    assert result.run.best.is_file()


@pytest.mark.slow
def test_numbered_weights_are_kept_and_the_oldest_go(data: Path, tmp_path: Path) -> None:
    config = tiny_config(data, epochs=6, keep_every=1, keep_last=2)
    result = train_model(config, runs=tmp_path, name="kept")
    assert result.run is not None
    numbers = [path.name for path in result.run.all_numbered()]
    assert numbers == ["step-00000015.pt", "step-00000018.pt"]
    for path in result.run.all_numbered():
        assert load_checkpoint(path).info["step"] == int(path.stem.partition("-")[2])
    shares = train_model(replace(config, train=replace(config.train, keep_every=0.5, keep_last=None)), runs=tmp_path)
    assert shares.run is not None
    assert [path.name for path in shares.run.all_numbered()] == ["step-00000009.pt", "step-00000018.pt"]
    assert math.isclose(load_checkpoint(shares.run.all_numbered()[0]).info["epoch"], 3)
