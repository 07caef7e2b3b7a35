"""Losses against their formulas, torchvision's, finite differences and golden values."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import losses as oracle
from torch import Tensor
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss
from train_runs import MODEL

from facetrain.config.check import check_config
from facetrain.config.schema import Config, LossConfig, TrainConfig
from facetrain.data.batch import FACE, Batch
from facetrain.model.priors import make_priors
from facetrain.model.yunet import Predictions, build
from facetrain.train.assign import Targets
from facetrain.train.losses import BOX_LOSSES, compute_losses, landmark_loss
from facetrain.train.optim.optimizers import make_optimizer
from facetrain.train.overlap import box_iou_pairs
from facetrain.train.step import Task, make_step

# The reference's golden `iou_pairs`, computed in float64 by an independent implementation:
# prediction, target, IoU, GIoU, DIoU, CIoU, extended IoU loss
PAIRS = {
    "identical": ((10, 10, 50, 50), (10, 10, 50, 50), 1.0, 1.0, 0.999999999375, 0.999999999375, 1.9531253232045876e-18),
    "near identical": (
        (10, 10, 50, 50),
        (11, 10, 50, 51),
        0.9517998779743746,
        0.9511901218768136,
        0.9516474848304582,
        0.9516461617229024,
        0.011616259096333605,
    ),
    "partial overlap": (
        (0, 0, 100, 100),
        (50, 50, 150, 150),
        0.14285714285714285,
        -0.07936507936507936,
        0.03174603174033763,
        0.03174603174033763,
        0.8071428571510204,
    ),
    "inside": ((20, 20, 80, 80), (0, 0, 100, 100), 0.36, 0.36, 0.359999999964, 0.359999999964, 0.590000000036),
    "in the corner": (
        (0, 0, 10, 10),
        (0, 0, 100, 100),
        0.01,
        0.01,
        -0.192499999990875,
        -0.192499999990875,
        0.9400000000009999,
    ),
    "around": ((0, 0, 100, 100), (60, 10, 90, 40), 0.09, 0.09, 0.027499999994125, 0.027499999994125, 0.860000000009),
    "apart in x": (
        (0, 0, 10, 10),
        (20, 0, 30, 10),
        0.0,
        -0.3333333333333333,
        -0.3999999996,
        -0.3999999996,
        1.2833333322222222,
    ),
    "apart in x and y": (
        (0, 0, 10, 10),
        (20, 30, 50, 45),
        0.0,
        -0.7555555555555555,
        -0.4323204418934098,
        -0.4323204418934098,
        1.5951612899063474,
    ),
    "the same mirrored": (
        (40, 0, 50, 10),
        (0, 30, 30, 45),
        0.0,
        -0.7555555555555555,
        -0.4323204418934098,
        -0.4323204418934098,
        1.7159574464825713,
    ),
    "sharing an edge": ((0, 0, 10, 10), (10, 0, 20, 10), 0.0, 0.0, -0.1999999996, -0.1999999996, 0.95),
    "crossing strips": (
        (0, 45, 200, 55),
        (95, 0, 105, 200),
        0.02564102564102564,
        -0.8768589743589743,
        -0.005608974365158358,
        -0.005608974365158358,
        0.9243589743655489,
    ),
    "zero area inside": ((30, 30, 30, 30), (0, 0, 100, 100), 0.0, 0.0, -0.039999999998, -0.039999999998, 0.95),
    "zero area apart": (
        (0, 0, 10, 10),
        (40, 40, 40, 40),
        0.0,
        -0.9375,
        -0.7656249997607422,
        -0.7656249997607422,
        1.9177419351716962,
    ),
    "one point": ((5, 5, 5, 5), (5, 5, 5, 5), 0.0, 0.0, 0.0, 0.0, 0.95),
}
NAMES = ("iou", "giou", "diou", "ciou", "eiou")


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
@pytest.mark.parametrize("name", NAMES)
def test_golden_pairs(name: str, dtype: torch.dtype, tolerance: float) -> None:
    predicted = torch.tensor([pair[0] for pair in PAIRS.values()], dtype=dtype)
    target = torch.tensor([pair[1] for pair in PAIRS.values()], dtype=dtype)
    column = np.array([pair[2 + NAMES.index(name)] for pair in PAIRS.values()])
    wanted = column if name == "eiou" else 1 - column
    np.testing.assert_allclose(BOX_LOSSES[name](predicted, target), wanted, atol=tolerance, rtol=0)
    by_formula = [oracle.BOX_LOSSES[name](pair[0], pair[1]) for pair in PAIRS.values()]
    np.testing.assert_allclose(by_formula, wanted, atol=1e-12, rtol=0)
    if name == "iou":
        np.testing.assert_allclose(box_iou_pairs(predicted, target), column, atol=tolerance, rtol=0)


def random_boxes(rng: np.random.Generator, count: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Pairs that overlap well, a little, or not at all; float64."""
    low, sides = rng.uniform(0, 60, (count, 2)), rng.uniform(2, 60, (count, 2))
    target = np.concatenate([low, low + sides], 1)
    shift = rng.normal(0, 1, (count, 4)) * rng.choice([0.05, 0.3, 1.5], (count, 1)) * np.tile(sides, 2)
    moved = target + shift
    predicted = np.concatenate(
        [np.minimum(moved[:, :2], moved[:, 2:]), np.maximum(moved[:, :2], moved[:, 2:]) + 0.5], 1
    )
    return torch.from_numpy(scale * predicted), torch.from_numpy(scale * target)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1.0, 1e-2, 3e-5, 10.0]))
