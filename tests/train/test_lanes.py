"""Groups of a step side by side: the same gradients as one after the other, by any number of lanes, bit by bit."""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from train_runs import MODEL, STEPS, Crash, Recorder, assert_same_run, crash_at, tiny_config, train

from facetrain.config.schema import Config, TrainConfig
from facetrain.core.errors import DataError
from facetrain.core.run_dir import RunDir
from facetrain.data.batch import FACE, IGNORED, PADDING, Batch
from facetrain.data.batches import Item, Share
from facetrain.model.yunet import YuNet, build
from facetrain.train.loop import train_model
from facetrain.train.optim.optimizers import make_optimizer
from facetrain.train.parallel.lanes import AbandonedError, Division, GroupGradients, Meeting, divide
from facetrain.train.step import Task, make_step, see
from facetrain.train.terms import Losses, Seen, label_terms

TRAIN = TrainConfig(optimizer="adamw", lr=0.01, lr_batch=8, batch=8, precision="fp32")


def random_batch(seed: int, images: int, faces: int) -> Batch:
    """Noise with boxes anywhere; the first image has none, one box is ignored and one row means nothing."""
    generator = torch.Generator().manual_seed(seed)
    corner = 40 * torch.rand(faces, 2, generator=generator)
    boxes = torch.cat([corner, corner + 6 + 18 * torch.rand(faces, 2, generator=generator)], 1)
    points = torch.cat([corner[:, None] + 5 * torch.rand(faces, 5, 2, generator=generator), torch.ones(faces, 5, 1)], 2)
    kind = torch.full((faces,), FACE, dtype=torch.int8)
    kind[0], kind[-1] = IGNORED, PADDING
    image = torch.randint(1, max(2, images), (faces,), generator=generator) if images > 1 else torch.zeros(faces).long()
    pixels = 255 * torch.rand(images, 3, 64, 64, generator=generator)
    return Batch(pixels.contiguous(memory_format=torch.channels_last), boxes, points, image, kind)


def groups_of(seed: int, sizes: list[int]) -> list[Batch]:
    return [random_batch(100 * seed + index, size, 7) for index, size in enumerate(sizes)]


def shares(batches: list[Batch]) -> list[Share]:
    return [lambda batch=batch: batch for batch in batches]  # type: ignore[misc]


@pytest.fixture
def opened() -> Iterator[Callable[..., GroupGradients]]:
    """Makes group gradients whose threads end with the test."""
    made: list[GroupGradients] = []

    def make(model: YuNet, division: Division, **settings: Any) -> GroupGradients:
        made.append(GroupGradients(model, Task(TRAIN, torch.float32), division, **settings))
        return made[-1]

    yield make
    for gradients in made:
        gradients.close()


@pytest.mark.parametrize(
    ("batch", "norm_group", "threads", "expected"),
    [
        (32, None, 2, (2, 2, 1)),
        (32, None, 1, (2, 1, 1)),
        (32, None, 8, (2, 2, 4)),
        (16, None, 2, (2, 2, 1)),
        (8, None, 2, (1, 1, 2)),
        (15, None, 2, (1, 1, 2)),
        (17, None, 2, (2, 2, 1)),
        (8, 4, 2, (2, 2, 1)),
        (7, None, 2, (1, 1, 2)),
        (4, None, 2, (1, 1, 2)),
        (1, None, 2, (1, 1, 2)),
        (64, None, 4, (4, 4, 1)),
        (40, None, 4, (3, 3, 1)),
        (32, 4, 3, (8, 3, 1)),
        (32, 32, 4, (1, 1, 4)),
        (32, 100, 4, (1, 1, 4)),
    ],
)
def test_division(batch: int, norm_group: int | None, threads: int, expected: tuple[int, int, int]) -> None:
    assert divide(batch, norm_group, threads) == Division(*expected)


