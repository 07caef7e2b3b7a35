"""Faster twins of a step's forward and backward pass: compiled, and recorded as one CUDA graph.

They wrap what train/step.py does and never repeat it, so the plain step stays the reference that both are tested
against. Optimiser and averages stay outside: they are hidden behind the graph's own work, and keep their rate in
Python.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from facetrain.core.errors import FacetrainError, TrainingError
from facetrain.core.files import user_cache
from facetrain.data.batch import PADDING, Batch
from facetrain.model.kernels.choose import look_kernels, use_fused
from facetrain.model.kernels.plain import PLAIN
from facetrain.model.yunet import YuNet
from facetrain.train.assign import ASSIGNERS, most_rows
from facetrain.train.events import Events
from facetrain.train.optim.pace import Pace, duration
from facetrain.train.parallel.lanes import Division, GroupGradients, divide
from facetrain.train.parallel.world import World
from facetrain.train.prepare import Setup
from facetrain.train.simota import compiled_simota
from facetrain.train.step import Gradients, Task, batch_losses, plain_gradients
from facetrain.train.terms import Losses

Result = TypeVar("Result")

# YuNet-n at 640x640 in images/s on one H100, and seconds until the first fast step (45 to 120): measured with an
# earlier program of the same network, not with this one, which no card has run yet. A slower GPU gains more seconds, so
# it is compiled for shorter runs than would pay there at the latest.
_PLAIN_RATE, _FAST_RATE, _SETUP_S = 700.0, 2400.0, 120.0
_FEWEST_FUSED = 500  # images of 640x640 that repay the seconds in which the CPU's kernels are compiled
_PLAIN_STEPS = 2  # of each size before it is recorded: compilers and libraries choose their kernels in them
_FEWEST_ROWS, _LARGEST_POWER = 64, 256
_ENDLESS = 10**9  # steps of a run that ends by time


@dataclass(frozen=True)
class Choice:
    """Whether steps are compiled, whether they are recorded as well, and the line that says so."""

    compiled: bool
    captured: bool
    line: str


def choose(mode: str, device: torch.device, images: int, size: int, world: World, max_time: float | None) -> Choice:
    """What `train.compile` (auto, on, off) comes to.

    images: that this process has still to train on; size: their side in pixels; max_time: seconds the run may take
    """
    if world.size > 1 and mode != "off":
        # Tried with Inductor: it joins sums over processes to tensors that it reads again later, and may change their
        # order, differently in each process. Wrong sums look like any other number.
        return Choice(False, False, f"compile: off: {world.size} processes have to add up in one order")
    captured = device.type == "cuda"
    what = "on, each step as one CUDA graph" if captured else "on"
    if mode != "auto":
        return Choice(mode == "on", mode == "on" and captured, f"compile: {what if mode == 'on' else 'off'}, as asked")
    if device.type != "cuda":
        return Choice(False, False, f"compile: off, only done when asked for on {device.type} (train.compile=on)")
    saved = images * (size / 640) ** 2 * (1 / _PLAIN_RATE - 1 / _FAST_RATE)
    if max_time is not None:
        saved = min(saved, max_time * (1 - _PLAIN_RATE / _FAST_RATE))
    pays = saved > _SETUP_S
    line = (
        f"compile: {what if pays else 'off'}: {images:,} images to go at {size}x{size}, which saves about "
        f"{duration(saved)} for up to {duration(_SETUP_S)} of preparation"
    )
    return Choice(pays, pays and captured, line)


def accelerated(
    setup: Setup, model: YuNet, task: Task, pace: Pace, step: int, seconds: float | None, events: Events
) -> Gradients:
    """The gradients of a run in the way that suits it; says what was chosen and why.

    step: where the run stands; seconds: that it may still take, None for any time
    """
    config, world = setup.config, setup.world
    steps = _ENDLESS if pace.total is None else pace.total - step
    images = steps * len(world.part(config.train.batch))
    choice = choose(config.train.compile, setup.device, images, config.data.size, world, seconds)
    events.note(choice.line)
    line, task = fuse(setup, model, task, pace, choice.compiled)
    events.note(line)
    division, line = groups_of(setup, choice.compiled)
    if line:
        events.note(line)
    if division is not None:
        return GroupGradients(model, task, division)
    plain = plain_gradients(model, task)
    if not choice.compiled:
        return plain
    compiled = plain_gradients(model, task, compiled_losses())
    fast: Gradients = FallingBack("compiling", compiled, plain, model, events)
    if choice.captured:
        fast = Captured(fast, model, CudaRecorder(setup.device))

    def gradients(batch: Batch) -> Losses:
        # a crowd goes through the assigner in pieces, and nobody at all past it: other programs, too rare to compile
        usual = 0 < len(batch.boxes) <= most_rows(setup.device) or config.train.label_weight == 0
        return (fast if usual else plain)(batch)

    return gradients


def groups_of(setup: Setup, compiled: bool) -> tuple[Division | None, str]:
    """The groups of a step's crops and their lanes; None where the whole batch goes through the network at once.

    Beside it a line to say, which may be empty.
    """
    if setup.device.type != "cpu" or setup.world.size > 1 or compiled:
        return None, ""
    train = setup.config.train
    division = divide(train.batch, train.norm_group, torch.get_num_threads())
    if division.groups > 1:
        return division, division.sentence(train.batch)
    if division.threads == 1:
        return None, ""
    return None, (
        f"step: one group of {train.batch} crops on {division.threads} threads, which lose much where other programs "
        "run: there a larger `batch`, `train.norm_group` or `threads` 1 is faster"
    )


def fuse(setup: Setup, model: YuNet, task: Task, pace: Pace, compiled: bool) -> tuple[str, Task]:
    """Let networks and assigner use facetrain's own kernels where `train.fused` says so.

    Returns the line that tells, and the task with what it uses. What decides is the whole run, not what is left of it:
    a run that is resumed must go on with the same kernels.
    """
    config, device = setup.config, setup.device
    mode = config.train.fused
    if setup.world.size > 1 or (compiled and device.type == "cpu"):
        return "network: torch's own operations", task  # the fused ones know neither SyncBatchNorm nor torch.compile
    images = (pace.total or 0) * config.train.batch * (config.data.size / 640) ** 2
    short = pace.plan is None and images < _FEWEST_FUSED  # where a clock plans, the repeat must choose alike
    if mode == "auto" and device.type == "cpu" and short:
        return "network: torch's own operations, the run is too short to compile faster ones", task
    folder = user_cache() / "facetrain" / "kernels"
    line = use_fused(model, mode, device, folder)
    if model.kernels is PLAIN:
        return line, task
    if task.teacher is not None:
        task.teacher.kernels = look_kernels(device, folder)
    if device.type == "cpu" and task.config.label_weight > 0:
        task = replace(task, assigners=ASSIGNERS | {"simota": compiled_simota(folder)})
    return line, task


def compiled_losses(backend: str = "inductor") -> Callable[[YuNet, Batch, Task], Losses]:
    """`batch_losses`, compiled when first called; one program for any number of faces."""

    def flat(model: YuNet, tensors: tuple[Tensor, ...], task: Task) -> Losses:
        return batch_losses(model, Batch(*tensors), task)

    program: Callable[..., Losses] = torch.compile(flat, backend=backend, fullgraph=True)

    def losses(model: YuNet, batch: Batch, task: Task) -> Losses:
        faces = (batch.boxes, batch.landmarks, batch.image, batch.kind)
        for tensor in faces:
            torch._dynamo.maybe_mark_dynamic(tensor, 0)
        weight = () if batch.label_weight is None else (batch.label_weight,)
        return program(model, (batch.images, *faces, *weight), task)

    return losses


class FallingBack:
    """A fast way until it fails, then the safe one, with one line that says so."""

    def __init__(self, what: str, fast: Gradients, safe: Gradients, model: YuNet, events: Events) -> None:
        self.what, self.fast, self.safe = what, fast, safe
        self.model, self.events = model, events
        self.failed = False
        self.worked: set[int] = set()  # numbers of rows: each may be another program

    def __call__(self, batch: Batch) -> Losses:
        """Gradients and losses of the batch."""
        if self.failed:
            return self.safe(batch)
        # a first try may fail after its forward pass, which has moved the statistics of batch norm
        rows = rows_of(len(batch.boxes))
        before = None if rows in self.worked else [buffer.clone() for buffer in self.model.buffers()]
        try:
            losses = self.fast(batch)
        except (FacetrainError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # compilers raise of everything, down to a missing C++ compiler
            if batch.images.is_cuda and torch.cuda.is_current_stream_capturing():
                raise  # what failed is the recording around this
            for buffer, value in zip(self.model.buffers(), before or [], strict=False):
                buffer.copy_(value)
            self.failed = True
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            self.events.note(f"warning: {self.what} failed, training goes on without: {reason[:200]}")
            return self.safe(batch)
        self.worked.add(rows)
        return losses


class Recorder(Protocol):
    """Records work on a device to do it again, on the same memory."""

    def run(self, work: Callable[[], Result]) -> Result:
        """Do it once in the ordinary way, where it would be recorded."""

    def record(self, work: Callable[[], Result]) -> tuple[Result, Callable[[], None]]:
        """Record it without doing it. Returns its result, not yet filled in, and what fills it in."""


class CudaRecorder:
    """CUDA graphs, which share one pool of memory: they never run at the same time."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.pool = torch.cuda.graph_pool_handle()

    def run(self, work: Callable[[], Result]) -> Result:
        """Do it on the stream that is recorded later, so that all its memory belongs there."""
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result = work()
        current.wait_stream(self.stream)
        return result

    def record(self, work: Callable[[], Result]) -> tuple[Result, Callable[[], None]]:
        """Record it. The thread that makes batches may go on meanwhile."""
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
                result = work()
        except Exception as error:
            raise recording_failed(error) from error
        torch.cuda.current_stream().wait_stream(self.stream)
        return result, graph.replay


