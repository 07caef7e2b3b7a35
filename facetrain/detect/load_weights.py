"""Weights for Python by any of their names: a checkpoint, or the network that is in it. Here torch comes along."""

from pathlib import Path
from typing import TYPE_CHECKING

from facetrain.detect.find_weights import find_weights

if TYPE_CHECKING:
    from facetrain.model.weights import Checkpoint
    from facetrain.model.yunet import YuNet


def load_checkpoint(weights: str | Path) -> "Checkpoint":
    """What a file of weights holds, see `facetrain.model.weights.load_checkpoint`.

    weights: a file, a run, or a name, as `find_weights` has it: of a name the checkpoint is read

    Raises what `find_weights` does where there is none, DataError where it is no checkpoint that can be used, and
    ConfigError if its configuration is not one.
    """
    from facetrain.model import weights as reader

    return reader.load_checkpoint(find_weights(weights, "train"))


def load_model(weights: str | Path) -> "YuNet":
    """The network of a checkpoint with its weights, on the CPU, in evaluation mode; see `load_checkpoint`."""
    from facetrain.model import weights as reader

    return reader.model_of(load_checkpoint(weights))
