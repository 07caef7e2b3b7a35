"""Which priors learn which face: SimOTA (Ge et al., YOLOX, 2021) as YuNet uses it, for a whole batch at once.

Faces stand flat (M rows with an image index), so a crowd in one image costs nothing for the others, and every step is
an operation on (M, P) or (B, P) arrays: no loop over images or faces, no boolean indexing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from facetrain.config.schema import AssignConfig
from facetrain.data.batch import FACE, IGNORED, Batch
from facetrain.model.priors import decode_boxes
from facetrain.model.yunet import Predictions
from facetrain.train.overlap import box_iou_pairs

# Costs without penalty span -3e-7 … 100 + 16.2 iou_weight. The published penalty of 100000 is a second sort key before
# them, and any number above that span is one too; but at 100000 float32 rounds costs to 1/128 and chooses among a tiny
# face's priors by chance, while just above the span it still resolves 2e-5.
_MAX_SCORE_COST = 100.0
_MAX_OVERLAP_COST = 17.0  # -ln(1e-7) = 16.1
# Rows of faces treated at once: bounds memory in a crowd (several float32 arrays of this many rows by P). A GPU takes
# the crowds of a large batch in one piece, since only that is compiled: at 640x640 an array of 8,192 rows has 275 MB.
CHUNK, GPU_CHUNK = 1024, 8192
# Two numbers as one of 64 bits, so that one pass finds both: a cost and its row, where the least of equal costs has the
# first row; or how many faces took a prior (up to 2^23) and the sum of their rows, which is the row where it is one.
_ROWS, _ONE = 1 << 32, 1 << 40


@dataclass(frozen=True)
class Targets:
    """What every prior should say.

    matched:         (B, P) int64, row of the face in the batch, or -1
    positive:        (B, P) float32, 1 where matched
    quality:         (B, P) float32, IoU of the prior's box with its face, 0 elsewhere
    boxes:           (B, P, 4) xyxy pixels of the matched face (anything elsewhere)
    landmarks:       (B, P, L, 2) pixels of the matched face (anything elsewhere)
    landmark_weight: (B, P, L), 0 for negatives and missing points
    obj_weight:      (B, P), 0 where a prior without a face lies on an ignored one
    """

    matched: Tensor
    positive: Tensor
    quality: Tensor
    boxes: Tensor
    landmarks: Tensor
    landmark_weight: Tensor
    obj_weight: Tensor


# predictions, their boxes in pixels (B, P, 4), the batch, the section `train.assign`
#   -> matched (B, P) int64: the face's row in the batch or -1; quality (B, P) float32 of what is matched, 0 elsewhere.
# There may be no face at all, and boxes of an untrained network may be infinite: no cost may become NaN.
Assigner = Callable[[Predictions, Tensor, Batch, AssignConfig], tuple[Tensor, Tensor]]


@torch.no_grad()
def assign(
    predictions: Predictions,
    batch: Batch,
    config: AssignConfig,
    mask_ignored: bool,
    assigners: Mapping[str, Assigner] | None = None,
) -> Targets:
    """Match priors to faces by the configured assigner and gather each prior's targets.

    assigners: by their names, where not ASSIGNERS
    """
    images, priors = predictions.cls.shape
    decoded = decode_boxes(predictions.boxes, predictions.priors)
    matched, quality = (assigners or ASSIGNERS)[config.name](predictions, decoded, batch, config)
    positive = matched >= 0
    if len(batch.boxes) == 0:
        nothing = predictions.cls.new_zeros(images, priors)
        points = predictions.landmarks
        return Targets(matched, nothing, quality, decoded, points, points.new_zeros(points.shape[:-1]), nothing + 1)
    row = matched.clamp(min=0)
    landmarks = batch.landmarks[row]  # (B, P, L, 3)
    obj_weight = torch.ones_like(quality)
    if mask_ignored:
        obj_weight = torch.where(_on_ignored(predictions.priors, batch, images) & ~positive, 0.0, 1.0)
    return Targets(
        matched=matched,
        positive=positive.float(),
        quality=quality,
        boxes=batch.boxes[row],
        landmarks=landmarks[..., :2],
        landmark_weight=landmarks[..., 2] * positive[..., None],
        obj_weight=obj_weight,
    )


# IoU (M, P), boxes of the priors (M, P, 4), faces (M, 1, 4) -> cost (M, P), at most _MAX_OVERLAP_COST, never NaN
OverlapCost = Callable[[Tensor, Tensor, Tensor], Tensor]


def assign_simota(
    predictions: Predictions, decoded: Tensor, batch: Batch, config: AssignConfig, overlap_cost: OverlapCost
) -> tuple[Tensor, Tensor]:
    """Each face takes the k priors that are cheapest for it, k the sum of its best overlaps.

    decoded: (B, P, 4) xyxy pixels; overlap_cost: what `iou_weight` multiplies. Returns matched (B, P) int64 with -1
    for none, quality (B, P) float32.
    """
    images, count = predictions.cls.shape
    device = decoded.device
    if len(batch.boxes) == 0:
        nobody = torch.full((images, count), -1, dtype=torch.int64, device=device)
        return nobody, torch.zeros((images, count), device=device)
    score_cost = score_costs(predictions)
    candidate = _candidates(predictions.priors, batch, images, config)

    taken = torch.zeros(
        images * count, dtype=torch.int64, device=device
    )  # by how many faces, and the sum of their rows
    cheapest = torch.full((images, count), torch.iinfo(torch.int64).max, dtype=torch.int64, device=device)
    rows = torch.arange(len(batch.boxes), device=device)
    for chunk in _chunks(batch.boxes):
        image, row = batch.image[chunk, None], rows[chunk, None]
        cost, iou = _costs(predictions.priors, decoded, score_cost, candidate, batch, chunk, config, overlap_cost)
        index, chosen = _select(cost, iou, config.candidates)  # (M, K)
        taken.scatter_add_(0, (image * count + index).flatten(), torch.where(chosen, _ONE + row, 0).flatten())
        keys = _ordered(cost) * _ROWS + row
        cheapest.scatter_reduce_(0, image.expand_as(keys), keys, "amin")
    taken = taken.view(images, count)
    # a prior that several faces selected goes to the cheapest face of the image, even one that did not select it
    matched = torch.where(taken < 2 * _ONE, taken % _ONE - (taken < _ONE).long(), cheapest % _ROWS)
    face = batch.boxes[matched.clamp(min=0)]  # (B, P, 4)
    quality = torch.where(matched >= 0, box_iou_pairs(decoded, face), 0.0)
    return matched, quality


def score_costs(predictions: Predictions) -> Tensor:
    """What a prior's own score costs, (B, P): -ln sqrt(q), q = sigmoid(cls) * sigmoid(obj)."""
    # floored like the published binary cross-entropy
    log_score = torch.nn.functional.logsigmoid(predictions.cls) + torch.nn.functional.logsigmoid(predictions.obj)
    return -(0.5 * log_score).clamp(min=-_MAX_SCORE_COST)


