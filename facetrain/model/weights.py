"""Weights in files: facetrain's own checkpoints, and the original trainer's.

Only tensors and plain values are read (`weights_only=True`): no code runs from a checkpoint.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facetrain.config.check import check_config
from facetrain.config.landmark_names import landmarks_of
from facetrain.config.load import config_from_dict, config_to_dict
from facetrain.config.schema import Config, ModelConfig
from facetrain.core.errors import DataError
from facetrain.core.files import write_bytes
from facetrain.model.cost import convolutions
from facetrain.model.cpp_weights import read_cpp_weights
from facetrain.model.module import NORM_EPS
from facetrain.model.network import network_of
from facetrain.model.onnx_weights import FoldedWeights, Wiring, read_onnx_weights
from facetrain.model.safe_file import read_tensors, weights_of
from facetrain.model.yunet import YuNet, build

# by suffix: what holds no batch norms any more
_FOLDED: Mapping[str, Callable[[Path], FoldedWeights]] = {".onnx": read_onnx_weights, ".cpp": read_cpp_weights}
_TOO_LARGE = 4  # parameters for each number that a file holds
_TAKE_AGAIN = "take best.pt of the run again"
FORMAT = "facetrain checkpoint"
STATE_FORMAT = "facetrain training state"  # last.pt: train/run/checkpoint.py writes it, its weights serve here too

# The original trainer's names -> ours; the rest of a key (weight, bias, running_mean, …) stays.
_UNIT = {"conv1": "pointwise", "conv2": "depthwise", "bn": "norm"}
_ORIGINAL = (
    (r"backbone\.model0\.conv1\.", "backbone.stem.conv."),
    (r"backbone\.model0\.bn1\.", "backbone.stem.norm."),
    (r"backbone\.model0\.conv2\.", "backbone.stem.unit."),
    (r"backbone\.model(\d+)\.conv([12])\.", lambda m: f"backbone.stages.{int(m[1]) - 1}.{int(m[2]) - 1}."),
    (r"neck\.lateral_convs\.(\d+)\.", r"neck.units.\1."),
    (r"bbox_head\.multi_level_share_convs\.(\d+)\.(\d+)\.", r"levels.\1.shared.\2."),
    (r"bbox_head\.multi_level_cls_convs\.(\d+)\.(\d+)\.", r"levels.\1.cls_tower.\2."),
    (r"bbox_head\.multi_level_reg_convs\.(\d+)\.(\d+)\.", r"levels.\1.box_tower.\2."),
    (r"bbox_head\.multi_level_cls\.(\d+)\.", r"levels.\1.cls."),
    (r"bbox_head\.multi_level_obj\.(\d+)\.", r"levels.\1.obj."),
    (r"bbox_head\.multi_level_bbox\.(\d+)\.", r"levels.\1.box."),
    (r"bbox_head\.multi_level_kps\.(\d+)\.", r"levels.\1.landmarks."),
)


@dataclass(frozen=True)
class Checkpoint:
    """A file's weights: the configuration where the file has it whole, the model's part of it in any case.

    info:   what the file says of itself besides, plain values of any kind
    folded: whether the file had no batch norms, and those in `state` change nothing
    """

    path: Path
    model: ModelConfig
    state: dict[str, Tensor]
    config: Config | None
    info: dict[str, Any]
    folded: bool = False


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a facetrain checkpoint, or the original trainer's (also wrapped in `state_dict`, prefixed `module.`).

    Weights with folded batch norms come from a YuNet's ONNX file, or from libfacedetection's facedetectcnn-data.cpp:
    the norms are there again, as such that change nothing (`folded` says so).

    Raises InputError where there is no file, DataError where it is no checkpoint that can be used, and ConfigError if
    its configuration is not one: nothing in the file is used before it was looked at.
    """
    path = Path(path)
    if path.suffix.lower() in _FOLDED:
        return _unfolded(_FOLDED[path.suffix.lower()](path), path)
    document = read_tensors(path)
    kind = document.get("format") if isinstance(document, Mapping) else None
    if kind in (FORMAT, STATE_FORMAT):
        config = config_of(document, path)
        if kind == STATE_FORMAT:
            part = "model" if document.get("ema") is None else "ema"
            said = document.get("info")
            info = dict(said) if isinstance(said, Mapping) else {}
            return Checkpoint(path, config.model, weights_of(document.get(part), path, part), config, info)
        info = document.get("info")
        if not isinstance(info, Mapping):
            raise DataError(f"{path}: an incomplete facetrain checkpoint: 'info' is missing", _TAKE_AGAIN)
        return Checkpoint(path, config.model, weights_of(document.get("model"), path, "model"), config, dict(info))
    state = document.get("state_dict", document) if isinstance(document, Mapping) else {}
    if not isinstance(state, Mapping):
        raise DataError(f"{path}: not a YuNet checkpoint (its state_dict is a {type(state).__name__})")
    state = {str(k).removeprefix("module."): v for k, v in state.items() if isinstance(v, Tensor)}
    if "backbone.model0.conv1.weight" not in state:
        seen = ", ".join(list(state)[:3]) or type(document).__name__
        raise DataError(
            f"{path}: not a YuNet checkpoint (it holds {seen[:200]} …)",
            "known: facetrain's own, and the original trainer's",
        )
    state = weights_of({rename_original(key): value for key, value in state.items()}, path, "state_dict")
    return Checkpoint(path, infer_model(state, path), state, None, {})


