"""The "sample" data set: drawn faces, to try the trainer without a download.

Every image is a pure function of (seed, split, index), so images can be drawn alone, in any order and at once.
The folder has the layout of WIDER FACE, and its labels are in the labelv2 format for both splits.
"""

import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetrain.core.errors import OutputError
from facetrain.core.faces import Floats, Image
from facetrain.core.files import user_cache, write_text
from facetrain.core.images import opencv
from facetrain.data.sample_set.drawing import (
    Drawn,
    Layer,
    Points,
    Rng,
    View,
    any_colour,
    draw_person,
    ellipse,
    skin_colour,
)

SAMPLE_VERSION = 1  # part of the folder's name: raise it when the drawing changes, so that old files are not reused
SPLITS = ("train", "val")

_QUALITY = 90
_XY = np.array([1, 1j])  # makes complex points of x and y
_SMALLEST = 8.0  # pixels of the shorter side of a box; a smaller face is marked ignored
_EVENTS = ("0--Empty", "1--Portrait", "2--Group", "3--Street", "4--Crowd")
# One event for each of twenty images in a row: shares are exact and the first few images already differ.
_ORDER = (2, 1, 3, 4, 2, 3, 1, 0, 3, 2, 4, 3, 2, 1, 3, 2, 4, 3, 2, 4)
# Of each event: least and most faces, and the smallest and largest width of a face.
_COUNTS = ((0, 0), (1, 2), (3, 9), (1, 9), (10, 20))
_WIDTHS = ((1.0, 1.0), (85.0, 220.0), (28.0, 80.0), (11.0, 100.0), (8.8, 26.0))
_ALIKE = (2, 4)  # events whose faces are all about as large


@dataclass(frozen=True)
class DrawnFace:
    """One labelled face. box: (4,) xyxy; landmarks: (5, 2), NaN where outside of the image; pixels as in labelv2.

    visible: which share of its outline's pixels is in the image and not covered by anything drawn later.
    """

    box: Floats
    landmarks: Floats
    ignore: bool
    visible: float