def penalty(config: AssignConfig) -> float:
    """What it costs that a prior is not both in a face and near its centre: more than all else together."""
    return _MAX_SCORE_COST + _MAX_OVERLAP_COST * config.iou_weight + 1


def _costs(
    priors: Tensor,
    decoded: Tensor,
    score_cost: Tensor,
    candidate: Tensor,
    batch: Batch,
    chunk: slice,
    config: AssignConfig,
    overlap_cost: OverlapCost,
) -> tuple[Tensor, Tensor]:
    """Cost and IoU of a chunk of faces with the priors of their images, (M, P); infinite and 0 for no candidate."""
    boxes, image = batch.boxes[chunk], batch.image[chunk]
    usable = candidate[image] & (batch.kind[chunk] == FACE)[:, None]
    found = decoded[image]
    iou = torch.where(usable, box_iou_pairs(found, boxes[:, None]), 0.0)
    inside, near = _inside_and_near(priors, boxes, config.center_radius)
    missing = overlap_cost(iou, found, boxes[:, None])
    cost = score_cost[image] + config.iou_weight * missing + penalty(config) * ~(inside & near)
    return torch.where(usable, cost, torch.inf), iou


def _select(cost: Tensor, iou: Tensor, candidates: int) -> tuple[Tensor, Tensor]:
    """Each face's `candidates` cheapest priors (M, K), and which it takes: k = max(1, floor(sum of its best IoUs))."""
    candidates = min(candidates, cost.shape[1])
    values, index = torch.stack([iou, -cost]).topk(candidates, dim=2)  # both at once: (2, M, K)
    k = values[0].sum(1).floor().clamp(min=1)  # (M,)
    rank = torch.arange(candidates, device=cost.device)
    return index[1], (rank < k[:, None]) & values[1].isfinite()


