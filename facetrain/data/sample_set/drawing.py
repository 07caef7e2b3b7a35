"""Draws one person into an image, seen from some side under some light, and says where the face is.

Heads are drawn large on a transparent canvas and shrunk to their place, so that a face of eight pixels is what a
camera would make of a big one. A head has its own units: the face is 2 high, from the hair line at y = -1 to the chin
at y = 1; x runs to the right in the image. Points are complex numbers x + iy, so that turning is a product.
"""

from dataclasses import dataclass
from math import cos, sin
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetrain.core.faces import Image
from facetrain.core.images import opencv

Colour = NDArray[np.float64]  # (3,) BGR, 0 to 255
Points = NDArray[np.complex128]  # (n,) x + iy
Rng = np.random.Generator

_BITS = 4  # of a pixel's fraction, in OpenCV's drawing
_ACROSS = np.linspace(-1, 1, 9)  # from one end of a lid, a lip or a forehead to the other
_ARCH = 1 - _ACROSS**2
_CIRCLE = np.exp(1j * np.linspace(0, 2 * np.pi, 24, endpoint=False))
# Skins from the lightest to the darkest, hair and irises; RGB.
_SKINS = ((246, 226, 212), (240, 208, 182), (230, 190, 156), (214, 170, 130), (190, 140, 100),
          (160, 112, 76), (132, 90, 62), (104, 70, 50), (84, 58, 44), (68, 47, 37))  # fmt: skip
_HAIRS = ((22, 19, 20), (40, 28, 24), (66, 44, 30), (98, 62, 38), (140, 92, 52),
          (196, 158, 98), (228, 204, 150), (128, 126, 124), (206, 206, 208), (140, 56, 30))  # fmt: skip
_IRISES = ((70, 42, 24), (46, 28, 18), (92, 120, 150), (96, 116, 78), (120, 84, 44))
_WHITE, _BLACK = np.full(3, 240.0), np.full(3, 10.0)

# What is on a head: share, how high it rises, y of its edge over the brows and at the temples.
_TOPS = {
    "bald": (0.07, 0.0, 0.0, 0.0), "short": (0.27, 1.2, -0.78, -0.15), "long": (0.17, 1.2, -0.78, -0.1),
    "afro": (0.06, 1.3, -0.78, -0.2), "bun": (0.06, 1.15, -0.8, -0.3), "fringe": (0.12, 1.2, -0.5, -0.1),
    "cap": (0.06, 1.25, -0.64, -0.3), "beanie": (0.05, 1.35, -0.62, -0.3), "hat": (0.03, 1.6, -0.68, -0.4),
    "scarf": (0.05, 1.2, -0.82, -0.25), "hood": (0.03, 1.2, -0.85, -0.25), "helmet": (0.03, 1.35, -0.62, -0.2),
}  # fmt: skip
_WORN = ("cap", "beanie", "hat", "scarf", "hood", "helmet")


class Layer:
    """Pixels to draw on: (H, W, 3) BGR, or (H, W, 4) BGRA that starts transparent and holds premultiplied colours.

    owner, if there is one, is (H, W) int16: the number of the face that a pixel shows, 0 for none.
    """

    def __init__(self, pixels: Image, owner: NDArray[np.int16] | None = None, smooth: bool = True) -> None:
        self.pixels, self.owner, self._cv = pixels, owner, opencv()
        self._edge = self._cv.LINE_AA if smooth else self._cv.LINE_8

    def fill(self, points: Points, colour: Colour) -> None:
        """Fill a polygon given in pixels, where 0 is the image's corner."""
        # On a transparent layer, blending (colour, 255) over (0, 0) at the edges gives premultiplied colours.
        fixed = [_fixed(points)]
        self._cv.fillPoly(self.pixels, fixed, (*colour.tolist(), 255.0), self._edge, _BITS)
        if self.owner is not None:
            self._cv.fillPoly(self.owner, fixed, 0, self._cv.LINE_8, _BITS)

    def stroke(self, points: Points, colour: Colour, width: float, closed: bool = False) -> None:
        """Draw a line through the points with round ends, at least one pixel wide."""
        fixed, pixels = [_fixed(points)], max(1, round(width))
        self._cv.polylines(self.pixels, fixed, closed, (*colour.tolist(), 255.0), pixels, self._edge, _BITS)
        if self.owner is not None:
            self._cv.polylines(self.owner, fixed, closed, 0, pixels, self._cv.LINE_8, _BITS)


