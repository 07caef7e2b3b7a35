"""What the outputs of each detector family mean, one prior after the other, in double precision.

Slow and plain on purpose, from the families' description alone. A *kind* is a family with one layout of its outputs.
`decode` gives (score, box xyxy, points) of every prior; `encode` is its inverse: outputs in which prior number `at`
holds a face and all others nothing. Prior numbers count as the outputs do: stride after stride, row by row.
"""

import math
from itertools import product

import numpy as np

KINDS = {  # kind -> family
    "yunet": "yunet",
    "yunet_plain": "yunet",
    "scrfd": "scrfd",
    "scrfd_plain": "scrfd",
    "scrfd_5": "scrfd",
    "yolo5_raw": "yolo5face",
    "yolo5_raw_p6": "yolo5face",
    "yolo5_decoded": "yolo5face",
    "yolo5_decoded_p6": "yolo5face",
    "yolov8_raw": "yolov8face",
    "yolov8_decoded": "yolov8face",
    "retinaface": "retinaface",
    "retinaface_plain": "retinaface",
    "retinaface_joined": "retinaface",
    "faceboxes": "faceboxes",
    "ultralight_raw": "ultralight",
    "ultralight_decoded": "ultralight",
    "eresfd": "eresfd",
    "yunet_2021": "yunet_2021",
    "blazeface": "blazeface",
    "centerface": "centerface",
    "decoded": "facetrain_decoded",
    "rows": "facetrain_decoded",
}
POINTS = (
    dict.fromkeys(KINDS, 5)
    | {"blazeface": 6}
    | {kind: 0 for kind in KINDS if "plain" in kind or kind.partition("_")[0] in ("faceboxes", "ultralight", "eresfd")}
)
METADATA = {
    "decoded": {
        "family": "yunet",
        "form": "decoded",
        "strides": "[8, 16, 32]",
        "landmarks": '["a", "b", "c", "d", "e"]',
    },
    "rows": {"family": "yunet", "form": "rows", "strides": "[8, 16, 32]", "landmarks": '["a", "b", "c", "d", "e"]'},
}
# family -> (value fed for a pixel of v, order of channels, multiple of the sides)
IMAGES = {
    "yunet": (lambda v: v, "bgr", 32),
    "facetrain_decoded": (lambda v: v, "bgr", 32),
    "yunet_2021": (lambda v: v, "bgr", 32),
    "scrfd": (lambda v: (v - 127.5) / 128, "rgb", 32),
    "yolo5face": (lambda v: v / 255, "rgb", 32),
    "yolov8face": (lambda v: v / 255, "rgb", 32),
    "retinaface": (lambda v: v - np.array([104, 117, 123]), "bgr", 32),
    "faceboxes": (lambda v: v - np.array([104, 117, 123]), "bgr", 32),
    "ultralight": (lambda v: (v - 127) / 128, "rgb", 32),
    "blazeface": (lambda v: v / 127.5 - 1, "rgb", 32),
    "centerface": (lambda v: v, "rgb", 32),
    "eresfd": (lambda v: v - np.array([123, 117, 104]), "rgb", 32),
}
ANCHORS = {
    8: [(4, 5), (8, 10), (13, 16)],
    16: [(23, 29), (43, 55), (73, 105)],
    32: [(146, 217), (231, 300), (335, 433)],
}
ANCHORS_P6 = {
    8: [(6, 7), (9, 11), (13, 16)],
    16: [(18, 23), (26, 33), (37, 47)],
    32: [(54, 67), (77, 104), (112, 154)],
    64: [(174, 238), (258, 355), (445, 568)],
}
DENSE_SIDES = {8: (10, 16, 24), 16: (32, 48), 32: (64, 96), 64: (128, 192, 256)}


def logistic(x):
    return 1 / (1 + math.exp(-x))


def logit(p):
    return math.log(p / (1 - p))


def cells(width, height, stride):
    """(row, column) of each cell, row by row."""
    return list(product(range(math.ceil(height / stride)), range(math.ceil(width / stride))))


