"""Does the C++ find what the model finds? It is compiled as it was written, and its faces are compared."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from facetrain.core.boxes import box_iou
from facetrain.core.compiler import Compiler
from facetrain.core.documents.export import CppCheckDocument, FacesDifference
from facetrain.core.errors import ExportError
from facetrain.core.faces import Faces, Floats, Image
from facetrain.detect.detector import FaceDetector
from facetrain.export.cpp.compiler import compile_program, run_program
from facetrain.export.cpp.targets.options import EXACT_DIGITS, Program, Rules
from facetrain.export.network.folded import FoldedNet, with_digits
from facetrain.export.onnx.model import write_onnx

SCORE_LIMIT, PIXEL_LIMIT = 1e-4, 0.05
# Tried in turn until a face is found: comparing nothing with nothing proves nothing.
_SCORES = (0.3, 0.1, 0.03, 0.01, 0.003)
# Of an image the best faces are compared: what an untrained network finds goes on to where candidates are cut off,
# and there the last bit decides.
_COMPARED = 256


@dataclass(frozen=True)
class Difference:
    """Of two detectors: faces of the first, faces that only one has, and what the others differ by at most."""

    faces: int
    alone: int
    score: float
    pixels: float

    def as_dict(self) -> FacesDifference:
        """For JSON."""
        return {"faces": self.faces, "alone": self.alone, "score": self.score, "pixels": self.pixels}


@dataclass(frozen=True)
class CppCheck:
    """A check that held.

    found:  the C++ against a detector with the same weights
    digits: these weights against the model's own, None where they are equal
    """

    compiler: str
    images: int
    threshold: float
    truncated: bool
    found: Difference
    digits: Difference | None

    def as_dict(self) -> CppCheckDocument:
        """For JSON."""
        return {
            "compiler": self.compiler,
            "images": self.images,
            "score_threshold": self.threshold,
            "truncated": self.truncated,
            "difference": self.found.as_dict(),
            "effect_of_digits": None if self.digits is None else self.digits.as_dict(),
        }


def check_cpp(
    checkpoint: Path,
    net: FoldedNet,
    digits: int,
    files: Mapping[str, str],
    program: Program,
    images: Sequence[Image],
    compiler: Compiler,
) -> CppCheck:
    """Compile the files with the program, and compare its faces with FaceDetector's on the images.

    Fewer than nine digits are judged by a network whose weights have as many, and what they cost is measured apart.
    Raises ExportError where it does not compile or the faces differ.
    """
    with tempfile.TemporaryDirectory(prefix="facetrain-") as name:
        folder = Path(name)
        binary = compile_program(compiler, folder, {**program.files, **files}, program.sources, program.flags)
        weights = checkpoint
        if digits < EXACT_DIGITS:
            weights = folder / "rounded.onnx"
            write_onnx(with_digits(net, digits), weights)
        expected, rules = _detect_some(weights, program.rules, images)
        assert rules.score is not None
        found = _run(binary, rules, images, folder)
        difference = _judge(expected, found, rules)
        effect = None
        if weights != checkpoint:
            own = _detect(checkpoint, rules, images)
            effect = _difference([_plain(faces) for faces in own], [_plain(faces) for faces in expected])
    return CppCheck(compiler.version, len(images), rules.score, rules.truncated, difference, effect)


def _detect_some(weights: Path, rules: Rules, images: Sequence[Image]) -> tuple[list[Faces], Rules]:
    """Faces by the rules, and the rules with the score threshold that was used."""
    for score in _SCORES if rules.score is None else (rules.score,):
        used = replace(rules, score=score)
        faces = _detect(weights, used, images)
        if any(map(len, faces)):
            break
    return faces, used


def _detect(weights: Path, rules: Rules, images: Sequence[Image]) -> list[Faces]:
    assert rules.score is not None
    detector = FaceDetector(weights, score=rules.score, nms=rules.nms, max_candidates=rules.candidates)
    return detector.detect_batch(images)


def _run(binary: Path, rules: Rules, images: Sequence[Image], folder: Path) -> list[Floats]:
    """The program's numbers, per image one row a face."""
    arguments = [repr(rules.score), repr(rules.nms)]
    for index, image in enumerate(images):
        path = folder / f"{index}.bgr"
        path.write_bytes(image.tobytes())
        arguments += [str(image.shape[1]), str(image.shape[0]), path.name]
    lines = run_program(binary, arguments).splitlines()
    results: list[Floats] = []
    try:
        for _ in images:
            count = int(lines.pop(0))
            rows = [[float(number) for number in line.split()] for line in lines[:count]]
            results.append(np.array(rows, np.float32).reshape(count, -1) if count else np.zeros((0, 5), np.float32))
            del lines[:count]
    except (IndexError, ValueError) as error:
        raise ExportError("the compiled detector prints something else than faces", "nothing was written") from error
    return results