@dataclass(frozen=True)
class View:
    """Where a head is and how it is turned. centre: pixels; unit: pixels per head unit; angles in radians.

    yaw > 0 looks to the right of the image, pitch > 0 down, roll > 0 turns clockwise.
    """

    centre: complex
    unit: float
    yaw: float
    pitch: float
    roll: float

    def flat(self, points: Any) -> Points:
        """Pixels of points of the head's outline, which is the same from every side."""
        placed: Points = np.asarray(points) * (self.unit * complex(cos(self.roll), sin(self.roll))) + self.centre
        return placed

    def face(self, points: Any, lift: float = 0.0) -> Points:
        """Pixels of points on the front of the head, `lift` above its skin, as seen when it is turned."""
        points = np.asarray(points)
        x, y = points.real, points.imag
        z = 0.66 * np.sqrt(np.maximum(1 - x * x * 1.1 - y * y * 0.55, 0)) + lift
        sideways, down = complex(cos(self.yaw), -sin(self.yaw) * sin(self.pitch)), 1j * cos(self.pitch)
        forward = complex(sin(self.yaw), cos(self.yaw) * sin(self.pitch))
        return self.flat(x * sideways + y * down + z * forward - 0.3j * sin(self.pitch))

    def moved(self, corner: complex, finer: float) -> "View":
        """The same head in pixels that start at `corner` and are `finer` times smaller."""
        return View((self.centre - corner) * finer, self.unit * finer, self.yaw, self.pitch, self.roll)


@dataclass(frozen=True)
class Person:
    """Colours and shapes, in head units."""

    skin: Colour
    hair: Colour
    cloth: Colour
    outline: Points  # hair line, cheeks and chin
    width: float  # half of it
    eye: complex  # the one on the right of the image
    nose: float  # y of the tip
    mouth: tuple[float, float, float]  # half its width, y, smile
    top: str  # a key of _TOPS


@dataclass(frozen=True)
class Drawn:
    """A face in pixels. outline: (n,); landmarks: (5,); area: pixels of the whole face, in the image or not."""

    outline: Points
    landmarks: Points
    area: int
    blurred: bool  # so that nobody could say who it is


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """`share` of b in a."""
    return a + (b - a) * share


def any_colour(rng: Rng) -> Colour:
    """Any colour, most often a dull one."""
    colour = rng.uniform(10, 245, 3)
    return mix(colour, np.full(3, colour.sum() / 3), rng.uniform(0.1, 0.9))


def skin_colour(rng: Rng) -> Colour:
    """Skin from the lightest to the darkest, evenly."""
    place, steps = rng.uniform(0, len(_SKINS) - 1), np.arange(len(_SKINS))
    colour = np.array([np.interp(place, steps, channel) for channel in zip(*_SKINS, strict=True)])[::-1]
    return np.clip(colour * rng.uniform(0.92, 1.06) + rng.normal(0, 4, 3), 0, 255)


def ellipse(centre: complex, a: float, b: float, turn: float = 0.0) -> Points:
    """Points around an ellipse."""
    return np.asarray(centre + (a * _CIRCLE.real + 1j * b * _CIRCLE.imag) * complex(cos(turn), sin(turn)))


def ring(upper: Points, lower: Points) -> Points:
    """The outline between two lines that run the same way."""
    return np.concatenate((upper, lower[::-1]))


def draw_person(scene: Layer, view: View, light: Colour, number: int, rng: Rng) -> Drawn:
    """Draw a head, mostly with shoulders, as face `number` of the image. light: (3,) the direction it comes from."""
    cv2, person = opencv(), _someone(rng, view)
    if rng.random() < 0.85:
        _draw_body(scene, view, person, rng)
    reach = 2.1 * view.unit  # hats and hair end within
    corner = complex(np.floor(view.centre.real - reach), np.floor(view.centre.imag - reach))
    side, finer = int(np.ceil(2 * reach)) + 1, max(2, round(30 / view.unit))
    # Shrinking makes the edges smooth; OpenCV's smooth lines take five times as long.
    canvas = Layer(np.zeros((side * finer, side * finer, 4), np.uint8), smooth=False)
    landmarks = _draw_head(canvas, view.moved(corner, finer), person, rng, fine=view.unit > 13)
    patch = cv2.resize(canvas.pixels, (side, side), interpolation=cv2.INTER_AREA)
    if blurred := bool(rng.random() < 0.02):
        patch = cv2.GaussianBlur(patch, (0, 0), 0.3 * view.unit)
    local = view.moved(corner, 1)
    patch = cv2.multiply(patch, cv2.resize(_shading(side, local, light), (side, side)), dtype=cv2.CV_8U)
    face = np.zeros((side, side), np.uint8)
    cv2.fillPoly(face, [_fixed(local.flat(person.outline))], 1, cv2.LINE_8, _BITS)
    _paste(scene, patch, face, corner, number)
    return Drawn(view.flat(person.outline), landmarks / finer + corner, int(face.sum()), blurred)


