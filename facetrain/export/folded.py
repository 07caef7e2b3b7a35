"""A trained network as plain layers: batch norm folded into the convolutions, NumPy weights, in order of execution.

Every export reads this and none reads torch modules; `fold` makes it of one.
"""

from dataclasses import dataclass

from facetrain.config.schema import ModelConfig
from facetrain.core.faces import Floats


@dataclass(frozen=True)
class FoldedConv:
    """One convolution with bias: weight (out, in / groups, k, k), bias (out,); zero padding k // 2."""

    weight: Floats
    bias: Floats
    groups: int = 1
    stride: int = 1
    relu: bool = False


FoldedUnit = tuple[FoldedConv, FoldedConv]  # 1x1, then 3x3 depthwise


@dataclass(frozen=True)
class FoldedLevel:
    """The head of one stride. `outputs` has cls, obj, box, and landmarks unless there are none."""

    shared: list[FoldedUnit]
    cls_tower: list[FoldedUnit]
    box_tower: list[FoldedUnit]
    outputs: dict[str, FoldedUnit]


@dataclass(frozen=True)
class FoldedNet:
    """The whole network; how the parts are wired follows from `config` as in model/backbone.py and model/neck.py."""

    config: ModelConfig
    stem: FoldedConv
    stem_unit: FoldedUnit
    stages: list[list[FoldedUnit]]
    neck: list[FoldedUnit]  # finest level first
    levels: list[FoldedLevel]