@pytest.mark.parametrize("name", NAMES)
def test_box_losses_equal_their_formulas(name: str, seed: int, scale: float) -> None:
    """At a scale of 3e-5 an area is about the eps of 1e-6, which then decides."""
    predicted, target = random_boxes(np.random.default_rng(seed), 20, scale)
    wanted = [oracle.BOX_LOSSES[name](p, t) for p, t in zip(predicted.tolist(), target.tolist(), strict=True)]
    np.testing.assert_allclose(BOX_LOSSES[name](predicted, target), wanted, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "torchvision_loss"),
    [("giou", generalized_box_iou_loss), ("diou", distance_box_iou_loss), ("ciou", complete_box_iou_loss)],
)
def test_box_losses_equal_torchvision(name: str, torchvision_loss) -> None:
    predicted, target = random_boxes(np.random.default_rng(3), 300)
    if name == "ciou":  # torchvision has no threshold of 0.5 below which the aspect term vanishes
        good = box_iou_pairs(predicted, target) > 0.5
        predicted, target = predicted[good], target[good]
        assert len(predicted) > 50
    ours, theirs = BOX_LOSSES[name](predicted, target), torchvision_loss(predicted, target, eps=1e-6)
    torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["iou", "giou", "diou", "eiou"])
def test_box_gradients(name: str) -> None:
    predicted, target = random_boxes(np.random.default_rng(4), 24)
    assert torch.autograd.gradcheck(lambda p: BOX_LOSSES[name](p, target), (predicted.requires_grad_(),))


def test_ciou_gradient_holds_alpha_still() -> None:
    predicted, target = random_boxes(np.random.default_rng(5), 24)
    predicted.requires_grad_()
    loss = BOX_LOSSES["ciou"](predicted, target)
    loss.sum().backward()
    weighted = 0
    for p, t, gradient in zip(predicted.tolist(), target.tolist(), predicted.grad.tolist(), strict=True):
        weight = oracle.alpha(p, t)
        weighted += weight > 1e-3
        for i in range(4):
            up, down = list(p), list(p)
            up[i] += 1e-6
            down[i] -= 1e-6
            slope = (oracle.ciou(down, t, weight) - oracle.ciou(up, t, weight)) / 2e-6
            assert math.isclose(gradient[i], slope, rel_tol=1e-5, abs_tol=1e-6)
    assert weighted > 3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("box", [(10.0, 10.0, 50.0, 50.0), (3.3, 4.7, 121.9, 300.1), (5.0, 5.0, 5.0, 5.0)])
def test_identical_boxes_in_float32(name: str, box: tuple[float, ...]) -> None:
    """CIoU was 0/0 here in the original."""
    predicted = torch.tensor([box], requires_grad=True)
    loss = BOX_LOSSES[name](predicted, torch.tensor([box]))
    loss.sum().backward()
    assert bool(predicted.grad.isfinite().all())
    assert math.isclose(loss.item(), oracle.BOX_LOSSES[name](box, box), abs_tol=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("name", NAMES)
def test_wild_boxes_stay_finite(name: str, seed: int) -> None:
    """float32, sides from nearly nothing to the limit of decoding."""
    rng = np.random.default_rng(seed)
    low, sides = rng.uniform(-100, 700, (2, 50, 2)), np.exp(rng.uniform(-12, 13, (2, 50, 2)))
    boxes = torch.tensor(np.concatenate([low, low + sides], -1), dtype=torch.float32)
    predicted = boxes[0].requires_grad_()
    loss = BOX_LOSSES[name](predicted, boxes[1].detach())
    loss.sum().backward()
    assert bool(loss.isfinite().all())
    assert bool(predicted.grad.isfinite().all())


def random_points(seed: int, positives: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    predicted = rng.normal(0, 1, (1, positives, 5, 2))
    target = predicted + rng.normal(0, 1, predicted.shape) * rng.choice([0.02, 1.0], predicted.shape)
    return torch.from_numpy(predicted), torch.from_numpy(target)


def rows(points: Tensor) -> list[list[float]]:
    return points.flatten(2)[0].tolist()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), flags=st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=5, max_size=5))
)
def test_landmark_loss_equals_its_formula(seed: int, flags: list[list[float]]) -> None:
    predicted, target = random_points(seed, len(flags))
    weight = torch.tensor(flags, dtype=torch.float64).reshape(1, -1, 5)
    wanted = oracle.point_landmark_loss(rows(predicted), rows(target), flags)
    assert math.isclose(landmark_loss(predicted, target, weight).item(), wanted, rel_tol=1e-12, abs_tol=1e-15)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), weights=st.lists(st.sampled_from([0.0, 0.6, 1.0]), min_size=1, max_size=8))
