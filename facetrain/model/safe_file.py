"""Torch files of others, looked at whole before anything uses them.

No code runs from them (`weights_only`), nothing in them asks for more memory than the file is long, and what comes out
is plain: mappings, lists, numbers, text, and dense tensors whose values lie in the file.
"""

import os
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facetrain.core.errors import DataError, InputError
from facetrain.core.files import is_lfs_pointer

_LARGEST = 512 << 20  # bytes: a training state of the widest network that a model file may describe has less
_MOST_VALUES = 200_000  # tensors, numbers and texts of a document; ours have a few hundred
_DEEPEST = 12
_DTYPES = (
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
)


def read_tensors(path: Path) -> Any:
    """Load a torch file without running code from it. Raises InputError or DataError."""
    size = _check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch muses about a foreign pickle ends in the error below anyway
            document = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError as error:
        raise DataError(f"{path}: asks for more memory than there is") from error
    except Exception as error:  # torch.load raises half a dozen kinds for a damaged or foreign file
        # torch's own text advises to load without its protection: not repeated
        raise DataError(
            f"{path}: not a checkpoint that can be read safely: it is damaged, cut off, or holds more than weights",
            "only tensors and plain values are loaded",
        ) from error
    _check_values(document, path, size)
    return document


def _check_file(path: Path) -> int:
    """The bytes of a file that may be a checkpoint by its first bytes, size and archive. Raises as `read_tensors`."""
    try:
        with path.open("rb") as file:
            start, size = file.read(64), os.fstat(file.fileno()).st_size
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError(f"{path}: no such file", "give a checkpoint (.pt, .pth)") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # a name that no file can have
        raise InputError(f"{path}: not a file's name", "give a checkpoint (.pt, .pth)") from error
    if is_lfs_pointer(start):
        raise DataError(f"{path}: a git-lfs pointer, not a checkpoint", "run `git lfs pull` where it came from")
    if not start:
        raise DataError(f"{path}: the file is empty")
    if not start.startswith((b"PK", b"\x80")):  # a zip archive, or the older pickle form
        raise DataError(
            f"{path}: not a checkpoint by its content", "a checkpoint is what torch.save writes: .pt or .pth"
        )
    if size > _LARGEST:
        raise DataError(f"{path}: {size >> 20} MiB, too large for a checkpoint", f"at most {_LARGEST >> 20} MiB")
    if start.startswith(b"PK"):
        _check_archive(path, size)
    return size


def _check_archive(path: Path, size: int) -> None:
    """torch.save stores, it does not compress: what would unpack to more than the file is no checkpoint."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError, IndexError, OverflowError) as error:
        raise DataError(
            f"{path}: not a checkpoint that can be read safely: it is damaged, cut off, or holds more than weights",
            "only tensors and plain values are loaded",
        ) from error
    packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    if packed or sum(entry.file_size for entry in entries) > size:
        raise DataError(
            f"{path}: its archive is compressed, and would take more memory than the file is long",
            "a checkpoint is what torch.save writes: load it where it came from and save it anew",
        )


def _check_values(document: Any, path: Path, size: int) -> None:
    """Only plain values and dense tensors, not too many, whose numbers lie in the file. Raises DataError."""
    total = 0
    for count, value in enumerate(_leaves(document, path, 0)):
        if count > _MOST_VALUES:
            raise DataError(f"{path}: more than {_MOST_VALUES:,} values, no checkpoint has so many")
        if isinstance(value, Tensor):
            if value.layout != torch.strided or value.dtype not in _DTYPES or value.is_quantized:
                raise DataError(f"{path}: a tensor of a kind that no checkpoint has ({value.dtype}, {value.layout})")
            # an expanded tensor repeats one number for ever; each of ours has a place in the file for every value
            total += value.numel() * value.element_size()
            if value.numel() * value.element_size() > value.untyped_storage().nbytes() or total > 2 * size:
                raise DataError(f"{path}: a tensor of shape {tuple(value.shape)} has more values than the file")
        elif not isinstance(value, str | int | float | bool | None):
            raise DataError(f"{path}: holds a {type(value).__name__}, which no checkpoint has")


def _leaves(value: Any, path: Path, depth: int) -> Iterator[Any]:
    if depth > _DEEPEST:
        raise DataError(f"{path}: nested more than {_DEEPEST} levels deep, no checkpoint is")
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str | int):
                raise DataError(f"{path}: a key that is a {type(key).__name__}")
            yield from _leaves(item, path, depth + 1)
        yield None  # an empty mapping counts too
    elif isinstance(value, list | tuple | set | frozenset) and not isinstance(value, torch.Size):
        for item in value:
            yield from _leaves(item, path, depth + 1)
        yield None
    elif isinstance(value, torch.nn.Parameter):
        yield value.data
    elif not isinstance(value, torch.Size):
        yield value


def weights_of(value: Any, path: Path, part: str) -> dict[str, Tensor]:
    """A document's part as weights: every name a text, every value a tensor of at least one finite number.

    Raises DataError naming the file, the part, and what is wrong with which weight.
    """
    if not isinstance(value, Mapping) or not value:
        raise DataError(f"{path}: '{part}' holds no weights ({type(value).__name__})", "take best.pt of the run again")
    weights: dict[str, Tensor] = {}
    for name, tensor in value.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            seen = f"{name!r}: {type(tensor).__name__}"
            raise DataError(f"{path}: '{part}' holds something that is no weight ({seen[:80]})")
        if tensor.numel() == 0:
            raise DataError(f"{path}: '{part}': {name} is empty (shape {tuple(tensor.shape)})")
        wrong = int((~tensor.isfinite()).sum()) if tensor.is_floating_point() else 0
        if wrong:
            raise DataError(
                f"{path}: '{part}': {name}: {wrong} of {tensor.numel()} numbers are NaN or infinite",
                "take an earlier checkpoint of its run",
            )
        weights[name] = tensor.detach()
    return weights
