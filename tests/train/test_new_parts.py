"""A new block, neck and assigner reach a whole training run by their names, each by one entry of its table."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from torch import Tensor
from train_runs import draw_set, tiny_config

from facetrain.config.load import load_config
from facetrain.core.errors import ConfigError
from facetrain.model.blocks import BLOCKS, separable
from facetrain.model.neck import NECKS
from facetrain.model.operations import Builder
from facetrain.model.weights import load_model
from facetrain.train.assign import ASSIGNERS, assign_simota
from facetrain.train.loop import train_model
from facetrain.train.overlap import giou_pairs


def twice(net: Builder, x: str, name: str, outputs: int) -> str:
    return separable(net, separable(net, x, f"{name}.first", outputs), f"{name}.second", outputs)


def giou_cost(iou: Tensor, decoded: Tensor, boxes: Tensor) -> Tensor:
    return 1 - giou_pairs(decoded, boxes)


def test_new_entries_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["model.block=twice", "model.neck=flat", "train.assign.name=giou"]
    with pytest.raises(ConfigError):
        load_config("yunet_n", names)
    monkeypatch.setitem(BLOCKS, "twice", twice)
    monkeypatch.setitem(NECKS, "flat", lambda net, maps, config: list(maps))
    monkeypatch.setitem(ASSIGNERS, "giou", partial(assign_simota, overlap_cost=giou_cost))
    assert load_config("yunet_n", names).model.block == "twice"
    config = tiny_config(draw_set(tmp_path / "data"), epochs=1)
    config = replace(
        config,
        model=replace(config.model, block="twice", neck="flat"),
        train=replace(config.train, assign=replace(config.train.assign, name="giou")),
    )
    result = train_model(config, runs=tmp_path / "runs")
    assert result.run is not None
    model = load_model(result.run.best)
    assert "backbone.stages.0.0.second.pointwise.weight" in model.state_dict()
    assert not any(name.startswith("neck.") for name in model.state_dict())
