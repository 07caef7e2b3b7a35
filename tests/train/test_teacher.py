"""What a teacher says of every prior: its loss terms against a loop over priors, and teachers that cannot teach."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from oracles import losses as oracle
from train_runs import MODEL

from facetrain.config.load import load_config
from facetrain.config.schema import Config, LandmarksConfig, LossConfig, ModelConfig, TrainConfig
from facetrain.core.errors import DataError, InputError, UsageError
from facetrain.core.files import sha256
from facetrain.data.batch import Batch
from facetrain.detect.bundled import bundled_weights
from facetrain.model.priors import make_priors
from facetrain.model.weights import save_checkpoint
from facetrain.model.yunet import Predictions, build
from facetrain.train.step import Task, batch_losses
from facetrain.train.teacher import (
    divergence,
    look,
    make_teacher,
    prior_weights,
    read_teacher,
    teacher_losses,
    with_teacher,
)

CPU = torch.device("cpu")


def said(seed: int, images: int = 2, landmarks: int = 5) -> Predictions:
    generator = torch.Generator().manual_seed(seed)
    priors = make_priors(64, 64, (8, 16, 32))
    count = len(priors)
    return Predictions(
        torch.randn(images, count, generator=generator) * 3,
        torch.randn(images, count, generator=generator) * 3,
        torch.randn(images, count, 4, generator=generator),
        torch.randn(images, count, landmarks, 2, generator=generator),
        priors,
    )


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def cross_entropy(p: float, q: float) -> float:
    return -p * math.log(q) - (1 - p) * math.log(1 - q)


def by_loop(student: Predictions, teacher: Predictions) -> dict[str, float]:
    """The terms as issue and paper have them, prior by prior, in Python's numbers."""
    total = dict.fromkeys(("cls", "obj", "box", "landmarks"), 0.0)
    weights = 0.0
    for image in range(len(student.cls)):
        for p, (x, y, stride) in enumerate(student.priors.tolist()):
            o, q = sigmoid(teacher.obj[image, p].item()), sigmoid(teacher.cls[image, p].item())
            w = math.sqrt(o * q)
            weights += w
            total["obj"] += cross_entropy(o, sigmoid(student.obj[image, p].item())) - cross_entropy(o, o)
            total["cls"] += w * (cross_entropy(q, sigmoid(student.cls[image, p].item())) - cross_entropy(q, q))

            def box(raw: torch.Tensor, at: tuple[float, float, float] = (x, y, stride)) -> list[float]:
                dx, dy, w_, h_ = raw.tolist()
                cx, cy = at[0] + dx * at[2], at[1] + dy * at[2]
                half_w, half_h = 0.5 * at[2] * math.exp(w_), 0.5 * at[2] * math.exp(h_)
                return [cx - half_w, cy - half_h, cx + half_w, cy + half_h]

            total["box"] += 5 * w * oracle.extended_iou_loss(box(student.boxes[image, p]), box(teacher.boxes[image, p]))
            apart = (student.landmarks[image, p] - teacher.landmarks[image, p]).flatten().tolist()
            total["landmarks"] += 0.1 * w * sum(oracle.smooth_l1(value) for value in apart)
    return {f"teacher_{name}": value / max(1.0, weights) for name, value in total.items()}


def test_terms_are_those_of_a_loop_over_priors() -> None:
    student, teacher = said(0), said(1)
    weight = prior_weights(teacher)
    terms = teacher_losses(student, teacher, weight, weight.sum().clamp(min=1), LossConfig())
    wanted = by_loop(student, teacher)
    assert terms.keys() == wanted.keys()
    for name, value in wanted.items():
        assert terms[name].item() == pytest.approx(value, rel=2e-4), name


def test_agreement_is_zero_and_stays() -> None:
    taught = said(2)
    values = [taught.cls, taught.obj, taught.boxes, taught.landmarks]
    student = [value.clone().requires_grad_() for value in values]
    weight = prior_weights(taught)
    terms = teacher_losses(Predictions(*student, taught.priors), taught, weight, weight.sum(), LossConfig())
    assert all(abs(value.item()) < 1e-4 for value in terms.values())
    sum(terms.values(), torch.zeros(())).backward()
    assert all(part.grad is not None and float(part.grad.abs().max()) < 1e-4 for part in student)


