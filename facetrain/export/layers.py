"""A network's convolutions as one list, under the names that the original trainer's files give them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from facetrain.core.errors import ExportError
from facetrain.export.folded import FoldedConv, FoldedLevel, FoldedNet, FoldedUnit

OUTPUTS = {"cls": "cls", "box": "bbox", "obj": "obj", "landmarks": "kps"}  # ours -> theirs, in their order


def named_layers(net: FoldedNet) -> dict[str, FoldedConv]:
    """Every convolution by its name, in the order of libfacedetection's table: stem, stages, neck, then the heads.

    A unit `x` is `x_pw`, its 1x1, and `x_dw`, its depthwise 3x3, one behind the other. Level 0 is the finest.
    """
    layers = {"backbone__model0_pw": net.stem}
    for name, unit in named_units(net).items():
        layers[f"{name}_pw"], layers[f"{name}_dw"] = unit
    return layers


def named_units(net: FoldedNet) -> dict[str, FoldedUnit]:
    """Every unit by its name, in the order of `named_layers`; the stem's full 3x3 is none."""
    units = {"backbone__model0_dp": net.stem_unit}
    for i, stage in enumerate(net.stages, 1):
        units |= {f"backbone__model{i}_dp{j}": unit for j, unit in enumerate(stage, 1)}
    units |= {f"neck__lateral_convs__{i}": unit for i, unit in enumerate(net.neck)}
    for part, chain_of in _CHAINS.items():
        for i, level in enumerate(net.levels):
            units |= {f"bbox_head__multi_level_{part}__{i}__{k}": unit for k, unit in enumerate(chain_of(level))}
    for kind, name in OUTPUTS.items():
        for i, level in enumerate(net.levels):
            if kind in level.outputs:
                units[f"bbox_head__multi_level_{name}__{i}"] = level.outputs[kind]
    return units


def check_finite(net: FoldedNet) -> None:
    """Raise ExportError where a folded weight is NaN or infinite: no file format has a use for it."""
    for name, layer in named_layers(net).items():
        for part, values in (("weight", layer.weight), ("bias", layer.bias)):
            bad = np.count_nonzero(~np.isfinite(values))
            if bad:
                raise ExportError(
                    f"{name}: {bad} of {values.size} numbers of its {part} are NaN or infinite",
                    "the training that made these weights went wrong: take an earlier checkpoint",
                )


def with_digits(net: FoldedNet, digits: int) -> FoldedNet:
    """The network whose weights are what `digits` significant digits leave of them; 9 leave them as they are."""

    def rounded(layer: FoldedConv) -> FoldedConv:
        return replace(layer, weight=_rounded(layer.weight, digits), bias=_rounded(layer.bias, digits))

    def units(chain: list[FoldedUnit]) -> list[FoldedUnit]:
        return [(rounded(pointwise), rounded(depthwise)) for pointwise, depthwise in chain]

    levels = [
        FoldedLevel(
            units(level.shared),
            units(level.cls_tower),
            units(level.box_tower),
            dict(zip(level.outputs, units(list(level.outputs.values())), strict=True)),
        )
        for level in net.levels
    ]
    return FoldedNet(
        config=net.config,
        stem=rounded(net.stem),
        stem_unit=units([net.stem_unit])[0],
        stages=[units(stage) for stage in net.stages],
        neck=units(net.neck),
        levels=levels,
    )


def _rounded(values: np.ndarray, digits: int) -> np.ndarray:
    texts = [float(format(value, f".{digits}g")) for value in values.ravel().tolist()]
    return np.array(texts, np.float32).reshape(values.shape)


_CHAINS: dict[str, Callable[[FoldedLevel], list[FoldedUnit]]] = {
    "share_convs": lambda level: level.shared,
    "cls_convs": lambda level: level.cls_tower,
    "reg_convs": lambda level: level.box_tower,
}
