"""Two processes against one: the same global batch, the same gradients, the same statistics."""

import copy
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from facetrain.config.schema import ModelConfig, TrainConfig
from facetrain.core.errors import DataError, TrainingError, UsageError
from facetrain.data.batch import FACE, IGNORED, Batch
from facetrain.model.frozen import freeze
from facetrain.model.yunet import YuNet, build
from facetrain.train.optim.optimizers import make_optimizer
from facetrain.train.parallel.launch import run_workers
from facetrain.train.parallel.sync_batch_norm import SyncBatchNorm, join_norms
from facetrain.train.parallel.world import ALONE, World, check_batch, check_same, join
from facetrain.train.step import Task, make_step

pytestmark = pytest.mark.slow

TINY = ModelConfig(stem=(3, 8, 8), stages=((8, 8), (8, 16), (16, 16), (16, 16), (16, 16)), head_channels=16)
IMAGES, SIZE, STEPS = 5, 64, 2
CPU = torch.device("cpu")
SGD = TrainConfig(lr=0.01, batch=32)


def global_batch(seed: int) -> Batch:
    """Five noise images. The third has faces without landmarks, the last has nothing but an ignored box."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (IMAGES, 3, SIZE, SIZE)).astype(np.float32)
    boxes, landmarks, image, kind = [], [], [], []
    for index, count in enumerate((4, 3, 2, 1, 1)):
        for _ in range(count):
            centre, side = rng.uniform(16, 48, 2), rng.uniform(8, 30)
            boxes.append([*(centre - side / 2), *(centre + side / 2)])
            points = np.ones((5, 3))
            points[:, :2] = centre + rng.uniform(-side / 3, side / 3, (5, 2))
            points[:, 2] *= index not in {2, 4}
            landmarks.append(points)
            image.append(index)
            kind.append(IGNORED if index == 4 else FACE)
    return Batch(
        torch.from_numpy(images).to(memory_format=torch.channels_last),
        torch.tensor(np.array(boxes), dtype=torch.float32),
        torch.tensor(np.array(landmarks), dtype=torch.float32),
        torch.tensor(image),
        torch.tensor(kind, dtype=torch.int8),
    )


def cut(batch: Batch, part: range) -> Batch:
    """The images of one process, numbered from 0."""
    mine = (batch.image >= part.start) & (batch.image < part.stop)
    faces = (batch.boxes[mine], batch.landmarks[mine], batch.image[mine] - part.start, batch.kind[mine])
    return Batch(batch.images[part.start : part.stop], *faces)


def train_some(world: World, model: YuNet, taught: bool) -> dict[str, Any]:
    """Some steps of SGD. Returns losses and gradients of every step, and the weights and statistics in the end."""
    join_norms(model, world, CPU)
    teacher = freeze(build(TINY, seed=77)) if taught else None
    step = make_step(model, make_optimizer(model, SGD), Task(SGD, torch.float32, world, teacher), 10.0)
    result: dict[str, Any] = {"losses": [], "gradients": []}
    for seed in range(STEPS):
        losses = step(cut(global_batch(seed), world.part(IMAGES)))
        result["losses"].append({name: value.item() for name, value in losses.items()})
        result["gradients"].append({name: p.grad.clone() for name, p in model.named_parameters()})
    return result | {"state": model.state_dict()}


def train_in_process(folder: str, taught: bool) -> int:
    """The same in one of several processes; leaves what came out in a file."""
    with join(CPU) as world:
        model = build(TINY, seed=world.rank).train()  # other weights in each …
        world.broadcast(model)  # … are no matter after this
        torch.save(train_some(world, model, taught), f"{folder}/{world.rank}.pt")
    return 0


def largest_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Relative to the largest value."""
    return float((one - other).abs().max() / other.abs().max().clamp(min=1e-12))