def test_divergence_is_never_negative_even_where_sigmoids_are_0_and_1() -> None:
    logits = torch.tensor([-200.0, -30.0, -1.0, 0.0, 2.0, 40.0, 300.0])
    values = divergence(*torch.meshgrid(logits, logits, indexing="ij"))
    assert bool(values.isfinite().all())
    assert float(values.min()) >= -1e-5
    assert float(values.diagonal().abs().max()) < 1e-5


def test_a_student_without_landmarks_learns_the_rest() -> None:
    student, teacher = said(0, landmarks=0), said(1)
    weight = prior_weights(teacher)
    terms = teacher_losses(student, teacher, weight, weight.sum(), LossConfig())
    assert terms["teacher_landmarks"].item() == 0


# In a step


def batch(faces: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(7)
    images = (torch.rand(2, 64, 64, 3, generator=generator) * 255).permute(0, 3, 1, 2)
    boxes = torch.tensor([[8.0, 8, 30, 34]] * faces).reshape(-1, 4)
    image, kind = torch.zeros(faces, dtype=torch.int64), torch.zeros(faces, dtype=torch.int8)
    return Batch(images, boxes, torch.zeros(faces, 5, 3), image, kind)


@pytest.fixture
def teacher_path(tmp_path: Path) -> Path:
    path = tmp_path / "teacher.pt"
    save_checkpoint(path, build(MODEL, 9).state_dict(), Config(model=MODEL), {})
    return path


def test_terms_stand_beside_the_labels_with_their_weights(teacher_path: Path) -> None:
    teacher = make_teacher(read_teacher(str(teacher_path), MODEL), CPU)

    def losses(**settings: Any) -> dict[str, float]:
        task = Task(TrainConfig(teacher="t", **settings), torch.float32, teacher=teacher)
        return {name: value.item() for name, value in batch_losses(build(MODEL, 0).train(), batch(1), task).items()}

    both, alone = losses(), losses(label_weight=0.0)
    double = losses(teacher_weight=2.0, label_weight=0.5)
    assert both.keys() == {"cls", "obj", "box", "landmarks", "positives", *(k for k in alone if k != "positives")}
    assert {k for k in alone if k != "positives"} == {"teacher_cls", "teacher_obj", "teacher_box", "teacher_landmarks"}
    for name, value in double.items():
        factor = 1 if name == "positives" else 2 if name.startswith("teacher") else 0.5
        assert value == pytest.approx(factor * both[name], rel=1e-5), name
    assert alone["positives"] == pytest.approx(prior_weights(look(teacher, batch().images)).sum().item(), rel=1e-5)


def test_the_teacher_stays_as_it_is(teacher_path: Path) -> None:
    teacher = make_teacher(read_teacher(str(teacher_path), MODEL), CPU)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    task = Task(TrainConfig(teacher="t", label_weight=0.0), torch.float32, teacher=teacher)
    losses = batch_losses(build(MODEL, 0).train(), batch(), task)
    torch.stack([value for name, value in losses.items() if name != "positives"]).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())


# Which files can teach


def saved(tmp_path: Path, model: ModelConfig, change: Any = None) -> str:
    state = build(model, 1).state_dict()
    if change is not None:
        change(state)
    path = tmp_path / "other.pt"
    save_checkpoint(path, state, Config(model=model), {})
    return str(path)


def test_other_strides_cannot_teach(tmp_path: Path) -> None:
    other = replace(MODEL, maps=(4, 5), strides=(16, 32))
    with pytest.raises(DataError, match=r"strides \[16, 32\] cannot teach a student with \[8, 16, 32\]"):
        read_teacher(saved(tmp_path, other), MODEL)


