"""Covered images and videos: what is held between sightings, what is written, and what is not."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image as Pillow

from facetrain.cli.app import run_cli
from facetrain.core.errors import DataError, OutputError, UsageError
from facetrain.core.faces import Faces
from facetrain.core.images import Reduced, write_image
from facetrain.detect import place as places
from facetrain.detect.covers import COVER_SCORE
from facetrain.detect.detector import FaceDetector, Seen
from facetrain.detect.hold import Hold, Shot
from facetrain.detect.looked import Looked, Wishes
from facetrain.detect.outputs import black, blur, pixelate
from facetrain.detect.place import Place
from facetrain.detect.run import Counting, detect_sources
from facetrain.media.frame import Frame, ScaleOf

RULES = {"weights": "spots.onnx", "score": 0.5, "nms": 0.45, "size": "auto", "landmark_names": []}
SIDE = 96
RATE = 25  # frames a second


@dataclass(frozen=True)
class Film:
    """A moving source. images: its frames; breaks: with an error at its end."""

    images: Sequence[np.ndarray]
    step: Fraction = Fraction(1, RATE)
    breaks: bool = False
    name: str = "film"
    target: Path = Path("film.mp4")
    path: Path | None = None
    moving = True

    def frames(self, scale_of: ScaleOf) -> Iterator[Frame]:
        for number, image in enumerate(self.images):
            yield Frame(Reduced(image, 1, image.shape[1], image.shape[0]), number, 3 + number * self.step)
        if self.breaks:
            raise DataError("broken off")

    def count(self) -> int:
        return len(self.images)


class Recorder:
    """A fake writer of videos."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.pixels: list[np.ndarray] = []
        self.closed = 0
        self.opened = 0
        self.full_after: int | None = None

    def open(self, path: Path, source: object, first: Frame, pixels: np.ndarray) -> "Recorder":
        self.opened += 1
        return self

    def write(self, frame: Frame, pixels: np.ndarray) -> None:
        if self.full_after is not None and len(self.frames) >= self.full_after:
            raise OutputError("disk full")
        self.frames.append(frame)
        self.pixels.append(pixels)

    def close(self) -> None:
        self.closed += 1

    def covered(self, box: Sequence[float]) -> list[bool]:
        """In which frames a box is black whole, of films that are white."""
        x1, y1, x2, y2 = (round(value) for value in box)
        return [bool((pixels[y1:y2, x1:x2] == 0).all()) for pixels in self.pixels]


@pytest.fixture
def wide_spots(make_spots: Callable[..., Path]) -> Path:
    """A spot detector whose boxes of 24 pixels hold a spot of 8 whole."""
    return make_spots(strides=(8,), box_size=float(np.log(3)))


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(places, "open_clip", recorder.open)
    return recorder


def wishes(**wanted: object) -> Wishes:
    return Wishes(RULES, print, **wanted)  # type: ignore[arg-type]


def faces_of(boxes: Sequence[Sequence[float]], score: float = 0.3) -> Faces:
    return Faces(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(len(boxes), score, np.float32),
        np.zeros((len(boxes), 0, 2), np.float32),
    )


def looked(source: object, frame: Frame, boxes: Sequence[Sequence[float]]) -> Looked:
    """With all faces too faint to count elsewhere."""
    faint = faces_of(boxes)
    return Looked(source, frame, Seen(faint.at_least(0.5), (1.0,), 12.0), faint, 0.0)  # type: ignore[arg-type]


def film(sightings: Sequence[Sequence[Sequence[float]]], step: Fraction = Fraction(1, RATE)) -> Film:
    return Film([np.full((SIDE, SIDE, 3), 255, np.uint8) for _ in sightings], step)


def play(
    folder: Path, sightings: Sequence[Sequence[Sequence[float]]], step: Fraction = Fraction(1, RATE), **wanted: object
) -> None:
    """Give a white film, of whose frames the boxes are known, to `black`."""
    output = black.make(Place(folder, one=False), wishes(**wanted))
    source = film(sightings, step)
    for frame, boxes in zip(source.frames(lambda *_: 1), sightings, strict=True):
        output.add(looked(source, frame, boxes))
    output.end(source)


