"""A trained network that tells the network in training what to say of every prior of every crop.

Dense distillation: no labels, no assignment. Student and teacher have the same strides, hence the same priors; their
widths may differ. The teacher looks at the very crops of the step, with its batch norms folded and without gradients.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from facetrain.config.schema import Config, LossConfig, ModelConfig
from facetrain.core.errors import DataError, InputError, UsageError
from facetrain.core.files import sha256
from facetrain.detect.find_weights import RUNS, find_teacher, lasting_name
from facetrain.model.frozen import freeze
from facetrain.model.kernels.plain import FOLDED, Kernels
from facetrain.model.priors import decode_boxes
from facetrain.model.weights import fit_weights, load_checkpoint
from facetrain.model.yunet import Predictions, YuNet, build
from facetrain.train.losses import BOX_LOSSES, LANDMARK_BETA


@dataclass(frozen=True)
class TeacherFile:
    """A teacher's weights as they were read. name: what finds it from any folder, a name or a path."""

    name: str
    sha256: str
    model: ModelConfig
    state: dict[str, Tensor]


def read_teacher(name: str, student: ModelConfig, runs: Path = RUNS) -> TeacherFile:
    """Read a teacher, a checkpoint's path, a run or a name, and check that it can teach this student.

    Raises InputError where there is no such checkpoint, DataError where it is no YuNet with the student's strides and
    landmarks and finite weights.
    """
    path = find_teacher(name, runs)
    checkpoint = load_checkpoint(path)
    _check(checkpoint.model, checkpoint.state, student, path)
    return TeacherFile(lasting_name(name, path), sha256(path), checkpoint.model, checkpoint.state)


def _check(teacher: ModelConfig, state: dict[str, Tensor], student: ModelConfig, path: Path) -> None:
    """Same strides, same landmarks in the same order, all weights there. That they are finite, the reader has seen."""
    if teacher.strides != student.strides:
        raise DataError(
            f"{path}: a teacher with strides {list(teacher.strides)} cannot teach a student with "
            f"{list(student.strides)}: their priors differ",
            "give both the same model.strides",
        )
    theirs, own = teacher.landmarks.names, student.landmarks.names
    if theirs != own and own:
        raise DataError(
            f"{path}: the teacher has landmarks {_named(theirs)}, the student {_named(own)}",
            "give the student the teacher's landmarks, or none (model.landmarks.names: [])",
        )
    misfits = fit_weights(build(teacher), state)
    if misfits:
        raise DataError(f"{path}: {len(misfits)} weights do not fit the model: {'; '.join(misfits[:5])}")


def _named(names: tuple[str, ...]) -> str:
    return f"{len(names)} ({', '.join(names)})" if names else "none"


def with_teacher(
    config: Config, moved: str | None, known: str | None, runs: Path = RUNS
) -> tuple[Config, TeacherFile | None]:
    """Read a run's teacher; the configuration comes back with what finds it from any folder.

    moved: where it lies now, by default where the configuration says
    known: SHA-256 of the teacher that a run to be resumed began with: another one is refused
    runs:  the folder of the runs that may be named
    """
    train = config.train
    name = moved or train.teacher
    if name is None or train.teacher_weight == 0:
        return config, None
    if moved is not None and train.teacher is None:
        raise UsageError("`teacher`: this run has no teacher", "start a new run from its weights to give it one")
    try:
        teacher = read_teacher(name, config.model, runs)
    except InputError as error:
        if known is not None:
            place = f"`resume` with `teacher` FILE names its new place (SHA-256 {known[:12]}…)"
            error.hint = f"{error.hint}\n{place}" if error.hint else place
        raise
    if known not in (None, teacher.sha256):
        raise DataError(
            f"{name}: not the teacher that the run began with: SHA-256 {teacher.sha256[:12]}…, not {known[:12]}…",
            "name the same file with `resume` and `teacher` FILE, or start a new run from the weights of this one",
        )
    return replace(config, train=replace(train, teacher=teacher.name)), teacher


def make_teacher(file: TeacherFile, device: torch.device, kernels: Kernels = FOLDED) -> YuNet:
    """The network that looks at crops, on a device, computed in the given way."""
    model = build(file.model)
    fit_weights(model, file.state)
    return freeze(model, kernels).to(device)


@torch.no_grad()
def look(teacher: YuNet, images: Tensor) -> Predictions:
    """What the teacher says of (B, 3, S, S) crops, float32. Autocast is the caller's."""
    return teacher(images)  # type: ignore[no-any-return]


def prior_weights(taught: Predictions) -> Tensor:
    """How sure the teacher is of each prior: the square root of its score, (B, P) in 0 … 1."""
    return (taught.cls.sigmoid() * taught.obj.sigmoid()).sqrt()


def teacher_losses(
    predictions: Predictions, taught: Predictions, weight: Tensor, normaliser: Tensor, config: LossConfig
) -> dict[str, Tensor]:
    """The terms `teacher_cls`, `teacher_obj`, `teacher_box`, `teacher_landmarks`, each a weighted scalar.

    weight:     (B, P) from `prior_weights`; normaliser: its sum over the global batch, at least 1
    Cross-entropies are less the teacher's own entropy, so that 0 means agreement. Without landmarks of the student the
    last term is 0.
    """
    box = BOX_LOSSES[config.box](
        decode_boxes(predictions.boxes, predictions.priors), decode_boxes(taught.boxes, taught.priors)
    )
    terms = {
        "teacher_cls": config.cls_weight * (divergence(predictions.cls, taught.cls) * weight).sum(),
        "teacher_obj": config.obj_weight * divergence(predictions.obj, taught.obj).sum(),
        "teacher_box": config.box_weight * (box * weight).sum(),
    }
    if predictions.landmarks.shape[2] == 0:
        terms["teacher_landmarks"] = predictions.landmarks.sum()  # a zero that still belongs to the graph
    else:
        points = F.smooth_l1_loss(predictions.landmarks, taught.landmarks, beta=LANDMARK_BETA, reduction="none")
        terms["teacher_landmarks"] = config.landmark_weight * (points.sum((-2, -1)) * weight).sum()
    return {name: value / normaliser for name, value in terms.items()}


def divergence(logits: Tensor, taught: Tensor) -> Tensor:
    """Kullback-Leibler divergence of two-way choices, from their logits, never negative. Any shape, also the result."""
    target = taught.sigmoid()
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none") - F.binary_cross_entropy_with_logits(
        taught, target, reduction="none"
    )