def _unfolded(found: FoldedWeights, path: Path) -> Checkpoint:
    """Folded weights with batch norms that change nothing: the outputs are the file's own."""
    weights = {f"{name}.weight": torch.from_numpy(weight.copy()) for name, (weight, _) in found.layers.items()}
    model = infer_model(weights, path, found.wiring, found.landmarks)
    state: dict[str, Tensor] = {}
    for conv in network_of(model).convs:
        (name,) = conv.names
        if name not in found.layers:
            raise DataError(f"{path}: an incomplete YuNet: {name} is missing")
        state |= {
            f"{name}.weight": weights[f"{name}.weight"],
            f"{name}.bias": torch.from_numpy(found.layers[name][1].copy()),
        }
        if conv.norm is not None:
            state |= _norm_without_effect(conv.norm, conv.outputs)
    extra = [name for name in found.layers if f"{name}.weight" not in state]
    if extra:
        raise DataError(f"{path}: a layer {extra[0]}, which its network does not have")
    return Checkpoint(path, model, weights_of(state, path, "weights"), None, {}, folded=True)


def _norm_without_effect(name: str, channels: int) -> dict[str, Tensor]:
    """A batch norm that gives what it takes, to the last bit but one: variance and eps together are 1."""
    return {
        f"{name}.weight": torch.ones(channels),
        f"{name}.bias": torch.zeros(channels),
        f"{name}.running_mean": torch.zeros(channels),
        f"{name}.running_var": torch.full((channels,), 1 - NORM_EPS),
        f"{name}.num_batches_tracked": torch.tensor(0),
    }


def config_of(document: Mapping[Any, Any], path: Path) -> Config:
    """The configuration in a document of ours. Raises DataError where there is none, ConfigError where it is wrong."""
    if not isinstance(document.get("config"), Mapping):
        raise DataError(f"{path}: an incomplete facetrain checkpoint: 'config' is missing", _TAKE_AGAIN)
    return config_from_dict(document["config"], str(path))


def save_checkpoint(path: str | Path, state: Mapping[str, Tensor], config: Config, info: Mapping[str, Any]) -> None:
    """Write weights with their configuration, atomically. `info` holds plain values only."""
    document = {
        "format": FORMAT,
        "config": config_to_dict(config),
        "model": {key: value.detach().cpu().contiguous() for key, value in state.items()},
        "info": dict(info),
    }
    write_bytes(Path(path), tensor_bytes(document))


def tensor_bytes(document: Mapping[str, Any]) -> bytes:
    """What torch.save would write. Made in memory, because its own writer reports a full disk as a bug of its own."""
    buffer = io.BytesIO()
    torch.save(document, buffer)
    return buffer.getvalue()


def load_model(path: str | Path) -> YuNet:
    """The network of a checkpoint with its weights, on the CPU, in evaluation mode."""
    return model_of(load_checkpoint(path))


def model_of(checkpoint: Checkpoint) -> YuNet:
    """The network of a checkpoint that was read, see `load_model`."""
    check_extent(checkpoint.model, checkpoint.state, checkpoint.path)
    model = build(checkpoint.model)
    misfits = fit_weights(model, checkpoint.state)
    if misfits:
        raise DataError(f"{checkpoint.path}: {len(misfits)} weights do not fit the model: {'; '.join(misfits[:5])}")
    return model.eval()


