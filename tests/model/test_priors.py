"""Priors and the coding of boxes and landmarks."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from facetrain.detect.families.yunet import recognise
from facetrain.model.priors import (
    MAX_LOG_SIZE,
    decode_boxes,
    decode_landmarks,
    encode_landmarks,
    make_priors,
)

# The reference's golden `decode`: prior x, y, stride; raw box; first and last raw landmark number; box; first and last
# landmark number
GOLDEN = [
    ((0, 0, 8), (0.5, 0.5, 0.0, 0.0), (0.0, 0.9), (0.0, 0.0, 8.0, 8.0), (0.0, 7.2)),
    (
        (312, 8, 8),
        (-0.25, 1.5, 1.0, -1.0),
        (-1.0, 3.5),
        (299.12687268616384, 18.52848223531423, 320.87312731383616, 21.47151776468577),
        (304.0, 36.0),
    ),
    (
        (160, 96, 16),
        (0.3, 0.7, 1.2, 1.5),
        (-1.0, 1.25),
        (138.23906461810765, 71.34648743729548, 191.36093538189238, 143.05351256270453),
        (144.0, 116.0),
    ),
    (
        (64, 288, 32),
        (1.0, -1.0, 2.0, 2.5),
        (0.0, 0.0),
        (-22.224897582890407, 61.08009662874443, 214.2248975828904, 450.9199033712556),
        (64.0, 288.0),
    ),
    (
        (288, 0, 32),
        (0.0, 0.0, -4.0, 3.0),
        (1.5, -2.0),
        (287.70694977778027, -321.3685907710027, 288.29305022221973, 321.3685907710027),
        (336.0, -64.0),
    ),
]


def encode_boxes(boxes: Tensor, priors: Tensor) -> Tensor:
    """Inverse of `decode_boxes`. boxes: (…, P, 4) xyxy pixels with positive sides."""
    stride = priors[:, 2:]
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    sides = boxes[..., 2:] - boxes[..., :2]
    return torch.cat([(centre - priors[:, :2]) / stride, (sides / stride).log()], dim=-1)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_golden_decode(dtype: torch.dtype, tolerance: float) -> None:
    priors = torch.tensor([row[0] for row in GOLDEN], dtype=dtype)
    boxes = decode_boxes(torch.tensor([row[1] for row in GOLDEN], dtype=dtype), priors)
    # near 0 a float32 difference of large numbers has no relative precision
    np.testing.assert_allclose(boxes, [row[3] for row in GOLDEN], rtol=tolerance, atol=100 * tolerance)
    points = decode_landmarks(torch.tensor([row[2] for row in GOLDEN], dtype=dtype)[:, None], priors)[:, 0]
    np.testing.assert_allclose(points, [row[4] for row in GOLDEN], rtol=tolerance, atol=1e-6)


def test_golden_decode_of_the_reference(golden: dict) -> None:
    for row, ours in zip(golden["decode"], GOLDEN, strict=True):
        prior = torch.tensor([[row["prior_x"], row["prior_y"], row["stride"]]], dtype=torch.float64)
        assert prior[0].tolist() == list(ours[0])
        box = decode_boxes(torch.tensor([row["bbox_raw"]], dtype=torch.float64), prior)
        np.testing.assert_allclose(box[0], row["box"], rtol=1e-9, atol=1e-9)
        raw = torch.tensor(row["kps_raw"], dtype=torch.float64).view(1, 5, 2)
        np.testing.assert_allclose(decode_landmarks(raw, prior).flatten(), row["landmarks"], rtol=1e-9)


@pytest.mark.parametrize("strides", [(8, 16, 32), (4, 8), (16,)])
def test_priors_stand_at_the_corner_of_their_cell_row_by_row(strides: tuple[int, ...]) -> None:
    wanted = [(x, y, s) for s in strides for y in range(0, 64, s) for x in range(0, 96, s)]
    priors = make_priors(64, 96, strides)
    assert priors.dtype == torch.float32
    assert priors.tolist() == [list(prior) for prior in wanted]


def test_published_numbers_of_priors() -> None:
    assert len(make_priors(320, 320, (8, 16, 32))) == 2100
    assert len(make_priors(640, 640, (8, 16, 32))) == 8400


numbers = st.floats(-1000, 1000)
sides = st.floats(0.1, 2000)


@settings(max_examples=200, deadline=None)
@given(
    x=numbers, y=numbers, w=sides, h=sides, prior=st.integers(0, 20), points=st.lists(numbers, min_size=6, max_size=6)
)
def test_decoding_inverts_encoding(x: float, y: float, w: float, h: float, prior: int, points: list[float]) -> None:
    priors = make_priors(32, 32, (8, 16, 32)).double()[prior : prior + 1]
    box = torch.tensor([[x, y, x + w, y + h]], dtype=torch.float64)
    torch.testing.assert_close(decode_boxes(encode_boxes(box, priors), priors), box, rtol=1e-9, atol=1e-9)
    landmarks = torch.tensor(points, dtype=torch.float64).view(1, 3, 2)
    torch.testing.assert_close(decode_landmarks(encode_landmarks(landmarks, priors), priors), landmarks)


def test_encoding_inverts_decoding() -> None:
    generator = torch.Generator().manual_seed(0)
    priors = make_priors(64, 64, (8, 16, 32))
    offsets = torch.randn(2, len(priors), 4, generator=generator)
    torch.testing.assert_close(encode_boxes(decode_boxes(offsets, priors), priors), offsets, atol=1e-4, rtol=1e-4)
    points = torch.randn(2, len(priors), 5, 2, generator=generator)
    torch.testing.assert_close(encode_landmarks(decode_landmarks(points, priors), priors), points, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("raw", [11.0, 90.0, 1e30, math.inf])
def test_wild_sizes_stay_finite(raw: float) -> None:
    """exp(90) has no float32; the limit lies far above any face: e^10 strides."""
    priors = make_priors(32, 32, (8, 32))
    offsets = torch.full((len(priors), 4), raw).index_fill(1, torch.tensor([0, 1]), 0.0).requires_grad_()
    boxes = decode_boxes(offsets, priors)
    boxes.sum().backward()
    assert bool(boxes.isfinite().all())
    assert bool(offsets.grad.isfinite().all())
    width = (boxes[:, 2] - boxes[:, 0]).detach()
    torch.testing.assert_close(width, priors[:, 2] * math.exp(MAX_LOG_SIZE))
    assert 8 * math.exp(MAX_LOG_SIZE) > 100_000
    # just below the limit nothing is changed
    below = torch.full((len(priors), 4), 9.9)
    below[:, :2] = 0
    size = decode_boxes(below, priors)
    torch.testing.assert_close(size[:, 2] - size[:, 0], priors[:, 2] * math.exp(9.9))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 3),
    columns=st.integers(1, 3),
    points=st.sampled_from([0, 3, 5]),
    strides=st.sampled_from([(8, 16, 32), (8, 16), (16, 32)]),
)
def test_agrees_with_the_decoding_of_onnx_files(
    seed: int, rows: int, columns: int, points: int, strides: tuple[int, ...]
) -> None:
    """The NumPy twin in detect/families/yunet.py, on random outputs."""
    rng = np.random.default_rng(seed)
    height, width = 32 * rows, 32 * columns
    priors = make_priors(height, width, strides)
    count = len(priors)
    scores = rng.random((2, count)).astype(np.float32)
    raw = rng.normal(0, 1, (count, 4)).astype(np.float32)
    marks = rng.normal(0, 2, (count, 2 * points)).astype(np.float32)
    outputs: dict[str, np.ndarray] = {}
    start = 0
    for stride in strides:
        here = slice(start, start + (height // stride) * (width // stride))
        outputs[f"cls_{stride}"], outputs[f"obj_{stride}"] = scores[0, here, None], scores[1, here, None]
        outputs[f"bbox_{stride}"] = raw[here]
        if points:
            outputs[f"kps_{stride}"] = marks[here]
        start = here.stop
    family = recognise(outputs, width, height, {})
    assert family is not None
    faces = family.faces(outputs, width, height, 0.25)
    passed = scores[0] * scores[1] >= 0.25
    boxes = decode_boxes(torch.from_numpy(raw), priors)[passed]
    landmarks = decode_landmarks(torch.from_numpy(marks).view(count, points, 2), priors)[passed]
    np.testing.assert_allclose(faces.scores, (scores[0] * scores[1])[passed], rtol=1e-6)
    np.testing.assert_allclose(faces.boxes, boxes, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(faces.landmarks, landmarks, rtol=1e-5, atol=1e-4)
