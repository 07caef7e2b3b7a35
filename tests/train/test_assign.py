"""SimOTA against its loops, against golden numbers, and where small numbers of its cost decide."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracles import simota as oracle

from facetrain.config.schema import AssignConfig, LossConfig
from facetrain.core.errors import DeviceError
from facetrain.data.batch import FACE, IGNORED, PADDING, Batch
from facetrain.model.priors import make_priors
from facetrain.model.yunet import Predictions
from facetrain.train import assign as assign_module
from facetrain.train.assign import assign
from facetrain.train.losses import compute_losses
from facetrain.train.simota import compiled_simota

STRIDES = (8, 16, 32)


def make_batch(boxes: Sequence[Sequence[float]], image: Sequence[int], kind: Sequence[int], images: int) -> Batch:
    """Faces without landmarks; the images themselves play no part in assigning."""
    rows = len(boxes)
    return Batch(
        images=torch.zeros(images, 3, 1, 1),
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(rows, 4),
        landmarks=torch.zeros(rows, 5, 3),
        image=torch.tensor(image, dtype=torch.int64),
        kind=torch.tensor(kind, dtype=torch.int8),
    )


def raw_offsets(boxes: np.ndarray, priors: np.ndarray) -> np.ndarray:
    """The raw numbers that decode to boxes, written without the code under test. boxes: (P, 4), priors: (P, 3)."""
    stride = priors[:, 2]
    x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    centre = (x - priors[:, 0]) / stride, (y - priors[:, 1]) / stride
    return np.stack([*centre, np.log(w / stride), np.log(h / stride)], 1)


def random_face(rng: np.random.Generator, width: int, height: int) -> list[float]:
    """On a grid of quarter pixels, so that float32 and doubles agree on which side of a border a centre lies."""
    side = [(1.0, 7.0), (6.0, 24.0), (20.0, 90.0)][rng.integers(3)]
    w, h = rng.uniform(*side, 2)
    x, y = rng.uniform(-10, width - 4), rng.uniform(-10, height - 4)
    left, top = round(4 * x) / 4, round(4 * y) / 4
    return [left, top, left + max(1, round(4 * w)) / 4, top + max(1, round(4 * h)) / 4]


def random_case(seed: int, faces_an_image: Sequence[int]) -> tuple[Predictions, Batch]:
    """Predictions that partly fit the faces; ignored and padding rows among the faces, all rows shuffled."""
    rng = np.random.default_rng(seed)
    width, height = (32 * int(v) for v in rng.integers(2, 5, 2))
    priors = make_priors(height, width, STRIDES)
    count = len(priors)
    rows: list[tuple[list[float], int, int]] = []
    offsets = np.zeros((len(faces_an_image), count, 4))
    for i, wanted in enumerate(faces_an_image):
        faces = [random_face(rng, width, height) for _ in range(wanted)]
        if len(faces) > 1:  # a pair that overlaps
            faces[1] = [
                v + float(d) for v, d in zip(faces[0], rng.integers(-1, 2, 4) / 2 + [0, 0, 0.5, 0.5], strict=True)
            ]
            faces[1][2:] = max(faces[1][2], faces[1][0] + 1), max(faces[1][3], faces[1][1] + 1)
        guesses = np.array([random_face(rng, width, height) for _ in range(count)])
        for p in range(count):
            if faces and rng.random() < 0.7:
                face = np.array(faces[rng.integers(len(faces))])
                size = np.array([face[2] - face[0], face[3] - face[1]])
                middle = (face[:2] + face[2:]) / 2 + rng.normal(0, 0.15, 2) * size
                half = size * np.exp(rng.normal(0, 0.2, 2)) / 2
                guesses[p] = [*(middle - half), *(middle + half)]
        offsets[i] = raw_offsets(guesses, priors.numpy())
        rows += [(face, i, FACE) for face in faces]
        rows += [(random_face(rng, width, height), i, IGNORED) for _ in range(rng.integers(3))]
    rows += [([0.0, 0.0, 0.0, 0.0], 0, PADDING)] * int(rng.integers(3))
    order = rng.permutation(len(rows))
    boxes, image, kind = [rows[k][0] for k in order], [rows[k][1] for k in order], [rows[k][2] for k in order]
    images = len(faces_an_image)
    predictions = Predictions(
        cls=torch.tensor(rng.normal(-1, 2, (images, count)), dtype=torch.float32),
        obj=torch.tensor(rng.normal(-2, 2, (images, count)), dtype=torch.float32),
        boxes=torch.tensor(offsets, dtype=torch.float32),
        landmarks=torch.zeros(images, count, 5, 2),
        priors=priors,
    )
    return predictions, make_batch(boxes, image, kind, images)


def expected(predictions: Predictions, batch: Batch, **settings: float) -> tuple[list[oracle.Assignment], torch.Tensor]:
    """What the loops say: their result an image, and matched rows of the batch as `assign` gives them."""
    results = []
    matched = torch.full(predictions.cls.shape, -1, dtype=torch.int64)
    for i in range(len(predictions.cls)):
        rows = torch.nonzero((batch.image == i) & (batch.kind == FACE))[:, 0]
        result = oracle.simota(
            predictions.priors.double().tolist(),
            predictions.cls[i].double().tolist(),
            predictions.obj[i].double().tolist(),
            predictions.boxes[i].double().tolist(),
            batch.boxes[rows].double().tolist(),
            **settings,  # type: ignore[arg-type]
        )
        for p, face in enumerate(result.matched):
            if face >= 0:
                matched[i, p] = rows[face]
        results.append(result)
    return results, matched


def is_clear(results: list[oracle.Assignment]) -> bool:
    """Whether no choice hangs on nearly equal costs, whose order is unspecified."""
    return all(result.margin > 1e-4 for result in results)


def assert_equal_to_loops(
    predictions: Predictions, batch: Batch, matched: torch.Tensor, results: list[oracle.Assignment]
) -> None:
    targets = assign(predictions, batch, AssignConfig(), mask_ignored=False)
    assert torch.equal(targets.matched, matched)
    quality = torch.tensor([result.quality for result in results])
    torch.testing.assert_close(targets.quality, quality, atol=2e-5, rtol=0)
    positive = matched >= 0
    assert torch.equal(targets.positive, positive.float())
    assert torch.equal(targets.boxes[positive], batch.boxes[matched[positive]])


@pytest.fixture(autouse=True, scope="module", params=["tensors", "compiled"])
def assigner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Every test by both ways there are; the compiled one is skipped where there is no compiler."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "compiled":
            try:
                compiled = compiled_simota(tmp_path_factory.mktemp("kernels"))
            except DeviceError as error:
                pytest.skip(error.message)
            patch.setitem(assign_module.ASSIGNERS, "simota", compiled)
        yield request.param


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), faces=st.lists(st.integers(0, 12), min_size=1, max_size=3))
def test_simota_equals_the_loops(seed: int, faces: list[int]) -> None:
    predictions, batch = random_case(seed, faces)
    results, matched = expected(predictions, batch)
    assume(is_clear(results))
    assert_equal_to_loops(predictions, batch, matched, results)


def test_random_cases_reach_the_rare_branches() -> None:
    """Conflicts, one that goes to a face that had not selected the prior, faces that end with nothing."""
    conflicts = surprises = empty_handed = several = 0
    for seed in range(24):
        predictions, batch = random_case(1000 + seed, [8])
        results, matched = expected(predictions, batch)
        if not is_clear(results):
            continue
        assert_equal_to_loops(predictions, batch, matched, results)
        conflicts += len(results[0].conflicts)
        surprises += len(results[0].surprises)
        empty_handed += len(set(range(8)) - set(results[0].matched))
        several += max(results[0].k) > 3
    assert conflicts > 10
    assert surprises > 0
    assert empty_handed > 0
    assert several > 0


# One face of 24 x 24 pixels around the centre of a cell of stride 8; chosen priors offer it boxes of known IoU.

FACE_BOX = (16.0, 16.0, 40.0, 40.0)
INSIDE = 27  # the prior at (24, 24): its cell's centre (28, 28) is the face's centre
BESIDE = 19  # the prior at (24, 16): its cell's centre (28, 20) is inside and near as well
OUTSIDE = 9  # the prior at (8, 8): its centre (12, 12) is near, but not inside
FAR_BOX = (56.0, 56.0, 64.0, 64.0)  # overlaps nothing


def part_of_face(share: float) -> tuple[float, float, float, float]:
    """A box inside the face, with exactly this IoU."""
    return 16.0, 16.0, 40.0, 16.0 + 24.0 * share


def choice(scores: dict[int, float], boxes: dict[int, tuple[float, ...]], config: AssignConfig | None = None) -> int:
    """Which prior the face takes, by the loops and by the code. scores: -ln sqrt(q) of the priors that compete."""
    priors = make_priors(64, 64, (8,))
    cls, obj = torch.full((1, 64), -4000.0), torch.full((1, 64), -4000.0)
    decoded = np.tile(np.array(FAR_BOX), (64, 1))
    for p, score in scores.items():
        cls[0, p] = obj[0, p] = -math.log(math.expm1(score)) if score < 30 else -score
        decoded[p] = boxes[p]
    raw = torch.tensor(raw_offsets(decoded, priors.numpy()), dtype=torch.float32)[None]
    predictions = Predictions(cls, obj, raw, torch.zeros(1, 64, 5, 2), priors)
    batch = make_batch([FACE_BOX], [0], [FACE], 1)
    config = config or AssignConfig()
    [result], matched = expected(predictions, batch, iou_weight=config.iou_weight)
    assert result.margin > 1e-3
    assert result.k == [1]
    got = assign(predictions, batch, config, mask_ignored=False).matched
    assert torch.equal(got, matched)
    return result.selected[0][0]


@pytest.mark.parametrize(("lead", "winner"), [(2.045, INSIDE), (2.115, BESIDE)])
def test_iou_counts_three_times(lead: float, winner: int) -> None:
    """IoU 1/2 against 1/4 is worth 3 ln 2 = 2.079; a factor of 2.9 or 3.1 turns one of the two cases."""
    boxes = {INSIDE: part_of_face(0.5), BESIDE: part_of_face(0.25)}
    assert choice({INSIDE: 1 + lead, BESIDE: 1.0}, boxes) == winner


@pytest.mark.parametrize(("lead", "winner"), [(46.15, INSIDE), (46.4, BESIDE)])
def test_no_overlap_costs_as_much_as_an_iou_of_a_ten_millionth(lead: float, winner: int) -> None:
    """IoU 1/2 against none: 3 ln(1/2 · 1e7) = 46.27. With 1e-6 or 1e-8 it would be 39.4 or 53.2."""
    boxes = {INSIDE: part_of_face(0.5), BESIDE: FAR_BOX}
    assert choice({INSIDE: 1 + lead, BESIDE: 1.0}, boxes) == winner


@pytest.mark.parametrize(("score", "winner"), [(54.3, INSIDE), (53.1, BESIDE)])
def test_logarithm_of_the_score_is_floored_at_minus_100(score: float, winner: int) -> None:
    """INSIDE costs 100 + 3 ln 2 = 102.08 whatever its score of e^-400; BESIDE, without overlap, 48.35 + its score."""
    boxes = {INSIDE: part_of_face(0.5), BESIDE: FAR_BOX}
    assert choice({INSIDE: 400.0, BESIDE: score}, boxes) == winner


@pytest.mark.parametrize("weight", [0.0, 3.0, 10.0, 100.0])
def test_penalty_outweighs_every_cost(weight: float) -> None:
    """The worst prior inside and near goes before the best one outside, for every weight of the IoU.

    The other priors inside are still a little worse than INSIDE, whose score is not quite at the floor.
    """
    boxes = {INSIDE: FAR_BOX, OUTSIDE: part_of_face(0.9)}
    assert choice({INSIDE: 99.5, OUTSIDE: 0.1}, boxes, AssignConfig(iou_weight=weight)) == INSIDE


def test_borders_are_outside() -> None:
    """A cell's centre on the border of a face is not inside it, one on the border of the square not near."""
    priors = make_priors(64, 64, (8,))
    on_border = (12.0, 12.0, 52.0, 52.0)  # centres 12, 20, 28, 36, 44, 52; near: 12 < centre < 52
    raw = torch.tensor(raw_offsets(np.tile(np.array(on_border), (64, 1)), priors.numpy()), dtype=torch.float32)[None]
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(0, 1, (1, 64)), dtype=torch.float32)
    predictions = Predictions(logits, logits, raw, torch.zeros(1, 64, 5, 2), priors)
    batch = make_batch([on_border], [0], [FACE], 1)
    # all IoUs are 1, so k = 10 of the 16 inside, and none of the 20 on the border
    targets = assign(predictions, batch, AssignConfig(), mask_ignored=False)
    x, y = priors[targets.matched[0] >= 0, :2].T + 4
    assert len(x) == 10
    assert bool(((x > 12) & (x < 52) & (y > 12) & (y < 52)).all())
    all_inside = assign(predictions, batch, AssignConfig(candidates=30), mask_ignored=False).matched[0]
    assert int((all_inside >= 0).sum()) == 16  # V = 16: k is 16, though 30 were asked for


