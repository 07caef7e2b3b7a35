import math

import numpy as np
import pytest

from facetrain.detect.families import yunet

WIDTH, HEIGHT = 96, 64


def make_outputs(strides=(8, 16, 32), landmarks=5, width=WIDTH, height=HEIGHT, priors_per_cell=1, seed=3):
    random = np.random.default_rng(seed)
    outputs = {}
    for kind, channels in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 2 * landmarks)):
        for s in strides:
            priors = math.ceil(width / s) * math.ceil(height / s) * priors_per_cell
            if channels:
                values = (
                    random.random((1, priors, channels)) if channels == 1 else random.normal(size=(1, priors, channels))
                )
                outputs[f"{kind}_{s}"] = values.astype(np.float32)
    return outputs


def decode_by_loop(outputs, strides, landmarks, width, height, score):
    """Every prior, one after the other, as the model's specification words it."""
    faces = []
    for s in strides:
        columns = math.ceil(width / s)
        for p in range(columns * math.ceil(height / s)):
            value = float(outputs[f"cls_{s}"][0, p, 0] * outputs[f"obj_{s}"][0, p, 0])
            if value < score:
                continue
            x, y = p % columns * s, p // columns * s
            b = [float(v) for v in outputs[f"bbox_{s}"][0, p]]
            cx, cy, w, h = x + b[0] * s, y + b[1] * s, s * math.exp(b[2]), s * math.exp(b[3])
            k = outputs[f"kps_{s}"][0, p] if landmarks else []
            points = [(x + k[2 * i] * s, y + k[2 * i + 1] * s) for i in range(landmarks)]
            faces.append((value, (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), points))
    return faces


@pytest.mark.parametrize(
    ("strides", "landmarks"), [((8, 16, 32), 5), ((8, 16, 32), 0), ((4, 8), 7), ((16, 32, 64, 128), 1)]
)
def test_decoding_equals_the_loop(strides, landmarks):
    outputs = make_outputs(strides, landmarks)
    family = yunet.recognise(outputs, WIDTH, HEIGHT, {})
    found = family.faces(outputs, WIDTH, HEIGHT, 0.3)
    expected = decode_by_loop(outputs, strides, landmarks, WIDTH, HEIGHT, 0.3)
    assert len(found) == len(expected) > 3
    np.testing.assert_allclose(found.scores, [face[0] for face in expected], rtol=1e-6)
    np.testing.assert_allclose(found.boxes, [face[1] for face in expected], rtol=1e-4, atol=1e-3)
    assert found.landmarks.shape == (len(found), landmarks, 2)
    if landmarks:
        np.testing.assert_allclose(found.landmarks, [face[2] for face in expected], rtol=1e-4, atol=1e-3)


def test_a_score_equal_to_the_threshold_counts():
    outputs = {name: np.zeros_like(value) for name, value in make_outputs((8,)).items()}
    outputs["cls_8"][0, 5], outputs["obj_8"][0, 5] = 1.0, 0.5
    family = yunet.recognise(outputs, WIDTH, HEIGHT, {})
    assert len(family.faces(outputs, WIDTH, HEIGHT, 0.5)) == 1
    assert len(family.faces(outputs, WIDTH, HEIGHT, 0.5001)) == 0


def test_the_order_of_named_outputs_does_not_matter():
    outputs = make_outputs()
    backwards = dict(reversed(outputs.items()))
    assert yunet.recognise(backwards, WIDTH, HEIGHT, {}) == yunet.recognise(outputs, WIDTH, HEIGHT, {})


