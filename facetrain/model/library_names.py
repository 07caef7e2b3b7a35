"""libfacedetection's names of layers, which are those of the original trainer, and ours."""

import re
from collections.abc import Callable

# Ours -> the library's: `x_pw` is a unit's 1x1, `x_dw` its depthwise 3x3.
_LAYERS = {"pointwise": "pw", "depthwise": "dw", "conv": "pw"}
HEAD = {  # in the order of the library's table, each for all levels
    "shared": "share_convs",
    "cls_tower": "cls_convs",
    "box_tower": "reg_convs",
    "cls": "cls",
    "box": "bbox",
    "obj": "obj",
    "landmarks": "kps",
}
_OURS = {theirs: ours for ours, theirs in HEAD.items()}
_NAMES: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"backbone\.stem$", lambda m: "backbone__model0"),
    (r"backbone\.stem\.unit$", lambda m: "backbone__model0_dp"),
    (r"backbone\.stages\.(\d+)\.(\d+)$", lambda m: f"backbone__model{int(m[1]) + 1}_dp{int(m[2]) + 1}"),
    (r"neck\.units\.(\d+)$", lambda m: f"neck__lateral_convs__{m[1]}"),
    (r"levels\.(\d+)\.(\w+)\.(\d+)$", lambda m: f"bbox_head__multi_level_{HEAD[m[2]]}__{m[1]}__{m[3]}"),
    (r"levels\.(\d+)\.(\w+)$", lambda m: f"bbox_head__multi_level_{HEAD[m[2]]}__{m[1]}"),
)
_THEIRS: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"backbone__model0$", lambda m: "backbone.stem"),
    (r"backbone__model0_dp$", lambda m: "backbone.stem.unit"),
    (r"backbone__model([1-9]\d?)_dp([12])$", lambda m: f"backbone.stages.{int(m[1]) - 1}.{int(m[2]) - 1}"),
    (r"neck__lateral_convs__(\d)$", lambda m: f"neck.units.{m[1]}"),
    (r"bbox_head__multi_level_([a-z_]+)__(\d)__(\d\d?)$", lambda m: f"levels.{m[2]}.{_OURS[m[1]]}.{m[3]}"),
    (r"bbox_head__multi_level_([a-z]+)__(\d)$", lambda m: f"levels.{m[2]}.{_OURS[m[1]]}"),
)


def library_name(name: str) -> str:
    """The library's name of a layer; one that it does not know stays as it is, but for the dots."""
    prefix, _, layer = name.rpartition(".")
    for pattern, words in _NAMES:
        if found := re.match(pattern, prefix):
            return f"{words(found)}_{_LAYERS[layer]}"
    return f"{prefix.replace('.', '__')}_{_LAYERS.get(layer, layer)}"


def our_name(name: str) -> str | None:
    """The layer that the library calls so; None for one that YuNet does not have."""
    prefix, _, layer = name.rpartition("_")
    for pattern, words in _THEIRS:
        found = re.match(pattern, prefix)
        if found is None or layer not in ("pw", "dw"):
            continue
        try:
            ours = words(found)
        except KeyError:  # no part of a head
            return None
        if ours == "backbone.stem":
            return f"{ours}.conv" if layer == "pw" else None
        return f"{ours}.{'pointwise' if layer == 'pw' else 'depthwise'}"
    return None
