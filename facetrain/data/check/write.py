"""A set that was looked over as a page: histograms, what was found, images with their labels, and training crops."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facetrain import __version__
from facetrain.config.schema import DataConfig
from facetrain.core.errors import DataError
from facetrain.core.faces import LabelledImage
from facetrain.core.files import as_utf8
from facetrain.core.images import read_image, write_image
from facetrain.core.report import check_report, templates, writing_report
from facetrain.data.check.draw import FOUND, IGNORED, RIGHT, drawn_labels
from facetrain.data.check.look_over import Checked, CheckedPart
from facetrain.data.plausibility.kinds import KINDS

_PARTS = {"index.html", "images", "crops.jpg"}
_MARK = '<meta name="generator" content="facetrain data check">'
_KEY = {"face": RIGHT, "looks wrong": FOUND, "ignored (dotted)": IGNORED}
_TILE, _LARGE = (480, 400), 1280  # pixels: a tile's box, and the larger version's longer side
_ODD, _EVEN = 36, 24  # images on a sheet: with something that cannot be right, and evenly over the part
_TITLES = {
    "face_sides": ("Faces by shorter side", "px"),
    "faces_per_image": ("Images by faces that count", ""),
    "image_sides": ("Images by shorter side", "px"),
}


@dataclass(frozen=True)
class Tile:
    """An image of a sheet. file: its path in the report without `.jpg`; size: (width, height) of the small version."""

    name: str
    caption: str
    file: str
    size: tuple[int, int]


def check_report_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier report. Raises UsageError; nothing is changed."""
    check_report(folder, _PARTS, _MARK)


def write_report(folder: Path, checked: Checked, config: DataConfig, seed: int) -> Path:
    """Write the page into `folder`, whole or not at all; an earlier one is replaced. Returns the page.

    config, seed: what training crops are made by
    """
    from markupsafe import Markup

    with writing_report(folder, _PARTS, _MARK) as new:
        (new / "images").mkdir()
        sheets = {}
        for name, part in checked.parts.items():
            odd, rest = _chosen(part)
            sheets[f"{name}: what looks wrong"] = _tiles(new, name, part, odd)
            sheets[f"{name}: labels"] = _tiles(new, name, part, rest)
        crops = _crops(new / "crops.jpg", checked, config, seed)
        text = (
            templates(Path(__file__).parent)
            .get_template("page.html")
            .render(
                title=checked.root,
                checked=checked,
                unreadable=[],
                titles=_TITLES,
                sheets={heading: tiles for heading, tiles in sheets.items() if tiles},
                crops=crops,
                config=config,
                key={name: f"rgb({red},{green},{blue})" for name, (blue, green, red) in _KEY.items()},
                mark=Markup(_MARK),
                version=__version__,
            )
        )
        (new / "index.html").write_bytes(as_utf8(text))
    return folder / "index.html"


def _chosen(part: CheckedPart) -> tuple[list[int], list[int]]:
    """Indices of the images for the two sheets."""
    odd = _odd_faces(part)
    images = part.read.images
    with_something = [number for number, image in enumerate(images) if image.name in odd]
    others = [number for number, image in enumerate(images) if image.name not in odd and len(image.boxes)]
    return _thinned(with_something, _ODD), _thinned(others, _EVEN)


def _thinned(numbers: Sequence[int], most: int) -> list[int]:
    if len(numbers) <= most:
        return list(numbers)
    return [numbers[i] for i in np.linspace(0, len(numbers) - 1, most).round().astype(int)]


def _odd_faces(part: CheckedPart) -> dict[str, dict[int, list[str]]]:
    """By image and face, -1 for boxes without area: of which kinds it is, but what faces may be like."""
    judgement = part.labels.judgement
    found: dict[str, dict[int, list[str]]] = {}
    if judgement is None or judgement.table is None:
        return found
    refused = {kind.kind for kind in judgement.kinds if kind.refused}
    for kind, mask in judgement.masks.items():
        if KINDS[kind].needs_look and kind not in refused:
            continue
        for row in np.flatnonzero(mask):
            name = part.read.images[judgement.table.image[row]].name
            found.setdefault(name, {}).setdefault(int(judgement.table.face[row]), []).append(kind)
    return found


def _tiles(folder: Path, name: str, part: CheckedPart, numbers: Sequence[int]) -> list[Tile]:
    """Draw images in two sizes. One that cannot be read is left out; the errors name it."""
    odd = _odd_faces(part)
    tiles = []
    for number in numbers:
        labelled = part.read.images[number]
        kinds = odd.get(labelled.name, {})
        try:
            image = read_image(labelled.path)
        except DataError:
            continue
        file, (height, width) = f"images/{name}-{number:06}", image.shape[:2]
        wrong = np.isin(np.arange(len(labelled.boxes)), list(kinds))
        large = drawn_labels(image, min(1.0, _LARGE / max(width, height)), labelled, part.read.points, wrong)
        small = drawn_labels(image, min(_TILE[0] / width, _TILE[1] / height), labelled, part.read.points, wrong)
        write_image(folder / f"{file}.jpg", large, quality=88)
        write_image(folder / f"{file}-small.jpg", small, quality=82)
        tiles.append(Tile(labelled.name, _caption(labelled, kinds), file, (small.shape[1], small.shape[0])))
    return tiles


def _caption(labelled: LabelledImage, kinds: dict[int, list[str]]) -> str:
    counts: dict[str, int] = {}
    for names in kinds.values():
        for name in names:
            counts[name] = counts.get(name, 0) + 1
    faces = f"{int((~labelled.ignore).sum())} faces, {int(labelled.ignore.sum())} ignored"
    return "; ".join([faces, *(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())])


def _crops(path: Path, checked: Checked, config: DataConfig, seed: int) -> list[str]:
    """Draw training crops over several epochs; the names of their images, none where there are none to train on."""
    part = checked.parts.get("train")
    if part is None:
        return []
    from facetrain.data.check.crops_sheet import draw_crops_sheet  # torch: only a page needs it

    return draw_crops_sheet(path, part.labels.images, part.labels.points, config, seed)
