"""Muon: matrices are moved along an orthogonal direction, everything else by AdamW.

Keller Jordan's Muon (2024): the momentum of a matrix is replaced by the nearest orthogonal matrix before it is applied,
so that directions which rarely get a gradient are learnt as fast as the others. A few Newton-Schulz steps come near
enough. Here the matrices are the 1x1 convolutions, and those of one shape are treated together: there are few shapes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from facetrain.model.yunet import YuNet

MATRIX_MOMENTUM = 0.95
SMALLEST = 16  # outputs from which a 1x1 convolution is treated as a matrix
_STEPS = 5
_QUINTIC = (3.4445, -4.775, 2.0315)  # Jordan's polynomial: singular values end between about 0.7 and 1.2
_EPS = 1e-7


class Muon(torch.optim.Optimizer):
    """Muon for some parameters and AdamW for the others, under one rate.

    matrices, others: parameters; a matrix is (outputs, inputs, 1, 1) or (outputs, inputs)
    lr:               the matrices' rate, times sqrt(max(1, outputs / inputs)); other_lr: the others', at the same time
    matrix_decay, other_decay: decoupled weight decay, in units of the rate
    """

    def __init__(
        self,
        matrices: Sequence[nn.Parameter],
        others: Sequence[nn.Parameter],
        lr: float,
        other_lr: float,
        matrix_decay: float,
        other_decay: float,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        # a schedule sets `lr` of each group to its own rate times the group's `lr_scale`
        groups: list[dict[str, Any]] = [
            {"params": list(matrices), "kind": "matrix", "lr": lr, "lr_scale": 1.0, "weight_decay": matrix_decay},
            {
                "params": list(others),
                "kind": "other",
                "lr": other_lr,
                "lr_scale": other_lr / lr,
                "weight_decay": other_decay,
                "betas": betas,
            },
        ]
        super().__init__([group for group in groups if group["params"]], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            parameters: list[Tensor] = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            if group["kind"] == "matrix":
                self._move_matrices(parameters, group)
            else:
                self._move_others(parameters, group)

    def _move_matrices(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [_gradient(parameter) for parameter in parameters]
        momenta = self._kept("momentum", parameters)
        torch._foreach_lerp_(momenta, gradients, 1 - MATRIX_MOMENTUM)
        updates = torch._foreach_lerp(gradients, momenta, MATRIX_MOMENTUM)  # Nesterov's: a look ahead
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        shapes: dict[torch.Size, list[int]] = {}
        for index, update in enumerate(updates):
            shapes.setdefault(update.flatten(1).shape, []).append(index)
        for (outputs, inputs), indices in shapes.items():
            directions = orthogonalise(torch.stack([updates[index].flatten(1) for index in indices]))
            rate = group["lr"] * max(1.0, outputs / inputs) ** 0.5
            some = [parameters[index] for index in indices]
            moves = [direction.view_as(p) for direction, p in zip(directions.unbind(), some, strict=True)]
            torch._foreach_add_(some, moves, alpha=-rate)

    def _move_others(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """AdamW (Loshchilov & Hutter, 2019), bias correction included."""
        gradients = [_gradient(parameter) for parameter in parameters]
        first, second = self._kept("first", parameters), self._kept("second", parameters)
        beta1, beta2 = group["betas"]
        group["steps"] = steps = group.get("steps", 0) + 1
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        spread = torch._foreach_sqrt(second)
        torch._foreach_div_(spread, (1 - beta2**steps) ** 0.5)
        torch._foreach_add_(spread, 1e-8)
        torch._foreach_addcdiv_(parameters, first, spread, -group["lr"] / (1 - beta1**steps))

    def _kept(self, name: str, parameters: list[Tensor]) -> list[Tensor]:
        """A running value of each parameter, zeros at first."""
        for parameter in parameters:
            state = self.state[parameter]
            if name not in state:
                state[name] = torch.zeros_like(parameter)
        return [self.state[parameter][name] for parameter in parameters]


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def orthogonalise(matrices: Tensor) -> Tensor:
    """About U·Vᵀ of each matrix U·S·Vᵀ, by five Newton-Schulz steps. matrices: (N, outputs, inputs), as is the result.

    Singular values come out between about 0.7 and 1.2, which serves as well as 1. The work is done in float32: at
    64 x 64 it is cheap, and bfloat16 would depend on the machine.
    """
    a, b, c = _QUINTIC
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.float().mT if tall else matrices.float()
    x = x / x.flatten(1).norm(dim=1).clamp(min=_EPS)[:, None, None]
    for _ in range(_STEPS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    result: Tensor = x.mT if tall else x
    return result


def split_parameters(model: YuNet) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(matrices, others) of a YuNet: the 1x1 convolutions before any output unit are matrices, if they are wide."""
    given = set(model.network.outputs.values())
    behind = model.network.readers()
    wide = {
        id(model.convolution(conv.names[0]).weight)
        for conv in model.network.convs
        if conv.kernel == 1 and conv.inputs > 1 and conv.outputs >= SMALLEST
        if not any(given & set(reader.gives) for reader in behind[conv.y])
    }
    matrices = [parameter for parameter in model.parameters() if id(parameter) in wide]
    return matrices, [parameter for parameter in model.parameters() if id(parameter) not in wide]