@pytest.mark.parametrize("landmarks", [0, 3, 5])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_recognition_by_shape_with_shuffled_names(landmarks, seed):
    outputs = make_outputs(landmarks=landmarks)
    names = [str(400 + i) for i in range(len(outputs))]
    np.random.default_rng(seed).shuffle(names)
    renamed = dict(zip(names, outputs.values(), strict=True))
    order = np.random.default_rng(seed + 10).permutation(len(names))
    renamed = {names[i]: renamed[names[i]] for i in order}
    known, by_shape = (yunet.recognise(o, WIDTH, HEIGHT, {}) for o in (outputs, renamed))
    assert [level.stride for level in by_shape.levels] == [8, 16, 32]
    expected, found = known.faces(outputs, WIDTH, HEIGHT, 0.2), by_shape.faces(renamed, WIDTH, HEIGHT, 0.2)
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.landmarks, expected.landmarks)


def test_two_landmarks_have_as_many_numbers_as_a_box_and_come_after_it():
    outputs = make_outputs(landmarks=2)
    renamed = {f"output{i}": value for i, value in enumerate(outputs.values())}
    expected = yunet.recognise(outputs, WIDTH, HEIGHT, {}).faces(outputs, WIDTH, HEIGHT, 0.5)
    found = yunet.recognise(renamed, WIDTH, HEIGHT, {}).faces(renamed, WIDTH, HEIGHT, 0.5)
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.landmarks, expected.landmarks)


def test_a_missing_batch_axis_is_no_hindrance():
    outputs = make_outputs()
    flat = {name: value[0] for name, value in outputs.items()}
    family = yunet.recognise(flat, WIDTH, HEIGHT, {})
    assert len(family.faces(flat, WIDTH, HEIGHT, 0.3)) == len(family.faces(outputs, WIDTH, HEIGHT, 0.3))


def test_strides_in_the_metadata_settle_what_shapes_leave_open():
    outputs = make_outputs((32, 64), width=64, height=32)  # at 64x32 one prior is stride 64, but also 128 and 256
    renamed = {f"output{i}": value for i, value in enumerate(outputs.values())}
    family = yunet.recognise(renamed, 64, 32, {"strides": "[32, 64]"})
    assert [level.stride for level in family.levels] == [32, 64]


def drop(name):
    return lambda outputs: outputs.pop(name)


def reshape(name, shape):
    return lambda outputs: outputs.update({name: np.zeros(shape, np.float32)})


@pytest.mark.parametrize(
    ("strides", "per_cell", "change"),
    [
        ((8, 16, 32), 2, None),  # two priors a cell: SCRFD
        ((8, 32), 1, None),
        ((8, 16, 32), 1, drop("obj_16")),
        ((8, 16, 32), 1, drop("kps_16")),
        ((8, 16, 32), 1, reshape("kps_16", (1, 24, 9))),
        ((8, 16, 32), 1, reshape("bbox_8", (1, 96, 5))),
        ((8, 16, 32), 1, reshape("cls_8", (1, 1, 8, 12))),
        ((8, 16, 32), 1, reshape("extra", (1, 7, 3))),
        ((8, 16, 32), 1, reshape("cls_0", (1, 1, 1))),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_other_graphs_are_refused(strides, per_cell, change, named):
    outputs = make_outputs(strides, priors_per_cell=per_cell)
    if change:
        change(outputs)
    if not named:
        outputs = {f"output{i}": value for i, value in enumerate(outputs.values())}
    assert yunet.recognise(outputs, WIDTH, HEIGHT, {}) is None


@pytest.mark.parametrize(("width", "height", "padded"), [(1, 1, (32, 32)), (33, 64, (64, 64)), (320, 320, (320, 320))])
def test_prepare_pads_right_and_below_with_black(width, height, padded):
    family = yunet.recognise(make_outputs(), WIDTH, HEIGHT, {})
    image = np.random.default_rng(1).integers(1, 256, (height, width, 3), np.uint8)
    blob = family.prepare(image, None)
    assert blob.shape == (1, 3, padded[1], padded[0])
    assert blob.dtype == np.float32
    np.testing.assert_array_equal(blob[0, :, :height, :width], image.transpose(2, 0, 1))
    assert not blob[0, :, height:].any()
    assert not blob[0, :, :, width:].any()
