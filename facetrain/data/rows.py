"""Faces as a reader meets them, row by row, and the label file that they become: the part that all formats share.

A reader names images and appends faces; numbers are checked, turned into corners in float32 and sorted by image here,
for all rows at once, so that a million rows take seconds.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetrain.core.errors import DataError
from facetrain.core.faces import LabelledImage
from facetrain.core.files import as_spelled
from facetrain.data.class_names import chosen_classes
from facetrain.data.image_names import checked_name
from facetrain.data.label_file import LabelFile, LabelProblem, LabelStatistics, at_place
from facetrain.data.label_text import MalformedError
from facetrain.data.landmark_names import columns_of, ordered_names, other_number

LARGEST = float(2**24)  # beyond it float32 no longer holds every whole pixel
MISSING, HIDDEN, VISIBLE = 0.0, 1.0, 2.0  # what a point's third number says, as in COCO

NOT_PIXELS = f"not a pixel position (a finite number up to {LARGEST:.0f})"


class Rows:
    """Images and faces of one split, in the order of the labels.

    labels: the file or folder that the whole is called by
    images: the folder that names start from
    points: the landmarks that the labels have, by name
    place:  where a row stands, from its number: a line, or a path inside JSON
    """

    def __init__(
        self,
        labels: Path,
        images: Path,
        points: Sequence[str] = (),
        *,
        place: Callable[[int], int | str] = int,
    ) -> None:
        self.labels, self.images, self.points, self.place = labels, images, tuple(points), place
        self.file = labels  # where the rows that come now stand
        self.problems: list[LabelProblem] = []
        self.notes: list[str] = []
        self.blank_lines = 0
        self._names: list[str] = []
        self._sizes: list[tuple[int, int] | None] = []
        self._files: list[Path] = []  # of each image
        self._newest: dict[str, int] = {}  # image of a name
        self._boxes, self._owners, self._where = array("d"), array("q"), array("q")
        self._ignore, self._kinds, self._scores = bytearray(), array("q"), array("d")
        self._kind_numbers: dict[str, int] = {}
        self._point_rows, self._points = array("q"), array("d")
        self._named_points: list[tuple[int, dict[str, tuple[float, float, float]]]] = []

    def __len__(self) -> int:
        return len(self._owners)

    def image(self, name: Any, size: tuple[int, int] | None, where: int | str) -> int:
        """Begin an image; its number, or -1 where its name is none. An image that comes again starts afresh."""
        try:
            if not isinstance(name, str):
                raise MalformedError(str(name), "the name of an image must be a text")
            name = checked_name(name)
        except MalformedError as error:
            self.problem(where, error.token, error.message)
            return -1
        self._names.append(name)
        self._sizes.append(size)
        self._files.append(self.file)
        self._newest[name] = len(self._names) - 1
        return len(self._names) - 1

    def known(self, name: str) -> int | None:
        """The number of an image that was named before."""
        return self._newest.get(name)

    def face(
        self,
        image: int,
        box: Any,
        where: int,
        *,
        ignore: bool = False,
        kind: str | None = None,
        score: float = np.nan,
    ) -> bool:
        """Append a face, four numbers; whether they are numbers at all. kind: its class, of a format that has some."""
        try:
            numbers = array("d", box)
        except (TypeError, ValueError, OverflowError):
            numbers = array("d")
        if len(numbers) != 4:
            self.problem(self.place(where), str(box), "a box is four numbers")
            return False
        self._boxes.extend(numbers)
        self._owners.append(image)
        self._where.append(where)
        self._ignore.append(ignore)
        self._scores.append(score)
        self._kinds.append(-1 if kind is None else self._kind_numbers.setdefault(kind, len(self._kind_numbers)))
        return True

    def landmarks(self, values: Any) -> bool:
        """Give the newest face its points: x, y and MISSING, HIDDEN or VISIBLE of each, in the order of `points`."""
        return self.landmarks_of(len(self._owners) - 1, values)

    def landmarks_of(self, row: int, values: Any) -> bool:
        """The same for the face of a row."""
        try:
            numbers = array("d", values)
        except (TypeError, ValueError, OverflowError):
            numbers = array("d")
        if len(numbers) != 3 * len(self.points):
            message = f"landmarks are {3 * len(self.points)} numbers, x y v of each of {len(self.points)} points"
            self.problem(self.place(self._where[row]), str(values), message)
            return False
        self._points.extend(numbers)
        self._point_rows.append(row)
        return True

    def named_landmarks(self, face: int, values: dict[str, tuple[float, float, float]]) -> None:
        """Give the face of a row its points by name, of a format that does not list the names beforehand."""
        self._named_points.append((face, values))

    def count_below(self, lines: Sequence[str], at: int, name: str) -> int | None:
        """How many faces the line with index `at` says, below an image's name; None, and a problem, for no number."""
        text = lines[at].strip() if at < len(lines) else ""
        if text.isascii() and text.isdigit() and len(text) <= 9:
            return int(text)
        message = "below the name of an image stands the number of its faces"
        self.problem(min(at + 1, len(lines)), text or name, message)
        return None

    def problem(self, where: int | str, token: str, message: str) -> None:
        """Note something that cannot be read."""
        self.problems.append(LabelProblem(self.file, where, token, message))

    def label_file(
        self,
        wanted: Sequence[str] | None,
        *,
        xywh: bool = False,
        classes: Sequence[str] = (),
        declared: Sequence[str] = (),
        named: bool = True,
        hidden: bool = False,
        form: str = "",
    ) -> LabelFile:
        """All that was read.

        wanted:   the names of the landmarks that are asked for; None: those that the labels have
        xywh:     whether boxes are x y width height and not two corners
        classes:  those that are asked for; declared: those that the labels say they have, used or not
        named:    whether the labels name their points
        hidden:   whether the labels tell points that are not visible
        """
        self._settle_names()
        if not self._names and not self.problems:
            raise DataError(f"{self.labels}: no images in these labels", form or None)
        given = np.array(self._boxes).reshape(-1, 4)  # (R, 4) as the labels have them
        owners, ignore = np.array(self._owners, np.int64), np.array(self._ignore, bool)  # (R,)
        chosen = self._of_chosen_classes(classes, declared)  # (R,) bool
        names, points, seen = self._points_as_wanted(len(given), wanted, named=named)  # (R, L, 3), (R, L) bool
        corners = np.concatenate([given[:, :2], given[:, :2] + given[:, 2:]], 1) if xywh else given
        readable = self._check(given, corners, points, chosen)
        table = np.where(readable[:, None], corners, 0).astype(np.float32)
        kept = readable & chosen & (table[:, 2] > table[:, 0]) & (table[:, 3] > table[:, 1])  # (R,): has an area
        newest = np.zeros(len(self._names), bool)
        newest[list(self._newest.values())] = True
        lost = np.flatnonzero(readable & chosen & ~kept & newest[owners])  # rows without area
        order = np.argsort(owners, kind="stable")
        order = order[kept[order] & newest[owners[order]]]  # rows that stay, by image
        stops = np.searchsorted(owners[order], np.arange(len(self._names) + 1))
        scores = np.array(self._scores, np.float32)[order]
        boxes, marks = table[order], points[order].astype(np.float32)
        ignored, unseen = ignore[order], seen[order]
        images = []
        listings: dict[Path, dict[str, str]] = {}
        for name, number in self._newest.items():
            faces = slice(stops[number], stops[number + 1])
            own = scores[faces]
            images.append(
                LabelledImage(
                    as_spelled(self.images, name, listings),
                    name,
                    self._sizes[number],
                    boxes[faces],
                    marks[faces],
                    ignored[faces],
                    unseen[faces] if hidden and names else None,
                    own if len(own) and not np.isnan(own).any() else None,
                )
            )
        repeated = len(self._names) - len(self._newest)
        left_out = int((~chosen).sum())
        statistics = LabelStatistics.of(images, len(lost), repeated, self.blank_lines, left_out)
        files = tuple(dict.fromkeys(self._files)) if self._files and self._files[0] != self.labels else ()
        places = {number: place for place, number in enumerate(self._newest.values())}
        flat = tuple(
            replace(
                images[places[owner]],
                boxes=table[rows],
                landmarks=points[rows].astype(np.float32),
                ignore=ignore[rows],
                hidden=None,
                scores=None,
            )
            for owner, rows in _by_owner(owners, lost)
        )
        found = LabelFile(images, self.problems, statistics, names, form, tuple(self.notes), files, flat=flat)
        return replace(found, convention="xywh" if xywh else "xyxy", named=named)

    def _settle_names(self) -> None:
        """Make columns of the points that came by name."""
        if not self._named_points:
            return
        self.points = ordered_names({name for _, values in self._named_points for name in values})
        for row, values in self._named_points:
            for name in self.points:
                self._points.extend(values.get(name, (0.0, 0.0, MISSING)))
            self._point_rows.append(row)

    def _of_chosen_classes(self, classes: Sequence[str], declared: Sequence[str]) -> NDArray[np.bool_]:
        kinds = np.array(self._kinds, np.int64)
        if not self._kind_numbers and not declared:
            return np.ones(len(kinds), bool)
        counts = Counter(kinds.tolist())
        boxes = {name: counts[number] for name, number in self._kind_numbers.items()}
        there = list(dict.fromkeys([*declared, *self._kind_numbers]))
        chosen = chosen_classes(self.labels, there, classes, boxes)
        numbers = [number for name, number in self._kind_numbers.items() if name in chosen]
        return np.isin(kinds, [*numbers, -1])

    def _points_as_wanted(
        self, rows: int, wanted: Sequence[str] | None, *, named: bool
    ) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.bool_]]:
        """Names, (R, L, 3) x y weight with -1 -1 0 for missing points, and (R, L) bool of those that are hidden."""
        names = self.points if wanted is None else tuple(wanted)
        points = np.tile(np.array([-1.0, -1.0, 0.0]), (rows, len(names), 1))
        hidden = np.zeros((rows, len(names)), bool)
        if not names or not self.points or not len(self._point_rows):
            return names, points, hidden
        columns = list(range(len(names))) if wanted is None else columns_of(names, self.points, named=named)
        if columns is None and not named and not self.problems:
            first = self._point_rows[0]
            place = at_place(self._files[self._owners[first]], self.place(self._where[first]))
            raise other_number(place, len(self.points), len(names))
        if columns is None:
            there, asked = ", ".join(self.points), ", ".join(names)
            self.notes.append(f"the landmarks are not used: they are called {there}, none of which is one of {asked}")
            return names, points, hidden
        absent = [name for name, column in zip(names, columns, strict=True) if column < 0]
        if absent:
            self.notes.append(f"without the landmarks {', '.join(absent)}, which the labels do not have")
        given = np.array(self._points).reshape(-1, len(self.points), 3)
        for face in np.flatnonzero(~np.isin(given[..., 2], (MISSING, HIDDEN, VISIBLE)).all(1)):
            row, marks = self._point_rows[face], given[face, :, 2]
            wrong = marks[~np.isin(marks, (MISSING, HIDDEN, VISIBLE))][0]
            where, file = self.place(self._where[row]), self._files[self._owners[row]]
            message = "behind a landmark stands 0 (missing), 1 (hidden) or 2 (visible)"
            self.problems.append(LabelProblem(file, where, f"{wrong:g}", message))
        owners = np.array(self._point_rows, np.int64)  # the face of each
        for target, column in enumerate(columns):
            if column >= 0:
                is_there = given[:, column, 2] > 0
                points[owners[is_there], target, :2] = given[is_there, column, :2]
                points[owners[is_there], target, 2] = 1
                hidden[owners, target] = given[:, column, 2] == HIDDEN
        return names, points, hidden

    def _check(
        self,
        given: NDArray[np.float64],
        corners: NDArray[np.float64],
        points: NDArray[np.float64],
        chosen: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        """Which rows, (R,) bool, have usable numbers only; the others become problems."""
        # written so that NaN, which compares with nothing, counts as wrong
        bad_box = chosen & ~((np.abs(given) <= LARGEST) & (np.abs(corners) <= LARGEST)).all(1)
        bad_point = chosen & ~(np.abs(points[..., :2]) <= LARGEST).all((1, 2))
        for row in np.flatnonzero(bad_box | bad_point):
            values = given[row] if bad_box[row] else points[row, :, :2].ravel()
            wrong = values[~(np.abs(values) <= LARGEST)]
            file = self._files[self._owners[row]]
            token = f"{(wrong if len(wrong) else values)[0]:g}"
            self.problems.append(LabelProblem(file, self.place(self._where[row]), token, NOT_PIXELS))
        return np.logical_not(bad_box | bad_point)


def _by_owner(owners: NDArray[np.int64], rows: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Some rows by the image that they belong to."""
    if len(rows):
        ordered = rows[np.argsort(owners[rows], kind="stable")]
        numbers, starts = np.unique(owners[ordered], return_index=True)
        yield from zip(numbers.tolist(), np.split(ordered, starts[1:]), strict=True)