BOX = (40, 40, 56, 60)


def test_half_a_second_before_and_after(recorder: Recorder, tmp_path: Path) -> None:
    sightings = [[] for _ in range(60)]
    sightings[30] = [BOX]
    play(tmp_path, sightings)
    assert recorder.covered(BOX) == [18 <= number <= 42 for number in range(60)]
    assert [frame.index for frame in recorder.frames] == list(range(60))
    assert [frame.time for frame in recorder.frames] == [3 + Fraction(number, RATE) for number in range(60)]
    assert (recorder.opened, recorder.closed) == (1, 1)


@pytest.mark.parametrize(("hold", "reach"), [(0, 0), (0.2, 5), (0.01, 1)])
def test_hold(recorder: Recorder, tmp_path: Path, hold: float, reach: int) -> None:
    # what is held at all is held for a frame at least: a face that is lost for one never shows
    sightings = [[] for _ in range(40)]
    sightings[20] = [BOX]
    play(tmp_path, sightings, hold=hold)
    assert recorder.covered(BOX) == [abs(number - 20) <= reach for number in range(40)]


def test_few_frames_a_second(recorder: Recorder, tmp_path: Path) -> None:
    """A film of a frame every two seconds in which a face is lost every other frame."""
    sightings = [[BOX] if number % 2 else [] for number in range(9)]
    play(tmp_path, sightings, Fraction(2))
    assert recorder.covered(BOX) == [True] * 9


def test_between_two_sightings_on_the_way(recorder: Recorder, tmp_path: Path) -> None:
    sightings = [[] for _ in range(11)]
    sightings[0], sightings[10] = [(0, 40, 20, 60)], [(50, 40, 70, 60)]
    play(tmp_path, sightings)
    for number in range(11):
        assert recorder.covered((5 * number, 40, 5 * number + 20, 60))[number], number


def test_another_face_takes_no_cover_away(recorder: Recorder, tmp_path: Path) -> None:
    # the first is lost where a second appears beside it: one that moved, or two
    sightings = [[(10, 40, 26, 56)]] * 5 + [[(45, 40, 61, 56)]] * 30
    play(tmp_path, sightings)
    assert recorder.covered((10, 40, 26, 56))[:17] == [True] * 17
    assert recorder.covered((45, 40, 61, 56)) == [True] * 35
    assert not any(recorder.covered((10, 40, 26, 56))[18:])


def test_a_face_that_is_seen_always_leaves_no_trail(recorder: Recorder, tmp_path: Path) -> None:
    sightings = [[(number, 40, number + 20, 60)] for number in range(60)]
    play(tmp_path, sightings, margin=0.0, shape="box", feather=0.0)
    for number in range(60):
        assert recorder.pixels[number][40:60, :number].all()
        assert recorder.covered((number, 40, number + 20, 60))[number]


@given(some.integers(0, 2**32 - 1), some.floats(0, 12))
@settings(max_examples=200)
def test_no_frame_flashes(seed: int, speed: float) -> None:
    """A face on any way, seen at times with gaps of at most half a second, at 24 frames a second."""
    generator = np.random.default_rng(seed)
    seen = np.cumsum([0, *generator.integers(1, 13, 6)])
    places = [np.array([0.0, 0.0, 60.0, 80.0])]
    for _ in range(seen[-1]):
        box, moved = places[-1], np.tile(generator.uniform(-speed, speed, 2), 2)
        places.append(box + moved + (box[2] - box[0]) * generator.uniform(-0.02, 0.02) * np.array([-1, -1, 1, 1]))
    pixels = np.zeros((1, 1, 3), np.uint8)
    hold = Hold(0.5)
    given_back: list[Shot] = []
    for number, box in enumerate(places):
        frame = Frame(Reduced(pixels, 1, 1, 1), number, Fraction(number, 24))
        boxes = box[None] if number in seen else np.zeros((0, 4))
        given_back += hold.add(Shot(film([]), frame, pixels, boxes))
    given_back += hold.end()
    assert [shot.frame.index for shot in given_back] == list(range(len(places)))
    for before, after in pairwise(seen):
        for number in range(before, after + 1):
            share = (number - before) / (after - before)
            expected = places[before] * (1 - share) + places[after] * share
            boxes = given_back[number].boxes
            assert len(boxes)
            assert np.abs(boxes - expected).max(1).min() < 1e-6, (number, before, after)


