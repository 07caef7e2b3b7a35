"""Which preset a network is of: what it was begun with and what its points are called do not matter."""

from dataclasses import replace

import pytest

from facetrain.config.landmark_names import landmarks_of
from facetrain.config.load import load_config, preset_names
from facetrain.config.variant import preset_of


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_is_known_by_its_network(name: str) -> None:
    model = load_config(name).model
    assert preset_of(model) == name
    assert preset_of(replace(model, objectness_bias=-1.5)) == name
    assert preset_of(replace(model, landmarks=landmarks_of(5, ("a", "b", "c", "d", "e")))) == name
    assert preset_of(replace(model, landmarks=landmarks_of(7))) is None
    assert preset_of(replace(model, tower_convs=3)) is None
    assert preset_of(replace(model, stages=(*model.stages[:-1], (64, 32)))) is None
    wider = replace(model, head_channels=model.head_channels * 2)  # without shared units nothing is as wide
    assert preset_of(wider) == (None if model.shared_convs else name)
