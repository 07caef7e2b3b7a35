"""`facetrain export-cpp`: a checkpoint as C++ source, compiled and checked before it is called done."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facetrain.cli import console
from facetrain.core.words import count

if TYPE_CHECKING:
    from facetrain.export.cpp.check import CppCheck
    from facetrain.export.export_cpp import CppExport

EXAMPLES = """
facetrain export-cpp -w my_run -o detector
facetrain export-cpp --name door_camera --check-images my_faces/val/images
facetrain export-cpp --target libfacedetection --library libfacedetection
"""


def run(
    *,
    weights: Annotated[
        str, typer.Option("--weights", "-w", help="A checkpoint, a run, or a name; see `facetrain weights`.")
    ] = ("yunet_n"),
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder to write: new, empty, or with an earlier export of this target."),
    ] = None,
    target: Annotated[
        str,
        typer.Option(help="standalone: a detector without dependencies. libfacedetection: files for that library."),
    ] = "standalone",
    name: Annotated[
        str | None, typer.Option(help="C++ name of the detector's namespace and files; by default the model's.")
    ] = None,
    digits: Annotated[
        int | None,
        typer.Option(help="Digits of a weight, 1 to 9 (exact). By default 9; 3 for libfacedetection, like its own."),
    ] = None,
    library: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Checkout of libfacedetection: files are replaced inside it, or, with --output, only tried in it.",
        ),
    ] = None,
    check: Annotated[
        bool | None,
        typer.Option(
            "--check/--no-check",
            help="Compile, and compare faces with the model's; on failure nothing is written. By default where a "
            "compiler (and library) is there; --check fails without.",
        ),
    ] = None,
    check_images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of images to check on, instead of a photograph and drawn faces."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write a checkpoint as C++ source: a self-contained detector, or files for libfacedetection."""
    from facetrain.export.export_cpp import CppRequest, export_cpp

    request = CppRequest(weights, target, output, library, name, digits, check, check_images)
    with console.interruptible("nothing was written"):
        result = export_cpp(request, progress=console.say)
    console.result(result.as_dict(), _text(result), as_json=json)


def _text(result: "CppExport") -> str:
    lines = [f"{result.folder / name}: {size:,} bytes" for name, size in result.files.items()]
    if result.library is not None:
        lines.append(f"library: {result.library}")
    lines += _check_lines(result.check) if result.check is not None else [f"not checked: {result.unchecked}"]
    if result.advice is not None:
        lines.append(f"next: {result.advice}")
    return "\n".join(lines)


def _check_lines(check: "CppCheck") -> list[str]:
    faces, images = count(check.found.faces, "face"), count(check.images, "image")
    line = f"checked: compiled with {check.compiler}; {faces} in {images} at score {check.threshold:g}, "
    if not check.found.faces:
        lines = [f"{line}which says little: give images with faces as --check-images"]
    elif check.truncated:
        lines = [f"{line}the model's to the whole number"]
    else:
        lines = [f"{line}scores within {check.found.score:.1e}, boxes within {check.found.pixels:.1e} pixels"]
    if check.digits is not None:
        effect = check.digits
        lines.append(
            f"rounding the weights: scores change by up to {effect.score:.3f}, boxes and landmarks by up to "
            f"{effect.pixels:.2f} pixels; {count(effect.alone, 'face')} come or go"
        )
    return lines
