"""What augmentations there are, what they draw for a crop, and how they are applied to it.

Each augmentation is one file in `augment/`, called as its key in the section `data`; the order of these keys in the
schema is the order in which they are applied: what moves pixels, then colours, then what is erased. Such a file has

    draw(rng, setting) -> numbers, or None where this crop stays as it is
    apply(view, numbers) -> View, which may be the given one with its image changed in place

`setting` is what the configuration says: the chance of a change, or a section with a `chance`; at 0 nothing is drawn.
What moves pixels is written as one affine map (`view.move`), which faces and ignored regions follow.
"""

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Protocol, cast
from zlib import crc32

import numpy as np

from facetrain.config.schema import DataConfig
from facetrain.data import augment
from facetrain.data.view import View

# These two draw on from the crop's own generator, after its window, as they did before there were others: so runs of
# old configurations repeat bit by bit. Any other has a generator of its own and disturbs no draw, whether on or off.
_ON_THE_CROPS_GENERATOR = ("flip", "colour")
# These move pixels or give them a grey that every number format has: it is the same whether rounding comes before.
KEEP_VALUES = ("flip", "cutout")


class Augmentation(Protocol):
    """A file in `augment/`."""

    def draw(self, rng: np.random.Generator, setting: Any) -> Any:
        """What is to happen to a crop; None for nothing."""
        ...

    def apply(self, view: View, numbers: Any) -> View:
        """Let it happen, in the one thread that makes batches, crop by crop.

        The image may be on a GPU, and a hair outside 0 … 255; between places of the store it differs in its last bits,
        which rounding or a threshold would enlarge.
        """
        ...


def augmentations(schema: type[DataConfig] = DataConfig) -> dict[str, Augmentation]:
    """The augmentations that a schema has keys for, in its order."""
    return _of_keys(tuple(key.name for key in fields(schema)))


@cache  # asked for every crop
def _of_keys(keys: tuple[str, ...]) -> dict[str, Augmentation]:
    files = {module.name for module in iter_modules(augment.__path__)}
    return {key: _load(key) for key in keys if key in files}


def draw_augmentations(
    config: DataConfig, rng: np.random.Generator, seed: int, epoch: int, position: int
) -> dict[str, object]:
    """What each augmentation draws for the crop at `position` of an epoch, by name; what draws nothing is not there.

    rng: the crop's own generator, its window drawn already
    """
    drawn: dict[str, object] = {}
    for name, augmentation in augmentations(type(config)).items():
        setting = getattr(config, name)
        if name in _ON_THE_CROPS_GENERATOR:
            own = rng
        elif getattr(setting, "chance", setting) == 0:
            continue  # before a generator is made, which takes as long as a fifth of the crop
        else:
            own = np.random.default_rng([seed, epoch, position, crc32(name.encode())])
        numbers = augmentation.draw(own, setting)
        if numbers is not None:
            drawn[name] = numbers
    return drawn


def augmented(view: View, drawn: Mapping[str, object]) -> View:
    """The view after all that was drawn for it, in the order of `drawn`."""
    for name, numbers in drawn.items():
        view = _load(name).apply(view, numbers)
    return view


def _load(name: str) -> Augmentation:
    return cast(Augmentation, import_module(f"{augment.__name__}.{name}"))
