"""One training step: forward, assignment, losses, backward, update."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from facetrain.config.schema import TrainConfig
from facetrain.data.batch import Batch
from facetrain.model.yunet import YuNet
from facetrain.train.assign import assign
from facetrain.train.distributed import ALONE, World
from facetrain.train.losses import compute_losses, landmark_faces
from facetrain.train.teacher import look, prior_weights, teacher_losses

Losses = dict[str, Tensor]
Gradients = Callable[[Batch], Losses]  # leaves the gradients in the model


@dataclass(frozen=True)
class Task:
    """What a step does, beside the model and the batch it does it with.

    dtype:   float32 or bfloat16: what the networks run in, by autocast; assignment and losses are float32 in any case
    teacher: a frozen network (train/teacher.py) where `config.teacher_weight` counts
    """

    config: TrainConfig
    dtype: torch.dtype
    world: World = ALONE
    teacher: YuNet | None = None


def batch_losses(model: YuNet, batch: Batch, task: Task) -> Losses:
    """The loss terms of one batch as scalars on the device, and beside them `positives`.

    positives: number of matched priors; where no labels count, the sum of the teacher's weights
    With several processes the terms are this one's share of the joint batch's losses.
    """
    config, world = task.config, task.world
    images = batch.images.to(task.dtype)  # once for both networks
    with torch.autocast(images.device.type, task.dtype, enabled=task.dtype != torch.float32):
        predictions = model(images)
        taught = look(task.teacher, images) if task.teacher is not None else None
    losses: Losses = {}
    if config.label_weight > 0:
        targets = assign(predictions, batch, config.assign, config.loss.ignored == "mask")
        positives = targets.positive.sum()
        faces = landmark_faces(targets.landmark_weight)
        if world.size > 1:
            joint, faces = world.sum(torch.stack([positives, faces])).unbind()
        else:
            joint = positives
        terms = compute_losses(predictions, targets, joint.clamp(min=1), config.loss, faces)
        losses |= _times(config.label_weight, terms) | {"positives": positives}
    if taught is not None:
        weight = prior_weights(taught)
        total = world.sum(weight.sum())
        terms = teacher_losses(predictions, taught, weight, total.clamp(min=1), config.loss)
        losses |= _times(config.teacher_weight, terms)
        if "positives" not in losses:
            losses["positives"] = weight.sum()
    return losses


def _times(factor: float, terms: Losses) -> Losses:
    return terms if factor == 1 else {name: factor * value for name, value in terms.items()}


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
) -> Callable[[Batch], Losses]:
    """The whole step as one function of the batch; the learning rate is set outside. Returns the joint batch's losses.

    clip:      largest gradient norm
    gradients: a faster twin of `plain_gradients` (train/accelerate.py)
    A loss that is seen not to be finite updates nothing.
    """
    compute = gradients or plain_gradients(model, task)

    def step(batch: Batch) -> Losses:
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