def _ordered(cost: Tensor) -> Tensor:
    """Whole numbers of 32 bits, as int64, in the order of float32 costs. There is no -0 among them: 0 was added."""
    bits = cost.view(torch.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()


def may_look(tensor: Tensor) -> bool:
    """Whether asking what stands in a tensor costs nothing: on a CPU, outside of a compiled step."""
    return tensor.is_cpu and not torch.compiler.is_compiling()


def most_rows(device: torch.device) -> int:
    """Rows that are treated at once on this device."""
    return GPU_CHUNK if device.type == "cuda" else CHUNK


def _chunks(boxes: Tensor) -> list[slice]:
    """The rows of boxes (M, 4) in pieces. One piece is written so that a compiled step holds for any number of rows."""
    rows, most = len(boxes), most_rows(boxes.device)
    return [slice(0, rows)] if rows <= most else [slice(start, start + most) for start in range(0, rows, most)]


def _candidates(priors: Tensor, batch: Batch, images: int, config: AssignConfig) -> Tensor:
    """(B, P): priors inside or near any face of their image."""
    found = torch.zeros((images, len(priors)), device=priors.device)
    for chunk in _chunks(batch.boxes):
        inside, near = _inside_and_near(priors, batch.boxes[chunk], config.center_radius)
        hit = (inside | near) & (batch.kind[chunk] == FACE)[:, None]
        found.index_add_(0, batch.image[chunk], hit.float())
    return found > 0


def _on_ignored(priors: Tensor, batch: Batch, images: int) -> Tensor:
    """(B, P): priors whose cell centre lies inside an ignored box of their image."""
    if may_look(priors):  # most batches have few
        rows = batch.kind == IGNORED
        batch = replace(batch, boxes=batch.boxes[rows], image=batch.image[rows], kind=batch.kind[rows])
    found = torch.zeros((images, len(priors)), device=priors.device)
    for chunk in _chunks(batch.boxes):
        inside = _inside(_centres(priors), batch.boxes[chunk])
        found.index_add_(0, batch.image[chunk], (inside & (batch.kind[chunk] == IGNORED)[:, None]).float())
    return found > 0


def _centres(priors: Tensor) -> Tensor:
    # Assign with the prior at its cell's centre, decode from the corner: the published weights expect both
    return priors[:, :2] + 0.5 * priors[:, 2:]


def _inside(centres: Tensor, boxes: Tensor) -> Tensor:
    """(M, P): points strictly inside boxes. centres: (P, 2); boxes: (M, 4)."""
    x, y = centres[:, 0], centres[:, 1]
    return (x > boxes[:, 0:1]) & (y > boxes[:, 1:2]) & (x < boxes[:, 2:3]) & (y < boxes[:, 3:4])


def _inside_and_near(priors: Tensor, boxes: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Two masks (M, P): prior inside the face; prior within `radius` of its own strides of the face's centre."""
    centres = _centres(priors)
    reach = radius * priors[:, 2]  # (P,)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2  # (M, 2)
    # the square's corners are computed as in the published assigner, so that borders fall on the same side
    near = (centres[:, 0] > middle[:, 0:1] - reach) & (centres[:, 0] < middle[:, 0:1] + reach)
    near &= (centres[:, 1] > middle[:, 1:2] - reach) & (centres[:, 1] < middle[:, 1:2] + reach)
    return _inside(centres, boxes), near


def log_iou_cost(iou: Tensor, decoded: Tensor, boxes: Tensor) -> Tensor:
    """-ln(IoU + 1e-7), as published: 0 … 16.1."""
    return -(iou + 1e-7).log()


ASSIGNERS: dict[str, Assigner] = {
    "simota": partial(assign_simota, overlap_cost=log_iou_cost),
}
