"""Compiled and recorded steps against the plain one, and what is chosen when."""

import copy
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from train_runs import Recorder, assert_same, tiny_config, train

from facetrain.config.schema import Config, ModelConfig, TrainConfig
from facetrain.core.errors import TrainingError
from facetrain.core.run_dir import RunDir
from facetrain.data.batch import FACE, IGNORED, PADDING, Batch
from facetrain.model.frozen import freeze
from facetrain.model.kernels import choose as choose_kernels
from facetrain.model.kernels.plain import FOLDED, PLAIN
from facetrain.model.safe_file import read_tensors
from facetrain.model.yunet import YuNet, build
from facetrain.train import accelerate, assign, losses
from facetrain.train.accelerate import Captured, FallingBack, choose, compiled_losses, fuse, rows_of
from facetrain.train.assign import CHUNK, GPU_CHUNK, most_rows
from facetrain.train.optim.optimizers import make_optimizer
from facetrain.train.parallel.world import ALONE, World
from facetrain.train.step import Gradients, Task, batch_losses, make_step, plain_gradients

Result = TypeVar("Result")
TINY = ModelConfig(stem=(3, 8, 8), stages=((8, 8), (8, 16), (16, 16), (16, 16), (16, 16)), head_channels=16)
SMALLEST = ModelConfig(stem=(3, 6, 6), stages=((6, 6),), pool_after=(0,), maps=(1,), strides=(4,), head_channels=6)
CONFIG = TrainConfig(optimizer="adamw", lr=0.003)
TASK = Task(CONFIG, torch.float32)
TAUGHT = replace(TASK, teacher=freeze(build(TINY, seed=77)))
ALONE_TAUGHT = replace(TAUGHT, config=replace(CONFIG, label_weight=0.0))
FURTHER = replace(
    TAUGHT, terms=(*TAUGHT.terms, lambda seen: {"sides": seen.predictions.boxes[..., 2:].square().mean()})
)
PACE: Any = SimpleNamespace(total=3, budget=None)
CUDA, CPU = torch.device("cuda"), torch.device("cpu")


