"""Learning rates and optimisers."""

import math
from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import rates as oracle
from torch import nn

from facetrain.config.check import check_config
from facetrain.config.schema import Config, TrainConfig
from facetrain.train.optim.optimizers import (
    OPTIMIZERS,
    base_rate,
    gradient_limit,
    learning_rate,
    make_optimizer,
    progress_of,
    warmup_length,
)
from facetrain.train.optim.schedules import SCHEDULES, Schedule

# The reference's golden `lr` of the published recipe: epoch, step over the whole run (403 an epoch), rate
GOLDEN = [
    (0, 0, 1.000000000000001e-05),
    (0, 1, 1.6660000000000562e-05),
    (1, 749, 0.004998340000000001),
    (3, 1499, 0.00999334),
    (3, 1500, 0.01),
    (399, 160000, 0.01),
    (400, 161200, 0.001),
    (543, 218000, 0.001),
    (544, 219232, 0.00010000000000000002),
    (639, 257519, 0.00010000000000000002),
]
TOTAL = 403 * 640


@pytest.mark.parametrize(("epoch", "step", "rate"), GOLDEN)
def test_golden_rates(epoch: int, step: int, rate: float) -> None:
    assert abs(learning_rate(TrainConfig(), epoch, step, TOTAL) - rate) < 1e-12


def test_rate_follows_the_batch() -> None:
    for batch in (1, 16, 64):
        assert math.isclose(base_rate(TrainConfig(batch=batch)), 0.01 * batch / 32)
        scaled = learning_rate(TrainConfig(batch=batch), 3, 1499, TOTAL)
        assert math.isclose(scaled, learning_rate(TrainConfig(), 3, 1499, TOTAL) * batch / 32)


