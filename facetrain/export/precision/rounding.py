"""Weights as int8, rounded so that a convolution's outputs and not its weights stay as close as can be."""

import numpy as np
from numpy.typing import NDArray

from facetrain.core.faces import Floats
from facetrain.export.precision.statistics import Doubles

TOP = 127  # int8 without -128: symmetric, as every runtime wants weights
_DAMPING = 0.01  # of the mean moment, added to the diagonal: keeps the inverse tame where inputs depend on each other


def steps_of(weight: Floats, bias: Floats, input_step: float) -> Floats:
    """The step of each output channel (out,) float32: its largest weight is 127 steps.

    The bias is stored as int32 in steps of weight step times input step, so a channel whose bias would not fit gets
    larger ones; that happens only where its weights do not matter.
    """
    steps = np.abs(weight.astype(np.float64)).reshape(len(weight), -1).max(1) / TOP
    steps = np.maximum(steps, np.abs(bias.astype(np.float64)) / input_step / 2**30)
    rounded: Floats = np.where(steps > 1e-30, steps, 1.0).astype(np.float32)
    return rounded


def round_weight(weight: Floats, steps: Floats, moments: Doubles) -> NDArray[np.int8]:
    """(out, in / groups, k, k) as int8 in `steps` (out,). moments: see int8_statistics.Statistics."""
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    if moments.ndim == 2:
        rounded = _round_rows(rows, steps.astype(np.float64), moments)
    else:
        rounded = np.concatenate(
            [
                _round_rows(row[None], step[None], own)
                for row, step, own in zip(rows, steps.astype(np.float64), moments, strict=True)
            ]
        )
    return rounded.reshape(weight.shape).astype(np.int8)


def _round_rows(rows: Doubles, steps: Doubles, moments: Doubles) -> Doubles:
    """Round column by column; what a column's rounding adds to the outputs is taken back by the columns still free.

    Frantar et al. 2023, GPTQ, arXiv:2210.17323. rows: (out, n), moments: (n, n).
    """
    count = rows.shape[1]
    damped = moments + np.eye(count) * (_DAMPING * np.mean(np.diag(moments)) + 1e-12)
    order = np.argsort(-np.diag(damped), kind="stable")  # what matters most while most is free
    rows, damped = rows[:, order].copy(), damped[np.ix_(order, order)]
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T
    rounded = np.zeros_like(rows)
    for column in range(count):
        whole = np.clip(np.rint(rows[:, column] / steps), -TOP, TOP)
        rounded[:, order[column]] = whole
        error = (rows[:, column] - whole * steps) / factor[column, column]
        rows[:, column:] -= error[:, None] * factor[column, column:]
    return rounded