def _someone(rng: Rng, view: View) -> Person:
    skin = skin_colour(rng)
    # Dark skin goes with dark hair, mostly.
    hairs = len(_HAIRS) if skin.mean() > 130 or rng.random() < 0.15 else 2
    hair = np.clip(np.array(_HAIRS[rng.integers(hairs)][::-1]) + rng.normal(0, 5), 0, 255)
    width, jaw = rng.uniform(0.71, 0.81), rng.uniform(0.78, 1.12)
    across, down = _CIRCLE.real, _CIRCLE.imag
    x = width * np.sign(across) * np.abs(across) ** np.where(down > 0, jaw, 0.85)
    y = np.sign(down) * np.abs(down) ** 0.95
    x = x * (1 - 0.06 * abs(sin(view.yaw))) + 0.2 * sin(view.yaw) * np.maximum(y, 0) ** 1.5  # the chin follows the look
    eye = complex(rng.uniform(0.31, 0.37), rng.uniform(-0.24, -0.13))
    mouth = (rng.uniform(0.2, 0.3), rng.uniform(0.53, 0.61), rng.uniform(-0.03, 0.1))
    top = str(rng.choice(list(_TOPS), p=[share for share, *_ in _TOPS.values()]))
    return Person(skin, hair, any_colour(rng), x + 1j * y, width, eye, rng.uniform(0.24, 0.33), mouth, top)


def _draw_body(scene: Layer, view: View, person: Person, rng: Rng) -> None:
    """Neck and shoulders, upright whatever the head does, down to somewhere."""
    base = -0.7 * sin(view.roll)  # a tilted head stands over its neck
    upright = View(view.centre + base * view.unit, view.unit, 0, 0, 0)
    low, wide = rng.uniform(2.4, 5.5), rng.uniform(1.3, 1.9)
    half = np.array([0.4 + 1.12j, wide * 0.8 + 1.45j, wide + 1.9j, wide * 1.05 + low * 1j])
    scene.fill(upright.flat(ring(half, -half.conj())), person.cloth)
    neck = np.array([0.42 - base * 0.6 + 0.3j, -0.42 - base * 0.6 + 0.3j, -0.5 + 1.4j, 0.5 + 1.4j])
    scene.fill(upright.flat(neck), person.skin * 0.72)
    if (kind := rng.random()) < 0.5:
        collar = np.array([-0.48 + 1.2j, rng.uniform(1.4, 2.1) * 1j, 0.48 + 1.2j])
        scene.fill(upright.flat(collar), person.skin * 0.78)
        scene.stroke(upright.flat(collar), person.cloth * 0.7, 0.08 * view.unit)
    elif kind < 0.7:
        stripe = mix(person.cloth, any_colour(rng), 0.6)
        for y in np.arange(1.8, low, 0.45):
            scene.stroke(upright.flat([-0.95 * wide + 1j * y, 0.95 * wide + 1j * y]), stripe, 0.15 * view.unit)


def _draw_head(canvas: Layer, view: View, person: Person, rng: Rng, fine: bool) -> Points:
    """Everything above the neck, from the back to the front; all details if `fine`. Returns the landmarks (5,)."""
    _draw_behind(canvas, view, person, rng)
    near = -np.sign(view.yaw) if abs(view.yaw) > 0.25 else 0  # the ear that lies on the cheek, away from the look
    bare = person.top not in ("scarf", "hood")
    for side in (-1, 1):
        if bare and side != near:
            canvas.fill(view.flat(ellipse(side * (person.width * cos(view.yaw) + 0.02), 0.1, 0.22)), person.skin * 0.85)
    canvas.fill(view.flat(person.outline), person.skin)
    if near and bare and person.top != "long":
        canvas.fill(view.flat(ellipse(near * person.width * 0.86, 0.1, 0.22)), person.skin * 0.8)
    _draw_beard(canvas, view, person, rng.random())
    _draw_nose(canvas, view, person, fine)
    _draw_eyes(canvas, view, person, rng, fine)
    _draw_mouth(canvas, view, person, rng)
    if rng.random() < 0.04:
        colour = mix(_WHITE, any_colour(rng), rng.uniform(0, 0.7))
        upper, lower = _ACROSS * 0.66 + 1j * (0.3 - 0.22 * _ARCH), _ACROSS * 0.5 + 1j * (0.55 + 0.33 * _ARCH)
        canvas.fill(view.face(ring(upper, lower), 0.1), colour)
        canvas.stroke(view.face(_ACROSS * 0.5 + 0.42j, 0.1), colour * 0.85, 0.03 * view.unit)
    _draw_front(canvas, view, person, rng, fine)
    if rng.random() < 0.22:
        _draw_glasses(canvas, view, person, rng)
    half, y, smile = person.mouth
    eyes, corners = [-person.eye.conjugate(), person.eye], np.array([-half, half]) + 1j * (y - smile)
    return np.concatenate((view.face(eyes), view.face([1j * person.nose], 0.14), view.face(corners, 0.03)))


