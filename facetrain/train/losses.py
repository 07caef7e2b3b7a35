"""The four loss terms of YuNet and the overlap measures behind the box term. Pure functions.

Shapes: B images, P priors, L landmarks; `normaliser` is a scalar tensor. All logarithms are natural.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from facetrain.config.schema import LossConfig
from facetrain.model.priors import decode_boxes, encode_landmarks
from facetrain.model.yunet import Predictions
from facetrain.train.assign import Targets, may_look
from facetrain.train.overlap import EPS, area, box_iou_pairs, giou_pairs, hull, overlap_and_union

# Added to the landmark normaliser, so that a batch without any landmark gives 0 and not 0/0; 2^-23 as published
LANDMARK_EPS = 2.0**-23
LANDMARK_BETA = 1 / 9


def compute_losses(
    predictions: Predictions,
    targets: Targets,
    normaliser: Tensor,
    config: LossConfig,
    faces: Tensor | None = None,
    weight: Tensor | None = None,
) -> dict[str, Tensor]:
    """The weighted terms `cls`, `obj`, `box`, `landmarks`, each a scalar; their sum is what is minimised.

    normaliser: number of positive priors, at least 1
    faces:      `landmark_faces`, by default of these targets
    weight:     (B,) what each image counts; None: 1. Counts are not weighted: an image of weight 0.3 gives 0.3 of its
                gradient, whatever stands beside it
    Where several processes share a batch both are the global batch's, and the terms add up to the global batch's.
    """
    of_images = targets.obj_weight if weight is None else targets.obj_weight * weight[:, None]
    obj = binary_loss(predictions.obj, targets.positive, of_images)
    if weight is not None:
        faces = landmark_faces(targets.landmark_weight) if faces is None else faces
        targets = replace(
            targets,
            positive=targets.positive * weight[:, None],
            landmark_weight=targets.landmark_weight * weight[:, None, None],
        )
    if may_look(obj):
        predictions, targets = _of_positives(predictions, targets)
    decoded = decode_boxes(predictions.boxes, predictions.priors)
    points = encode_landmarks(targets.landmarks, predictions.priors)
    positive = targets.positive
    box = BOX_LOSSES[config.box](decoded, targets.boxes)
    return {
        "cls": config.cls_weight * binary_loss(predictions.cls, targets.quality, positive) / normaliser,
        "obj": config.obj_weight * obj / normaliser,
        "box": config.box_weight * (box * positive).sum() / normaliser,
        "landmarks": config.landmark_weight
        * landmark_loss(predictions.landmarks, points, targets.landmark_weight, faces),
    }


def _of_positives(predictions: Predictions, targets: Targets) -> tuple[Predictions, Targets]:
    """What stands at the N positive priors, as of one image with N priors: all others count nothing in three terms."""
    image, prior = targets.positive.nonzero(as_tuple=True)
    of_predictions = {
        name: value[prior] if name == "priors" else value[image, prior][None]
        for name, value in vars(predictions).items()
        if name != "maps"
    }
    of_targets = {name: value[image, prior][None] for name, value in vars(targets).items()}
    return Predictions(**of_predictions), Targets(**of_targets)


def landmark_faces(weight: Tensor) -> Tensor:
    """Matched faces that have landmarks, a part of them counting as a part: what the landmark term is divided by.

    weight: (B, P, L). Returns a scalar; 0 without a landmark branch.
    """
    return weight.mean(-1).sum() if weight.shape[-1] else weight.sum()


def binary_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy, weighted and summed. logits, target in [0, 1], weight: (B, P). Returns a scalar."""
    return (F.binary_cross_entropy_with_logits(logits, target, reduction="none") * weight).sum()


