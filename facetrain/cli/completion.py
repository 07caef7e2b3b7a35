"""The names that a shell completes: of weights, presets, formats and families, from the files that there are.

Only folders are listed: a shell asks at each press of a key, and neither torch nor numpy may be waited for.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

Names = Callable[[], Sequence[str]]


def _modules(*folders: str) -> Names:
    def names() -> list[str]:
        return sorted({module.name for folder in folders for module in iter_modules(import_module(folder).__path__)})

    return names


def _yaml(kind: str) -> Names:
    folder = Path(__file__).parents[1] / "config" / kind
    return lambda: sorted(path.stem for path in folder.glob("*.yaml"))


def _fixed(*names: str) -> Names:
    return lambda: names


def _weights() -> list[str]:
    from facetrain.detect.bundled import bundled_names
    from facetrain.detect.public import public_names

    return sorted({*bundled_names(), *bundled_names(".pt"), *public_names()})


def public_weights() -> list[str]:
    """Those that `facetrain weights get` fetches."""
    from facetrain.detect.public import public_names

    return list(public_names())


def _outputs() -> list[str]:
    return [f"{name}=" for name in _modules("facetrain.detect.outputs", "facetrain.data.formats")()]


def _recipes() -> list[str]:
    return ["auto", *_yaml("recipes")(), "none"]


# By the option, or by the word that stands in the help for a value.
COMPLETIONS: Mapping[str, Names] = {
    "WEIGHTS": _weights,
    "MODEL": _weights,
    "WEIGHTS|DIR": _weights,
    "CONFIG|WEIGHTS": lambda: sorted({*_yaml("presets")(), *_weights()}),
    "CONFIG": _yaml("presets"),
    "PRESET": lambda: [*_yaml("presets")(), *_yaml("recipes")()],
    "RECIPE": _recipes,
    "FORMAT": _modules("facetrain.data.formats"),
    "FORMAT=PATH": _outputs,
    "FAMILY": _modules("facetrain.detect.families"),
    "[FILE=]FAMILY": _modules("facetrain.detect.families"),
    "DEVICE": _fixed("cpu", "cuda", "mps"),
    "DEVICES": _fixed("auto", "cpu", "mps"),
    "PART": _fixed("train", "val"),
    "widerface": _fixed("widerface"),
    "get": _fixed("get"),
    "--precision": _fixed("fp32", "fp16", "int8"),
    "--target": _fixed("standalone", "libfacedetection"),
    "--images": _fixed("link", "copy", "none"),
    "--shape": _fixed("ellipse", "box"),
    "--only": _fixed("onnx", "pth"),
}