def _draw_behind(canvas: Layer, view: View, person: Person, rng: Rng) -> None:
    """What the face stands in front of: hair at the back, a scarf, a hood."""
    top, wide = person.top, person.width + 0.1
    back = -0.3 * sin(view.yaw)  # it shows on the side away from the look
    if top in ("scarf", "hood"):
        canvas.fill(view.flat(ellipse(back + 0.1j, wide + 0.17, 1.35)), person.cloth * 0.75)
        canvas.fill(view.flat(ellipse(back + 0.05j, wide + 0.03, 1.1)), person.cloth * 0.4)
    elif top == "afro":
        bumps = 1 + rng.uniform(-0.06, 0.06, len(_CIRCLE))
        canvas.fill(view.flat(ellipse(-0.35j, wide + 0.38, 1.15) * bumps + back), person.hair)
    elif top != "bald":
        canvas.fill(view.flat(ellipse(back - 0.28j, wide + 0.02, 0.98)), person.hair * 0.85)
    if top in ("long", "fringe") and rng.random() < 0.85:
        low = rng.uniform(0.7, 1.6)
        half = np.array([wide - 0.5j, 1.12 * wide + 0.3j, (1.1 + 0.1 * low) * wide + 1j * low])
        canvas.fill(view.flat(ring(half, -half.conj()) + back), person.hair * 0.8)
    if top == "bun":
        canvas.fill(view.flat(ellipse(back - 1.3j, 0.38, 0.34)), person.hair)


def _draw_front(canvas: Layer, view: View, person: Person, rng: Rng, fine: bool) -> None:
    """What lies on the forehead: hair, or something worn."""
    top, worn, (_, rise, edge, temple) = person.top, person.top in _WORN, _TOPS[person.top]
    if top == "bald":
        return
    colour = person.hair if not worn else person.cloth if rng.random() < 0.5 else any_colour(rng)
    brow = edge + (temple - edge) * np.abs(_ACROSS) ** (5 if top == "fringe" else 3.2)
    if not worn:
        part = rng.uniform(-0.6, 0.6)
        brow = brow - 0.1 * np.exp(-((_ACROSS - part) ** 2) * 4) + rng.uniform(-0.03, 0.03, len(brow))
    inner = view.face(_ACROSS * (person.width + 0.03) + 1j * np.maximum(brow, -0.97))
    over = np.exp(1j * np.linspace(np.pi, 0, 15))
    outer = over.real * (person.width + 0.09) - 0.08 * sin(view.yaw) + 1j * (temple - over.imag**0.8 * (rise + temple))
    canvas.fill(ring(inner, view.flat(outer)), colour)
    if top == "cap":
        bill, rim = 1j * (edge - 0.04 + 0.18 * _ARCH), 1j * (edge - 0.1 * _ARCH)
        canvas.fill(ring(view.face(_ACROSS * 0.7 + bill, 0.1), view.face(_ACROSS * 0.7 + rim, 0.1)), colour * 0.6)
    elif top == "hat":
        canvas.fill(view.flat(ellipse(0.1 * sin(view.yaw) + 1j * (edge - 0.05), 1.35, 0.17)), colour * 0.8)
    elif top in ("beanie", "helmet"):
        canvas.stroke(view.face(_ACROSS * (person.width + 0.02) + 1j * (brow - 0.06)), colour * 0.7, 0.14 * view.unit)
    elif fine and not worn:
        for start in rng.uniform(-0.6, 0.6, 7):
            root, end = 0.7 * start - 1j * (rise - 0.12 - 0.25 * start**2), start + 1j * (edge - 0.05)
            shine = mix(colour, _WHITE if rng.random() < 0.5 else _BLACK, 0.2)
            canvas.stroke(view.flat([root, end]), shine, 0.025 * view.unit)