# The reference's golden `dynamic_k`: seven priors, three faces; prior 1 is selected by faces 0 and 1 and goes to 2.
COST = [[2, 5, 2], [0.95, 1.1, 0.4], [3, 1.2, 9], [0.9, 4, 8], [6, 0.8, 7], [2.5, 2.2, 0.3], [7, 3, 0.35]]
IOU = [
    [0.7, 0.05, 0.1],
    [0.5, 0.45, 0.4],
    [0.35, 0.5, 0],
    [0.6, 0.1, 0],
    [0, 0.6, 0.05],
    [0.3, 0.3, 0.9],
    [0.1, 0.2, 0.15],
]
MATCHED = [-1, 2, -1, 0, 1, 2, -1]


@pytest.mark.parametrize("chunk", [1, 2, 1024])
def test_golden_matching_of_a_cost_matrix(monkeypatch: pytest.MonkeyPatch, assigner: str, chunk: int) -> None:
    if assigner == "compiled":
        pytest.skip("its costs cannot be exchanged")
    cost, iou = torch.tensor(COST, dtype=torch.float32).T, torch.tensor(IOU, dtype=torch.float32).T

    def costs(*arguments: object) -> tuple[torch.Tensor, torch.Tensor]:
        rows = next(argument for argument in arguments if isinstance(argument, slice))
        return cost[rows], iou[rows]

    monkeypatch.setattr(assign_module, "_costs", costs)
    monkeypatch.setattr(assign_module, "CHUNK", chunk)
    batch = make_batch([[0, 0, 8, 8]] * 3, [0] * 3, [FACE] * 3, 1)
    priors = make_priors(8, 56, (8,))
    nothing = Predictions(torch.zeros(1, 7), torch.zeros(1, 7), torch.zeros(1, 7, 4), torch.zeros(1, 7, 5, 2), priors)
    assert assign(nothing, batch, AssignConfig(), mask_ignored=False).matched[0].tolist() == MATCHED
    index, chosen = assign_module._select(cost, iou, 10)
    taken = [sorted(row[some].tolist()) for row, some in zip(index, chosen, strict=True)]
    assert taken == [[1, 3], [1, 4], [5]]