def test_equal_flags_give_the_published_landmark_loss(seed: int, weights: list[float]) -> None:
    predicted, target = random_points(seed, len(weights))
    flags = [[weight] * 5 for weight in weights]
    wanted = oracle.published_landmark_loss(rows(predicted), rows(target), flags)
    got = landmark_loss(predicted, target, torch.tensor(flags, dtype=torch.float64)[None]).item()
    assert math.isclose(got, wanted, rel_tol=1e-12, abs_tol=1e-15)


def test_missing_points_are_not_trained() -> None:
    predicted, target = random_points(1, 2)
    weight = torch.tensor([[[1.0, 0.0, 1.0, 1.0, 0.0], [1.0] * 5]], dtype=torch.float64)
    predicted.requires_grad_()
    landmark_loss(predicted, target, weight).backward()
    used = predicted.grad.abs().sum(-1)[0] > 0
    assert torch.equal(used, weight[0] > 0)


def test_landmark_gradients() -> None:
    predicted, target = random_points(2, 6)
    weight = torch.from_numpy(np.random.default_rng(0).choice([0.0, 0.7, 1.0], (1, 6, 5)))
    assert torch.autograd.gradcheck(lambda p: landmark_loss(p, target, weight), (predicted.requires_grad_(),))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e38])
def test_unused_landmark_targets_do_not_poison(value: float) -> None:
    predicted, target = (points.float() for points in random_points(3, 4))
    weight = torch.ones(1, 4, 5)
    weight[0, 1] = 0
    weight[0, 2, 3] = 0
    clean = predicted.clone().requires_grad_()
    landmark_loss(clean, target, weight).backward()
    target[0, 1], target[0, 2, 3] = value, value
    predicted.requires_grad_()
    loss = landmark_loss(predicted, target, weight)
    loss.backward()
    assert bool(loss.isfinite())
    assert torch.equal(predicted.grad, clean.grad)


def test_landmark_normaliser_is_two_to_the_minus_23() -> None:
    """With a weight of the same size the loss is halved; an eps of 1e-7 or 1e-6 would give 0.54 or 0.11 of it."""
    predicted, target = torch.zeros(1, 1, 5, 2, dtype=torch.float64), torch.ones(1, 1, 5, 2, dtype=torch.float64)
    weight = torch.full((1, 1, 5), 2.0**-23, dtype=torch.float64)
    assert math.isclose(landmark_loss(predicted, target, weight).item(), 10 * (1 - 1 / 18) / 2, rel_tol=1e-12)


@pytest.mark.parametrize("points", [0, 5])
def test_nothing_to_learn_gives_zero_with_a_gradient(points: int) -> None:
    predicted = torch.ones(2, 7, points, 2, requires_grad=True)
    loss = landmark_loss(predicted, torch.zeros(2, 7, points, 2), torch.zeros(2, 7, points))
    loss.backward()
    assert loss.item() == 0
    assert bool((predicted.grad == 0).all())