def _draw_eyes(canvas: Layer, view: View, person: Person, rng: Rng, fine: bool) -> None:
    """Sockets, eyeballs, irises, lids and brows."""
    skin, unit = person.skin, view.unit
    gaze = complex(rng.uniform(-0.05, 0.05), rng.uniform(-0.02, 0.02))
    half, tall, closed = rng.uniform(0.13, 0.17), rng.uniform(0.05, 0.085), rng.random() < 0.06
    iris = np.array(_IRISES[rng.integers(len(_IRISES))][::-1], float)
    brow = mix(person.hair, _BLACK, 0.3) if person.hair.mean() < skin.mean() - 25 else skin * 0.5
    lift, slant, thick = rng.uniform(0.15, 0.2), rng.uniform(-0.05, 0.05), rng.uniform(0.05, 0.09)
    for side in (-1, 1):
        eye = complex(side * person.eye.real, person.eye.imag)
        lid = eye + _ACROSS * half - 1j * tall * _ARCH
        canvas.fill(view.face(ellipse(eye, half + 0.07, tall + 0.08)), skin * 0.8)
        if closed:
            canvas.stroke(view.face(lid + 1j * 1.6 * tall * _ARCH), skin * 0.35, 0.045 * unit)
        else:
            canvas.fill(view.face(ring(lid, lid + 1j * 1.8 * tall * _ARCH)), mix(_WHITE, skin, 0.15))
            for radius, colour in ((0.075, iris), (0.036, _BLACK))[: 1 + fine]:
                disc = gaze + radius * _CIRCLE[::2]
                bound = tall * (1 - np.minimum(np.abs(disc.real) / half, 1) ** 2)
                canvas.fill(view.face(eye + disc.real + 1j * np.clip(disc.imag, -bound, bound)), colour)
            canvas.stroke(view.face(lid), skin * 0.25, 0.035 * unit)
            if fine:
                canvas.fill(view.face(eye + gaze + 0.02 - 0.025j + 0.014 * _CIRCLE[::4]), _WHITE)
        line = eye + _ACROSS * (half + 0.05) + 1j * (slant * _ACROSS * side - lift - 0.05 * _ARCH)
        canvas.stroke(view.face(line), brow, thick * unit)


def _draw_nose(canvas: Layer, view: View, person: Person, fine: bool) -> None:
    tip, skin, side = 1j * person.nose, person.skin, -1 if view.yaw > 0 else 1
    ridge = view.face([side * 0.05 - 0.15j, side * 0.07 + tip - 0.15j, side * 0.15 + tip + 0.03j], 0.06)
    canvas.fill(np.concatenate((ridge, view.face([tip + 0.04j, -0.1j], 0.12))), skin * 0.82)
    canvas.fill(view.face(ellipse(tip, 0.09, 0.08), 0.13), np.minimum(skin * 1.08, 255))
    canvas.stroke(view.face(tip + 0.14 * _ACROSS + 1j * (0.03 + 0.08 * _ARCH), 0.08), skin * 0.62, 0.04 * view.unit)
    for x in (-0.065, 0.065) if fine else ():
        canvas.fill(view.face(ellipse(tip + x + 0.085j, 0.035, 0.025), 0.08), skin * 0.25)


def _draw_mouth(canvas: Layer, view: View, person: Person, rng: Rng) -> None:
    """Lips, teeth and the dark between them, or the line where lips meet."""
    (half, y, smile), skin, down = person.mouth, person.skin, 1j * _ARCH
    gap = rng.choice([0.0, rng.uniform(0.05, 0.12), rng.uniform(0.12, 0.24)], p=[0.6, 0.28, 0.12])
    lip = mix(skin * 0.75, np.array([70.0, 50.0, 170.0]), rng.uniform(0.15, 0.5) if skin.mean() > 90 else 0.3)
    line = half * _ACROSS + 1j * (y - smile * _ACROSS**2)
    canvas.fill(view.face(ring(line - down * (0.05 + 0.2 * gap), line + down * (0.075 + 0.8 * gap)), 0.03), lip)
    if gap:
        teeth, dark = np.array([220.0, 232.0, 238.0]), np.array([30.0, 22.0, 60.0])
        canvas.fill(view.face(ring(line - down * 0.2 * gap, line + down * 0.8 * gap), 0.03), dark)
        canvas.fill(view.face(ring(line - down * 0.2 * gap, line + down * 0.25 * gap)[1:-1], 0.03), teeth)
    else:
        canvas.stroke(view.face(line, 0.03), skin * 0.3, 0.03 * view.unit)


