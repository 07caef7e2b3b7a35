"""Which preset a network is of."""

from dataclasses import replace
from functools import cache

from facetrain.config.load import load_config, preset_names
from facetrain.config.schema import ModelConfig


def preset_of(config: ModelConfig) -> str | None:
    """The preset with this network; None where there is none.

    How it was initialised does not matter, nor what its points are called.
    """
    for name, preset in _presets().items():
        width = preset.head_channels if config.shared_convs else config.head_channels  # else nothing has it
        like = replace(config, objectness_bias=preset.objectness_bias, landmarks=preset.landmarks)
        same_points = len(preset.landmarks.names) == len(config.landmarks.names)
        if same_points and like == replace(preset, head_channels=width):
            return name
    return None


@cache
def _presets() -> dict[str, ModelConfig]:
    return {name: load_config(name).model for name in preset_names()}
