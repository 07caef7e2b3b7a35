"""The weights that come with facetrain: `weights/<name>.onnx` to detect with, `weights/<name>.pt` to train from."""

from pathlib import Path

from facetrain.core.errors import InputError
from facetrain.core.suggest import choices_hint

FOLDER = Path(__file__).parent / "weights"


def bundled_names(suffix: str = ".onnx") -> list[str]:
    """Names of the bundled models that have a file with this suffix, sorted."""
    return sorted(path.stem for path in FOLDER.glob(f"*{suffix}"))


def bundled_weights(name: str, suffix: str = ".onnx") -> Path:
    """The bundled file of a model. Raises InputError with the names there are."""
    names = bundled_names(suffix)
    if name in names:
        return FOLDER / f"{name}{suffix}"
    hint = choices_hint(name, names) if names else "this installation has none: give a file"
    raise InputError(f"{name}: neither a file nor bundled weights", hint)


def find_teacher(name: str) -> Path:
    """The file of a teacher: a path, or the name of bundled weights. Raises InputError."""
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if name in bundled_names(".pt"):
        return bundled_weights(name, ".pt")
    raise InputError(
        f"train.teacher: {name}: no such file, and no bundled weights of this name",
        f"a checkpoint (.pt, .pth), or one of: {', '.join(bundled_names('.pt'))}",
    )