def priors(kind, width, height):
    """Every prior as (centre or corner x, y, width, height or stride); for YOLO5Face (column, row, stride, anchor)."""
    if kind.startswith("yolo5"):
        table = ANCHORS_P6 if kind.endswith("p6") else ANCHORS
        return [(i, j, s, a) for s in table for a in table[s] for j, i in cells(width, height, s)]
    if kind == "scrfd_5":
        return [(i * s, j * s, s, s) for s in (8, 16, 32, 64, 128) for j, i in cells(width, height, s)]
    if kind.startswith("scrfd"):
        return [(i * s, j * s, s, s) for s in (8, 16, 32) for j, i in cells(width, height, s) for _ in range(2)]
    if kind.startswith("yolov8"):
        return [(i, j, s, s) for s in (8, 16, 32) for j, i in cells(width, height, s)]
    if kind.startswith("retinaface"):
        sides = {8: (16, 32), 16: (64, 128), 32: (256, 512)}
        return [
            ((i + 0.5) * s, (j + 0.5) * s, a, a) for s in sides for j, i in cells(width, height, s) for a in sides[s]
        ]
    if kind == "eresfd":
        strides = (4, 8, 16, 32, 64, 128)
        return [((i + 0.5) * s, (j + 0.5) * s, 4 * s, 4 * s) for s in strides for j, i in cells(width, height, s)]
    if kind == "yunet_2021":
        return [
            ((i + 0.5) * s, (j + 0.5) * s, a, a)
            for s in DENSE_SIDES
            for j, i in cells(width, height, s)
            for a in DENSE_SIDES[s]
        ]
    if kind.startswith("ultralight"):
        found = []
        for s, sides in DENSE_SIDES.items():
            rows, columns = math.ceil(height / s), math.ceil(width / s)
            for (j, i), a in product(cells(width, height, s), sides):
                x, y = (i + 0.5) * width / columns, (j + 0.5) * height / rows
                found.append((min(x, width), min(y, height), min(a, width), min(a, height)))
        return found
    if kind == "faceboxes":
        found = []
        for j, i in cells(width, height, 32):
            found += [((i + a / 4) * 32, (j + b / 4) * 32, 32, 32) for b in range(4) for a in range(4)]
            found += [((i + a / 2) * 32, (j + b / 2) * 32, 64, 64) for b in range(2) for a in range(2)]
            found.append(((i + 0.5) * 32, (j + 0.5) * 32, 128, 128))
        for s, side in ((64, 256), (128, 512)):
            found += [((i + 0.5) * s, (j + 0.5) * s, side, side) for j, i in cells(width, height, s)]
        return found
    if kind == "blazeface":
        return [
            ((i + 0.5) / n * width, (j + 0.5) / n * height, 0, 0)
            for n, times in ((16, 2), (8, 6))
            for j in range(n)
            for i in range(n)
            for _ in range(times)
        ]
    strides = {"centerface": (4,)}.get(kind, (8, 16, 32))  # and every form of YuNet
    return [(i * s, j * s, s, s) for s in strides for j, i in cells(width, height, s)]


