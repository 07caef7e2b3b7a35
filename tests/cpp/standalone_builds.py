"""Standalone detectors for the tests: written, compiled once for each set of flags, and run."""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from facetrain.core.faces import Faces, Image
from facetrain.export.cpp.targets.options import CppOptions
from facetrain.export.cpp.targets.standalone import files
from facetrain.export.network.fold import fold
from facetrain.model.weights import load_model

HERE = Path(__file__).parent
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
SCORE_LIMIT, PIXEL_LIMIT = 1e-4, 0.05


def need(program: str) -> str:
    """The path of a program; tests that need one are skipped without."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"needs {program}")
    return found


@dataclass(frozen=True)
class Order:
    """One call of the detector. padding: bytes behind each row, None leaves the stride to the detector."""

    image: Image
    score: float = 0.3
    iou: float = 0.45
    padding: int | None = None


@dataclass
class Found:
    """What a run printed: rows (score, box, landmarks) and allocations of each order."""

    rows: list[np.ndarray]
    allocations: list[int]
    instruction_set: str
    memory: int


@dataclass
class Builds:
    """Exports and programs in one folder, made when they are first asked for."""

    folder: Path
    made: dict[tuple[str, ...], Path] = field(default_factory=dict)

    def export(self, weights: Path) -> Path:
        """The folder with the C++ of a checkpoint."""
        key = ("export", str(weights))
        if key not in self.made:
            self.made[key] = self.folder / f"export{len(self.made)}"
            self.made[key].mkdir()
            for name, text in files(fold(load_model(weights)), CppOptions()).items():
                (self.made[key] / name).write_text(text, encoding="utf-8")
        return self.made[key]

    def program(self, weights: Path, main: Path, flags: Sequence[str] = ("-O2",), compiler: str = "g++") -> Path:
        """A compiled program of a checkpoint's detector and a main file."""
        key = (str(weights), str(main), compiler, *flags)
        if key not in self.made:
            source = self.export(weights)
            self.made[key] = self.folder / f"program{len(self.made)}"
            compile_files([main, source / "facetrain.cpp"], source, self.made[key], flags, compiler)
        return self.made[key]


def compile_files(
    sources: Sequence[Path], include: Path, output: Path, flags: Sequence[str], compiler: str = "g++"
) -> None:
    command = [need(compiler), "-std=c++17", "-pthread", *WARNINGS, *flags, f"-I{include}", *map(str, sources)]
    done = subprocess.run([*command, "-o", str(output)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]


def run(
    program: Path,
    orders: Sequence[Order],
    folder: Path,
    *,
    largest: tuple[int, int] = (640, 480),
    threads: int = 1,
    emulator: Sequence[str] = (),
) -> Found:
    """Let a program made of faces.cpp find the faces of each order with one detector."""
    lines = []
    for number, order in enumerate(orders):
        height, width = order.image.shape[:2]
        rows = order.image.reshape(height, -1)
        if order.padding:
            rows = np.concatenate([rows, np.full((height, order.padding), 255, np.uint8)], 1)
        path = folder / f"{number}.bgr"
        path.write_bytes(rows.tobytes())
        stride = 0 if order.padding is None else rows.shape[1]
        lines.append(f"{width} {height} {stride} {order.score!r} {order.iou!r} {path}\n")
    command = [*emulator, str(program), *map(str, largest), str(threads)]
    done = subprocess.run(command, input="".join(lines), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]
    return _parse(done.stdout.splitlines(), len(orders))


def _parse(lines: list[str], orders: int) -> Found:
    rows, allocations = [], []
    for _ in range(orders):
        faces, allocated = map(int, lines.pop(0).split())
        numbers = [[float(number) for number in line.split()] for line in lines[:faces]]
        rows.append(np.array(numbers, np.float32).reshape(faces, -1) if faces else np.zeros((0, 5), np.float32))
        allocations.append(allocated)
        del lines[:faces]
    instruction_set, memory = lines
    return Found(rows, allocations, instruction_set, int(memory))


def assert_equal(found: np.ndarray, faces: Faces) -> None:
    """Same faces in the same order; those whose scores differ in the last bits alone may have traded places."""
    assert len(found) == len(faces)
    if not len(faces):
        return
    assert (np.diff(found[:, 0]) <= 0).all()
    wanted = np.concatenate([faces.scores[:, None], faces.boxes, faces.landmarks.reshape(len(faces), -1)], 1)
    assert found.shape == wanted.shape
    for i, row in enumerate(wanted):
        near = np.flatnonzero(np.abs(found[:, 0] - row[0]) <= SCORE_LIMIT)
        assert len(near), f"face {i} of score {row[0]} has no partner"
        partner = found[near[np.abs(found[near, 1:] - row[1:]).max(1).argmin()]]
        # the sides of an untrained network's box can be an exponential of something large
        largest = np.abs(row[1:]).max()
        np.testing.assert_allclose(partner[1:], row[1:], rtol=0, atol=max(PIXEL_LIMIT, 1e-4 * (largest - 500)))
