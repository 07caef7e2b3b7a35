"""Decoding and suppression as nodes of the graph, for people who want no code behind the network.

`rows`: boxes of all priors, at a fixed size, with the grid as a constant: every runtime and converter takes it.
`faces`: what is left after threshold and suppression. ONNX's NonMaxSuppression is for onnxruntime, and for OpenCV 5
by its default engine; OpenCV 4 does not know it.
"""

from collections.abc import Mapping

import numpy as np

from facetrain.config.schema import ModelConfig
from facetrain.export.onnx.graph import Graph

_MOST_FACES = 5000  # that NonMaxSuppression may return for an image


def add_rows(graph: Graph, config: ModelConfig, maps: Mapping[str, str], size: tuple[int, int] | None) -> str:
    """Decode all priors; returns the tensor (batch, P, 5 + 2L): x1 y1 x2 y2 score, landmarks x y, in pixels.

    maps: logits and raw offsets (batch, C, h, w) by output name; size: (width, height), None where it is free.
    """
    levels = [_level(graph, maps, stride, len(config.landmarks.names), size) for stride in config.strides]
    return levels[0] if len(levels) == 1 else graph.add("Concat", levels, axis=1)


def add_faces(graph: Graph, rows: str, columns: int, score: float, nms: float, output: str) -> None:
    """Threshold and suppress; adds the output (F, 1 + columns): image's number, then the row, best first."""
    boxes = graph.columns(rows, 0, 4)
    scores = graph.add("Transpose", [graph.columns(rows, 4, 5)], perm=[0, 2, 1])  # (batch, 1, P)
    limits = [graph.integers(_MOST_FACES), graph.number(nms), graph.number(score)]
    # (F, 3): image, class, prior. Two opposite corners are what the operator asks for, in either order of x and y.
    chosen = graph.add("NonMaxSuppression", [boxes, scores, *limits])
    places = graph.add("Gather", [chosen, graph.integers(0, 2)], axis=1)  # (F, 2): image, prior
    image = graph.add("Gather", [chosen, graph.integers(0)], axis=1)
    number = graph.add("Cast", [image], to=1)
    # One place too many, whose row is dropped again: OpenCV 5 divides by zero in a GatherND that has nothing to gather.
    places = graph.add("Concat", [places, graph.constant(np.zeros((1, 2), np.int64))], axis=0)
    found = graph.add("GatherND", [rows, places])
    found = graph.add("Slice", [found, graph.integers(0), graph.integers(-1), graph.integers(0)])
    graph.add("Concat", [number, found], output, axis=1)


def _level(graph: Graph, maps: Mapping[str, str], stride: int, landmarks: int, size: tuple[int, int] | None) -> str:
    scores = [graph.rows(graph.add("Sigmoid", [maps[f"{kind}_{stride}"]]), 1) for kind in ("cls", "obj")]
    raw = graph.rows(maps[f"bbox_{stride}"], 4)
    corner = _free_grid(graph, maps[f"cls_{stride}"], stride) if size is None else _fixed_grid(graph, size, stride, 1)
    centre = graph.add("Add", [graph.add("Mul", [graph.columns(raw, 0, 2), graph.number(stride)]), corner])
    half = graph.add("Mul", [graph.add("Exp", [graph.columns(raw, 2, 4)]), graph.number(stride / 2)])
    parts = [graph.add("Sub", [centre, half]), graph.add("Add", [centre, half]), graph.add("Mul", scores)]
    if landmarks:
        points = graph.rows(maps[f"kps_{stride}"], 2 * landmarks)
        if size is not None:
            corners = _fixed_grid(graph, size, stride, landmarks)  # OpenCV 4 cannot join constants
        else:
            corners = graph.add("Concat", [corner] * landmarks, axis=2)
        parts.append(graph.add("Add", [graph.add("Mul", [points, graph.number(stride)]), corners]))
    return graph.add("Concat", parts, axis=2)


def _fixed_grid(graph: Graph, size: tuple[int, int], stride: int, repeats: int) -> str:
    """Top left corners of the cells, (1, P, 2 · repeats), in pixels."""
    row, column = np.mgrid[0 : size[1] // stride, 0 : size[0] // stride]
    corners = np.stack([column, row] * repeats, -1).reshape(1, -1, 2 * repeats) * stride
    return graph.constant(corners.astype(np.float32))


def _free_grid(graph: Graph, map_: str, stride: int) -> str:
    """The same, (batch, P, 2), counted along a map (batch, 1, h, w) of whatever size: no shape is asked for."""
    zeros = graph.add("Mul", [map_, graph.number(0)])
    strides = graph.add("Add", [zeros, graph.number(stride)])
    # Sums of the strides of all cells before: exact, since they are whole numbers far below 2^24.
    along = [
        graph.add("CumSum", [strides, graph.constant(np.array(axis, np.int64))], exclusive=1)
        for axis in (3, 2)  # x, y
    ]
    return graph.rows(graph.add("Concat", along, axis=1), 2)