def read(kind, numbers, prior, width, height):
    """(score, box, points) that the numbers of one prior mean. numbers: as `layout` has them, flat."""
    v = [float(x) for x in numbers]
    x, y, w, h = prior
    if kind.startswith("yunet") and kind != "yunet_2021":
        cx, cy, bw, bh = x + v[2] * w, y + v[3] * w, w * math.exp(v[4]), w * math.exp(v[5])
        return v[0] * v[1], around(cx, cy, bw, bh), [(x + a * w, y + b * w) for a, b in pairs(v[6:])]
    if kind.startswith("scrfd"):
        box = (x - v[1] * w, y - v[2] * w, x + v[3] * w, y + v[4] * w)
        return v[0], box, [(x + a * w, y + b * w) for a, b in pairs(v[5:])]
    if kind.startswith("yolo5_raw"):
        s, (aw, ah) = w, h
        cx, cy = (2 * logistic(v[0]) - 0.5 + x) * s, (2 * logistic(v[1]) - 0.5 + y) * s
        box = around(cx, cy, (2 * logistic(v[2])) ** 2 * aw, (2 * logistic(v[3])) ** 2 * ah)
        points = [(a * aw + x * s, b * ah + y * s) for a, b in pairs(v[5:15])]
        return logistic(v[4]) * logistic(v[15]), box, points
    if kind.startswith("yolo5_decoded"):
        return v[4] * v[15], around(*v[:4]), pairs(v[5:15])
    if kind == "yolov8_raw":
        left, top, right, bottom = (expectation(v[16 * k : 16 * k + 16]) for k in range(4))
        box = ((x + 0.5 - left) * w, (y + 0.5 - top) * w, (x + 0.5 + right) * w, (y + 0.5 + bottom) * w)
        points = [((2 * v[65 + 3 * k] + x) * w, (2 * v[66 + 3 * k] + y) * w) for k in range(5)]
        return logistic(v[64]), box, points
    if kind == "yolov8_decoded":
        return v[4], around(*v[:4]), [(v[5 + 3 * k], v[6 + 3 * k]) for k in range(5)]
    if kind == "centerface":
        heat, s0, s1, o0, o1, *marks = v
        bh, bw = 4 * math.exp(s0), 4 * math.exp(s1)
        cx, cy = 4 * (x / 4 + o1 + 0.5), 4 * (y / 4 + o0 + 0.5)
        box = around(cx, cy, bw, bh)
        return heat, box, [(box[0] + bw * across, box[1] + bh * down) for down, across in pairs(marks)]
    if kind == "blazeface":
        box = around(x + v[0], y + v[1], v[2], v[3])
        score = logistic(max(-100, min(100, v[16])))
        return score, box, [(x + a, y + b) for a, b in pairs(v[4:16])]
    if kind == "ultralight_decoded":
        return v[5], (v[0] * width, v[1] * height, v[2] * width, v[3] * height), []
    if kind in ("decoded", "rows"):
        skip = 1 if kind == "decoded" else 0
        return v[skip + 4], tuple(v[skip : skip + 4]), pairs(v[skip + 5 :])
    # what is left is SSD: box, classes, points; in YuNet of 2021 box, points, classes, IoU
    marks, classes = (v[4:14], v[14:16]) if kind == "yunet_2021" else (v[6:], v[4:6])
    score = math.exp(classes[1]) / (math.exp(classes[0]) + math.exp(classes[1])) if "joined" in kind else classes[1]
    if kind == "yunet_2021":
        score = math.sqrt(score * min(max(v[16], 0), 1))
    box = around(x + 0.1 * v[0] * w, y + 0.1 * v[1] * h, w * math.exp(0.2 * v[2]), h * math.exp(0.2 * v[3]))
    return score, box, [(x + 0.1 * a * w, y + 0.1 * b * h) for a, b in pairs(marks)]