def drawn(seed: int, faces: int, size: int = 64) -> Batch:
    """Three noise images with so many faces between them, a fifth of them ignored, filled up like a real batch."""
    rng = np.random.default_rng(seed)
    rows = -(-faces // 16) * 16
    boxes, landmarks = np.zeros((rows, 4), np.float32), np.zeros((rows, 5, 3), np.float32)
    image, kind = np.zeros(rows, np.int64), np.full(rows, PADDING, np.int8)
    centres, sides = rng.uniform(10, size - 10, (faces, 2)), rng.uniform(4, 20, (faces, 1))
    boxes[:faces] = np.concatenate([centres - sides / 2, centres + sides / 2], 1)
    landmarks[:faces, :, :2] = centres[:, None] + rng.uniform(-3, 3, (faces, 5, 2))
    landmarks[:faces, :, 2] = rng.random((faces, 1)) < 0.8
    image[:faces] = rng.integers(0, 3, faces)
    kind[:faces] = np.where(rng.random(faces) < 0.2, IGNORED, FACE)
    pixels = rng.integers(0, 256, (3, 3, size, size)).astype(np.float32)
    faces_of = (torch.from_numpy(part) for part in (boxes, landmarks, image, kind))
    return Batch(torch.from_numpy(pixels).to(memory_format=torch.channels_last), *faces_of)


def train_some(
    model: YuNet, gradients: Gradients | None, batches: list[Batch], task: Task = TASK
) -> list[dict[str, float]]:
    """Steps of AdamW; returns their losses, looked at only in the end."""
    step = make_step(model, make_optimizer(model, CONFIG), task, 10.0, gradients)
    losses = [step(batch) for batch in batches]
    return [{name: value.item() for name, value in some.items()} for some in losses]


def assert_same_training(make: Callable[[YuNet], Gradients], batches: list[Batch], task: Task = TASK) -> None:
    """Losses, weights and statistics equal those of the plain step, bit by bit."""
    model = build(TINY, seed=0).train()
    plain = copy.deepcopy(model)
    wanted = train_some(plain, None, batches, task)
    assert train_some(model, make(model), batches, task) == wanted
    for name, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


# Compiled


@pytest.fixture
def sums_of_all_priors(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU the plain step looks at matched priors alone; their sums have other last bits than those of all."""
    for module in (assign, losses):
        monkeypatch.setattr(module, "may_look", lambda tensor: False)


@pytest.mark.slow
@pytest.mark.usefixtures("sums_of_all_priors")
@pytest.mark.parametrize("task", [TASK, TAUGHT, ALONE_TAUGHT, FURTHER], ids=["labels", "both", "teacher", "further"])
def test_one_compiled_program_serves_any_number_of_faces(task: Task) -> None:
    """Traced whole and run by torch's own operations, it has to give the plain step's very bits."""
    programs: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        programs.append(1)
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    torch._dynamo.reset()
    losses = compiled_losses(backend)  # type: ignore[arg-type]
    batches = [drawn(seed, faces) for seed, faces in enumerate((7, 40, 3, 100))]
    assert_same_training(lambda model: plain_gradients(model, task, losses), batches, task)
    assert programs == [1]


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="needs a C++ compiler")
def test_compiled_step_on_a_cpu_is_close_to_the_plain_one() -> None:
    """A network of one stage, so that compiling takes seconds."""
    torch._dynamo.reset()
    model = build(SMALLEST, seed=0).train()
    plain, batch = copy.deepcopy(model), drawn(0, 9, 32)
    fast = plain_gradients(model, TASK, compiled_losses())(batch)
    wanted = plain_gradients(plain, TASK)(batch)
    for name, value in wanted.items():
        torch.testing.assert_close(fast[name], value, rtol=1e-4, atol=1e-5, msg=name)
    largest = max(float(parameter.grad.abs().max()) for parameter in plain.parameters())
    for (name, parameter), other in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-3, atol=1e-5 * largest, msg=name)
    for (name, buffer), other in zip(model.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(buffer, other, rtol=1e-4, atol=1e-4, msg=name)


# Recorded


class Tape:
    """A recorder without a GPU: recording leaves no trace in the model, replaying writes into the recorded tensors."""

    def __init__(self, model: YuNet) -> None:
        self.model = model
        self.recordings = self.plain_runs = 0

    def run(self, work: Callable[[], Result]) -> Result:
        self.plain_runs += 1
        return work()

    def record(self, work: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        self.recordings += 1
        before = [buffer.clone() for buffer in self.model.buffers()]
        result = work()
        gradients = [p.grad for p in self.model.parameters()]
        for tensor in (*result.values(), *gradients):
            tensor.fill_(float("nan"))  # what a recording returns is not filled in
        for buffer, value in zip(self.model.buffers(), before, strict=True):
            buffer.copy_(value)

        def replay() -> None:
            fresh = work()
            for name, value in fresh.items():
                result[name].copy_(value)
            for parameter, gradient in zip(self.model.parameters(), gradients, strict=True):
                gradient.copy_(parameter.grad)
                parameter.grad = None  # whoever looks for it must have been told where it is

        return result, replay


def test_recorded_steps_equal_plain_ones() -> None:
    """Also where sizes alternate, and where a batch leaves rows of an earlier one behind it."""
    faces = (5, 50, 3, 90, 60, 100, 1, 64, 33, 70)
    tapes: list[Tape] = []

    def make(model: YuNet) -> Gradients:
        tapes.append(Tape(model))
        return Captured(plain_gradients(model, TASK), model, tapes[0])

    assert_same_training(make, [drawn(seed, count) for seed, count in enumerate(faces)])
    assert (tapes[0].recordings, tapes[0].plain_runs) == (2, 4)  # 64 and 128 rows, two plain runs each


def test_recorded_steps_take_the_weights_of_each_batch() -> None:
    def make(model: YuNet) -> Gradients:
        return Captured(plain_gradients(model, TASK), model, Tape(model))

    rng = np.random.default_rng(5)
    weights = [torch.from_numpy(rng.random(3).astype(np.float32)) for _ in range(6)]
    batches = [replace(drawn(seed, 20 + seed), label_weight=weight) for seed, weight in enumerate(weights)]
    assert_same_training(make, batches)


def test_recorded_steps_of_a_teacher_alone_need_no_face() -> None:
    def make(model: YuNet) -> Gradients:
        return Captured(plain_gradients(model, ALONE_TAUGHT), model, Tape(model))

    assert_same_training(make, [drawn(seed, count) for seed, count in enumerate((0, 0, 0, 5, 0))], ALONE_TAUGHT)


def test_a_teacher_looks_within_the_recorded_step() -> None:
    """Where it always looks at the same memory: that of the step's own images."""
    seen: list[tuple[bool, int]] = []
    teacher = freeze(build(TINY, seed=1))
    teacher.register_forward_pre_hook(lambda _, given: seen.append((inside[-1], given[0].data_ptr())))
    inside = [False]

    def gradients(batch: Batch) -> dict[str, torch.Tensor]:
        inside.append(True)
        losses = plain_gradients(model, replace(TAUGHT, teacher=teacher))(batch)
        inside.pop()
        return losses

    model = build(TINY, seed=0).train()
    tape = Tape(model)
    captured = Captured(gradients, model, tape)
    for seed in range(5):
        captured(drawn(seed, 9))
    # twice in the ordinary way, once while it is recorded, and by each of three replays
    assert (tape.plain_runs, tape.recordings, len(seen)) == (2, 1, 6)
    assert {place for _, place in seen} == {captured.inputs[64].images.data_ptr()}
    assert all(within for within, _ in seen)


@given(count=st.integers(1, 1024))
def test_rows_have_room_and_take_few_values(count: int) -> None:
    assert count <= rows_of(count)
    assert rows_of(count) in (64, 128, 256) or rows_of(count) % 256 == 0
    assert rows_of(count) < max(65, 2 * count if count <= 256 else count + 256)


class Log(TorchDispatchMode):
    """Remembers every operation with the devices it touches."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[str, set[str]]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        self.operations.append((str(function), {tensor.device.type for tensor in tensors}))
        return result


@pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 11),
    reason="an older torch ends the process where a convolution meets tensors that pretend to be on a GPU",
)
def test_step_never_leaves_the_device() -> None:
    """With tensors that only pretend to be on a GPU: a copy from the host, or a wait for a value, breaks recording."""

    def pretend(tensor: torch.Tensor) -> torch.Tensor:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cuda")

    model, batch = build(TINY, seed=0).train(), drawn(0, 40)
    with FakeTensorMode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # autocast misses a real GPU
        for module in model.modules():
            for name, parameter in list(module._parameters.items()):
                module._parameters[name] = None if parameter is None else torch.nn.Parameter(pretend(parameter))
            for name, buffer in list(module._buffers.items()):
                module._buffers[name] = pretend(buffer)
        parts = (batch.images, batch.boxes, batch.landmarks, batch.image, batch.kind)
        with Log() as log:
            batch_losses(model, Batch(*(pretend(part) for part in parts)), TASK)
    assert len(log.operations) > 500
    assert [entry for entry in log.operations if entry[1] - {"cuda"}] == []
    waits = ("_local_scalar_dense", "nonzero", "masked_select", "item", "equal.")
    assert [name for name, _ in log.operations if any(wait in name for wait in waits)] == []
    # of the assigner: the passes over all faces and priors that no compiler joins with others
    names = [name.removeprefix("aten.").partition(".")[0].rstrip("_") for name, _ in log.operations]
    assert [names.count(name) for name in ("topk", "sort", "scatter_reduce", "scatter_add")] == [1, 0, 1, 1]


# Falling back


class Works:
    """A way to gradients that fails from its n-th call on."""

    def __init__(self, gradients: Gradients, model: YuNet, fails_at: int, error: Exception) -> None:
        self.gradients, self.model, self.fails_at, self.error = gradients, model, fails_at, error
        self.calls = 0

    def __call__(self, batch: Batch) -> dict[str, torch.Tensor]:
        losses = self.gradients(batch)
        self.calls += 1
        if self.calls >= self.fails_at:
            raise self.error
        return losses


def test_what_fails_at_first_leaves_no_trace() -> None:
    events, tried = Recorder(), []

    def make(model: YuNet) -> Gradients:
        plain = plain_gradients(model, TASK)
        tried.append(Works(plain, model, 1, RuntimeError("\nno compiler here\nmore lines")))
        return FallingBack("compiling", tried[0], plain, model, events)

    assert_same_training(make, [drawn(seed, 9) for seed in range(3)])
    assert tried[0].calls == 1  # and it is not tried again
    assert events.notes == ["warning: compiling failed, training goes on without: no compiler here"]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), TrainingError("a process is gone")])
def test_what_a_safer_way_would_not_mend_is_raised(error: Exception) -> None:
    model = build(TINY, seed=0).train()
    plain = plain_gradients(model, TASK)
    events = Recorder()
    with pytest.raises(type(error)):
        FallingBack("compiling", Works(plain, model, 1, error), plain, model, events)(drawn(0, 9))
    assert events.notes == []


def test_run_whose_compiler_fails_is_a_plain_run(
    data: Path, tmp_path: Path, unbroken: Callable[..., RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_compiler() -> Callable[..., Any]:
        def losses(*_: Any) -> Any:
            raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found")

        return losses

    monkeypatch.setattr(accelerate, "compiled_losses", no_compiler)
    events = Recorder()
    run = train(tiny_config(data, compile="on"), tmp_path, events=events)
    assert [note for note in events.notes if "compile: " in note or "compiling" in note] == [
        "compile: on, as asked",
        "warning: compiling failed, training goes on without: InvalidCxxCompiler: No working C++ compiler found",
    ]
    for name in ("model", "optimizer"):
        assert_same(read_tensors(run.last)[name], read_tensors(unbroken().last)[name])


@pytest.mark.slow
@pytest.mark.usefixtures("sums_of_all_priors")
def test_compiled_run_is_the_plain_run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way from the setting to the step, with torch's own operations behind the traced program."""
    torch._dynamo.reset()
    used: list[int] = []

    def traced() -> Callable[..., Any]:
        used.append(1)
        return compiled_losses("aot_eager")

    monkeypatch.setattr(accelerate, "compiled_losses", traced)
    config = tiny_config(data, compile="on")
    run, plain = train(config, tmp_path), train(tiny_config(data), tmp_path)
    assert used == [1]
    for name in ("model", "optimizer"):
        assert_same(read_tensors(run.last)[name], read_tensors(plain.last)[name])


def test_statistics_are_restored_when_a_later_number_of_rows_fails() -> None:
    """Each number of rows may be compiled anew: batch norms that a failed try has moved are put back."""
    model = build(TINY, seed=0).train()
    plain = plain_gradients(model, TASK)

    def fast(batch: Batch) -> dict[str, torch.Tensor]:
        losses = plain(batch)
        if len(batch.boxes) > 64:
            raise RuntimeError("no program for so many")
        return losses

    other = copy.deepcopy(model)
    works, safe = FallingBack("compiling", fast, plain, model, Recorder()), plain_gradients(other, TASK)
    for faces in (9, 9, 70, 9):
        works(drawn(0, faces))
        safe(drawn(0, faces))
    for ours, expected in zip(model.buffers(), other.buffers(), strict=True):
        assert torch.equal(ours, expected)


def test_a_gpu_takes_crowds_in_one_piece() -> None:
    assert (most_rows(CPU), most_rows(CUDA)) == (CHUNK, GPU_CHUNK) == (1024, 8192)


def test_a_failed_recording_ends_the_run_with_the_way_on() -> None:
    error = accelerate.recording_failed(RuntimeError("\noperation not permitted when stream is capturing\nmore"))
    assert error.message == "recording CUDA graphs failed: operation not permitted when stream is capturing"
    assert error.hint is not None and "`compile: off`" in error.hint


# The choice

LONG, SHORT = 640 * 12_880, 20_000


@pytest.mark.parametrize(
    ("mode", "device", "images", "world", "max_time", "wanted", "said"),
    [
        (
            "auto",
            CUDA,
            LONG,
            ALONE,
            None,
            (True, True),
            "8,243,200 images to go at 640x640, which saves about 2 h 19",
        ),
        (
            "auto",
            CUDA,
            SHORT,
            ALONE,
            None,
            (False, False),
            "compile: off: 20,000 images to go at 640x640, which saves",
        ),
        ("auto", CUDA, LONG, ALONE, 100.0, (False, False), "saves about 71 s for up to 2 min of preparation"),
        ("auto", CUDA, LONG, World(1, 2), None, (False, False), "compile: off: 2 processes"),
        ("on", CUDA, LONG, World(1, 2), None, (False, False), "compile: off: 2 processes"),
        ("auto", CPU, LONG, ALONE, None, (False, False), "only done when asked for on cpu"),
        ("on", CPU, SHORT, ALONE, None, (True, False), "compile: on, as asked"),
        ("on", CUDA, SHORT, ALONE, None, (True, True), "compile: on, each step as one CUDA graph, as asked"),
        ("off", CUDA, LONG, ALONE, None, (False, False), "compile: off, as asked"),
    ],
)
def test_choice(
    mode: str, device: torch.device, images: int, world: World, max_time: float | None,
    wanted: tuple[bool, bool], said: str,
) -> None:  # fmt: skip
    choice = choose(mode, device, images, 640, world, max_time)
    assert (choice.compiled, choice.captured) == wanted
    assert said in choice.line


def test_smaller_images_have_to_be_more() -> None:
    enough = next(n for n in range(0, 10**7, 10**4) if choose("auto", CUDA, n, 640, ALONE, None).compiled)
    assert not choose("auto", CUDA, 2 * enough, 320, ALONE, None).compiled
    assert choose("auto", CUDA, 4 * enough + 10, 320, ALONE, None).compiled


def test_crowds_take_the_plain_way(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past CHUNK rows the assigner works in pieces, and without any row not at all."""
    taken: list[int] = []

    def losses(model: YuNet, batch: Batch, task: Task) -> dict[str, torch.Tensor]:
        taken.append(len(batch.boxes))
        return batch_losses(model, batch, task)

    monkeypatch.setattr(accelerate, "compiled_losses", lambda: losses)
    model = build(TINY, seed=0).train()

    class Setup:
        config = replace(tiny_config(data), train=replace(CONFIG, compile="on"))
        world, device = ALONE, CPU

    gradients = accelerate.accelerated(Setup, model, TASK, PACE, 0, None, Recorder())  # type: ignore[arg-type]
    for faces in (0, 20, CHUNK, CHUNK + 1):
        gradients(drawn(0, faces))
    assert taken == [32, CHUNK]


@pytest.mark.parametrize(
    "mode, steps, processes, compiled, told",
    [
        ("auto", 40, 1, False, "fused kernels (cpu)"),
        ("auto", 3, 1, False, "too short"),
        ("on", 3, 1, False, "fused kernels (cpu)"),
        ("off", 4000, 1, False, "torch's own operations"),
        ("on", 4000, 2, False, "torch's own operations"),
        ("auto", 4000, 1, True, "torch's own operations"),
    ],
)
def test_fused_kernels_are_taken_where_they_repay(
    monkeypatch: pytest.MonkeyPatch, mode: str, steps: int, processes: int, compiled: bool, told: str
) -> None:
    taken = []
    monkeypatch.setattr(choose_kernels, "fused_kernels", lambda device, folder: taken.append(device) or replace(PLAIN))
    config = replace(Config(), train=replace(TrainConfig(), fused=mode, batch=16))
    setup = SimpleNamespace(config=config, device=torch.device("cpu"), world=SimpleNamespace(size=processes))
    monkeypatch.setattr(accelerate, "look_kernels", lambda device, folder: looking)
    looking = replace(FOLDED)
    task = replace(TASK, teacher=freeze(build(TINY)))
    monkeypatch.setattr(accelerate, "compiled_simota", taken.append)
    line, given = fuse(setup, build(TINY), task, SimpleNamespace(total=steps, plan=None), compiled)
    assert task.teacher is not None
    assert (task.teacher.kernels is looking) == ("fused" in told)  # type: ignore[arg-type]
    assert told in line
    assert len(taken) == 2 * ("fused" in told)
    assert (given.assigners is not None) == ("fused" in told)