def test_other_landmarks_cannot_teach_but_a_student_may_have_none(tmp_path: Path) -> None:
    name = saved(tmp_path, replace(MODEL, landmarks=LandmarksConfig(("nose", "chin"), ())))
    with pytest.raises(DataError, match=r"the teacher has landmarks 2 \(nose, chin\), the student 5"):
        read_teacher(name, MODEL)
    read_teacher(name, replace(MODEL, landmarks=LandmarksConfig((), ())))
    with pytest.raises(DataError, match="the teacher has landmarks none, the student 5"):
        read_teacher(saved(tmp_path, replace(MODEL, landmarks=LandmarksConfig((), ()))), MODEL)


def test_weights_that_are_not_finite_cannot_teach(tmp_path: Path) -> None:
    def spoil(state: dict[str, torch.Tensor]) -> None:
        state["backbone.stem.conv.weight"][0, 0, 0, 0] = math.nan

    with pytest.raises(DataError, match=r"backbone\.stem\.conv\.weight: 1 of 216 numbers are NaN"):
        read_teacher(saved(tmp_path, MODEL, spoil), MODEL)


def test_weights_that_are_missing_cannot_teach(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="weights do not fit the model"):
        read_teacher(saved(tmp_path, MODEL, lambda state: state.pop("backbone.stem.conv.bias")), MODEL)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("nowhere.pt", InputError, r"^train\.teacher: nowhere\.pt: no such file"),
        ("detector.onnx", DataError, "detector.onnx: not a YuNet"),
        ("text.pt", DataError, "not a checkpoint"),
    ],
)
def test_files_that_are_no_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: type[Exception], message: str
) -> None:
    (tmp_path / "detector.onnx").write_bytes(b"\x08\x07")
    (tmp_path / "text.pt").write_text("a teacher")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        read_teacher(name, MODEL)


def test_names_teach_and_files_get_their_whole_path(teacher_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_teacher("yunet_n", load_config("yunet_s").model).name == "yunet_n"
    monkeypatch.chdir(teacher_path.parent)
    assert read_teacher(teacher_path.name, MODEL).name == str(teacher_path.resolve())
    assert read_teacher("yunet_n", load_config("yunet_n").model).sha256 == sha256(bundled_weights("yunet_n", ".pt"))


def test_a_run_teaches_by_its_name_and_is_written_down_by_its_path(tmp_path: Path, teacher_path: Path) -> None:
    best = tmp_path / "runs" / "mine-1" / "best.pt"
    best.parent.mkdir(parents=True)
    best.write_bytes(teacher_path.read_bytes())
    assert read_teacher("mine-1", MODEL, tmp_path / "runs").name == str(best.resolve())
    assert read_teacher(str(best.parent), MODEL).name == str(best.resolve())


def test_a_moved_teacher_must_be_the_same(teacher_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACETRAIN_CACHE", str(tmp_path))
    config = Config(model=MODEL, train=TrainConfig(teacher=str(tmp_path / "gone.pt")))
    known = sha256(teacher_path)
    moved, teacher = with_teacher(config, str(teacher_path), known)
    assert teacher is not None
    assert moved.train.teacher == str(teacher_path.resolve())
    with pytest.raises(DataError, match="not the teacher that the run began with"):
        with_teacher(config, str(teacher_path), "0" * 64)
    with pytest.raises(InputError) as caught:
        with_teacher(config, None, known)
    assert "`resume` with `teacher`" in str(caught.value.hint)
    assert known[:12] in str(caught.value.hint)
    with pytest.raises(InputError) as caught:
        with_teacher(replace(config, train=TrainConfig(teacher="yunet_n_released")), None, known)
    assert str(caught.value.hint).splitlines() == [
        "fetch them: facetrain weights get yunet_n_released",
        f"`resume` with `teacher` FILE names its new place (SHA-256 {known[:12]}…)",
    ]
    with pytest.raises(UsageError, match="has no teacher"):
        with_teacher(Config(model=MODEL), str(teacher_path), None)
    assert with_teacher(Config(model=MODEL), None, None) == (Config(model=MODEL), None)