def draw_image(seed: int, split_id: int, index: int) -> tuple[Image, list[DrawnFace]]:
    """Draw one image, (360, 480, 3) or (480, 360, 3), and say which faces are in it."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, split_id, index)))
    event = _event(index)
    width, height = (360, 480) if rng.random() < 0.2 else (480, 360)
    owner = np.zeros((height, width), np.int16)
    scene = Layer(_background(rng, width, height), owner)
    light = np.array([rng.normal(0, 0.8), rng.normal(-0.4, 0.5), rng.uniform(0.5, 1.2)])
    light /= np.linalg.norm(light)
    views = _place_heads(rng, event, width, height)
    for _ in range(int(rng.integers(4, 9) if event == 0 else rng.integers(0, 4))):
        _draw_distractor(scene, rng, views)
    people = [draw_person(scene, view, light, number, rng) for number, view in enumerate(views, 1)]
    for view in views:
        if rng.random() < 0.1:
            _occlude(scene, rng, view)
    labels = [_label(owner, person, number) for number, person in enumerate(people, 1)]
    image = _photograph(scene.pixels, rng, min((view.unit for view in views), default=40.0))
    return image, [label for label in labels if label is not None]


def write_sample(
    root: Path, train: int = 400, val: int = 100, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> None:
    """Draw the data set into `root`. Labels are written last: without them the folder is incomplete.

    progress is called with the number of images done and of all. Raises OutputError.
    """
    try:
        for split in SPLITS:
            _labels(root, split).unlink(missing_ok=True)
            for event in _EVENTS:
                _images(root, split, event).mkdir(parents=True, exist_ok=True)
        texts = []
        for split_id, count in enumerate((train, val)):
            lines = []
            for index in range(count):
                lines += _write(root, seed, split_id, index)
                if progress is not None:
                    progress(split_id * train + index + 1, train + val)
            texts.append("\n".join([*lines, ""]))
        for split, text in zip(SPLITS, texts, strict=True):
            write_text(_labels(root, split), text)
    except OSError as error:
        raise OutputError(f"{root}: cannot be written: {error.strerror or error}", "is the disk full?") from error


def sample_root(progress: Callable[[int, int], None] | None = None) -> Path:
    """The sample data set's folder in the user's cache, drawn at the first use. Raises OutputError."""
    root = user_cache() / "facetrain" / f"sample-v{SAMPLE_VERSION}"
    if _complete(root):
        return root
    scratch = root.with_name(f".{root.name}-{secrets.token_hex(6)}")
    try:
        scratch.mkdir(parents=True)
    except OSError as error:
        hint = "set the environment variable FACETRAIN_CACHE to a folder that can be written"
        raise OutputError(f"{root}: cannot write here: {error.strerror}", hint) from error
    try:
        write_sample(scratch, progress=progress)
        _move(scratch, root)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return root


def _move(scratch: Path, root: Path) -> None:
    """Give a complete folder its name, unless another process was faster: its images are the same."""
    try:
        scratch.rename(root)
    except OSError:
        if _complete(root):
            return
        shutil.rmtree(root, ignore_errors=True)  # somebody removed a part of it
        try:
            scratch.rename(root)
        except OSError as error:
            hint = "remove it, or set FACETRAIN_CACHE to another folder"
            raise OutputError(f"{root}: cannot be replaced: {error.strerror}", hint) from error


def _complete(root: Path) -> bool:
    return all(_labels(root, split).is_file() for split in SPLITS)


def _labels(root: Path, split: str) -> Path:
    return root / "labelv2" / split / "labelv2.txt"


def _images(root: Path, split: str, event: str) -> Path:
    return root / f"WIDER_{split}" / "images" / event


def _write(root: Path, seed: int, split_id: int, index: int) -> list[str]:
    """Draw and write one image. Returns its label lines."""
    cv2 = opencv()
    image, faces = draw_image(seed, split_id, index)
    event, name = _EVENTS[_event(index)], _name(split_id, index)
    _, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    # Not write_image: that waits for the disk after each image, and here the folder counts only as a whole.
    (_images(root, SPLITS[split_id], event) / name).write_bytes(content.tobytes())
    lines = [f"# {event}/{name} {image.shape[1]} {image.shape[0]}"]
    for face in faces:
        numbers = [f"{value:.1f}" for value in face.box]
        if face.ignore:
            numbers.append("1")
        else:
            for x, y in face.landmarks:
                numbers += ["-1", "-1", "-1"] if np.isnan(x) else [f"{x:.1f}", f"{y:.1f}", "1"]
        lines.append(" ".join(numbers))
    return lines


def _name(split_id: int, index: int) -> str:
    number, _, word = _EVENTS[_event(index)].partition("--")
    return f"{number}_{word}_{SPLITS[split_id]}_{index:04d}.jpg"  # as WIDER FACE would call it


def _event(index: int) -> int:
    return _ORDER[index % len(_ORDER)]


def _label(owner: NDArray[np.int16], person: Drawn, number: int) -> DrawnFace | None:
    """The face's label, or None where too little of it can be seen."""
    height, width = owner.shape
    x, y = person.outline.real, person.outline.imag
    whole = np.array([np.min(x), np.min(y), np.max(x), np.max(y)])
    box = np.clip(whole, 0, (width, height, width, height))
    kept = np.prod(box[2:] - box[:2]) / np.prod(whole[2:] - whole[:2])
    visible = float(np.count_nonzero(owner == number) / person.area)
    if visible < 0.3 or kept < 0.5:
        return None
    ignore = visible < 0.5 or person.blurred or min(box[2:] - box[:2]) < _SMALLEST
    points = person.landmarks.view(np.float64).reshape(-1, 2)
    outside = ((points < 0) | (points > (width, height))).any(1, keepdims=True)
    landmarks = np.where(outside, np.nan, points).astype(np.float32)
    return DrawnFace(box.astype(np.float32), landmarks, bool(ignore), visible)


