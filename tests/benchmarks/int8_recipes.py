"""What each part of the int8 recipe brings: AP lost, bytes and latency of several recipes, against float32.

    taskset -c 1 python tests/benchmarks/int8_recipes.py --weights yunet_n.pt --data data/widerface

Calibrates on training pictures of --data and judges on its validation pictures. About half a minute a recipe for 400
pictures; --recipes takes a part of a name and runs those alone, --seeds calibrates with several draws of pictures.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from facetrain.detect.load import find_weights
from facetrain.export.fold import fold
from facetrain.export.int8 import calibration_pictures, integer_convs, map_steps, step_of
from facetrain.export.int8_equalise import equalise
from facetrain.export.int8_pictures import judged_pictures, refuse_overlap
from facetrain.export.int8_qdq import RoundedWeight, Step, write_qdq
from facetrain.export.int8_rounding import TOP, round_weight, steps_of
from facetrain.export.int8_statistics import collect, map_model, picture_input
from facetrain.export.joined_heads import join_heads
from facetrain.export.map_layers import ConvLayer, MapLayers, map_layers
from facetrain.export.onnx import onnx_bytes, onnx_model
from facetrain.export.precision import measure
from facetrain.model.weights import load_model

_SAMPLES = 40_000  # numbers of a map and picture that percentiles are taken from


@dataclass(frozen=True)
class Recipe:
    """What is done in integers and how.

    front:   first convolutions that stay in float
    heads:   integer; last: their last convolution in float; float: both
    coarse:  a stride from which on all is float, such as 16
    ranges:  what share of a map's numbers its range covers, in percent; 100: all that was seen
    """

    front: int = 7
    heads: str = "float"
    coarse: int | None = None
    joined: bool = True
    equalised: bool = True
    rounding: str = "outputs"
    ranges: float = 100
    weights_only: bool = False


FINAL = Recipe()
PLAIN = Recipe(0, "integer", None, False, False, "nearest")
RECIPES: dict[str, Recipe | None] = {
    "onnxruntime's quantiser": None,
    "all convolutions": PLAIN,
    "outputs in float": replace(PLAIN, heads="last"),
    "+ stem, its unit, stage 1 in float": replace(PLAIN, heads="last", front=7),
    "+ heads in float": replace(PLAIN, heads="float", front=7),
    "+ heads joined": replace(PLAIN, heads="float", front=7, joined=True),
    "+ equalised": replace(FINAL, rounding="nearest"),
    "+ rounded by outputs (as exported)": FINAL,
    "… half of stage 1 in integers": replace(FINAL, front=5),
    "… also strides 16, 32 in float": replace(FINAL, coarse=16),
    "… ranges cover 99.999 %": replace(FINAL, ranges=99.999),
    "… ranges cover 99.99 %": replace(FINAL, ranges=99.99),
    "… weights only": replace(FINAL, weights_only=True),
}


def chosen_convs(layers: MapLayers, recipe: Recipe) -> list[ConvLayer]:
    """The convolutions that the recipe does in integers."""
    if recipe == FINAL:
        return integer_convs(layers)
    last = {conv.raw for conv in layers.convs if conv.y in layers.exits}
    first = {conv.x for conv in layers.convs if conv.raw in last}
    fixed = {"integer": set(), "last": last, "float": last | first}[recipe.heads]
    strides = {"input": 1}
    for node in layers.nodes:
        before = next(strides[name] for name in node.input if name in strides)
        conv = next((conv for conv in layers.convs if conv.raw == node.output[0]), None)
        halved = node.op_type == "MaxPool" or (conv is not None and conv.stride == 2)
        strides[node.output[0]] = before * 2 if halved else before // 2 if node.op_type == "Resize" else before
    coarse = recipe.coarse or 1 << 30
    return [c for c in layers.convs[recipe.front :] if c.y not in fixed and strides[c.x] < coarse]


def covering(
    model: onnx.ModelProto, layers: MapLayers, steps: dict[str, Step], shown: Sequence[np.ndarray], share: float
) -> dict[str, Step]:
    """Steps that cover `share` percent of what the pictures show, taken from a sample of it."""
    names = list(steps)
    session = onnxruntime.InferenceSession(map_model(model, layers, names).SerializeToString())
    seen: dict[str, list[np.ndarray]] = {name: [] for name in names}
    rng = np.random.default_rng(0)
    for image in shown:
        for name, values in zip(names, session.run(names, {"input": image}), strict=True):
            seen[name].append(rng.choice(values.ravel(), _SAMPLES))
    result = {}
    for name in names:
        values = np.concatenate(seen[name])
        low, high = np.percentile(values, [100 - share, share])
        result[name] = step_of(float(low), float(high))
    return result


def build(model: onnx.ModelProto, recipe: Recipe, pictures: Sequence[Path], multiple: int) -> onnx.ModelProto:
    """The file that a recipe makes."""
    if recipe.joined:
        model = join_heads(model)
    layers = map_layers(model)
    convs = chosen_convs(layers, recipe)

    def show(path: Path) -> np.ndarray:
        return picture_input(path, multiple, None)

    found = collect(model, layers, convs, pictures, show, lambda done: None)
    if recipe.equalised:
        layers, found, _ = equalise(layers, found, convs)
    steps = map_steps(layers, found, convs)
    if recipe.ranges < 100:
        even = write_qdq(model, layers, {}, {}, {})
        steps = covering(even, layers, steps, [show(path) for path in pictures], recipe.ranges)
    entry = model.graph.input[0].name
    if any(conv.x == entry for conv in convs):
        steps = {entry: Step(1.0, 0), **steps}
    weights = {}
    for conv in convs:
        weight, bias = layers.weights[conv.weight], layers.weights[conv.bias]
        sizes = steps_of(weight, bias, steps[conv.x].step)
        if recipe.rounding == "nearest":
            whole = np.clip(np.rint(weight / sizes[:, None, None, None]), -TOP, TOP).astype(np.int8)
        else:
            whole = round_weight(weight, sizes, found.moments[conv.raw])
        weights[conv.raw] = RoundedWeight(whole, sizes)
    return write_qdq(model, layers, {} if recipe.weights_only else steps, weights, {})


def by_onnxruntime(model: onnx.ModelProto, pictures: Sequence[Path], multiple: int) -> onnx.ModelProto:
    """onnxruntime's own static quantiser: all nodes, per channel, the whole range."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(pictures)

        def get_next(self) -> dict[str, np.ndarray] | None:
            path = next(self.left, None)
            return None if path is None else {"input": picture_input(path, multiple, None)}

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        before.write_bytes(onnx_bytes(model))
        quantize_static(before, after, Reader(), per_channel=True, weight_type=QuantType.QInt8)
        return onnx.load(after)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="yunet_n")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=64, help="that calibrate")
    parser.add_argument("--seeds", type=int, default=1, help="draws of calibration pictures, each measured")
    parser.add_argument("--recipes", default="", help="only those whose name has this in it")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    checkpoint = find_weights(args.weights)
    if checkpoint.suffix == ".onnx":
        checkpoint = checkpoint.with_suffix(".pt")
    net = fold(load_model(checkpoint))
    model, multiple = onnx_model(net, {}), max(net.config.strides)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        before.write_bytes(onnx_bytes(model))
        print(f"{'recipe':36} seed    bytes  {'AP lost: easy, medium, hard':31}  ms fp32  ms int8  ratio")
        for name, recipe in RECIPES.items():
            if args.recipes not in name:
                continue
            for seed in range(args.seeds):
                pictures = calibration_pictures(args.data, args.pictures, seed)
                refuse_overlap(pictures, judged_pictures(args.data))
                if recipe is None:
                    made = by_onnxruntime(model, pictures, multiple)
                else:
                    made = build(model, recipe, pictures, multiple)
                after.write_bytes(onnx_bytes(made))
                result = measure(before, after, args.data)
                lost = " ".join(f"{value:+.4f}" for value in result["ap"]["drop"].values())
                speed = result["latency"]
                times = f"{speed['before_ms']:7.2f}  {speed['after_ms']:7.2f}  {speed['ratio']:5.2f}"
                print(f"{name:36} {seed:4}  {result['bytes']['after']:7,}  {lost:31}  {times}", flush=True)
                rows.append({"recipe": name, "seed": seed, **result})
    if args.json is not None:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")
    print(f"{rows[0]['latency']['processor']}, onnxruntime {onnxruntime.__version__}, one thread" if rows else "none")


if __name__ == "__main__":
    main()
