"""A look into an ONNX file before it is opened: it must not reach for files that are not its own."""

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facetrain.core.errors import DataError

_KEY = b"location"  # stands in every file that keeps tensors in another one


def check_external_data(path: Path) -> None:
    """Raise DataError where tensors are kept outside the folder of the ONNX file, or in no file at all.

    Older onnxruntimes read whatever file a model names, and take some names for addresses in memory.
    """
    if not _contains(path, _KEY):
        return  # nearly always; the onnx package, slow to import, is not asked
    import onnx

    try:
        model = onnx.load_model(path, load_external_data=False)
    except Exception as error:  # protobuf's errors share no public class
        raise DataError(f"{path}: not a usable ONNX model: {error}") from error
    folders = {path.resolve().parent, path.parent.resolve()}
    for location in sorted(set(_locations(model))):
        try:
            data = (path.parent / location).resolve(strict=True)
        except (OSError, ValueError, RuntimeError):  # absent or unreadable; a zero byte in it; a circle of links
            data = None
        inside = data is not None and any(data.is_relative_to(folder) for folder in folders)
        if data is None or (inside and not data.is_file()):
            raise DataError(
                f"{path}: keeps weights in '{location}', which is not there", "copy that file too, or join the two"
            )
        if not inside:
            raise DataError(
                f"{path}: keeps weights in '{location}', outside its own folder",
                "such a file is not opened; if you trust it, save it with its weights inside",
            )


def _contains(path: Path, text: bytes) -> bool:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(text) >= 0
    except (OSError, ValueError):  # unreadable or empty: onnxruntime says so
        return False


def _locations(message: Any) -> Iterator[str]:
    """Where the tensors anywhere inside a protobuf message are kept, as far as that is another file."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        repeated = not hasattr(value, "ListFields")
        if field.name == "external_data":
            yield from (entry.value for entry in value if entry.key == _KEY.decode())
            continue
        for part in value if repeated else [value]:
            yield from _locations(part)