def _place_heads(rng: Rng, event: int, width: int, height: int) -> list[View]:
    """Where heads go and how they are turned, the farthest (smallest) first."""
    count = int(rng.integers(_COUNTS[event][0], _COUNTS[event][1] + 1))
    low, high = _WIDTHS[event]
    sizes = np.exp(rng.uniform(np.log(low), np.log(high), count))
    if event in _ALIKE:
        sizes = np.clip(sizes[:1] * rng.uniform(0.75, 1.3, count), low, None)
    views: list[View] = []
    for size in np.sort(sizes):
        unit = float(size) / 1.55
        yaw, pitch = np.clip(rng.normal(0, 0.32), -0.75, 0.75), np.clip(rng.normal(0, 0.13), -0.3, 0.3)
        roll = rng.uniform(-0.8, 0.8) if rng.random() < 0.12 else np.clip(rng.normal(0, 0.14), -0.4, 0.4)
        pushing = rng.random() < 0.12
        inside = np.array([1.0, 1.2]) * unit * (0.2 if rng.random() < 0.06 else 1.0)  # some are cut by the border
        for _ in range(30):
            centre = complex(*rng.uniform(inside, np.maximum((width, height) - inside, inside + 1)))
            if all(_apart(centre, unit, other, pushing) for other in views):
                views.append(View(centre, unit, float(yaw), float(pitch), float(roll)))
                break
    return views


def _apart(centre: complex, unit: float, other: View, pushing: bool) -> bool:
    """Whether a person here leaves a head farther away mostly visible; shoulders hide what is beside and below."""
    away = other.centre - centre
    if away.imag > 0 and not pushing:
        return abs(away.real) > 1.8 * unit + other.unit or away.imag > 5.5 * unit + other.unit
    near = (unit + other.unit) * (0.75 if pushing else 1.0)
    return abs(away.real) > near or abs(away.imag) > near * 1.25


def _background(rng: Rng, width: int, height: int) -> Image:
    """Smooth colours, then some of: foliage, tiles, buildings, shapes, lines; often out of focus."""
    cv2 = opencv()
    base = np.stack([any_colour(rng) for _ in range(12)]).reshape(3, 4, 3)
    small = (base + rng.uniform(0.2, 0.85) * (base.mean((0, 1)) - base)).astype(np.uint8)
    layer = Layer(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))
    if rng.random() < 0.35:
        grid = int(rng.integers(15, 80))
        leaves = rng.integers(0, 256, (grid, grid, 1)) * rng.uniform(0.6, 1, 3) * rng.uniform(0.8, 1, (grid, grid, 3))
        leaves = cv2.resize(leaves.astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)
        layer.pixels = cv2.addWeighted(layer.pixels, 0.65, leaves, 0.35, 0)
    for draw in (_tiles, _buildings, _shapes, _lines):
        if rng.random() < 0.4:
            draw(layer, rng, width, height)
    image: Image = layer.pixels
    soft = int(rng.integers(2, 15)) if rng.random() < 0.6 else 1
    return cv2.blur(image, (soft, soft)) if soft > 1 else image


def _tiles(layer: Layer, rng: Rng, width: int, height: int) -> None:
    dark, step = any_colour(rng), rng.uniform(16, 70)
    tall, top = step * rng.uniform(0.4, 1), rng.choice([0.0, rng.uniform(0, height * 0.7)])
    for row, y in enumerate(np.arange(top, height, tall)):
        layer.stroke(np.array([1j * y, width + 1j * y]), dark, 1)
        for x in np.arange(step * 0.5 * (row % 2), width, step):
            layer.stroke(np.array([x + 1j * y, x + 1j * (y + tall)]), dark, 1)


def _buildings(layer: Layer, rng: Rng, width: int, height: int) -> None:
    for x in np.arange(0, width, rng.uniform(60, 140)):
        wall, pane, wide, top = any_colour(rng), any_colour(rng), rng.uniform(40, 120), rng.uniform(0, height * 0.6)
        layer.fill(_rectangle(x, top, x + wide, height), wall)
        step = rng.uniform(14, 34)
        for left in np.arange(x + 6, x + wide - step * 0.5, step):
            for up in np.arange(top + 6, height, step * 1.4):
                layer.fill(_rectangle(left, up, left + step * 0.55, up + step * 0.8), pane)