def test_shorter_runs_keep_the_shape() -> None:
    """Ten epochs of 7 steps: the warm-up is a tenth of them, the rate falls at epochs 6 and 8 (6.25 and 8.5)."""
    config = TrainConfig(epochs=10)
    assert warmup_length(config, 70) == 7
    rates = [learning_rate(config, step // 7, step, 70) for step in range(70)]
    assert math.isclose(rates[0], 1e-5)
    assert rates[6] < rates[7] == 0.01
    assert [epoch for epoch in range(1, 10) if rates[7 * epoch] < rates[7 * epoch - 1]] == [6, 8]
    assert math.isclose(rates[-1], 1e-4)


@given(total=st.integers(1, 5000))
def test_cosine_falls_from_the_full_rate_to_its_last(total: int) -> None:
    config = TrainConfig(schedule="cosine", final_lr=0.05, warmup_steps=0)
    rates = [learning_rate(config, 0, step, total) for step in range(total + 1)]
    assert math.isclose(rates[0], 0.01)
    assert math.isclose(rates[-1], 0.0005)
    assert all(a >= b for a, b in pairwise(rates))
    middle = learning_rate(config, 0, total // 2, total) if total % 2 == 0 else (0.01 + 0.0005) / 2
    assert math.isclose(middle, (0.01 + 0.0005) / 2)


@given(total=st.integers(1, 3000), start=st.floats(0, 1), limit=st.floats(0, 1))
def test_warmup_rises_and_ends_in_time(total: int, start: float, limit: float) -> None:
    config = TrainConfig(warmup_start=start, warmup_limit=limit, milestones=())
    length = warmup_length(config, total)
    assert 0 <= length <= min(1500, limit * total)
    rates = [learning_rate(config, 0, step, total) for step in range(total)]
    assert all(rate == 0.01 for rate in rates[length:])
    assert all(a <= b <= 0.01 for a, b in pairwise(rates[:length]))
    if length:
        assert math.isclose(rates[0], 0.01 * start, abs_tol=1e-15)


@pytest.mark.parametrize("schedule", ["steps", "cosine"])
@pytest.mark.parametrize("plan", [None, (), ((0, 70),), ((5, 40), (20, 100), (64, 71))])
def test_rates_are_those_of_the_rule_to_the_last_bit(schedule: str, plan: Any) -> None:
    milestones, warmups = (
        ((), (0.625, 0.85), (0.1, 0.2, 0.3)),
        ((1500, 0.1, 0.001), (3, 1.0, 0.5), (2, 0.1, 0.0), (0, 0.1, 0.0)),
    )
    for batch, epochs, places, (steps, limit, start) in product((1, 24, 32), (1, 10, 17), milestones, warmups):
        config = TrainConfig(
            schedule=schedule,
            **{"batch": batch, "epochs": epochs, "milestones": places, "gamma": 0.3, "final_lr": 0.07},
            **{"warmup_steps": steps, "warmup_limit": limit, "warmup_start": start},
        )
        for step in range(7 * epochs):
            progress = 0 if plan is None else progress_of(plan, step)
            wanted = oracle.learning_rate(config, step // 7, step, 7 * epochs, plan, progress)
            assert learning_rate(config, step // 7, step, 7 * epochs, plan) == wanted


@pytest.mark.parametrize(
    ("settings", "by_epochs", "words"),
    [
        ({}, True, "x 0.1 at epochs 400, 544"),
        ({}, False, "x 0.1 at 62%, 85% of the run"),
        ({"milestones": ()}, True, "constant"),
        ({"schedule": "cosine"}, True, "cosine down to 0.01 of it"),
        ({"schedule": "cosine", "final_lr": 0.0}, False, "cosine down to 0 of it"),
    ],
)
def test_schedules_in_words(settings: dict[str, Any], by_epochs: bool, words: str) -> None:
    config = TrainConfig(**settings)
    assert SCHEDULES[config.schedule].words(config, by_epochs) == words


def test_another_schedule_is_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig(schedule="line", warmup_steps=0)
    assert [violation.key for violation in check_config(Config(train=config))] == ["train.schedule"]
    line = Schedule(lambda config, progress, epoch: 1 - progress, lambda config, by_epochs: "down a line")
    monkeypatch.setitem(SCHEDULES, "line", line)
    assert check_config(Config(train=config)) == []
    assert [learning_rate(config, 0, step, 4) for step in range(4)] == [0.01, 0.0075, 0.005, 0.0025]


def test_another_optimizer_is_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig(optimizer="adagrad")
    assert [violation.key for violation in check_config(Config(train=config))] == ["train.optimizer"]
    monkeypatch.setitem(
        OPTIMIZERS, "adagrad", lambda model, config: torch.optim.Adagrad(model.parameters(), base_rate(config))
    )
    assert check_config(Config(train=config)) == []
    assert isinstance(make_optimizer(nn.Linear(2, 2), config), torch.optim.Adagrad)


def test_sgd_is_the_published_one_on_every_parameter() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    [group] = make_optimizer(model, TrainConfig()).param_groups
    assert len(group["params"]) == 4  # biases and batch norm too
    assert (group["momentum"], group["dampening"], group["nesterov"], group["weight_decay"]) == (0.9, 0, False, 5e-4)


def test_sgd_steps_as_written_out() -> None:
    parameter = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    model = nn.Module()
    model.weight = parameter
    optimizer = make_optimizer(model, TrainConfig())
    weight, momentum = [1.0, -2.0], [0.0, 0.0]
    for step, rate in enumerate((0.01, 0.02, 0.005)):
        gradient = [0.3 + step, -0.1]
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        momentum = [0.9 * m + g + 5e-4 * w for m, g, w in zip(momentum, gradient, weight, strict=True)]
        weight = [w - rate * m for w, m in zip(weight, momentum, strict=True)]
        torch.testing.assert_close(parameter.detach(), torch.tensor(weight, dtype=torch.float64))


def test_adamw_takes_its_settings() -> None:
    config = replace(TrainConfig(), optimizer="adamw", momentum=0.8, weight_decay=0.02, lr=0.004, batch=16)
    optimizer = make_optimizer(nn.Linear(2, 2), config)
    assert isinstance(optimizer, torch.optim.AdamW)
    [group] = optimizer.param_groups
    assert group["betas"] == (0.8, 0.999)
    assert (group["weight_decay"], group["lr"]) == (0.02, 0.002)


def test_only_a_run_with_its_whole_warmup_goes_without_clipping() -> None:
    published = TrainConfig()
    assert gradient_limit(published, 640 * 403) is None
    assert gradient_limit(published, 15_000) is None
    assert gradient_limit(published, 14_990) == 10.0
    assert gradient_limit(replace(published, short_run_clip=None), 100) is None
    assert gradient_limit(replace(published, clip=2.5), 640 * 403) == 2.5
    assert gradient_limit(replace(published, clip=2.5), 100) == 2.5
