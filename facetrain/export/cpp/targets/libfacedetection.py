"""Source files for libfacedetection: the data file, and the forward pass where the network has another shape."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from facetrain import __version__
from facetrain.config.schema import ModelConfig
from facetrain.core.errors import InputError, UsageError
from facetrain.export.cpp.targets.libfacedetection_data import comments_of, data_text
from facetrain.export.cpp.targets.libfacedetection_forward import foreign_operations, forward_text
from facetrain.export.cpp.targets.options import CppOptions
from facetrain.export.network.folded import FoldedNet
from facetrain.model.network import units
from facetrain.model.operations import Unit

DIGITS = 3  # the library's own file has three
DATA, FORWARD = "facedetectcnn-data.cpp", "facedetectcnn-model.cpp"
TESTED = "acf7b25 (28 June 2026)"  # the library's commit that the files were compiled and compared with

SOURCES = ("facedetectcnn.cpp", FORWARD, DATA)
_WIDEST_VECTOR = 16  # floats
_NEEDED = (  # what the forward pass calls; an older library lacks the last one
    "ConvInfoStruct",
    "setDataFrom3x3S2P1to1x1S1P0FromImage",
    "convolutionDP",
    "detection_output",
    "FACEDETECTION_RESULT_STRIDE_SHORTS",
)


def files(net: FoldedNet, options: CppOptions) -> dict[str, str]:
    """The data file, with the matching forward file where the library's own does not fit.

    Raises UsageError, naming all reasons, for a network that the library cannot express.
    """
    head = f"// Weights of {options.name}, written by facetrain {__version__}.\n"
    fits = library_forward_fits(net)
    head += f"// For libfacedetection's own {FORWARD}.\n" if fits else f"// For the {FORWARD} written with it.\n"
    columns = "// channels, filters, depthwise, pointwise, batch norm, weights, biases\n"
    return _files(net, options, (head, columns), forward=not fits)


def files_into(net: FoldedNet, options: CppOptions, folder: Path) -> dict[str, str]:
    """The same for a folder that holds a library's, or earlier, files.

    The data file keeps the comments of the library's that it replaces. A forward file of another network is replaced
    too: the library's own is the only one that may stay.
    """
    fresh = files(net, options)
    comments = comments_of(folder / DATA)
    if comments is None or "facetrain" in comments[0]:
        head = fresh[DATA].partition("#include")[0]
        columns = re.search(r"^//[^\n]*\n(?=ConvInfoStruct)", fresh[DATA], re.MULTILINE)
        assert columns is not None
        comments = head, columns[0]
    other = (folder / FORWARD).is_file() and not _is_own_forward(folder / FORWARD)
    return _files(net, options, comments, forward=FORWARD in fresh or other)


def library_forward_fits(net: FoldedNet) -> bool:
    """Whether the library's own forward pass, made for 53 layers, computes this network.

    Widths come from the table there. But where channels do not fill a vector it reads padding that it never set.
    """
    config, own = net.config, ModelConfig(shared_convs=0)
    shape = all(
        getattr(config, name) == getattr(own, name)
        for name in ("block", "neck", "pool_after", "maps", "strides", "shared_convs", "tower_convs")
    )
    network = net.network
    given = set(network.outputs.values())
    found = [unit for unit in units(network.operations, network.readers()) if isinstance(unit, Unit)]
    inner = [unit.depthwise for unit in found if unit.depthwise.y not in given]
    return (
        shape
        and len(config.stages) == len(own.stages)
        and all(conv.outputs % _WIDEST_VECTOR == 0 for conv in (network.convs[0], *inner))
    )


def library_folder(checkout: Path) -> Path:
    """The folder of a checkout that the files go into. Raises InputError where it is no checkout of the library."""
    folder = checkout / "src"
    hint = "clone https://github.com/ShiqiYu/libfacedetection and name its folder"
    missing = [name for name in ("facedetectcnn.h", *SOURCES) if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{checkout}: not a checkout of libfacedetection: src/{missing[0]} is not there", hint)
    header = (folder / "facedetectcnn.h").read_text(encoding="utf-8", errors="replace")
    unknown = [name for name in _NEEDED if not re.search(rf"\b{name}\b", header)]
    if unknown:
        raise InputError(
            f"{checkout}: not a libfacedetection that the files fit: its header does not know {unknown[0]}",
            f"they were tested with commit {TESTED}",
        )
    return folder


def library_version(checkout: Path) -> str:
    """The checkout's commit beside the one that was tested."""
    git = shutil.which("git")
    commit = ""
    if git is not None and (checkout / ".git").exists():
        command = [git, "-c", "safe.directory=*", "-C", str(checkout), "rev-parse", "--short=7", "HEAD"]
        commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return f"libfacedetection {commit or 'of unknown version'}; tested with {TESTED}"


def advice(written: Mapping[str, str], in_place: bool) -> str | None:
    """Which files to replace, and what of the library does not know them."""
    steps = []
    if not in_place:
        replaced = " and ".join(f"src/{name}" for name in written)
        steps.append(f"replace {replaced} of libfacedetection (tested with {TESTED})")
    if FORWARD in written:
        steps.append("leave out its highway/ and rust/ ports: they are made for its own 53 layers")
    return "; ".join(steps) or None


def _files(net: FoldedNet, options: CppOptions, comments: tuple[str, str], forward: bool) -> dict[str, str]:
    _refuse(net)
    written = {DATA: data_text(net, options.digits, *comments)}
    if forward:
        title = f"Forward pass of {options.name} for libfacedetection, written by facetrain {__version__}."
        written[FORWARD] = forward_text(net, title)
    return written


def _refuse(net: FoldedNet) -> None:
    config = net.config
    reasons = foreign_operations(net.network)
    points = len(config.landmarks.names)
    if points != 5:
        reasons.append(f"its faces have exactly five landmarks, the model's {points or 'none'}")
    if config.strides != (8, 16, 32):
        own = ", ".join(map(str, config.strides))
        reasons.append(f"it has the strides 8, 16, 32 and pads images to a multiple of 32, the model has {own}")
    if reasons:
        raise UsageError(
            f"libfacedetection cannot express this model: {'; '.join(reasons)}", "`target` standalone takes any model"
        )


def _is_own_forward(path: Path) -> bool:
    return bool(re.search(r"\bNUM_CONV_LAYER\s+53\b", path.read_text(encoding="utf-8", errors="replace")))