@given(batch=st.integers(1, 300), norm_group=st.none() | st.integers(1, 300), threads=st.integers(1, 64))
def test_any_division_is_whole(batch: int, norm_group: int | None, threads: int) -> None:
    division = divide(batch, norm_group, threads)
    parts = division.parts(batch)
    assert [position for part in parts for position in part] == list(range(batch))
    assert max(map(len, parts)) <= (norm_group or 16)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert min(map(len, parts)) >= min(batch, 8 if norm_group is None else 1)
    assert division.lanes <= min(division.groups, threads)
    assert division.lanes * division.threads <= threads
    assert divide(batch, norm_group, 1).groups == division.groups  # groups are a matter of what is learnt
    assert str(division.groups) in division.sentence(batch)


def test_division_in_words() -> None:
    assert Division(2, 2, 1).sentence(32) == "step: 2 groups of 16 crops, batch norm of each, on 2 lanes of 1 thread"
    assert Division(3, 1, 2).sentence(40) == (
        "step: 3 groups of 13 or 14 crops, batch norm of each, on 1 lane of 2 threads"
    )


@pytest.mark.parametrize("sizes", [[4, 4], [3, 2, 3], [5]])
def test_gradients_are_those_of_one_batch_with_norms_by_group(
    opened: Callable[..., GroupGradients], sizes: list[int]
) -> None:
    """The oracle goes through the groups with copies of the network, and takes the losses of the joined batch."""
    model = build(MODEL, 0).train()
    batches = groups_of(1, sizes)
    task = Task(TRAIN, torch.float32)
    copies = [copy.deepcopy(model) for _ in batches]
    seen = [see(one, batch, task) for one, batch in zip(copies, batches, strict=True)]
    joined = {
        name: getattr(seen[0].predictions, name)
        if name == "priors"
        else torch.cat([getattr(one.predictions, name) for one in seen])
        for name in vars(seen[0].predictions)
        if name != "maps"
    }
    whole = see(copy.deepcopy(model), Batch.joined(batches), task)
    predictions = replace(whole.predictions, **joined)
    targets = replace(
        seen[0].targets,  # type: ignore[type-var]
        **{name: torch.cat([getattr(one.targets, name) for one in seen]) for name in vars(seen[0].targets)},
    )
    losses = label_terms(Seen(TRAIN, task.world, Batch.joined(batches), predictions, targets, None))
    torch.stack([value for name, value in losses.items() if name != "positives"]).sum().backward()
    expected = [sum(parts) for parts in zip(*([p.grad for p in one.parameters()] for one in copies), strict=True)]

    gradients = opened(model, Division(len(sizes), 1, 1))
    found = gradients(shares(batches))
    assert found.keys() == losses.keys()
    for name, value in losses.items():
        torch.testing.assert_close(found[name], value.detach(), rtol=1e-5, atol=1e-6)
    for parameter, other in zip(model.parameters(), expected, strict=True):
        assert parameter.grad is not None
        assert float((parameter.grad - other).norm()) <= 2e-5 * float(other.norm()) + 3e-5  # biases before a norm: 0
    for name, buffer in model.named_buffers():
        others = torch.stack([dict(one.named_buffers())[name].float() for one in copies])
        torch.testing.assert_close(buffer.float(), others.mean(0))


def trained(opened: Callable[..., GroupGradients], count: int) -> list[torch.Tensor]:
    """Weights and statistics after three steps of five groups."""
    model = build(MODEL, 0).train()
    gradients = opened(model, Division(5, count, 1))
    step = make_step(model, make_optimizer(model, TRAIN), Task(TRAIN, torch.float32), 10.0, gradients)
    losses = [step(shares(groups_of(seed, [2, 3, 2, 3, 2]))) for seed in range(3)]
    return [*model.state_dict().values(), *(value for some in losses for value in some.values())]


def test_any_number_of_lanes_gives_the_same_bits(opened: Callable[..., GroupGradients]) -> None:
    one = trained(opened, 1)
    for count in (2, 3, 5):
        assert all(torch.equal(a, b) for a, b in zip(one, trained(opened, count), strict=True))


