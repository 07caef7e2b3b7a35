"""Which preset a network is of."""

from functools import cache

from facetrain.config.load import load_config, preset_names
from facetrain.config.schema import ModelConfig


def preset_of(config: ModelConfig) -> str | None:
    """The preset with this network; None where there is none.

    How it was initialised does not matter, nor what its points are called.
    """
    for name, preset in _presets().items():
        same = {
            field: getattr(preset, field) == getattr(config, field)
            for field in preset.__dataclass_fields__
            if field not in ("objectness_bias", "landmarks", "head_channels" if not config.shared_convs else "")
        }
        if all(same.values()) and len(preset.landmarks.names) == len(config.landmarks.names):
            return name
    return None


@cache
def _presets() -> dict[str, ModelConfig]:
    return {name: load_config(name).model for name in preset_names()}