def recording_failed(error: Exception) -> TrainingError:
    """The end of a run whose recording failed.

    torch's allocator then takes all that follows for a part of the recording, and never gives that memory back (2.11).
    The steps so far are whole; a new process can go on with them.
    """
    reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return TrainingError(
        f"recording CUDA graphs failed: {reason[:200]}",
        "write `compile: off` into the run's config.yaml and go on with it",
    )


class Captured:
    """Gradients by recorded steps, one recording for each of a few numbers of rows.

    Inputs are copied into buffers that stay where they are: a recorded step must not copy from the host, nor look for
    its input elsewhere the next time.
    """

    def __init__(self, gradients: Gradients, model: YuNet, recorder: Recorder) -> None:
        self.gradients = gradients
        self.parameters = list(model.parameters())
        self.recorder = recorder
        self.inputs: dict[int, Batch] = {}
        self.runs: dict[int, int] = {}
        self.recorded: dict[int, tuple[Losses, list[Tensor | None], Callable[[], None]]] = {}

    def __call__(self, batch: Batch) -> Losses:
        """Gradients and losses of the batch."""
        rows = rows_of(len(batch.boxes))
        inputs = self._fill(batch, rows)
        if self.runs.get(rows, 0) < _PLAIN_STEPS:
            self.runs[rows] = self.runs.get(rows, 0) + 1
            return self.recorder.run(lambda: self.gradients(inputs))
        if rows not in self.recorded:
            losses, replay = self.recorder.record(lambda: self.gradients(inputs))
            self.recorded[rows] = losses, [p.grad for p in self.parameters], replay
        losses, gradients, replay = self.recorded[rows]
        replay()
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        # the next replay writes over them, and they may be looked at later
        return dict(zip(losses, torch.stack(list(losses.values())).unbind(), strict=True))

    def _fill(self, batch: Batch, rows: int) -> Batch:
        """The batch in the buffers of its number of rows; all of them share the images."""
        if rows not in self.inputs:
            images = next((other.images for other in self.inputs.values()), torch.empty_like(batch.images))
            faces = [
                part.new_zeros((rows, *part.shape[1:]))
                for part in (batch.boxes, batch.landmarks, batch.image, batch.kind)
            ]
            weight = None if batch.label_weight is None else torch.empty_like(batch.label_weight)
            self.inputs[rows] = replace(Batch(images, *faces), label_weight=weight)
        inputs, count = self.inputs[rows], len(batch.boxes)
        inputs.images.copy_(batch.images)
        inputs.boxes[:count].copy_(batch.boxes)
        inputs.landmarks[:count].copy_(batch.landmarks)
        inputs.image[:count].copy_(batch.image)
        inputs.kind[:count].copy_(batch.kind)
        if inputs.label_weight is not None and batch.label_weight is not None:
            inputs.label_weight.copy_(batch.label_weight)
        inputs.kind[count:].fill_(PADDING)  # what an earlier batch left in these rows means nothing
        inputs.image[count:].fill_(0)
        return inputs


def rows_of(count: int) -> int:
    """Rows of the buffers for so many faces: few different ones, so that a run needs few recordings.

    Powers of two up to 256, and multiples of that beyond: twice as many rows are twice the assigner's work.
    """
    if count > _LARGEST_POWER:
        return -(-count // _LARGEST_POWER) * _LARGEST_POWER
    return max(_FEWEST_ROWS, 1 << max(0, count - 1).bit_length())
