"""int8 files compute what the float32 ones do, nearly, in integers where they should, and the same bytes each time."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from small_models import NAMES, drawn_image, file_of, network, run, write_images

from facetrain.core.boxes import box_iou
from facetrain.core.errors import DataError, ExportError, InputError, UsageError
from facetrain.core.images import write_image
from facetrain.detect.detector import FaceDetector
from facetrain.export.network.fold import fold
from facetrain.export.network.folded import Weights, joined
from facetrain.export.onnx.model import onnx_bytes, onnx_model
from facetrain.export.onnx.request import OnnxOptions
from facetrain.export.precision import statistics as int8_statistics
from facetrain.export.precision.equalise import equalise, even_divisors
from facetrain.export.precision.int8 import (
    TOP,
    calibration_images,
    integer_convs,
    map_steps,
    quantize,
    round_weight,
    step_of,
    steps_of,
)
from facetrain.export.precision.qdq import Step
from facetrain.export.precision.statistics import collect, image_input
from facetrain.model.weights import load_model

IMAGES = 6


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_images(tmp_path_factory.mktemp("calibration"), IMAGES)


@pytest.fixture(scope="session")
def lower(images: list[Path]) -> dict[str, onnx.ModelProto]:
    return {name: quantize(network(name), images, {"note": "kept"}) for name in NAMES}


@cache
def weights_of(name: str) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in file_of(name).graph.initializer}


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_near_float32(name: str, lower: dict[str, onnx.ModelProto]) -> None:
    image = drawn_image(IMAGES)
    exact, found = run(file_of(name), image), run(lower[name], image)
    assert list(found) == list(exact)
    for output, numbers in exact.items():
        error = np.sqrt(np.mean((found[output] - numbers) ** 2))
        assert found[output].dtype == np.float32
        assert 0 < error < (0.3 if name == "yunet_n" else 0.1) * max(numbers.std(), 0.02), (output, error)


@pytest.mark.parametrize("name", NAMES)
def test_file_keeps_its_form(name: str, lower: dict[str, onnx.ModelProto]) -> None:
    before, after = file_of(name), lower[name]
    assert after.graph.input == before.graph.input
    assert after.graph.output == before.graph.output
    assert (after.ir_version, after.opset_import) == (before.ir_version, before.opset_import)
    texts = {entry.key: entry.value for entry in after.metadata_props}
    assert {entry.key: entry.value for entry in before.metadata_props}.items() <= texts.items()
    assert texts["precision"] == "int8"
    assert texts["calibration"] == f"{IMAGES} images"
    kinds = {node.op_type for node in before.graph.node} | {"QuantizeLinear", "DequantizeLinear", "Split"}
    assert {node.op_type for node in after.graph.node} == kinds


@pytest.mark.parametrize("name", NAMES)
def test_integers_stand_where_they_should(name: str, lower: dict[str, onnx.ModelProto]) -> None:
    graph = lower[name].graph
    maker = {output: node for node in graph.node for output in node.output}
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    convs = [node for node in graph.node if node.op_type == "Conv"]
    ends = {node.input[0] for node in graph.node if node.op_type in ("Transpose", "Split")}
    ends |= {conv.input[0] for conv in convs if conv.output[0] in ends}
    # the stem, its unit and stage 1; where a pool follows that, it must be of integers, and so what it reads
    front = 5 if name == "towers, no landmarks" else 7
    pools = [node for node in graph.node if node.op_type == "MaxPool"]
    rounded = {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    for pool in pools:
        assert (pool.output[0] in rounded) == (maker[pool.input[0]].op_type == "DequantizeLinear")
    for place, conv in enumerate(convs):
        in_float = place < front or conv.output[0] in ends
        weight, bias = conv.input[1:]
        if in_float:
            assert values[weight].dtype == values[bias].dtype == np.float32
            continue
        image, *constants = (maker[source] for source in conv.input)
        assert [node.op_type for node in (image, *constants)] == ["DequantizeLinear"] * 3
        whole, steps, zeros = (values[source] for source in constants[0].input)
        assert whole.dtype == np.int8
        assert np.abs(whole.astype(int)).max() <= TOP
        assert steps.shape == zeros.shape == (len(whole),)
        assert not zeros.any()
        whole_bias, bias_steps, _ = (values[source] for source in constants[1].input)
        assert whole_bias.dtype == np.int32
        assert np.array_equal(bias_steps, (steps.astype(float) * values[image.input[1]]).astype(np.float32))
        # what it gives is rounded, straight or behind its ReLU
        behind = [node for node in graph.node if conv.output[0] in node.input]
        assert len(behind) == 1
        if behind[0].op_type == "Relu":
            behind = [node for node in graph.node if behind[0].output[0] in node.input]
        assert [node.op_type for node in behind] == ["QuantizeLinear"]


@pytest.mark.parametrize("name", NAMES)
def test_maps_that_are_only_moved_keep_their_step(name: str, lower: dict[str, onnx.ModelProto]) -> None:
    graph = lower[name].graph
    maker = {output: node for node in graph.node for output in node.output}
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    stored = {node.input[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    for node in stored.values():
        step, zero = (values[source] for source in node.input[1:])
        assert step.dtype == np.float32
        assert step.shape == zero.shape == ()  # older runtimes refuse to add maps whose steps are lists of one
        assert step > 0
        assert zero.dtype == np.uint8
    moved = [node for node in graph.node if node.op_type in ("MaxPool", "Resize") and node.input[0] in maker]
    moved = [node for node in moved if maker[node.input[0]].op_type == "DequantizeLinear"]
    assert moved or name == "one level"
    for node in moved:
        assert list(stored[node.output[0]].input[1:]) == list(maker[node.input[0]].input[1:])


@pytest.mark.parametrize("name", NAMES)
def test_onnxruntime_computes_them_in_integers(name: str, lower: dict[str, onnx.ModelProto], tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(lower[name].SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert kinds.count("QLinearConv") == len(integer_convs(joined(network(name)).network))


@pytest.mark.parametrize("name", NAMES)
def test_joined_heads_give_the_same_numbers(name: str) -> None:
    before, after = file_of(name), onnx_model(joined(network(name)), {})
    onnx.checker.check_model(after, full_check=True)
    assert sum(node.op_type == "Split" for node in after.graph.node) == len(network(name).config.strides)
    exact, found = run(before, drawn_image(0)), run(after, drawn_image(0))
    assert list(found) == list(exact)
    for output, numbers in exact.items():
        np.testing.assert_allclose(found[output], numbers, atol=1e-5 * max(1, np.abs(numbers).max()), err_msg=output)


def test_same_bytes_each_time_on_any_number_of_processors(
    images: list[Path], lower: dict[str, onnx.ModelProto], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = NAMES[0]
    for cores in (1, 3):
        monkeypatch.setattr(int8_statistics, "available_cores", lambda cores=cores: cores)
        seen: list[int] = []
        again = quantize(network(name), images, {"note": "kept"}, progress=seen.append)
        assert seen == [1] * IMAGES
        assert onnx_bytes(again) == onnx_bytes(lower[name])


@pytest.mark.parametrize("name", NAMES)
def test_equalising_changes_nothing_but_ranges(name: str, images: list[Path]) -> None:
    net = joined(network(name))
    convs = integer_convs(net.network)
    shown = lambda path: image_input(path, 32, None)  # noqa: E731
    found = collect(net, images, shown, lambda done: None)
    even, seen, divisors = equalise(net, found, convs)
    assert divisors
    image = drawn_image(IMAGES + 1)
    exact, same = run(file_of(name), image), run(onnx_model(even, {}), image)
    for output, numbers in exact.items():
        np.testing.assert_allclose(same[output], numbers, atol=2e-5 * max(1, np.abs(numbers).max()), err_msg=output)
    # what equalise says of the images is what they make of the new weights
    again = collect(even, images, shown, lambda done: None)
    for conv in convs:
        scale = np.abs(again.high[conv.y]).max() + np.abs(again.low[conv.y]).max()
        np.testing.assert_allclose(seen.low[conv.y], again.low[conv.y], atol=1e-4 * scale)
        np.testing.assert_allclose(seen.high[conv.y], again.high[conv.y], atol=1e-4 * scale)
    # between pointwise and depthwise all channels that live fill the range
    free = [conv for conv in convs if not conv.relu and conv.y in divisors]
    assert free
    for conv in free:
        step = step_of(seen.low[conv.y].min(), seen.high[conv.y].max())
        low, high = -step.zero * step.step, (255 - step.zero) * step.step
        filled = np.maximum(seen.low[conv.y] / min(low, -1e-9), seen.high[conv.y] / max(high, 1e-9))
        live = np.maximum(-found.low[conv.y], found.high[conv.y])
        assert (filled[live > 2e-3 * live.max()] > 0.95).all()


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50)), min_size=1, max_size=8))
def test_even_divisors_fill_one_range(ranges: list[tuple[float, float]]) -> None:
    low, high = -np.array([pair[0] for pair in ranges]), np.array([pair[1] for pair in ranges])
    divisors = even_divisors(low, high)
    live = np.maximum(-low, high) > 0
    assert (divisors[live] > 0).all()
    low, high = low[live] / divisors[live], high[live] / divisors[live]
    if live.any():
        # one of the two borders is reached by every channel
        reached = np.isclose(low, low.min()) & (low < 0) | np.isclose(high, high.max()) & (high > 0)
        assert reached.all()


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_steps_hold_zero_and_both_ends(low: float, high: float) -> None:
    low, high = min(low, high), max(low, high)
    step = step_of(low, high)
    assert 0 <= step.zero <= 255
    assert step.step > 0
    for value in (low, 0.0, high):
        whole = np.clip(np.rint(value / step.step) + step.zero, 0, 255)
        assert abs((whole - step.zero) * step.step - value) <= step.step * 0.51 + 1e-4 * abs(value)


@given(st.integers(0, 10_000), st.booleans())
def test_rounded_weights_are_within_half_a_step(seed: int, apart: bool) -> None:
    rng = np.random.default_rng(seed)
    weight = (rng.normal(size=(5, 1, 3, 3) if apart else (5, 7, 1, 1)) * rng.lognormal(size=(5, 1, 1, 1))).astype("f")
    rounded = round_weight(Weights(weight, np.zeros(5, np.float32)), Step(0.1, 0))
    assert (np.abs(rounded.values.astype(int)).reshape(5, -1).max(1) == TOP).all()
    steps = rounded.steps[:, None, None, None].astype(float)
    assert (np.abs(rounded.values * steps - weight) <= steps * 0.5001).all()


def test_a_bias_that_dwarfs_its_weights_still_fits() -> None:
    weight, bias = np.full((2, 3, 1, 1), 1e-12, np.float32), np.array([5, 0], np.float32)
    steps = steps_of(Weights(weight, bias), Step(1e-3, 0))
    assert np.abs(bias / (steps.astype(float) * 1e-3)).max() < 2**31 - 1
    nothing = Weights(np.zeros((1, 3, 1, 1), np.float32), np.zeros(1, np.float32))
    assert steps_of(nothing, Step(1e-3, 0)) == [1]


def test_steps_cover_what_was_seen(images: list[Path]) -> None:
    name = NAMES[1]
    net = joined(network(name))
    convs = integer_convs(net.network)
    found = collect(net, images, lambda path: image_input(path, 16, None), lambda done: None)
    steps = map_steps(net.network, found, convs)
    assert {conv.x for conv in convs} | {conv.y for conv in convs} <= steps.keys()
    for conv in convs:
        step = steps[conv.y]
        assert (-step.zero - 0.51) * step.step <= found.low[conv.y].min()
        assert found.high[conv.y].max() <= (255 - step.zero + 0.51) * step.step


@pytest.mark.parametrize("options", [OnnxOptions(size=(64, 96)), OnnxOptions(batch=2), OnnxOptions(opset=17)], ids=str)
def test_fixed_sizes_and_batches_are_calibrated(options: OnnxOptions, images: list[Path]) -> None:
    net = network(NAMES[0])
    image = np.repeat(drawn_image(0)[:, :, :96, :64], options.batch or 1, 0)
    exact, found = run(onnx_model(net, {}, options), image), run(quantize(net, images, {}, options), image)
    for output, numbers in exact.items():
        assert found[output].shape == numbers.shape
        assert np.abs(found[output] - numbers).mean() < 0.05 * max(numbers.std(), 0.02), output


def test_images_are_shown_as_the_network_gets_them(tmp_path: Path, images: list[Path]) -> None:
    shown = image_input(images[0], 32, None)
    assert np.array_equal(shown, drawn_image(0))
    assert image_input(images[0], 32, (64, 96)).shape == (1, 3, 96, 64)
    large = tmp_path / "large.png"
    write_image(large, np.zeros((100, 3000, 3), np.uint8))
    assert image_input(large, 32, None).shape == (1, 3, 64, 1024)


def test_errors(tmp_path: Path, images: list[Path]) -> None:
    net = network(NAMES[0])
    with pytest.raises(UsageError, match="`opset` 12"):
        quantize(net, images, {}, OnnxOptions(opset=12))
    with pytest.raises(InputError, match="no images"):
        quantize(net, [])
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.png"):
        quantize(net, [*images, broken])
    first, values = next(iter(net.weights.items()))
    wrong = {**net.weights, first: Weights(values.weight * np.float32(np.nan), values.bias)}
    with pytest.raises(ExportError, match="not finite"):
        quantize(replace(net, weights=wrong), images)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yunet_n", "yunet_s"])
def test_released_weights_find_the_same_faces(name: str, shared: Path, tmp_path: Path) -> None:
    net = fold(load_model(shared / f"reference/yunet/{name}.pth"))
    model = onnx_model(net, {})
    training = calibration_images(shared / "widerface", 16)
    detectors = []
    for file, content in (("float.onnx", model), ("int8.onnx", quantize(net, training))):
        (tmp_path / file).write_bytes(onnx_bytes(content))
        detectors.append(FaceDetector(tmp_path / file, score=0.2))
    for path in sorted((shared / "reference/images").glob("*.jpg")):
        exact, found = (detector.detect(path) for detector in detectors)
        sure = exact.scores > 0.4
        overlaps = box_iou(exact.boxes[sure], found.boxes)
        assert (overlaps.max(1, initial=0) > 0.7).all(), path
        gaps = np.abs(found.scores[overlaps.argmax(1)] - exact.scores[sure]) if sure.any() else np.zeros(1)
        assert gaps.max() < 0.15, path
