"""One training step: the reference's, in bfloat16, and with a loss that is not finite."""

import copy
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from facetrain.config.schema import LossConfig, ModelConfig, TrainConfig
from facetrain.data.batch import FACE, IGNORED, Batch
from facetrain.model.weights import load_model
from facetrain.model.yunet import YuNet, build
from facetrain.train.assign import assign
from facetrain.train.optim.optimizers import make_optimizer
from facetrain.train.step import Task, batch_losses, forward_backward, make_step, seen_finite

TINY = ModelConfig(stem=(3, 8, 8), stages=((8, 8), (8, 16), (16, 16), (16, 16), (16, 16)), head_channels=16)
PUBLISHED = TrainConfig(loss=LossConfig(ignored="background"))


def golden_batch(golden: dict) -> Batch:
    """Noise images with the faces of the golden case `main`; landmark weights in the original's way."""
    case = golden["assignment"]["cases"]["main"]
    pixels = np.random.Generator(np.random.PCG64(20240613)).integers(0, 256, (2, 3, 320, 320), np.uint8)
    boxes, landmarks, image, kind = [], [], [], []
    for i, (labels, ignored) in enumerate(zip(case["pictures"], case["ignored_boxes"], strict=True)):
        for box, points in zip(labels["gt_boxes"], np.array(labels["gt_landmarks"]), strict=True):
            points[:, 2] = points[:, 2].mean()
            boxes.append(box)
            landmarks.append(points)
            image.append(i)
            kind.append(FACE)
        for box in ignored:
            boxes.append(box)
            landmarks.append(np.zeros((5, 3)))
            image.append(i)
            kind.append(IGNORED)
    return Batch(
        torch.from_numpy(pixels).float().to(memory_format=torch.channels_last),
        torch.tensor(boxes, dtype=torch.float32),
        torch.from_numpy(np.array(landmarks)).float(),
        torch.tensor(image),
        torch.tensor(kind, dtype=torch.int8),
    )


def sums(model: YuNet, what: str) -> dict[str, float]:
    """Sums of absolute values, of gradients or of weights, in backbone, neck and head."""
    parts = {"backbone": model.backbone, "neck": model.neck, "head": model.levels}
    return {
        name: sum((p.grad if what == "grad" else p.detach()).double().abs().sum().item() for p in part.parameters())
        for name, part in parts.items()
    }