@pytest.mark.parametrize("box", NAMES)
def test_terms_equal_the_formulas(box: str) -> None:
    """The whole of B.5 on one batch, with weights and normaliser that are no defaults."""
    rng = np.random.default_rng(6)
    priors = make_priors(32, 64, (8, 16, 32)).double()
    count = len(priors)
    cls, obj = torch.from_numpy(rng.normal(0, 3, (2, 2, count)))
    boxes = torch.from_numpy(rng.normal(0, 0.7, (2, count, 4)))
    points = torch.from_numpy(rng.normal(0, 1, (2, count, 5, 2)))
    positive = torch.from_numpy(rng.random((2, count)) < 0.3).double()
    target_boxes = torch.from_numpy(rng.uniform(0, 20, (2, count, 4))).cumsum(-1)[..., [0, 1, 2, 3]]
    target_points = torch.from_numpy(rng.uniform(0, 64, (2, count, 5, 2)))
    quality = torch.from_numpy(rng.random((2, count))) * positive
    weight = torch.from_numpy(rng.choice([0.0, 1.0], (2, count, 5))) * positive[..., None]
    obj_weight = torch.maximum(torch.from_numpy(rng.choice([0.0, 1.0], (2, count))), positive)
    targets = Targets(positive.long() - 1, positive, quality, target_boxes, target_points, weight, obj_weight)
    config = LossConfig(box=box, cls_weight=0.7, obj_weight=1.3, box_weight=2.5, landmark_weight=0.2)
    losses = compute_losses(Predictions(cls, obj, boxes, points, priors), targets, torch.tensor(6.5), config)

    wanted = dict.fromkeys(("cls", "obj", "box"), 0.0)
    predicted_rows, target_rows, flags = [], [], []
    for b in range(2):
        for p, (x, y, s) in enumerate(priors.tolist()):
            if obj_weight[b, p]:
                wanted["obj"] += oracle.binary(obj[b, p].item(), positive[b, p].item()) * 1.3 / 6.5
            if not positive[b, p]:
                continue
            wanted["cls"] += oracle.binary(cls[b, p].item(), quality[b, p].item()) * 0.7 / 6.5
            b0, b1, b2, b3 = boxes[b, p].tolist()
            w, h = s * math.exp(b2), s * math.exp(b3)
            cx, cy = x + b0 * s, y + b1 * s
            decoded = cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
            wanted["box"] += oracle.BOX_LOSSES[box](decoded, target_boxes[b, p].tolist()) * 2.5 / 6.5
            predicted_rows.append(points[b, p].flatten().tolist())
            target_rows.append([v for lx, ly in target_points[b, p].tolist() for v in ((lx - x) / s, (ly - y) / s)])
            flags.append(weight[b, p].tolist())
    wanted["landmarks"] = 0.2 * oracle.point_landmark_loss(predicted_rows, target_rows, flags)
    assert losses.keys() == wanted.keys()
    for name, value in wanted.items():
        assert math.isclose(losses[name].item(), value, rel_tol=1e-9), name


def test_targets_carry_no_gradient_to_the_box_branch_but_through_its_own_term() -> None:
    """cls is trained toward the IoU, and the IoU must not follow cls: box gradients come from the box term alone."""
    priors = make_priors(32, 32, (8,))
    boxes = torch.zeros(1, 16, 4, requires_grad=True)
    ones = torch.ones(1, 16)
    target_boxes = torch.tensor([4.0, 4.0, 20.0, 20.0]).expand(1, 16, 4)
    points = torch.zeros(1, 16, 5, 2)
    targets = Targets(ones.long() - 1, ones, 0.5 * ones, target_boxes, points, torch.ones(1, 16, 5), ones)
    predictions = Predictions(torch.zeros(1, 16), torch.zeros(1, 16), boxes, points, priors)
    for weight, moved in ((0.0, False), (5.0, True)):
        losses = compute_losses(predictions, targets, torch.tensor(16.0), LossConfig(box_weight=weight))
        [gradient] = torch.autograd.grad(sum(losses.values()), boxes)
        assert bool(gradient.any()) == moved


def test_another_box_loss_is_a_function_and_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Named in the configuration, it is checked there, and a step trains by it."""

    def apart(predicted: Tensor, target: Tensor) -> Tensor:
        return (predicted - target).abs().mean(-1)

    config = Config(train=TrainConfig(loss=LossConfig(box="apart", cls_weight=0, obj_weight=0, landmark_weight=0)))
    assert [violation.key for violation in check_config(config)] == ["train.loss.box"]
    monkeypatch.setitem(BOX_LOSSES, "apart", apart)
    assert check_config(config) == []
    model = build(MODEL, 0).train()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    step = make_step(
        model, make_optimizer(model, replace(config.train, weight_decay=0)), Task(config.train, torch.float32)
    )
    kind = torch.full((1,), FACE, dtype=torch.int8)
    image, box = torch.zeros(1, dtype=torch.int64), torch.tensor([[8.0, 8, 30, 34]])
    losses = step(Batch(torch.rand(1, 3, 64, 64) * 255, box, torch.zeros(1, 5, 3), image, kind))
    assert losses["box"] > 0
    moved = [name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])]
    assert any(".box." in name for name in moved)
    assert not any(".obj." in name for name in moved)