def write(kind, prior, face, width, height):
    """The inverse of `read`: numbers of one prior that mean (score, box, points)."""
    score, (x1, y1, x2, y2), points = face
    x, y, w, h = prior
    cx, cy, bw, bh = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
    if kind.startswith("yunet") and kind != "yunet_2021":
        numbers = [score, 1, (cx - x) / w, (cy - y) / w, math.log(bw / w), math.log(bh / w)]
        return numbers + flat([((a - x) / w, (b - y) / w) for a, b in points])
    if kind.startswith("scrfd"):
        sides = [(x - x1) / w, (y - y1) / w, (x2 - x) / w, (y2 - y) / w]
        return [score, *sides, *flat([((a - x) / w, (b - y) / w) for a, b in points])]
    if kind.startswith("yolo5_raw"):
        s, (aw, ah) = w, h
        centre = [logit((cx / s - x + 0.5) / 2), logit((cy / s - y + 0.5) / 2)]
        size = [logit(math.sqrt(bw / aw) / 2), logit(math.sqrt(bh / ah) / 2)]
        marks = flat([((a - x * s) / aw, (b - y * s) / ah) for a, b in points])
        return [*centre, *size, logit(math.sqrt(score)), *marks, logit(math.sqrt(score))]
    if kind.startswith("yolo5_decoded"):
        return [cx, cy, bw, bh, math.sqrt(score), *flat(points), math.sqrt(score)]
    if kind == "yolov8_raw":
        distances = [x + 0.5 - x1 / w, y + 0.5 - y1 / w, x2 / w - x - 0.5, y2 / w - y - 0.5]
        bins = [number for distance in distances for number in between_bins(distance)]
        marks = flat([((a / w - x) / 2, (b / w - y) / 2, 3.0) for a, b in points])
        return [*bins, logit(score), *marks]
    if kind == "yolov8_decoded":
        return [cx, cy, bw, bh, score, *flat([(a, b, 0.9) for a, b in points])]
    if kind == "centerface":
        marks = flat([((b - y1) / bh, (a - x1) / bw) for a, b in points])
        offsets = [cy / 4 - y / 4 - 0.5, cx / 4 - x / 4 - 0.5]
        return [score, math.log(bh / 4), math.log(bw / 4), *offsets, *marks]
    if kind == "blazeface":
        return [cx - x, cy - y, bw, bh, *flat([(a - x, b - y) for a, b in points]), logit(score)]
    if kind == "ultralight_decoded":
        return [x1 / width, y1 / height, x2 / width, y2 / height, 1 - score, score]
    if kind in ("decoded", "rows"):
        return [*([0] if kind == "decoded" else []), x1, y1, x2, y2, score, *flat(points)]
    box = [(cx - x) / w * 10, (cy - y) / h * 10, math.log(bw / w) * 5, math.log(bh / h) * 5]
    marks = flat([((a - x) / w * 10, (b - y) / h * 10) for a, b in points])
    if kind == "yunet_2021":
        return [*box, *marks, 1 - score, score, score]
    return [*box, *([0, logit(score)] if "joined" in kind else [1 - score, score]), *marks]


def nothing(kind):
    """The numbers of a prior without a face."""
    quiet = {"yolo5_raw": [0] * 4 + [-20] + [0] * 10 + [-20], "yolov8_raw": [0] * 64 + [-20] + [0] * 15}
    quiet |= {
        "blazeface": [0] * 16 + [-20],
        "yunet_2021": [0] * 14 + [1, 0, 0],
        "retinaface_joined": [0] * 4 + [9, -9] + [0] * 10,
    }
    quiet |= {
        kind: [0.3, -0.2, -0.3, 0.2, 1, 0] for kind in ("faceboxes", "ultralight_raw", "eresfd", "retinaface_plain")
    }
    quiet |= {"ultralight_decoded": [0.1, 0.1, 0.2, 0.2, 1, 0], "retinaface": [0] * 4 + [1, 0] + [0] * 10}
    for name, numbers in quiet.items():
        if kind == name or (name.endswith("raw") and kind == f"{name}_p6"):
            return numbers
    return [0] * sum(columns for _, columns in layout(kind))


def layout(kind):
    """Parts of a prior's numbers as the outputs split them: (part's name, columns)."""
    points = 2 * POINTS[kind]
    if kind.startswith("yunet") and kind != "yunet_2021":
        parts = [("cls", 1), ("obj", 1), ("bbox", 4), ("kps", points)]
    elif kind.startswith("scrfd"):
        parts = [("score", 1), ("bbox", 4), ("kps", points)]
    elif kind == "yunet_2021":
        parts = [("loc", 14), ("conf", 2), ("iou", 1)]
    elif kind == "centerface":
        parts = [("heat", 1), ("scale", 2), ("offset", 2), ("landmarks", 10)]
    elif kind == "blazeface":
        parts = [("boxes", 16), ("scores", 1)]
    elif kind in ("retinaface", "retinaface_plain", "faceboxes", "ultralight_raw", "ultralight_decoded", "eresfd"):
        parts = [("loc", 4), ("conf", 2), ("landms", points)]
    else:
        width = {"yolov8_raw": 80, "yolov8_decoded": 20, "decoded": 16, "rows": 15}.get(kind, 16)
        parts = [("output", width)]
    return [part for part in parts if part[1]]


def strides(kind):
    """Strides whose priors stand in outputs of their own; empty where all are in one."""
    if kind.startswith("yolo5_raw"):
        return list(ANCHORS_P6 if kind.endswith("p6") else ANCHORS)
    split = {"scrfd_5": [8, 16, 32, 64, 128], "yolov8_raw": [8, 16, 32]}
    if kind in ("yunet", "yunet_plain", "scrfd", "scrfd_plain"):
        return [8, 16, 32]
    return split.get(kind, [])


