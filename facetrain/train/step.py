"""One training step: forward, assignment, losses, backward, update."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from facetrain.config.schema import TrainConfig
from facetrain.data.batch import Batch
from facetrain.model.yunet import YuNet
from facetrain.train.assign import assign
from facetrain.train.losses import compute_losses


def forward_backward(model: YuNet, batch: Batch, config: TrainConfig, dtype: torch.dtype) -> dict[str, Tensor]:
    """Gradients of one batch, and its loss terms as scalars on the device, with `positives` beside them.

    The network runs in `dtype` (float32 or bfloat16, by autocast); assignment and losses are float32 in any case.
    """
    with torch.autocast(batch.images.device.type, dtype, enabled=dtype != torch.float32):
        predictions = model(batch.images)
    targets = assign(predictions, batch, config.assign, config.loss.ignored == "mask")
    positives = targets.positive.sum()
    losses = compute_losses(predictions, targets, positives.clamp(min=1), config.loss)
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    return {name: value.detach() for name, value in losses.items()} | {"positives": positives}


def make_step(
    model: YuNet, optimizer: torch.optim.Optimizer, config: TrainConfig, dtype: torch.dtype, clip: float | None = None
) -> Callable[[Batch], dict[str, Tensor]]:
    """The whole step as one function of the batch; the learning rate is set outside. clip: largest gradient norm.

    A loss that is seen not to be finite updates nothing.
    """

    def step(batch: Batch) -> dict[str, Tensor]:
        optimizer.zero_grad(set_to_none=True)
        losses = forward_backward(model, batch, config, dtype)
        if clip is not None:
            clip_grad_norm_(model.parameters(), clip)
        if seen_finite(losses):
            optimizer.step()
        return losses

    return step


def seen_finite(losses: dict[str, Tensor]) -> bool:
    """Whether all losses are finite, on a CPU; elsewhere True: looking would make the step wait."""
    return all(not value.is_cpu or bool(value.isfinite()) for value in losses.values())