def _shapes(layer: Layer, rng: Rng, width: int, height: int) -> None:
    for _ in range(int(rng.integers(4, 22))):
        centre, reach = complex(rng.uniform(0, width), rng.uniform(0, height)), np.exp(rng.uniform(2, 4.7))
        corners = rng.uniform(-reach, reach, (int(rng.integers(3, 7)), 2)) @ _XY
        oval = ellipse(centre, reach, reach * rng.uniform(0.3, 1), rng.uniform(0, 3))
        layer.fill(oval if rng.random() < 0.5 else centre + corners, any_colour(rng))


def _lines(layer: Layer, rng: Rng, width: int, height: int) -> None:
    for _ in range(int(rng.integers(4, 16))):
        points = rng.uniform((0, 0), (width, height), (int(rng.integers(2, 5)), 2)) @ _XY
        layer.stroke(points, any_colour(rng), rng.uniform(1, 7))


def _direction(rng: Rng) -> complex:
    angle = rng.uniform(0, 2 * np.pi)
    return complex(np.cos(angle), np.sin(angle))


def _rectangle(x1: float, y1: float, x2: float, y2: float) -> Points:
    return np.array([x1 + 1j * y1, x2 + 1j * y1, x2 + 1j * y2, x1 + 1j * y2])


def _draw_distractor(scene: Layer, rng: Rng, views: list[View]) -> None:
    """Something that is a little like a face and is none, where no head goes."""
    height, width = scene.pixels.shape[:2]
    size = float(np.exp(rng.uniform(np.log(9), np.log(60))))
    for _ in range(10):
        centre = complex(rng.uniform(0, width), rng.uniform(0, height))
        if all(abs(centre - view.centre) > 1.4 * (size + view.unit) for view in views):
            _DISTRACTORS[rng.integers(len(_DISTRACTORS))](scene, rng, centre, size)
            return


def _blank_head(scene: Layer, rng: Rng, at: complex, r: float) -> None:
    """A skin coloured egg, bare or under hair."""
    skin, turn = skin_colour(rng), rng.uniform(-0.5, 0.5)
    if r > 14 and rng.random() < 0.5:
        scene.fill(ellipse(at - 0.2j * r, r * 0.85, r), any_colour(rng) * 0.4)
    scene.fill(ellipse(at, r * 0.75, r, turn), skin)
    scene.fill(ellipse(at - (0.2 + 0.3j) * r, r * 0.3, r * 0.4, turn), np.minimum(skin * 1.07, 255))


def _back_of_head(scene: Layer, rng: Rng, at: complex, r: float) -> None:
    scene.fill(at + r * _rectangle(-0.4, 0, 0.4, 1.5), skin_colour(rng) * 0.8)
    scene.fill(ellipse(at + 2.6j * r, r * 1.7, r * 1.4), any_colour(rng))
    scene.fill(ellipse(at, r * 0.8, r), any_colour(rng) * rng.uniform(0.1, 0.6))


def _clock(scene: Layer, rng: Rng, at: complex, r: float) -> None:
    dark, rim = np.full(3, rng.uniform(10, 70)), ellipse(at, r, r)
    scene.fill(rim, any_colour(rng) * 0.4 + 150)
    scene.stroke(rim, dark, r * 0.12, closed=True)
    for tick in np.exp(2j * np.pi * np.arange(12) / 12) * r:
        scene.stroke(np.array([at + 0.75 * tick, at + 0.85 * tick]), dark, r * 0.06)
    for length in (0.45, 0.7):
        scene.stroke(np.array([at, at + length * r * _direction(rng)], complex), dark, r * 0.08)


def _two_dots(scene: Layer, rng: Rng, at: complex, r: float) -> None:
    """A socket or a button: two holes side by side and nothing below."""
    plate, turn = any_colour(rng), np.exp(1j * rng.uniform(-0.4, 0.4))
    scene.fill(ellipse(at, r, r), plate)
    for side in (-0.4, 0.4):
        scene.fill(ellipse(at + side * r * turn, r * 0.13, r * 0.13), plate * 0.2)