def per_stride(kind, width, height):
    """Number of priors of each stride."""
    each = 3 if kind.startswith("yolo5") else 2 if kind in ("scrfd", "scrfd_plain") else 1
    return [each * len(cells(width, height, stride)) for stride in strides(kind)]


def outputs_of(kind, table, width, height):
    """Outputs by name, in the order of real files, of the numbers (P, C) of all priors."""
    table = np.asarray(table, np.float32)
    found, start = {}, 0
    for name, columns in layout(kind):
        part = table[:, start : start + columns]
        start += columns
        if not strides(kind):
            found[name] = part[None]
            continue
        ends = np.cumsum(per_stride(kind, width, height))
        for stride, rows in zip(strides(kind), np.split(part, ends[:-1]), strict=True):
            found[f"{name}_{stride}"] = rows[None]
    for name, value in found.items():
        stride = int(name.rpartition("_")[2]) if strides(kind) else 4
        grid = math.ceil(height / stride), math.ceil(width / stride)
        if kind.startswith("yolo5_raw"):
            found[name] = value.reshape(1, 3, *grid, 16)
        elif kind in ("yolov8_raw", "centerface"):
            found[name] = value[0].T.reshape(1, -1, *grid)
        elif kind == "yolov8_decoded":
            found[name] = value.transpose(0, 2, 1)
        elif kind == "decoded":
            found[name] = value[0]
    return {name: np.ascontiguousarray(value) for name, value in found.items()}


def encode(kind, width, height, face, at):
    """Outputs with one face, (score, box, points), at prior `at`."""
    if kind == "decoded":
        return outputs_of(kind, [write(kind, (0, 0, 0, 0), face, width, height)], width, height)
    everyone = priors(kind, width, height)
    table = [nothing(kind)] * len(everyone)
    table[at] = write(kind, everyone[at], face, width, height)
    return outputs_of(kind, table, width, height)


def decode(kind, table, width, height):
    """(score, box, points) of every prior. table: (P, C) numbers in `layout`'s order."""
    everyone = [(0, 0, 0, 0)] * len(table) if kind == "decoded" else priors(kind, width, height)
    return [read(kind, numbers, prior, width, height) for numbers, prior in zip(table, everyone, strict=True)]


def around(cx, cy, w, h):
    return (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)


def pairs(numbers):
    return [(numbers[k], numbers[k + 1]) for k in range(0, len(numbers), 2)]


def flat(groups):
    return [number for group in groups for number in group]


def expectation(logits):
    weights = [math.exp(value) for value in logits]
    return sum(k * weight for k, weight in enumerate(weights)) / sum(weights)


def between_bins(distance):
    """16 logits whose expectation is `distance`, from 0 to 15: all weight on the two whole numbers around it."""
    low = min(int(distance), 14)
    share = distance - low
    logits = [-60.0] * 16
    logits[low], logits[low + 1] = math.log(max(1 - share, 1e-20)), math.log(max(share, 1e-20))
    return logits


def table_of(kind, outputs):
    """Numbers (P, C) of all priors from a network's outputs, given as `outputs_of` orders them: its inverse."""
    columns = [columns for _, columns in layout(kind)]
    if kind == "centerface" or kind.startswith("yolov8"):
        outputs = [np.reshape(value, (value.shape[1], -1)).T for value in outputs]
    parts = [np.reshape(value, (-1, value.shape[-1])) for value in outputs]
    each = len(parts) // len(columns)
    return np.concatenate([np.concatenate(parts[k * each : (k + 1) * each]) for k in range(len(columns))], 1)


def iou(a, b):
    """Intersection over union of two boxes xyxy."""
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(across, 0) * max(down, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def best_faces(faces, score, threshold):
    """Faces of more than `score`, best first, those dropped that overlap a better one by more than `threshold`."""
    kept = []
    for face in sorted((face for face in faces if face[0] > score), key=lambda face: -face[0]):
        if all(iou(face[1], better[1]) <= threshold for better in kept):
            kept.append(face)
    return kept
