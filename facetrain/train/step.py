"""One training step: forward, assignment, losses, backward, update."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from facetrain.config.schema import TrainConfig
from facetrain.data.batch import Batch
from facetrain.model.yunet import YuNet
from facetrain.train.assign import assign
from facetrain.train.distributed import ALONE, World
from facetrain.train.losses import compute_losses, landmark_faces

Losses = dict[str, Tensor]
Gradients = Callable[[Batch], Losses]  # leaves the gradients in the model


def batch_losses(model: YuNet, batch: Batch, config: TrainConfig, dtype: torch.dtype, world: World = ALONE) -> Losses:
    """The loss terms of one batch as scalars on the device, and beside them `positives`, the number of matched priors.

    The network runs in `dtype` (float32 or bfloat16, by autocast); assignment and losses are float32 in any case.
    With several processes the terms are this one's share of the joint batch's losses.
    """
    with torch.autocast(batch.images.device.type, dtype, enabled=dtype != torch.float32):
        predictions = model(batch.images)
    targets = assign(predictions, batch, config.assign, config.loss.ignored == "mask")
    positives = targets.positive.sum()
    faces = landmark_faces(targets.landmark_weight)
    if world.size > 1:
        joint, faces = world.sum(torch.stack([positives, faces])).unbind()
    else:
        joint = positives
    return compute_losses(predictions, targets, joint.clamp(min=1), config.loss, faces) | {"positives": positives}


def forward_backward(
    model: YuNet,
    batch: Batch,
    config: TrainConfig,
    dtype: torch.dtype,
    world: World = ALONE,
    losses: Callable[..., Losses] = batch_losses,
) -> Losses:
    """Gradients of one batch, and what `losses` gives, detached."""
    terms = losses(model, batch, config, dtype, world)
    torch.autograd.backward(torch.stack([value for name, value in terms.items() if name != "positives"]).sum())
    return {name: value.detach() for name, value in terms.items()}


def plain_gradients(
    model: YuNet,
    config: TrainConfig,
    dtype: torch.dtype,
    world: World = ALONE,
    losses: Callable[..., Losses] = batch_losses,
) -> Gradients:
    """`forward_backward` as a function of the batch alone. Each call drops the gradients of the one before."""

    def gradients(batch: Batch) -> Losses:
        model.zero_grad(set_to_none=True)
        return forward_backward(model, batch, config, dtype, world, losses)

    return gradients


def make_step(
    model: YuNet,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    dtype: torch.dtype,
    clip: float | None = None,
    world: World = ALONE,
    gradients: Gradients | None = None,
) -> Callable[[Batch], Losses]:
    """The whole step as one function of the batch; the learning rate is set outside. Returns the joint batch's losses.

    clip:      largest gradient norm
    gradients: a faster twin of `plain_gradients` (train/accelerate.py)
    A loss that is seen not to be finite updates nothing.
    """
    compute = gradients or plain_gradients(model, config, dtype, world)

    def step(batch: Batch) -> Losses:
        losses = world.sum_gradients(model, compute(batch))
        if clip is not None:
            clip_grad_norm_(model.parameters(), clip)
        if seen_finite(losses):
            optimizer.step()
        return losses

    return step


def seen_finite(losses: Losses) -> bool:
    """Whether all losses are finite, on a CPU; elsewhere True: looking would make the step wait."""
    return all(not value.is_cpu or bool(value.isfinite()) for value in losses.values())
