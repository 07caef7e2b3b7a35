"""`facetrain export-cpp`: a checkpoint becomes checked C++ source files, or an error and no file.

What the files are is the target's matter, a module of cpp/targets/; its options.py says what it may offer.
"""

import os
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import TYPE_CHECKING

from facetrain.core.compiler import find_compiler
from facetrain.core.documents.export import CppDocument
from facetrain.core.errors import ExportError, InputError, OutputError, UsageError
from facetrain.core.files import check_folder, replacing
from facetrain.core.suggest import choices_hint, path_hint
from facetrain.detect.find_weights import find_weights
from facetrain.export.checkpoint import export_name
from facetrain.export.cpp import targets
from facetrain.export.cpp.targets.options import EXACT_DIGITS, CppOptions, Program
from facetrain.export.network.folded import FoldedNet, check_finite

if TYPE_CHECKING:
    from facetrain.export.cpp.check import CppCheck

Progress = Callable[[str], None]  # told what is being done

_MARK = "facetrain"  # stands near the top of every file that is written here
_MARK_BYTES = 4096
# No name for a namespace: words of C++, what it puts at the top itself, and a file that may stand beside ours.
_TAKEN = """
alignas alignof and asm auto bool break case catch char class concept const constexpr consteval constinit continue
decltype default delete do double else enum example explicit export extern false float for friend goto if inline int
long main mutable namespace new noexcept not nullptr operator or private protected public register requires return
short signed sizeof static std struct switch template this throw true try typedef typeid typename union unsigned using
virtual void volatile while xor
"""


@dataclass(frozen=True)
class CppRequest:
    """What is wanted. Fields of None are filled in: the folder from the model's name, digits by the target.

    output:  folder to write; with a library too that one is only read
    library: checkout of the library that the target is made for; without an output files are replaced inside it
    check:   None checks where that can be done; True fails where it cannot; False does not
    """

    weights: str = "yunet_n"
    target: str = "standalone"
    output: Path | None = None
    library: Path | None = None
    name: str | None = None
    digits: int | None = None
    check: bool | None = None
    images: Path | None = None


@dataclass(frozen=True)
class CppExport:
    """What was written and how it was checked: `check`, or else `unchecked` says why not."""

    target: str
    checkpoint: Path
    name: str
    digits: int
    folder: Path
    files: dict[str, int]  # name -> bytes
    library: str | None
    check: "CppCheck | None"
    unchecked: str | None
    advice: str | None

    def as_dict(self) -> CppDocument:
        """For JSON."""
        return {
            "target": self.target,
            "checkpoint": str(self.checkpoint),
            "name": self.name,
            "digits": self.digits,
            "folder": str(self.folder),
            "files": [{"path": str(self.folder / name), "bytes": size} for name, size in self.files.items()],
            "library": self.library,
            "check": None if self.check is None else self.check.as_dict(),
            "unchecked": self.unchecked,
            "advice": self.advice,
        }


def export_cpp(request: CppRequest, progress: Progress = lambda what: None) -> CppExport:
    """Write the sources, try them, and only then put them where they belong.

    Raises UsageError before anything is done, ExportError where the check fails; then no file is touched.
    """
    target = find_target(request.target)
    if request.check is False and request.images is not None:
        raise UsageError("`no_check` and `check_images` exclude each other")
    checkpoint = find_weights(request.weights, "export")
    options = _options(request, target, checkpoint)
    library_folder = _library_folder(request, target)
    folder = request.output or library_folder or Path(f"{export_name(checkpoint)}_{request.target}")
    check_folder(folder, "output")
    if request.images is not None and not request.images.exists():
        raise InputError(f"`check_images` {request.images}: no such folder", path_hint(request.images))

    from facetrain.export.network.fold import fold  # only now anything heavy
    from facetrain.model.weights import load_model

    net = fold(load_model(checkpoint))
    check_finite(net)
    files = _files(target, net, options, folder)
    if folder != library_folder:
        _check_folder(folder, files)
    check, unchecked = _check(request, checkpoint, net, options, files, progress)
    _write(folder, files)
    advice = target.advice(files, folder == library_folder) if hasattr(target, "advice") else None
    version = target.library_version(request.library) if request.library is not None else None
    sizes = {name: len(text.encode()) for name, text in files.items()}
    return CppExport(
        request.target, checkpoint, options.name, options.digits, folder, sizes, version, check, unchecked, advice
    )