def _ball(scene: Layer, rng: Rng, at: complex, r: float) -> None:
    colour, seam = any_colour(rng), np.exp(1j * np.linspace(-1.57, 1.57, 9))
    for step in np.linspace(0, 0.8, 5):
        shine = ellipse(at - step * r * (0.3 + 0.3j), r * (1 - step), r * (1 - step))
        scene.fill(shine, np.minimum(colour * (0.7 + step), 255))
    for bend in (-0.5, 0.0, 0.5) if rng.random() < 0.5 else ():
        scene.stroke(at + r * (bend * seam.real + 1j * seam.imag), colour * 0.3, r * 0.06)


def _flower(scene: Layer, rng: Rng, at: complex, r: float) -> None:
    colour, count = any_colour(rng), int(rng.integers(5, 10))
    for angle in np.arange(count) * 2 * np.pi / count:
        scene.fill(ellipse(at + np.exp(1j * angle) * r * 0.6, r * 0.4, r * 0.22, angle), colour)
    scene.fill(ellipse(at, r * 0.32, r * 0.32), any_colour(rng))


def _text(scene: Layer, rng: Rng, at: complex, r: float) -> None:
    cv2, place, colour = opencv(), (int(at.real), int(at.imag)), any_colour(rng).tolist()
    word = "".join(chr(letter) for letter in rng.integers(65, 91, int(rng.integers(2, 8))))
    cv2.putText(scene.pixels, word, place, cv2.FONT_HERSHEY_DUPLEX, r / 25, colour, max(1, int(r / 12)), cv2.LINE_AA)


_DISTRACTORS = (_blank_head, _blank_head, _back_of_head, _clock, _two_dots, _ball, _flower, _text)


def _occlude(scene: Layer, rng: Rng, view: View) -> None:
    """Put a bar, a blob or a hand over a part of a head."""
    unit, kind, way = view.unit, rng.random(), _direction(rng)
    at = view.centre + way * unit * rng.uniform(0.6, 0.9)
    if kind < 0.35:
        half = 1j * way * unit * rng.uniform(1.5, 4)
        scene.stroke(np.array([at - half, at + half]), any_colour(rng), unit * rng.uniform(0.15, 0.5))
    elif kind < 0.65:
        scene.fill(ellipse(at, unit * rng.uniform(0.3, 0.6), unit * rng.uniform(0.3, 0.6)), any_colour(rng))
    else:
        skin, turn = skin_colour(rng), np.exp(1j * rng.uniform(-0.6, 0.6)) * unit
        at = view.centre + complex(rng.uniform(-0.4, 0.4), rng.uniform(0.75, 1.1)) * unit
        for finger in range(4):
            start = at + turn * 0.17 * (finger - 1.5)
            tip = start - 1j * turn * (0.56 if finger in (1, 2) else 0.5)
            scene.stroke(np.array([start, tip]), skin * (0.88 + 0.03 * finger), 0.15 * unit)
        scene.fill(ellipse(at + 0.2j * unit, 0.36 * unit, 0.4 * unit), skin)


def _photograph(image: Image, rng: Rng, unit: float) -> Image:
    """What a camera does: light, colour, contrast, focus, grain. unit: head unit of the smallest face, pixels."""
    cv2 = opencv()
    gain = rng.uniform(0.45, 0.75) if rng.random() < 0.08 else rng.uniform(0.9, 1.2)
    level, gamma, cast = rng.uniform(0.75, 1.1), rng.uniform(0.85, 1.2), np.clip(rng.normal(1, 0.07, 3), 0.75, 1.25)
    ramp = (np.arange(256)[:, None] / 255.0) ** gamma
    table = np.clip(((ramp - 0.5) * level + 0.5) * gain * cast * 255, 0, 255).astype(np.uint8)
    image = cv2.LUT(image, table.reshape(1, 256, 3))
    sigma = rng.uniform(0, 1) * min(0.07 * unit, 1.6)
    if sigma > 0.25:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    reach = rng.uniform(2, 16) if rng.random() < 0.5 else 1.5
    grain = cv2.multiply(rng.integers(-128, 128, image.shape[:2], np.int8), reach / 128)
    noisy: Image = cv2.add(image, cv2.merge((grain, grain, grain)), dtype=cv2.CV_8U)
    return noisy