def test_items_come_once_and_in_order_and_the_next_is_made_meanwhile(opened: Callable[..., GroupGradients]) -> None:
    made: list[int] = []
    batches = [groups_of(seed, [2, 2]) for seed in range(4)]

    def items() -> Iterator[Item]:
        for number, some in enumerate(batches):

            def share(number: int = number, some: list[Batch] = some, rank: int = 0) -> Batch:
                made.append(number)
                return some[rank]

            yield [], [share, lambda number=number, some=some: share(number, some, 1)]  # type: ignore[misc]

    model = build(MODEL, 0).train()
    gradients = opened(model, Division(2, 2, 1))
    seen = []
    for number, (_, parts) in enumerate(gradients.ahead(items())):
        if number == 2:
            seen.append(Batch.joined([part() for part in parts]))  # what is looked at is not made twice
        gradients(parts)
        seen.append(number)
    assert [item for item in seen if isinstance(item, int)] == [0, 1, 2, 3]
    assert sorted(made) == [0, 0, 1, 1, 2, 2, 3, 3]
    [whole] = [item for item in seen if isinstance(item, Batch)]
    assert torch.equal(whole.images, Batch.joined(batches[2]).images)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("broken", [0, 2])
def test_one_group_that_fails_ends_the_step_with_its_error(
    opened: Callable[..., GroupGradients], count: int, broken: int
) -> None:
    def fail() -> Batch:
        time.sleep(0.05)  # the others wait for its counts by now
        raise DataError("an image is gone")

    parts = shares(groups_of(0, [2, 2, 2]))
    parts[broken] = fail
    with pytest.raises(DataError, match="an image is gone"):
        opened(build(MODEL, 0).train(), Division(3, count, 1))(parts)


def test_an_error_in_a_loss_is_told_and_not_that_others_gave_up(opened: Callable[..., GroupGradients]) -> None:
    def losses(model: YuNet, batch: Batch, task: Task) -> Losses:
        if task.world.rank == 1:
            raise MemoryError("no more")
        task.world.sum(torch.ones(1))
        raise AssertionError("the sum cannot be complete")

    with pytest.raises(MemoryError, match="no more"):
        opened(build(MODEL, 0).train(), Division(2, 2, 1), losses=losses)(shares(groups_of(0, [2, 2])))


def test_a_sum_waits_for_all_and_is_abandoned_when_one_is_missing() -> None:
    meeting = Meeting(2, 2)
    meeting.abandon()
    with pytest.raises(AbandonedError):
        meeting.sum(0, torch.ones(1))


# Whole runs


def grouped(data: Path, **settings: Any) -> Config:
    return tiny_config(data, norm_group=2, ema=0.9, **settings)


def test_a_run_has_the_same_bits_on_one_lane_and_on_two(data: Path, tmp_path: Path) -> None:
    torch.set_num_threads(2)
    events = Recorder()
    two = train(grouped(data, epochs=2), tmp_path / "two", events=events)
    assert torch.get_num_threads() == 2  # given back
    torch.set_num_threads(1)
    one = train(grouped(data, epochs=2), tmp_path / "one")
    assert_same_run(one, two)
    assert "step: 2 groups of 2 crops, batch norm of each, on 2 lanes of 1 thread" in events.notes


def test_a_run_that_is_resumed_on_other_lanes_goes_on_bit_by_bit(data: Path, tmp_path: Path) -> None:
    torch.set_num_threads(2)
    whole = train(grouped(data), tmp_path / "whole")
    with pytest.raises(Crash):
        train_model(grouped(data), runs=tmp_path, name="r", events=crash_at(STEPS + 2))
    torch.set_num_threads(1)
    run = RunDir(tmp_path / "r")
    train_model(resume=run)
    assert_same_run(run, whole)