@pytest.fixture(scope="module", params=[False, True], ids=["labels", "labels and teacher"])
def results(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Of one process, and of two that share its batches."""
    folder = tmp_path_factory.mktemp("two")
    assert run_workers(["cpu", "cpu"], train_in_process, {"folder": str(folder), "taught": request.param}) == 0
    alone = train_some(ALONE, build(TINY, seed=0).train(), request.param)
    return [alone, *(torch.load(folder / f"{rank}.pt") for rank in range(2))]


def test_two_processes_have_the_gradients_of_one(results: list[dict[str, Any]]) -> None:
    alone, *both = results
    for result in both:
        for losses, wanted in zip(result["losses"], alone["losses"], strict=True):
            assert losses == pytest.approx(wanted, rel=1e-4)
        gradient, wanted_gradient = result["gradients"][0], alone["gradients"][0]
        for name, wanted in wanted_gradient.items():
            # biases before a batch norm have no gradient but rounding
            assert largest_difference(gradient[name], wanted) < 1e-4 or wanted.abs().max() < 1e-4, name
        joined, wanted_joined = (torch.cat([g.flatten() for g in x.values()]) for x in (gradient, wanted_gradient))
        assert largest_difference(joined, wanted_joined) < 3e-5


def test_two_processes_end_with_the_weights_and_statistics_of_one(results: list[dict[str, Any]]) -> None:
    alone, *both = (result["state"] for result in results)
    for state in both:
        assert state.keys() == alone.keys()
        for name, wanted in alone.items():
            torch.testing.assert_close(state[name], wanted, rtol=1e-4, atol=2e-5, msg=name)


def test_two_processes_agree_to_the_last_bit(results: list[dict[str, Any]]) -> None:
    _, one, other = results
    assert one["losses"] == other["losses"]
    for first, second in zip(one["gradients"], other["gradients"], strict=True):
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(one["state"][name], other["state"][name]) for name in one["state"])


# What the processes tell each other


def tell(folder: str) -> int:
    with join(CPU) as world:
        seen = {
            "any": world.any(world.rank == 1, False, True),
            "gather": world.gather(f"from {world.rank}"),
            "share": world.share(lambda: ["made by", world.rank]),
            "sum": world.sum(torch.tensor([1.0, world.rank + 2.0])).tolist(),
            "size": (world.size, world.local_rank, world.local_size, world.is_rank_0),
        }
        try:
            check_same("the colour", ("red", "blue", "red")[world.rank], world)
        except TrainingError as error:
            seen["same"] = error.message
        with world.one_after_the_other():
            seen["found"] = Path(f"{folder}/made").exists()
            Path(f"{folder}/made").touch()
        torch.save(seen, f"{folder}/{world.rank}.pt")
    return 0


def test_what_processes_tell_each_other(tmp_path: Path) -> None:
    assert run_workers(["cpu"] * 3, tell, {"folder": str(tmp_path)}) == 0
    seen = [torch.load(tmp_path / f"{rank}.pt") for rank in range(3)]
    for rank, one in enumerate(seen):
        assert one["any"] == (True, False, True)
        assert one["gather"] == ["from 0", "from 1", "from 2"]
        assert one["share"] == ["made by", 0]
        assert one["sum"] == [3.0, 2.0 + 3.0 + 4.0]
        assert one["size"] == (3, rank, 3, rank == 0)
        assert one["found"] == (rank > 0)
        assert "process 0 has red, process 1 has blue" in one["same"]


def test_alone_everything_is_the_identity() -> None:
    value = torch.ones(2)
    assert ALONE.sum(value) is value
    assert ALONE.any(True, False) == (True, False)
    assert ALONE.gather(3) == [3]
    assert ALONE.share(lambda: 4) == 4
    assert list(ALONE.part(7)) == list(range(7))
    with join(CPU) as world:
        assert world == ALONE
    model = build(TINY)
    join_norms(model, ALONE, CPU)
    assert not any(isinstance(module, SyncBatchNorm) for module in model.modules())


@given(count=st.integers(0, 300), size=st.integers(1, 40))
def test_parts_make_the_whole(count: int, size: int) -> None:
    parts = [World(rank, size).part(count) for rank in range(size)]
    assert [i for part in parts for i in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_batch_smaller_than_the_number_of_processes_is_refused() -> None:
    check_batch(4, World(0, 4))
    with pytest.raises(UsageError, match=r"train\.batch is 3, but there are 4 processes"):
        check_batch(3, World(0, 4))


# Global batch norm


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_synchronised_norm_of_one_process_is_batch_norm(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 6, 9, 7, generator=generator) * 4 + 100  # a mean that squares must not drown in
    x = x.to(dtype).contiguous(memory_format=torch.channels_last)
    plain = nn.BatchNorm2d(6)
    with torch.no_grad():
        plain.weight.copy_(torch.rand(6, generator=generator) + 0.5)
        plain.bias.copy_(torch.randn(6, generator=generator))
    synchronised = SyncBatchNorm(copy.deepcopy(plain), ALONE)
    assert synchronised.state_dict().keys() == plain.state_dict().keys()
    weight = torch.randn(x.shape, generator=generator)
    outputs = []
    for norm in (plain, synchronised):
        inputs = x.clone().requires_grad_()
        out = norm(inputs)
        (out.float() * weight).sum().backward()
        outputs.append((out, inputs.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var))
    tolerance = 2e-5 if dtype == torch.float32 else 2e-2
    assert outputs[1][0].dtype == dtype
    assert outputs[1][0].is_contiguous(memory_format=torch.channels_last)
    for got, wanted in zip(outputs[1], outputs[0], strict=True):
        torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance * float(wanted.detach().abs().max()))
    assert synchronised.num_batches_tracked == 1
    synchronised.eval()
    plain.eval()
    torch.testing.assert_close(synchronised(x), plain(x), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("device", "kind"), [("cpu", SyncBatchNorm), ("cuda", nn.SyncBatchNorm)])
def test_synchronised_norms_keep_names_and_parameters(device: str, kind: type) -> None:
    model = build(TINY, seed=0)
    before = {name: id(p) for name, p in model.named_parameters()}
    keys = model.state_dict().keys()
    norms = sum(type(module) is nn.BatchNorm2d for module in model.modules())
    join_norms(model, World(0, 2), torch.device(device))
    assert {name: id(p) for name, p in model.named_parameters()} == before
    assert model.state_dict().keys() == keys
    assert sum(type(module) is kind for module in model.modules()) == norms
    assert sum(type(module) is nn.BatchNorm2d for module in model.modules()) == 0


# A process that fails


def fail(how: str) -> int:
    with join(CPU) as world:
        world.gather(None)
        if world.rank == 1:
            if how == "error":
                raise DataError("x.jpg: is gone", "put it back")
            if how == "bug":
                raise ValueError("a bug of ours")
            os._exit(7)
        world.gather(None)
    return 0


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("error", DataError, r"process 1 \(cpu\): x.jpg: is gone"),
        ("bug", TrainingError, r"process 1 \(cpu\) ended with exit code 1.*\n(.*\n)*.*a bug of ours"),
        ("exit", TrainingError, r"process 1 \(cpu\) ended with exit code 7"),
    ],
)
def test_one_that_fails_ends_all_with_its_own_message(how: str, kind: type, message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        run_workers(["cpu", "cpu"], fail, {"how": how})
    assert type(caught.value) is kind
    assert caught.value.hint


def test_no_landmarks_and_no_faces_in_one_part() -> None:
    """A part may have neither positives nor landmarks: its share is then 0 and finite."""
    model = build(replace(TINY, landmarks=replace(TINY.landmarks, names=(), mirror=())), seed=0).train()
    batch = cut(global_batch(0), range(4, 5))
    batch = replace(batch, landmarks=batch.landmarks[:, :0])
    losses = make_step(model, make_optimizer(model, SGD), Task(SGD, torch.float32))(batch)
    assert losses["landmarks"] == 0
    assert losses["positives"] == 0
    assert all(bool(value.isfinite()) for value in losses.values())