def test_images_may_be_rounded_before_the_step(golden: dict) -> None:
    batch = golden_batch(golden)
    task = Task(PUBLISHED, torch.bfloat16)
    found = []
    for images in (batch.images, batch.images.bfloat16()):
        model = build(TINY, 0).train()
        losses = forward_backward(model, replace(batch, images=images), task)
        found.append([*losses.values(), *(p.grad for p in model.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("name", ["n", "s"])
def test_golden_step(golden: dict, shared: Path, name: str) -> None:
    wanted = golden["train_step"][name]
    model = load_model(shared / f"reference/yunet/yunet_{name}.pth").train()
    batch = golden_batch(golden)
    optimizer = make_optimizer(model, PUBLISHED)
    losses = make_step(model, optimizer, Task(PUBLISHED, torch.float32))(batch)
    assert losses["positives"] == wanted["num_pos"]
    for term, key in (("cls", "loss_cls"), ("obj", "loss_obj"), ("box", "loss_bbox"), ("landmarks", "loss_kps")):
        assert math.isclose(losses[term].item(), wanted[key], rel_tol=1e-4), term
    for key, value in sums(model, "grad").items():
        assert math.isclose(value, wanted["grad_abs_sum"][key], rel_tol=1e-3), key
    for key, value in sums(model, "weights").items():
        assert math.isclose(value, wanted["weight_abs_sum_after"][key], rel_tol=1e-3), key
    for key, value in wanted["buffer_abs_sum_after"].items():
        found = sum(b.double().abs().sum().item() for k, b in model.named_buffers() if k.endswith(key))
        assert math.isclose(found, value, rel_tol=1e-3), key


@pytest.mark.parametrize("name", ["n", "s"])
def test_golden_step_matches_the_same_priors(golden: dict, shared: Path, name: str) -> None:
    model = load_model(shared / f"reference/yunet/yunet_{name}.pth").train()
    batch = golden_batch(golden)
    with torch.no_grad():
        targets = assign(model(batch.images), batch, PUBLISHED.assign, mask_ignored=False)
    found = [row.nonzero()[:, 0].tolist() for row in targets.matched >= 0]
    assert found == golden["train_step"][name]["matched_prior"]


def drawn_batch(seed: int = 0, size: int = 64) -> Batch:
    """Two noise images with a bright square each, which is the face."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 80, (2, 3, size, size)).astype(np.float32)
    pixels[0, :, 10:34, 14:38] += 150
    pixels[1, :, 30:46, 20:36] += 150
    boxes = torch.tensor([[14.0, 10.0, 38.0, 34.0], [20.0, 30.0, 36.0, 46.0], [0.0, 0.0, 0.0, 0.0]])
    landmarks = torch.ones(3, 5, 3)
    landmarks[:, :, :2] = torch.tensor([26.0, 24.0])
    kind = torch.tensor([FACE, FACE, IGNORED], dtype=torch.int8)
    images = torch.from_numpy(pixels).to(memory_format=torch.channels_last)
    return Batch(images, boxes, landmarks, torch.tensor([0, 1, 1]), kind)


@pytest.mark.parametrize("ignored", ["mask", "background"])
def test_a_weight_of_labels_is_a_factor_of_its_images_losses(ignored: str) -> None:
    batch = drawn_batch(2)
    config = TrainConfig(loss=LossConfig(ignored=ignored))  # type: ignore[arg-type]
    model = trained(batch, 5)[0].eval()

    def losses(*weights: float) -> dict[str, float]:
        weighted = replace(batch, label_weight=torch.tensor(weights) if weights else None)
        found = batch_losses(model, weighted, Task(config, torch.float32))
        return {name: float(value.detach()) for name, value in found.items()}

    plain, first, second, parts = losses(), losses(1, 0), losses(0, 1), losses(0.3, 2)
    for name in ("cls", "obj", "box", "landmarks"):
        assert math.isclose(losses(1, 1)[name], plain[name], rel_tol=1e-6)
        assert math.isclose(first[name] + second[name], plain[name], rel_tol=1e-5)
        assert math.isclose(0.3 * first[name] + 2 * second[name], parts[name], rel_tol=1e-5)
    assert parts["positives"] == plain["positives"]  # counts are not weighted


def test_bf16_is_close_to_fp32() -> None:
    """On a model that has learnt a little: from drawn weights a rounding already changes which priors are matched."""
    batch = drawn_batch(1)
    model = trained(batch, 40)[0]
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        twin = copy.deepcopy(model)
        twin.zero_grad()
        losses = forward_backward(twin, batch, Task(TrainConfig(), dtype))
        gradient = torch.cat([p.grad.flatten() for p in twin.parameters()])
        assert gradient.dtype == torch.float32
        assert {value.dtype for value in losses.values()} == {torch.float32}
        results.append((losses, gradient))
    (exact, gradient), (rough, rough_gradient) = results
    for name in ("cls", "obj", "box", "landmarks"):
        assert math.isclose(exact[name].item(), rough[name].item(), rel_tol=0.1), name
        assert exact[name] != rough[name]  # it really ran in another format
    assert torch.nn.functional.cosine_similarity(gradient, rough_gradient, dim=0) > 0.8


def trained(batch: Batch, steps: int) -> tuple[YuNet, list[float]]:
    """A tiny model after some steps on one batch, and the loss before each of them."""
    config = TrainConfig(optimizer="adamw", lr=0.01, batch=2, lr_batch=2)
    model = build(TINY, seed=1).train()
    step = make_step(model, make_optimizer(model, config), Task(config, torch.float32))
    totals = []
    for _ in range(steps):
        losses = step(batch)
        totals.append(sum(losses[name].item() for name in ("cls", "obj", "box", "landmarks")))
    return model, totals


def test_steps_lower_the_loss() -> None:
    _, totals = trained(drawn_batch(), 30)
    assert totals[-1] < 0.5 * totals[0]


def test_gradients_do_not_add_up() -> None:
    batch, config = drawn_batch(), TrainConfig(lr=1e-30)
    model = build(TINY, seed=0).train()
    step = make_step(model, make_optimizer(model, config), Task(config, torch.float32))
    norms = []
    for _ in range(2):
        step(batch)
        norms.append(sum(p.grad.norm().item() for p in model.parameters()))
    assert math.isclose(*norms, rel_tol=1e-3)


def test_clipping_bounds_the_gradient() -> None:
    batch = drawn_batch()
    for clip in (None, 0.5):
        config = TrainConfig()
        model = build(TINY, seed=0).train()
        make_step(model, make_optimizer(model, config), Task(config, torch.float32), clip)(batch)
        norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item()
        assert math.isclose(norm, 0.5, rel_tol=1e-3) if clip else norm > 1


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_loss_that_is_not_finite_changes_no_weight(value: float) -> None:
    batch = drawn_batch()
    batch.landmarks[0, 2, 0] = value
    for name in ("sgd", "adamw"):
        config = TrainConfig(optimizer=name)
        model = build(TINY, seed=0).train()
        optimizer = make_optimizer(model, config)
        step = make_step(model, optimizer, Task(config, torch.float32))
        before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
        losses = step(batch)
        assert not seen_finite(losses)
        assert not bool(losses["landmarks"].isfinite())
        assert all(torch.equal(parameter, before[key]) for key, parameter in model.named_parameters())
        assert not optimizer.state  # nor its momentum


def test_batch_without_faces_and_model_without_landmarks() -> None:
    batch = drawn_batch()
    empty = Batch(batch.images, batch.boxes[:0], batch.landmarks[:0], batch.image[:0], batch.kind[:0])
    no_points = replace(TINY, landmarks=replace(TINY.landmarks, names=(), mirror=()))
    for config, some in (
        (TINY, empty),
        (no_points, Batch(batch.images, batch.boxes, batch.landmarks[:, :0], batch.image, batch.kind)),
    ):
        model = build(config, seed=0).train()
        losses = forward_backward(model, some, Task(TrainConfig(), torch.float32))
        assert seen_finite(losses)
        assert losses["landmarks"] == 0
        assert (losses["positives"] == 0) == (some is empty)
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
