"""One training step: forward, assignment, losses, backward, update."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_

from facetrain.config.schema import TrainConfig
from facetrain.data.batch import Batch
from facetrain.model.yunet import YuNet
from facetrain.train.assign import Assigner, assign
from facetrain.train.parallel.world import ALONE, World
from facetrain.train.teacher import look
from facetrain.train.terms import TERMS, Losses, Seen, Term

Gradients = Callable[[Any], Losses]  # of a Batch, or of its parts (parallel/lanes); leaves them in the model


@dataclass(frozen=True)
class Task:
    """What a step does, beside the model and the batch it does it with.

    dtype:   float32 or bfloat16: what the networks run in, by autocast; assignment and losses are float32 in any case
    teacher: a frozen network (train/teacher.py) where `config.teacher_weight` counts
    terms:   of the loss, in the order in which their losses are told
    assigners: where others than train/assign's are faster
    """

    config: TrainConfig
    dtype: torch.dtype
    world: World = ALONE
    teacher: YuNet | None = None
    terms: tuple[Term, ...] = field(default_factory=lambda: tuple(TERMS.values()))
    assigners: Mapping[str, Assigner] | None = None


def batch_losses(model: YuNet, batch: Batch, task: Task) -> Losses:
    """The losses of one batch as scalars on the device, and beside them `positives`.

    With several processes they are this one's share of the global batch's losses.
    """
    seen = see(model, batch, task)
    losses: Losses = {}
    for term in task.terms:
        losses |= term(seen)
    return losses


def see(model: YuNet, batch: Batch, task: Task) -> Seen:
    """Look at a batch with both networks, and assign its faces where labels count."""
    config = task.config
    images = batch.images.to(task.dtype)  # once for both networks
    with torch.autocast(images.device.type, task.dtype, enabled=task.dtype != torch.float32):
        predictions = model(images)
        taught = look(task.teacher, images) if task.teacher is not None else None
    targets = None
    if config.label_weight > 0:
        targets = assign(predictions, batch, config.assign, config.loss.ignored == "mask", task.assigners)
    return Seen(config, task.world, batch, predictions, targets, taught)


def forward_backward(
    model: YuNet, batch: Batch, task: Task, losses: Callable[[YuNet, Batch, Task], Losses] = batch_losses
) -> Losses:
    """Gradients of one batch, and what `losses` gives, detached."""
    terms = losses(model, batch, task)
    torch.autograd.backward(torch.stack([value for name, value in terms.items() if name != "positives"]).sum())
    return {name: value.detach() for name, value in terms.items()}


def plain_gradients(
    model: YuNet, task: Task, losses: Callable[[YuNet, Batch, Task], Losses] = batch_losses
) -> Gradients:
    """`forward_backward` as a function of the batch alone. Each call drops the gradients of the one before."""

    def gradients(batch: Batch) -> Losses:
        model.zero_grad(set_to_none=True)
        return forward_backward(model, batch, task, losses)

    return gradients


def make_step(
    model: YuNet,
    optimizer: torch.optim.Optimizer,
    task: Task,
    clip: float | None = None,
    gradients: Gradients | None = None,
) -> Callable[[Any], Losses]:
    """The whole step as one function of the batch; the learning rate is set outside. Returns the global batch's losses.

    clip:      largest gradient norm
    gradients: a faster twin of `plain_gradients` (train/accelerate.py)
    A loss that is seen not to be finite updates nothing.
    """
    compute = gradients or plain_gradients(model, task)

    def step(batch: Any) -> Losses:
        losses = task.world.sum_gradients(model, compute(batch))
        if clip is not None:
            clip_grad_norm_(model.parameters(), clip)
        if seen_finite(losses):
            optimizer.step()
        return losses

    return step


def seen_finite(losses: Losses) -> bool:
    """Whether all losses are finite, on a CPU; elsewhere True: looking would make the step wait."""
    return all(not value.is_cpu or bool(value.isfinite()) for value in losses.values())
