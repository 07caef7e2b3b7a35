"""Averaged weights: what is validated and kept as best where averaging is on."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Ema:
    """Exponential moving average of all floating values of a model, batch-norm statistics included.

    The decay grows to its full value, min(decay, (1 + t) / (10 + t)), so that the first weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {key: value.detach().clone() for key, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the averages toward the model. step: number of optimiser steps done before this one."""
        decay = min(self.decay, (1 + step) / (10 + step))
        state = model.state_dict()
        floating = [key for key, value in self.state.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.state[key] for key in floating], [state[key] for key in floating], 1 - decay)
        for key in self.state.keys() - set(floating):
            self.state[key].copy_(state[key])

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from saved averages."""
        for key, value in self.state.items():
            value.copy_(state[key])