def landmark_loss(predicted: Tensor, target: Tensor, weight: Tensor, faces: Tensor | None = None) -> Tensor:
    """Smooth L1 (beta 1/9) on landmark offsets, per point weight, divided by the weight of whole faces.

    predicted, target: (B, P, L, 2) offsets from the prior in strides
    weight:            (B, P, L); 0 for negatives and for missing points
    faces:             the weight to divide by, by default `landmark_faces(weight)`
    Equal to the published rule, one weight a face, where all points of a face have the same weight.
    """
    if weight.shape[-1] == 0:
        return predicted.sum()  # no landmark branch: a zero that still belongs to the graph
    # A missing point's target means nothing and may be far away or not finite: 0 * inf would be NaN
    target = torch.where(weight[..., None] > 0, target, predicted.detach())
    loss = F.smooth_l1_loss(predicted, target, beta=LANDMARK_BETA, reduction="none").sum(-1)  # (B, P, L)
    return (loss * weight).sum() / ((landmark_faces(weight) if faces is None else faces) + LANDMARK_EPS)


def iou_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """1 - IoU. predicted, target: (…, 4) xyxy; returns (…). So do the other losses below."""
    return 1 - box_iou_pairs(predicted, target)


def giou_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """1 - GIoU."""
    return 1 - giou_pairs(predicted, target)


def diou_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """1 - DIoU (Zheng et al., 2020): IoU less squared centre distance over squared hull diagonal."""
    return 1 - _diou(predicted, target)


def ciou_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """1 - CIoU (Zheng et al., 2020): DIoU less an aspect term whose weight is constant for the gradient."""
    overlap, union = overlap_and_union(predicted, target)
    iou = overlap / (union + EPS)
    size_p, size_t = predicted[..., 2:] - predicted[..., :2], target[..., 2:] - target[..., :2]
    angle_t = torch.atan(size_t[..., 0] / (size_t[..., 1] + EPS))
    angle_p = torch.atan(size_p[..., 0] / (size_p[..., 1] + EPS))
    v = 4 / math.pi**2 * (angle_t - angle_p) ** 2
    with torch.no_grad():
        denominator = 1 - iou + v
        # identical boxes give 0/0 in float32; their aspect term is 0 anyway
        usable = (iou > 0.5) & (denominator > 0)
        alpha = torch.where(usable, v / torch.where(usable, denominator, 1.0), 0.0)
    return 1 - (_diou(predicted, target) - alpha * v).clamp(-1, 1)


def eiou_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Smooth extended IoU (Peng & Yu, 2021), the published YuNet loss; not Zhang's "efficient" IoU.

    Boxes that do not overlap get a negative intersection, hence a gradient that pulls them together. For such pairs the
    value depends on which corner is nearer the origin, so a mirrored pair gives another loss: kept as published.
    """
    low = torch.minimum(predicted, target)
    high = torch.maximum(predicted, target)
    ex, ey = low[..., 0], low[..., 1]
    ax, ay = high[..., 0], high[..., 1]
    bx, by = low[..., 2], low[..., 3]
    mx, my = torch.minimum(ax, bx), torch.minimum(ay, by)
    gx, gy = torch.maximum(ax, bx), torch.maximum(ay, by)
    intersection = (bx - ex) * (by - ey) + (mx - ex) * (my - ey) - (ax - ex) * (gy - ey) - (gx - ex) * (ay - ey)
    union = area(predicted) + area(target) - intersection + EPS
    rest = 1 - intersection / union
    return torch.where(rest < 0.1, rest**2 / 0.2, rest - 0.05)


def _diou(predicted: Tensor, target: Tensor) -> Tensor:
    overlap, union = overlap_and_union(predicted, target)
    low, high = hull(predicted, target)
    diagonal = ((high - low) ** 2).sum(-1) + EPS
    centres = (target[..., :2] + target[..., 2:] - predicted[..., :2] - predicted[..., 2:]) / 2
    return overlap / (union + EPS) - (centres**2).sum(-1) / diagonal


BOX_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "eiou": eiou_loss,
    "diou": diou_loss,
    "ciou": ciou_loss,
    "giou": giou_loss,
    "iou": iou_loss,
}