def test_memory_is_bounded() -> None:
    pixels = np.zeros((100, 100, 3), np.uint8)
    hold = Hold(60, most_bytes=10 * pixels.nbytes)
    back = 0
    for number in range(200):
        frame = Frame(Reduced(pixels, 1, 100, 100), number, Fraction(number, 24))
        back += len(list(hold.add(Shot(film([]), frame, pixels, np.zeros((0, 4))))))
        assert number + 1 - back <= 10
    half_a_second = Hold(0.5)
    waiting = 0
    for number in range(200):
        frame = Frame(Reduced(pixels, 1, 100, 100), number, Fraction(number, 24))
        waiting += 1 - len(list(half_a_second.add(Shot(film([]), frame, pixels, np.zeros((0, 4))))))
        assert waiting <= 13


@pytest.mark.parametrize("hold", [-0.1, float("nan"), float("inf"), 61])
def test_hold_that_means_nothing(tmp_path: Path, hold: float) -> None:
    with pytest.raises(UsageError, match="`hold`"):
        blur.make(Place(tmp_path, one=False), wishes(hold=hold))


def test_a_disk_that_is_full(recorder: Recorder, tmp_path: Path) -> None:
    recorder.full_after = 2
    with pytest.raises(OutputError):
        play(tmp_path, [[BOX]] * 40)
    output = black.make(Place(tmp_path, one=False), wishes())
    source = film([[BOX]] * 40)
    with pytest.raises(OutputError):
        for frame in source.frames(lambda *_: 1):
            output.add(looked(source, frame, [BOX]))
    recorder.full_after = None
    written = len(recorder.frames)
    output.end(source)  # says nothing a second time
    assert len(recorder.frames) == written


@pytest.mark.parametrize("end", ["through", "broken", "left"])
def test_a_film_from_frames_to_pixels(
    recorder: Recorder, tmp_path: Path, wide_spots: Path, spot_image: object, end: str
) -> None:
    """Seen in every fifth frame alone, by a detector; as far as frames were looked at all of them are written."""
    shown, hidden = spot_image(96, 96, (40, 40)), spot_image(96, 96)  # type: ignore[operator]
    hidden[40:48, 40:48] = 7, 90, 200  # a face that the detector does not see
    source = Film([hidden if number % 5 else shown for number in range(46)], breaks=end == "broken")
    output = black.make(Place(tmp_path, one=False), wishes())
    steps = detect_sources(FaceDetector(wide_spots, size="original"), [source], [output], Counting(0.5))
    outcomes = []
    for outcome in steps:
        outcomes.append(outcome)
        if end == "left" and len(outcomes) == 20:
            break
    steps.close()
    count = {"through": 46, "broken": 46, "left": 20}[end]
    assert [frame.index for frame in recorder.frames] == list(range(count))
    assert recorder.closed == 1
    assert not any((pixels == (7, 90, 200)).all(2).any() for pixels in recorder.pixels)
    assert (shown[40:48, 40:48] != 0).any()  # the source's own pixels are as they were
    assert (hidden[40:48, 40:48] == (7, 90, 200)).all()


def test_two_films_have_nothing_to_do_with_each_other(recorder: Recorder, tmp_path: Path) -> None:
    output = black.make(Place(tmp_path, one=False), wishes())
    for boxes in ([[BOX]] * 3, [[]] * 20):
        source = film(boxes)
        for frame, seen in zip(source.frames(lambda *_: 1), boxes, strict=True):
            output.add(looked(source, frame, seen))
        output.end(source)
    assert recorder.covered(BOX) == [True] * 3 + [False] * 20
    assert recorder.closed == 2


