"""Landmarks that are drawn on their own, and the faces that they belong to: by a group, or by where they lie."""

from collections.abc import Sequence
from typing import Any

from facetrain.data.rows import Rows

Point = tuple[str, float, float, float]  # name, x, y, mark


def tie_points(rows: Rows, faces: Sequence[tuple[int, Any, list[float]]], points: Sequence[tuple[Any, Point]]) -> int:
    """Give the faces of an image (row, group, corners) their points (group, point); how many have no face."""
    by_group = {group: row for row, group, _ in reversed(faces) if group is not None}
    found: dict[int, dict[str, tuple[float, float, float]]] = {}
    alone = 0
    for group, (name, x, y, mark) in points:
        row = by_group.get(group)
        if row is None and group is None:
            around = [(box, each) for each, _, box in faces if box[0] <= x <= box[2] and box[1] <= y <= box[3]]
            area = [((box[2] - box[0]) * (box[3] - box[1]), each) for box, each in around]
            row = min(area)[1] if area else None
        if row is None:
            alone += 1
        else:
            found.setdefault(row, {})[name] = (x, y, mark)
    for row, values in found.items():
        rows.named_landmarks(row, values)
    return alone