def check_extent(model: ModelConfig, state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse a configuration whose network is far larger than the file, before it is built.

    What is only a little off is built: then each weight that does not fit can be named.
    """
    stride = max(model.strides)
    needed = sum(layer.parameters for layer in convolutions(model, stride, stride))
    there = sum(value.numel() for value in state.values())
    if needed > _TOO_LARGE * there:
        raise DataError(
            f"{path}: its configuration describes {needed:,} parameters, but it holds {there:,} numbers", _TAKE_AGAIN
        )


def fit_weights(model: YuNet, state: Mapping[str, Tensor]) -> list[str]:
    """Copy every weight whose name and shape fit into `model`; returns a line for each one that does not."""
    own = model.state_dict()
    misfits = [f"{key}: missing" for key in own if key not in state]
    misfits += [f"{key}: unknown" for key in state if key not in own]
    fitting = {}
    for key in own:
        if key in state and own[key].shape != state[key].shape:
            misfits.append(f"{key}: {tuple(state[key].shape)}, the model has {tuple(own[key].shape)}")
        elif key in state:
            fitting[key] = state[key]
    model.load_state_dict(fitting, strict=False)
    return misfits


def rename_original(key: str) -> str:
    """A key of the original trainer in our words; unknown keys come back as they are."""
    for pattern, name in _ORIGINAL:
        renamed, found = re.subn("^" + pattern, name, key)
        if found:
            return re.sub(r"\.(conv1|conv2|bn)\.", lambda m: f".{_UNIT[m[1]]}.", renamed)
    return key


def infer_model(
    state: Mapping[str, Tensor], path: Path, wiring: Wiring | None = None, names: Sequence[str] = ()
) -> ModelConfig:
    """The configuration that a renamed original state dict belongs to, from the shapes of its tensors.

    wiring: what weights do not show, pooling and the like; by default the published one
    names:  of the landmarks, where they are known and as many
    """
    try:
        stem = _outputs_inputs(state, "backbone.stem.conv"), _outputs_inputs(state, "backbone.stem.unit.pointwise")
        count = 1 + max(int(m[1]) for key in state if (m := re.match(r"backbone\.stages\.(\d{1,3})\.", key)))
        stages = tuple(
            (
                _outputs_inputs(state, f"backbone.stages.{i}.0.pointwise")[1],
                _outputs_inputs(state, f"backbone.stages.{i}.1.pointwise")[0],
            )
            for i in range(count)
        )
        shared = sum(key.startswith("levels.0.shared.") and key.endswith("pointwise.weight") for key in state)
        towers = sum(key.startswith("levels.0.cls_tower.") and key.endswith("pointwise.weight") for key in state)
        points = (
            _outputs_inputs(state, "levels.0.landmarks.pointwise")[0] // 2
            if "levels.0.landmarks.pointwise.weight" in state
            else 0
        )
        first = "shared" if shared else "cls_tower" if towers else None
        width = _outputs_inputs(state, f"levels.0.{first}.0.pointwise")[0] if first else ModelConfig.head_channels
    except KeyError as error:
        raise DataError(f"{path}: an incomplete YuNet checkpoint: {error} is missing") from error
    except ValueError as error:
        raise DataError(f"{path}: not a YuNet checkpoint: {error}") from error
    model = ModelConfig(
        stem=(stem[0][1], stem[0][0], stem[1][0]),
        stages=stages,
        shared_convs=shared,
        tower_convs=towers,
        head_channels=width,
        landmarks=landmarks_of(points, names),
    )
    if wiring is not None:
        model = replace(model, **wiring)
    if wrong := check_config(Config(model=model)):
        raise DataError(
            f"{path}: not a YuNet of the published form: {wrong[0].text}", "train and export such a model anew"
        )
    return model


def _outputs_inputs(state: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    """Outputs and inputs of a convolution. Raises KeyError or ValueError."""
    shape = state[f"{name}.weight"].shape
    if len(shape) != 4:
        raise ValueError(f"{name}.weight has the shape {tuple(shape)}, not that of a convolution")
    return shape[0], shape[1]