def test_a_reduced_image(tmp_path: Path) -> None:
    image = np.full((50, 50, 3), 255, np.uint8)
    source = Film([], target=Path("a.png"))
    frame = Frame(Reduced(image, 4, 200, 200))
    output = black.make(Place(tmp_path, one=False), wishes(margin=0.0, shape="box", feather=0.0))
    output.add(looked(source, frame, [(40, 80, 120, 160)]))
    output.end(source)
    written = cv2.imread(str(tmp_path / "a.png"))
    assert (written[20:40, 10:30] == 0).all()
    assert (written == 0).all(2).sum() == 20 * 20


@pytest.fixture
def photograph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wide_spots: Path, spot_image: object) -> Path:
    """A turned JPEG with EXIF in the current folder, beside the weights."""
    monkeypatch.chdir(tmp_path)
    Path("spots.onnx").write_bytes(wide_spots.read_bytes())
    upright = spot_image(96, 64, (40, 16), (80, 0), side=16)  # type: ignore[operator]
    upright[16:32, 40:56, 1:] = np.random.default_rng(0).integers(0, 2, (16, 16, 1)) * 255
    exif = Pillow.Exif()
    exif[0x010F], exif[0x0112] = "Nikon", 3
    Pillow.fromarray(np.ascontiguousarray(upright[::-1, ::-1, ::-1])).save("photo.jpg", quality=95, exif=exif)
    return Path("photo.jpg")


@pytest.mark.parametrize("name", ["blur", "pixelate", "black"])
def test_the_command(photograph: Path, name: str) -> None:
    assert run_cli(["detect", "-w", "spots.onnx", "photo.jpg", "--save", f"{name}=out"]) == 0
    assert run_cli(["detect", "-w", "spots.onnx", "photo.jpg", "--save", f"{name}=kept.jpg", "--keep-exif"]) == 0
    before = cv2.imread("photo.jpg")
    for path in ("out/photo.jpg", "kept.jpg"):
        after = cv2.imread(path)
        assert after.shape == before.shape
        assert after[16:32, 40:56, 1].std() < before[16:32, 40:56, 1].std() / 2
        assert np.abs(after[50:].astype(int) - before[50:]).max() < 8
        with Pillow.open(path) as image:
            assert dict(image.getexif()) == ({0x010F: "Nikon", 0x0112: 1} if path == "kept.jpg" else {})
            assert image.quantization == cv2_tables(95)


def cv2_tables(quality: int) -> dict[int, list[int]]:
    write_image(Path("tables.jpg"), np.zeros((8, 8, 3), np.uint8), quality)
    with Pillow.open("tables.jpg") as image:
        return dict(image.quantization)  # type: ignore[attr-defined]


def test_faint_faces_are_covered_too(photograph: Path, spot_image: object) -> None:
    image = spot_image(96, 96, (40, 40))  # type: ignore[operator]
    image[40:48, 40:48, 0] = 255 * (COVER_SCORE + 0.5) / 2
    cv2.imwrite("faint.png", image)
    line = ["detect", "-w", "spots.onnx", "faint.png", "--size", "original", "--save", "black=out"]
    assert run_cli(line) == 0
    assert (cv2.imread("out/faint.png")[40:48, 40:48] == 0).all()
    assert run_cli([*line, "--score", "0.5"]) == 0
    assert (cv2.imread("out/faint.png") == image).all()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--shape", "elipse"), "did you mean 'ellipse'"),
        (("--margin", "-1"), "--margin -1"),
        (("--hold", "-1"), "--hold -1"),
        (("--feather", "nan"), "--feather nan"),
    ],
)
def test_options_that_mean_nothing(
    photograph: Path, capfd: pytest.CaptureFixture[str], option: tuple[str, str], message: str
) -> None:
    assert run_cli(["detect", "-w", "spots.onnx", "photo.jpg", "--save", "pixelate=out", *option]) == 2
    assert message in capfd.readouterr().err
    assert pixelate.SCORE == blur.SCORE == black.SCORE == COVER_SCORE
