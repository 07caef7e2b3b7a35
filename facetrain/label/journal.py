"""What was found in each image, a line of JSON each, kept as it comes: an interrupted call goes on behind it.

    {"facetrain": "0.2.0", "looks": {…}}                       how images were looked at
    {"name": "a.jpg", "bytes": 51234, "width": 640, "height": 480, "faces": [{"box": …, "score": …, "landmarks": …}]}
    {"labels": "<sha256>"}                                     a label file that was made of it

It holds the scores, which a label file may have no room for.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facetrain import __version__
from facetrain.core.errors import DataError, OutputError, UsageError
from facetrain.core.faces import Faces

_HINT = "remove it to begin anew, or choose another `to`"


@dataclass(frozen=True)
class Looked:
    """An image that was looked at. bytes: of its file; faces: rounded as the journal has them."""

    name: str
    bytes: int
    width: int
    height: int
    faces: Faces

    def as_line(self) -> str:
        """The line of the journal, with whole hundredths of a pixel."""
        faces = [
            {
                "box": [round(float(v), 2) for v in box],
                "score": round(float(score), 5),
                # null for a point, or all of them, that no detector has
                "landmarks": [None if np.isnan(p).any() else [round(float(v), 2) for v in p] for p in points],
            }
            for box, score, points in zip(self.faces.boxes, self.faces.scores, self.faces.landmarks, strict=True)
        ]
        about = {"name": self.name, "bytes": self.bytes, "width": self.width, "height": self.height, "faces": faces}
        return json.dumps(about)


class Journal:
    """The journal of a folder. looked: what it holds, by the images' names; written: label files made of it."""

    def __init__(self, path: Path, looks: Mapping[str, object], landmarks: int) -> None:
        self.path = path
        self.looked: dict[str, Looked] = {}
        self.written: set[str] = set()
        self._landmarks = landmarks
        header = json.dumps({"facetrain": __version__, "looks": looks})
        lines = self._whole_lines()
        if not lines:
            self._write(header + "\n", "w")
            return
        if self._parsed(lines[0], 1).get("looks") != json.loads(header)["looks"]:
            raise UsageError(
                f"{path}: begun with other weights, or looked at images in another way",
                "give the same, remove it to begin anew, or choose another `to`",
            )
        for number, line in enumerate(lines[1:], 2):
            entry = self._parsed(line, number)
            if isinstance(labels := entry.get("labels"), str):
                self.written.add(labels)
            else:
                looked = self._looked(entry, number)
                self.looked[looked.name] = looked

    def add(self, looked: Looked) -> None:
        """Keep what was found in an image. It reads the same from here as from a later call."""
        line = looked.as_line()
        self._write(line + "\n")
        self.looked[looked.name] = self._looked(json.loads(line), 0)

    def add_labels(self, sha256: str) -> None:
        """Keep that a label file was made."""
        self.written.add(sha256)
        self._write(json.dumps({"labels": sha256}) + "\n")

    def _whole_lines(self) -> list[str]:
        """The lines of an earlier call; one that was cut off is taken away."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror}") from error
        whole, _, torn = content.rpartition(b"\n")
        if torn:
            self._write("", "w") if not whole else self._shorten(len(whole) + 1)
        return whole.decode("utf-8", "replace").split("\n") if whole else []

    def _shorten(self, size: int) -> None:
        try:
            with self.path.open("rb+") as file:
                file.truncate(size)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {error.strerror}") from error

    def _write(self, text: str, mode: str = "a") -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open(mode, encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {error.strerror}", "is the disk full?") from error

    def _parsed(self, line: str, number: int) -> dict[str, object]:
        """A line's entries, of which nothing else is known: the file may have been edited."""
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if not isinstance(entry, dict):
            raise DataError(f"{self.path}:{number}: not a line of this file", _HINT)
        return entry

    def _looked(self, entry: Mapping[str, object], number: int) -> Looked:
        """An entry with its numbers checked."""
        try:
            name, faces = entry["name"], entry["faces"]
            size, width, height = (_count(entry[key]) for key in ("bytes", "width", "height"))
            if not isinstance(name, str) or not isinstance(faces, list):
                raise ValueError
            boxes = np.array([_finite(face["box"], 4) for face in faces], np.float32).reshape(-1, 4)
            scores = np.array([_finite([face["score"]], 1)[0] for face in faces], np.float32)
            points = [[_finite(p, 2) if p else [math.nan] * 2 for p in face["landmarks"]] for face in faces]
            landmarks = np.array(points, np.float32).reshape(len(faces), self._landmarks, 2)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{self.path}:{number}: not what was found in an image", _HINT) from error
        return Looked(name, size, width, height, Faces(boxes, scores, landmarks))


def _count(value: object) -> int:
    """A whole number from 0 on. Raises ValueError."""
    if type(value) is not int or value < 0:
        raise ValueError
    return value


def _finite(values: Any, count: int) -> list[float]:
    """So many finite numbers. Raises ValueError."""
    numbers = [float(v) for v in values if isinstance(v, (int, float))]
    if len(numbers) != count or not all(abs(v) < 2**24 for v in numbers):
        raise ValueError
    return numbers
