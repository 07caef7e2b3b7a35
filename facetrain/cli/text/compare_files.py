"""What `facetrain compare` reads from its options and writes beside its result."""

from collections.abc import Sequence
from pathlib import Path

from facetrain.cli.text.compare import comparison_markdown
from facetrain.compare.results import Comparison
from facetrain.compare.scatter import Bubble, check_plot_path, write_scatter
from facetrain.compare.sheet import Panel, draw_sheet
from facetrain.core.errors import InputError, UsageError
from facetrain.core.files import check_file, write_text
from facetrain.core.images import write_image
from facetrain.core.suggest import choices_hint, path_hint
from facetrain.core.words import count
from facetrain.detect.recognise import check_family

_SHEET_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def check_files(
    *, plot: Path | None, sheet: Path | None, markdown: Path | None, image: Path | None, widerface: bool
) -> None:
    """Raise UsageError for files that could not be written in the end: now, and not after all the work."""
    if plot is not None:
        check_plot_path(plot)
        if not widerface:
            raise UsageError("--plot draws AP over latency, and AP was not asked for", "add --widerface --data FOLDER")
    if sheet is not None and image is None:
        raise UsageError("--output is the sheet of --image, which is missing", "add --image IMAGE")
    if sheet is None and image is not None:
        raise UsageError("--image needs --output, a file for the sheet", "add --output sheet.png")
    if sheet is not None and sheet.suffix.lower() not in _SHEET_SUFFIXES:
        raise UsageError(f"--output {sheet}: not an image by its name", f"name it {', '.join(_SHEET_SUFFIXES)}")
    if image is not None and not image.exists():
        raise InputError(f"--image {image}: no such file", path_hint(image))
    for option, path in (("--plot", plot), ("--output", sheet), ("--markdown", markdown)):
        if path is not None:
            check_file(path, option.removeprefix("--"))


def families_of(options: Sequence[str], models: Sequence[str]) -> dict[str, str]:
    """The family that each model is to be taken for, of `NAME` for all and `FILE=NAME` for one. Raises UsageError."""
    families: dict[str, str] = {}
    for option in sorted(options, key=lambda option: "=" in option):  # one model's own family goes before that of all
        file, equals, name = option.rpartition("=")
        check_family(name)
        chosen = [model for model in models if not equals or file in (model, Path(model).name)]
        if not chosen:
            raise UsageError(f"--family {option}: {file} is none of the models", choices_hint(file, models))
        families |= dict.fromkeys(chosen, name)
    return families


def write_files(found: Comparison, *, plot: Path | None, sheet: Path | None, markdown: Path | None) -> list[Path]:
    """Write what was asked for and can be had. Returns the files. Raises OutputError."""
    written = []
    if markdown is not None:
        write_text(markdown, comparison_markdown(found))
        written.append(markdown)
    if sheet is not None and found.look is not None and found.look.found:
        write_image(sheet, draw_sheet(found.look.image, _panels(found)))
        written.append(sheet)
    bubbles = _bubbles(found)
    if plot is not None and bubbles:
        _write_plot(found, bubbles, plot)
        written.append(plot)
    return written


def _panels(found: Comparison) -> list[Panel]:
    assert found.look is not None
    panels = []
    for number, faces in found.look.found.items():
        best = f" · best {faces.scores[0]:.2f}" if len(faces) else ""
        line = f"{found.rows[number].family} · {count(len(faces), 'face')}{best}"
        panels.append(Panel(found.rows[number].name, line, faces, found.rows[number].landmark_names or ()))
    return panels


def _bubbles(found: Comparison) -> list[Bubble]:
    """Those models that have an AP and a time."""
    bubbles = []
    for row in found.rows:
        hard = row.accuracy.ap["hard"] if row.accuracy else None
        if hard is not None and row.one_core and row.cost:
            latency = row.one_core.network.median
            bubbles.append(Bubble(row.name, latency, hard, row.cost.parameters or 0, row.static_shape))
    return bubbles


def _write_plot(found: Comparison, bubbles: Sequence[Bubble], path: Path) -> None:
    machine, protocol = found.machine, found.protocol or {}
    width, height = found.timing["size"]
    fixed = ", or the size that the file fixes" if any(bubble.fixed for bubble in bubbles) else ""
    write_scatter(
        path,
        bubbles,
        x_title=f"ms an image of {width}x{height}{fixed}; the network alone, one core",
        y_title=f"AP hard, WIDER FACE val ({protocol['images']:,} images)",
        note=f"area: parameters · {machine['cpu']}, onnxruntime {machine['versions']['onnxruntime']} · AP at size "
        f"{protocol['size']}, score {protocol['score']:g}, NMS {protocol['nms']:g}",
    )