def _judge(expected: Sequence[Faces], found: Sequence[Floats], rules: Rules) -> Difference:
    """The difference of all images. Raises ExportError where it is too large, or a face has no partner."""
    score = pixels = 0.0
    for number, (faces, rows) in enumerate(zip(expected, found, strict=True), 1):
        wanted = _cut(faces) if rules.truncated else _plain(faces)
        pairs, gaps = _pair(wanted, rows, rules.truncated)
        alone = [_box(wanted[i], rules) for i in range(len(wanted)) if i not in pairs]
        alone += [_box(rows[j], rules) for j in set(range(len(rows))) - set(pairs.values())]
        boxes = np.array([_box(row, rules) for row in [*wanted, *rows]], np.float32).reshape(-1, 5)
        least = rules.score if len(faces) <= _COMPARED else float(faces.scores[_COMPARED - 1])
        assert least is not None
        unexcused = [face for face in alone if not _excused(face, boxes, least, rules)]
        if unexcused:
            raise ExportError(
                f"the C++ does not find what the model finds: in image {number} of {len(expected)} it has "
                f"{len(rows)} faces and the model {len(faces)}, of which {len(pairs)} agree",
                "nothing was written; please report it with what `facetrain info` prints",
            )
        score, pixels = max([score, *(gap[0] for gap in gaps)]), max([pixels, *(gap[1] for gap in gaps)])
    return Difference(sum(map(len, expected)), 0, score, pixels)


def _plain(faces: Faces) -> Floats:
    """(N, 5 + 2L): score, x1 y1 x2 y2, landmarks."""
    landmarks = faces.landmarks.reshape(len(faces), 2 * faces.landmarks.shape[1])
    return np.concatenate([faces.scores[:, None], faces.boxes, landmarks], 1)


def _cut(faces: Faces) -> Floats:
    """(N, 5 + 2L): 100·sqrt(score), x, y, width, height, landmarks, not yet cut to whole numbers."""
    rows = _plain(faces)
    rows[:, 0] = 100 * np.sqrt(rows[:, 0])
    rows[:, 3:5] -= rows[:, 1:3]
    return rows


def _pair(wanted: Floats, rows: Floats, truncated: bool) -> tuple[dict[int, int], list[tuple[float, float]]]:
    """Partners that agree, best first, as index -> index, and what they differ by in score and pixels."""
    pairs: dict[int, int] = {}
    gaps: list[tuple[float, float]] = []
    if rows.shape[1:] != wanted.shape[1:]:
        return pairs, gaps
    free = np.ones(len(rows), bool)
    for i, face in enumerate(wanted):
        gap = _gap(face, rows, truncated)  # (rows, 5 + 2L)
        pixels = np.where(free, gap[:, 1:].max(1), np.inf)
        nearest = int(np.argmin(pixels)) if free.any() else -1
        if nearest >= 0 and gap[nearest, 0] <= SCORE_LIMIT and pixels[nearest] <= PIXEL_LIMIT:
            free[nearest] = False
            pairs[i] = nearest
            gaps.append((float(gap[nearest, 0]), float(pixels[nearest])))
    return pairs, gaps


def _gap(face: Floats, rows: Floats, truncated: bool) -> Floats:
    """What each row differs by from a face; of whole numbers, by how many more than the limit explains."""
    gap: Floats
    # float32 has seven digits: a box of 10,000 pixels, as an untrained network makes them, ends in other hundredths
    scale = np.maximum(1, np.abs(face) / 1000)
    if not truncated:
        gap = np.asarray(np.abs(rows - face) / scale, np.float32)
        return gap
    slack = PIXEL_LIMIT * scale
    slack[0] = 100 * SCORE_LIMIT
    low, high = np.trunc(face - slack), np.trunc(face + slack)
    gap = np.maximum(np.maximum(low - rows, rows - high), 0)
    return gap


def _box(row: Floats, rules: Rules) -> Floats:
    """(5,) score and xyxy box of a row."""
    score, x, y, right, bottom = (float(value) for value in row[:5])
    if rules.truncated:
        score, right, bottom = (score / 100) ** 2, x + right, y + bottom
    return np.array([score, x, y, right, bottom], np.float32)


def _excused(face: Floats, all_faces: Floats, least: float, rules: Rules) -> bool:
    """Whether the last bit may decide about a face: its score is the least that counts, or its overlap is."""
    hundredth, overlap = (0.01, 0.03) if rules.truncated else (0.0, 0.005)
    if face[0] < (least**0.5 + hundredth) ** 2 + 2 * SCORE_LIMIT:
        return True
    return bool((np.abs(box_iou(face[None, 1:], all_faces[:, 1:]) - rules.nms) < overlap).any())


def _difference(a: Sequence[Floats], b: Sequence[Floats]) -> Difference:
    """Of plain rows, image by image; partners are those that overlap most, by at least half."""
    alone, score, pixels = 0, 0.0, 0.0
    for ours, theirs in zip(a, b, strict=True):
        left = list(range(len(theirs)))
        for row in ours:
            overlaps = box_iou(row[None, 1:5], theirs[left][:, 1:5])[0]
            if not left or overlaps.max() < 0.5:
                alone += 1
                continue
            other = theirs[left.pop(int(overlaps.argmax()))]
            score = max(score, float(abs(row[0] - other[0])))
            pixels = max(pixels, float(np.abs(row[1:] - other[1:]).max()))
        alone += len(left)
    return Difference(sum(map(len, a)), alone, score, pixels)
