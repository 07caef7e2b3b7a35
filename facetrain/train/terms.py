"""What a step minimises: the sum of terms, each a function of what the step has seen."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from facetrain.config.schema import TrainConfig
from facetrain.data.batch import Batch
from facetrain.model.yunet import Predictions
from facetrain.train.assign import Targets
from facetrain.train.losses import compute_losses, landmark_faces
from facetrain.train.parallel.world import World
from facetrain.train.teacher import prior_weights, teacher_losses
from facetrain.train.teacher_maps import difference

Losses = dict[str, Tensor]


@dataclass(frozen=True)
class Seen:
    """What a step has seen of this process's part of the global batch, B images with P priors.

    predictions: of the network in training
    targets:     what its priors should say; None where labels do not count
    taught:      what the teacher says of the same crops; None without one
    """

    config: TrainConfig
    world: World
    batch: Batch
    predictions: Predictions
    targets: Targets | None
    taught: Predictions | None


# Gives losses by their names, scalars on the device; none where the configuration asks for none. What a term divides by
# is a count of the global batch, a sum over `world`, so that its shares add up to the global batch's loss. `positives`
# is told beside the losses and not minimised.
Term = Callable[[Seen], Losses]


def label_terms(seen: Seen) -> Losses:
    """`cls`, `obj`, `box`, `landmarks`, and as `positives` the number of matched priors."""
    if seen.targets is None:
        return {}
    positives = seen.targets.positive.sum()
    faces = landmark_faces(seen.targets.landmark_weight)
    if seen.world.size > 1:
        total, faces = seen.world.sum(torch.stack([positives, faces])).unbind()
    else:
        total = positives
    weight = seen.batch.label_weight
    losses = compute_losses(seen.predictions, seen.targets, total.clamp(min=1), seen.config.loss, faces, weight)
    return _times(seen.config.label_weight, losses) | {"positives": positives}


def teacher_terms(seen: Seen) -> Losses:
    """`teacher_cls` … `teacher_landmarks`; where no labels count, as `positives` the sum of the teacher's weights."""
    if seen.taught is None:
        return {}
    weight = prior_weights(seen.taught)
    total = seen.world.sum(weight.sum())
    losses = teacher_losses(seen.predictions, seen.taught, weight, total.clamp(min=1), seen.config.loss)
    losses = _times(seen.config.teacher_weight, losses)
    return losses if seen.targets is not None else losses | {"positives": weight.sum()}


def map_terms(seen: Seen) -> Losses:
    """`teacher_maps`: how much the maps inside differ from the teacher's, each process's part by its images."""
    if seen.taught is None or not seen.config.teacher_maps or not seen.predictions.maps:
        return {}
    images = seen.predictions.cls.new_tensor(float(len(seen.predictions.cls)))
    part = images / seen.world.sum(images)
    apart = difference(seen.predictions.maps, seen.taught.maps, seen.batch.images.shape[2])
    return {"teacher_maps": seen.config.teacher_maps * part * apart}


def _times(factor: float, losses: Losses) -> Losses:
    return losses if factor == 1 else {name: factor * value for name, value in losses.items()}


TERMS: dict[str, Term] = {"labels": label_terms, "teacher": teacher_terms, "maps": map_terms}
