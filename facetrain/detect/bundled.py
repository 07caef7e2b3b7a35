"""The weights that come with facetrain: `weights/<name>.onnx` to detect with, `weights/<name>.pt` to train from."""

import re
from pathlib import Path

FOLDER = Path(__file__).parent / "weights"
_AP = re.compile(r"(\d\.\d+) \[(\.\d+), (\.\d+)\]")


def bundled_names(suffix: str = ".onnx") -> list[str]:
    """Names of the bundled models that have a file with this suffix, sorted."""
    return sorted(path.stem for path in FOLDER.glob(f"*{suffix}"))


def bundled_weights(name: str, suffix: str = ".onnx") -> Path:
    """The file of a bundled model, one of `bundled_names`."""
    return FOLDER / f"{name}{suffix}"


def bundled_ap(name: str) -> dict[str, tuple[float, float, float]]:
    """AP and its 95 % interval (value, low, high) of each subset, as the model's card has them; empty without."""
    card = bundled_weights(name, ".md")
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    [row] = re.findall(r"(?m)^\| these weights \|(.*)$", text) or [""]
    found = [(float(value), float(low), float(high)) for value, low, high in _AP.findall(row)]
    return dict(zip(("easy", "medium", "hard"), found, strict=True)) if found else {}