def target_names() -> list[str]:
    """The targets there are: modules of cpp_targets/ that have `files`."""
    return [name for name in _modules() if hasattr(_module(name), "files")]


def find_target(name: str) -> ModuleType:
    """A target's module. Raises UsageError with the names there are."""
    names = target_names()
    if name not in names:
        raise UsageError(f"`target` {name}: not known", choices_hint(name, names))
    return _module(name)


def _modules() -> list[str]:
    return [module.name for module in iter_modules(targets.__path__)]


def _module(name: str) -> ModuleType:
    return import_module(f"{targets.__name__}.{name}")


def _options(request: CppRequest, target: ModuleType, checkpoint: Path) -> CppOptions:
    digits = request.digits if request.digits is not None else getattr(target, "DIGITS", EXACT_DIGITS)
    if not 1 <= digits <= EXACT_DIGITS:
        raise UsageError(
            f"`digits` {digits}: must be from 1 to {EXACT_DIGITS}", f"{EXACT_DIGITS} reproduce float32 exactly"
        )
    name = request.name
    if name is None:
        name = re.sub(r"[^A-Za-z0-9]+", "_", export_name(checkpoint)).strip("_")
        name = f"net_{name}" if not name or name[0].isdigit() or name in _TAKEN.split() else name
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or "__" in name or name in _TAKEN.split():
        raise UsageError(f"`name` {name}: no name for a C++ namespace", "letters, digits and single underscores")
    return CppOptions(name, digits)


def _library_folder(request: CppRequest, target: ModuleType) -> Path | None:
    if request.library is None:
        return None
    if not hasattr(target, "library_folder"):
        others = [name for name in target_names() if hasattr(find_target(name), "library_folder")]
        raise UsageError(f"`library`: the target {request.target} is made for none", f"it is for: {', '.join(others)}")
    folder: Path = target.library_folder(request.library)
    return folder


def _files(target: ModuleType, net: FoldedNet, options: CppOptions, folder: Path) -> dict[str, str]:
    files: dict[str, str]
    # os.path answers no for a folder behind a closed one, Path.is_dir raises
    if os.path.isdir(folder) and hasattr(target, "files_into"):  # noqa: PTH112
        files = target.files_into(net, options, folder)
    else:
        files = target.files(net, options)
    return files


def _check_folder(folder: Path, files: Mapping[str, str]) -> None:
    """Refuse to mix with what is not ours: a folder is new, empty, or has an earlier export and no other such file."""
    hint = "choose another folder with `output`"
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: not a folder", hint)
        if not folder.exists() or not any(folder.iterdir()):
            return
        there = [name for name in files if (folder / name).exists()]
        foreign = [name for name in there if not _is_ours(folder / name)]
    except OSError as error:
        raise OutputError(f"{folder}: cannot be looked into: {error.strerror}", hint) from error
    if foreign:
        raise InputError(f"{folder / foreign[0]}: is there, and no earlier export: it is not overwritten", hint)
    if not there:
        raise InputError(f"{folder}: holds other files and no earlier export", hint)


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        return _MARK.encode() in file.read(_MARK_BYTES)


def _check(
    request: CppRequest,
    checkpoint: Path,
    net: FoldedNet,
    options: CppOptions,
    files: Mapping[str, str],
    progress: Progress,
) -> "tuple[CppCheck | None, str | None]":
    """The check that was made, or why there is none. Raises ExportError where it fails or was asked for in vain."""
    if request.check is False:
        return None, "not wanted"
    from facetrain.export.cpp.check import check_cpp
    from facetrain.export.images import check_images

    images = check_images(request.images)
    program: Program | str = "this target has no check"
    if f"{request.target}_check" in _modules():
        program = _module(f"{request.target}_check").program(files, options, request.library)
    compiler = find_compiler()
    if isinstance(program, str) or compiler is None:
        reason = program if isinstance(program, str) else "no C++ compiler found (g++, clang++, c++, or what CXX names)"
        if request.check:
            raise ExportError(f"`check`: {reason}", "without `check` the files are written as they are")
        return None, reason
    progress(f"compiling with {compiler.version}, and looking for faces in {len(images)} images")
    return check_cpp(checkpoint, net, options.digits, files, program, images, compiler), None


def _write(folder: Path, files: Mapping[str, str]) -> None:
    """All files, each beside its place first, then renamed: an error on the way leaves what was there."""
    with ExitStack() as stack:
        for name, text in files.items():
            stack.enter_context(replacing(folder / name)).write_bytes(text.encode())