def _draw_beard(canvas: Layer, view: View, person: Person, kind: float) -> None:
    """Stubble, a full beard, a moustache, a goatee or none. None goes below the chin: boxes keep their meaning."""
    (half, y, _), colour = person.mouth, mix(person.hair, person.skin, 0.1)
    if kind < 0.16:
        jaw = person.outline[person.outline.imag > 0.05] * 0.985
        upper = view.face(_ACROSS * person.width * 0.9 + 1j * (0.42 - 0.35 * _ACROSS**4))
        canvas.fill(np.concatenate((upper, view.flat(jaw))), mix(person.skin, colour, 0.4 if kind < 0.06 else 1))
    if 0.24 < kind < 0.3:
        canvas.fill(view.face(ellipse(1j * (y + 0.25), 0.17, 0.17), 0.03), colour)
    if 0.08 < kind < 0.3:
        upper = _ACROSS * (half + 0.04) + 1j * (y - 0.13 + 0.12 * _ACROSS**2)
        canvas.fill(view.face(ring(upper, upper + 0.1j - 0.02j * _ACROSS**2), 0.04), colour)


def _draw_glasses(canvas: Layer, view: View, person: Person, rng: Rng) -> None:
    x, y = person.eye.real, 1j * person.eye.imag
    frame = np.full(3, rng.uniform(10, 60)) if rng.random() < 0.7 else any_colour(rng)
    a, b = rng.uniform(0.2, 0.26), rng.uniform(0.15, 0.22)
    width, dark = rng.uniform(0.025, 0.06) * view.unit, rng.random() < 0.25
    square = np.maximum(np.abs(_CIRCLE.real), np.abs(_CIRCLE.imag)) ** 0.5
    for side in (-1, 1):
        lens = view.face(side * x + y + 0.03j + ellipse(0, a, b) / square, 0.06)
        if dark:
            canvas.fill(lens, np.full(3, 25.0))
        canvas.stroke(lens, frame, width, closed=True)
        canvas.stroke(view.face([side * (x + a) + y, side * person.width + y], 0.03), frame, width)
    canvas.stroke(view.face([a - x + y, y - 0.04j, x - a + y], 0.1), frame, width)


def _shading(side: int, view: View, light: Colour) -> NDArray[np.float32]:
    """Coarse (32, 32, 4) brightness of an egg under the light, with 1 for alpha; outside it is lit like its edge."""
    grid = (np.arange(32) + 0.5) * side / 32
    x = (grid - view.centre.real) / view.unit
    y = (grid - view.centre.imag)[:, None] / (1.2 * view.unit)
    squared = x**2 + y**2
    lit = (x * light[0] + y * light[1]) / np.sqrt(np.maximum(squared, 1))
    shade: NDArray[np.float64] = 0.62 + 0.5 * (lit + np.sqrt(np.maximum(1 - squared, 0.02)) * light[2])
    shade = np.clip(shade, 0.35, 1.25)
    return np.stack((shade, shade, shade, np.ones_like(shade)), -1).astype(np.float32)


def _paste(scene: Layer, patch: Image, face: Image, corner: complex, number: int) -> None:
    """Lay a premultiplied patch over the image and note which pixels are the face's."""
    cv2 = opencv()
    (height, width), left, top = scene.pixels.shape[:2], int(corner.real), int(corner.imag)
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + len(face), width), min(top + len(face), height)
    patch, face = (whole[y1 - top : y2 - top, x1 - left : x2 - left] for whole in (patch, face))
    here = scene.pixels[y1:y2, x1:x2]
    clear = 255 - patch[..., 3]
    behind = cv2.multiply(here, cv2.merge((clear, clear, clear)), scale=1 / 255)
    here[:] = cv2.add(np.ascontiguousarray(patch[..., :3]), behind)
    if scene.owner is not None:
        owner = scene.owner[y1:y2, x1:x2]
        owner[clear < 128] = 0
        owner[face > 0] = number


def _fixed(points: Points) -> NDArray[np.int32]:
    # OpenCV counts from the centre of the first pixel, boxes and landmarks from its corner.
    return np.rint((points - (0.5 + 0.5j)) * (1 << _BITS)).view(np.float64).reshape(-1, 2).astype(np.int32)