@pytest.mark.parametrize("chunk", [1, 2, 1024])
@pytest.mark.parametrize(
    ("of_prior", "owner"), [([0.5, 0.5, 3.0], 0), ([0.7, 0.5, 0.5], 1), ([0.5, 0.7, -1e-7], 2), ([-1e-7, -2e-7, 0], 1)]
)
def test_a_prior_of_several_faces_goes_to_the_first_of_the_cheapest(
    monkeypatch: pytest.MonkeyPatch, assigner: str, of_prior: list[float], owner: int, chunk: int
) -> None:
    """Even to one that did not select it."""
    if assigner == "compiled":
        pytest.skip("its costs cannot be exchanged")
    cost = torch.full((3, 7), 50.0)
    cost[:, 1], cost[2, 5] = torch.tensor(of_prior), -1.0  # without overlap a face takes one prior: 1, 1 and 5
    monkeypatch.setattr(assign_module, "_costs", lambda *given: (cost[given[5]], torch.zeros_like(cost[given[5]])))
    monkeypatch.setattr(assign_module, "CHUNK", chunk)
    batch = make_batch([[0, 0, 8, 8]] * 3, [0] * 3, [FACE] * 3, 1)
    priors = make_priors(8, 56, (8,))
    nothing = Predictions(torch.zeros(1, 7), torch.zeros(1, 7), torch.zeros(1, 7, 4), torch.zeros(1, 7, 5, 2), priors)
    matched = assign(nothing, batch, AssignConfig(), mask_ignored=False).matched[0].tolist()
    assert matched == [-1, owner, -1, -1, -1, 2, -1]


@given(costs=st.lists(st.floats(-0.5, 1000, width=32) | st.just(math.inf), min_size=2, max_size=2))
def test_costs_as_whole_numbers_keep_their_order(costs: list[float]) -> None:
    one, other = assign_module._ordered(torch.tensor(costs) + 0.0).tolist()
    assert (one < other, one == other) == (costs[0] < costs[1], costs[0] == costs[1])


@pytest.mark.parametrize("seed", range(4))
def test_chunks_and_padding_change_nothing(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    predictions, batch = random_case(2000 + seed, [7, 0, 9])
    whole = assign(predictions, batch, AssignConfig(), mask_ignored=True)
    padded = Batch(
        batch.images,
        torch.cat([batch.boxes, torch.tensor([[0.0, 0.0, 90.0, 90.0]] * 5)]),  # padding rows may hold anything
        torch.cat([batch.landmarks, torch.ones(5, 5, 3)]),
        torch.cat([batch.image, torch.tensor([0, 1, 2, 0, 1])]),
        torch.cat([batch.kind, torch.full((5,), PADDING, dtype=torch.int8)]),
    )
    monkeypatch.setattr(assign_module, "CHUNK", 2)
    for other in (batch, padded):
        chunked = assign(predictions, other, AssignConfig(), mask_ignored=True)
        for name in ("matched", "positive", "quality", "landmark_weight", "obj_weight"):
            assert torch.equal(getattr(chunked, name), getattr(whole, name)), name


def test_images_of_a_batch_are_independent() -> None:
    predictions, batch = random_case(31, [5, 0, 6])
    together = assign(predictions, batch, AssignConfig(), mask_ignored=True)
    for i in range(3):
        rows = (batch.image == i).nonzero()[:, 0]
        alone = Batch(
            batch.images[:1], batch.boxes[rows], batch.landmarks[rows], batch.image[rows] * 0, batch.kind[rows]
        )
        one = Predictions(
            predictions.cls[i : i + 1],
            predictions.obj[i : i + 1],
            predictions.boxes[i : i + 1],
            predictions.landmarks[i : i + 1],
            predictions.priors,
        )
        targets = assign(one, alone, AssignConfig(), mask_ignored=True)
        found = targets.matched[0]
        rows_or_none = torch.where(found >= 0, rows[found.clamp(min=0)], -1) if len(rows) else found
        assert torch.equal(rows_or_none, together.matched[i])
        assert torch.equal(targets.obj_weight[0], together.obj_weight[i])


def test_ignored_boxes_mask_objectness_only_where_configured() -> None:
    predictions, batch = random_case(7, [3])
    positive = assign(predictions, batch, AssignConfig(), mask_ignored=True).positive[0].nonzero()[0, 0]
    x, y, _ = predictions.priors[positive].tolist()
    ignored = [x - 30, y - 30, x + 30, y + 30]  # around a prior that has a face
    batch = make_batch(
        [*batch.boxes.tolist(), ignored], [0] * (len(batch.boxes) + 1), [*batch.kind.tolist(), IGNORED], 1
    )
    background = assign(predictions, batch, AssignConfig(), mask_ignored=False)
    masked = assign(predictions, batch, AssignConfig(), mask_ignored=True)
    assert torch.equal(background.matched, masked.matched)
    assert bool((background.obj_weight == 1).all())
    boxes = [box for box, kind in zip(batch.boxes.tolist(), batch.kind.tolist(), strict=True) if kind == IGNORED]
    hidden = spared = 0
    for p, prior in enumerate(predictions.priors.tolist()):
        on_ignored = any(oracle.is_inside(prior, box) for box in boxes)
        free = on_ignored and masked.matched[0, p] < 0
        hidden += free
        spared += on_ignored and not free
        assert masked.obj_weight[0, p] == (0 if free else 1)
    assert hidden > 5
    assert spared > 0
    assert hidden + spared < len(predictions.priors)
    assert bool((masked.obj_weight[0, masked.matched[0] >= 0] == 1).all())


@pytest.mark.parametrize("kinds", [[], [IGNORED], [PADDING, PADDING]])
def test_batch_without_a_face_is_all_background(kinds: list[int]) -> None:
    predictions, _ = random_case(5, [0, 0])
    batch = make_batch([[4.0, 4.0, 30.0, 30.0]] * len(kinds), [0] * len(kinds), kinds, 2)
    targets = assign(predictions, batch, AssignConfig(), mask_ignored=False)
    shape = predictions.cls.shape
    assert targets.matched.tolist() == torch.full(shape, -1).tolist()
    assert targets.positive.abs().sum() == targets.quality.abs().sum() == targets.landmark_weight.abs().sum() == 0
    assert targets.obj_weight.shape == shape
    assert bool((targets.obj_weight == 1).all())
    losses = compute_losses(predictions, targets, torch.tensor(1.0), LossConfig())
    assert losses["cls"] == losses["box"] == losses["landmarks"] == 0
    expected_obj = torch.nn.functional.softplus(predictions.obj).sum()
    torch.testing.assert_close(losses["obj"], expected_obj)


def golden_case(arrays: dict[str, np.ndarray], case: dict) -> tuple[Predictions, Batch, dict[str, torch.Tensor]]:
    """A case of the golden file; landmark weights in the original's way: the mean of a face's five flags."""

    def raw(name: str) -> torch.Tensor:
        return torch.from_numpy(arrays[f"case_{name}"])[case["images"]].clone().requires_grad_()

    rows = [
        (box, np.array(points), i, FACE)
        for i, image in enumerate(case["pictures"])
        for box, points in zip(image["gt_boxes"], image["gt_landmarks"], strict=True)
    ]
    ignored = case.get("ignored_boxes", [])
    rows += [(box, np.zeros((5, 3)), i, IGNORED) for i, some in enumerate(ignored) for box in some]
    batch = make_batch([r[0] for r in rows], [r[2] for r in rows], [r[3] for r in rows], len(case["images"]))
    for row, (_, points, _, _) in enumerate(rows):
        batch.landmarks[row] = torch.from_numpy(points)
        batch.landmarks[row, :, 2] = float(points[:, 2].mean())
    cls, obj, boxes, points = raw("cls"), raw("obj"), raw("bbox"), raw("kps")
    priors = torch.from_numpy(arrays["case_priors"])[:, :3]
    predictions = Predictions(cls[..., 0], obj[..., 0], boxes, points.unflatten(-1, (5, 2)), priors)
    return predictions, batch, {"cls": cls, "obj": obj, "bbox": boxes, "kps": points}


@pytest.mark.parametrize("name", ["main", "tiny", "tiny_and_empty", "all_empty"])
def test_golden_assignment(golden: dict, golden_arrays: dict[str, np.ndarray], name: str) -> None:
    case = golden["assignment"]["cases"][name]
    predictions, batch, leaves = golden_case(golden_arrays, case)
    assert torch.equal(make_priors(320, 320, STRIDES), predictions.priors)
    targets = assign(predictions, batch, AssignConfig(), mask_ignored=False)
    start = 0
    for i, image in enumerate(case["pictures"]):
        found = (targets.matched[i] >= 0).nonzero()[:, 0]
        assert found.tolist() == image["matched_prior"]
        assert (targets.matched[i, found] - start).tolist() == image["matched_gt"]
        np.testing.assert_allclose(targets.quality[i, found], image["matched_iou"], atol=1e-5)
        start += len(image["gt_boxes"])
    assert int(targets.positive.sum()) == case["num_pos"]

    losses = compute_losses(predictions, targets, targets.positive.sum().clamp(min=1), LossConfig())
    for term, key in (("cls", "loss_cls"), ("obj", "loss_obj"), ("box", "loss_bbox"), ("landmarks", "loss_kps")):
        np.testing.assert_allclose(losses[term].item(), case[key], rtol=1e-4)
    sum(losses.values()).backward()
    for key, leaf in leaves.items():
        size = case["grad_abs_sum"][key]
        np.testing.assert_allclose(leaf.grad.double().abs().sum(), size, rtol=1e-4)
        np.testing.assert_allclose(leaf.grad.double().sum(), case["grad_sum"][key], atol=1e-4 * size)


@pytest.mark.parametrize("name", ["main", "tiny", "tiny_and_empty", "all_empty"])
def test_loops_agree_with_the_golden_assignment(golden: dict, golden_arrays: dict[str, np.ndarray], name: str) -> None:
    """The oracle of the random cases is itself right: candidates, k, conflicts, priors and faces."""
    case = golden["assignment"]["cases"][name]
    predictions, batch, _ = golden_case(golden_arrays, case)
    for i, image in enumerate(case["pictures"]):
        rows = (batch.image == i) & (batch.kind == FACE)
        result = oracle.simota(
            predictions.priors.double().tolist(),
            predictions.cls[i].double().tolist(),
            predictions.obj[i].double().tolist(),
            predictions.boxes[i].double().tolist(),
            batch.boxes[rows].double().tolist(),
        )
        assert len(result.candidates) == image["candidates"]
        assert sum(result.candidates) == image["candidate_index_sum"]
        assert result.k == image["dynamic_k"]
        assert result.conflicts == image["conflicting_priors"]
        assert [p for p, g in enumerate(result.matched) if g >= 0] == image["matched_prior"]
        assert [g for g in result.matched if g >= 0] == image["matched_gt"]
        np.testing.assert_allclose([u for u in result.quality if u > 0], image["matched_iou"], atol=1e-9)
