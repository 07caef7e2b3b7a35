"""What each part of the int8 recipe brings: AP lost, bytes and latency of several recipes, against float32.

    taskset -c 1 python tests/benchmarks/int8_recipes.py --weights yunet_n.pt --data data/widerface

Calibrates on training images of --data and judges on its validation images. About half a minute a recipe for 400
images; --recipes takes parts of names and runs those alone. --seeds calibrates with several draws of images and
averages over them: which images calibrate moves AP by as much as a part of the recipe does. Differences have 95 %
intervals, of the same images for both.

int8_parts.jsonl is what decided on two parts, on 400 validation images of WIDER FACE with --seeds 3. AP gained:

    equalised, against plain           easy                       hard
    released YuNet-n                   +.0034 [+.0010, +.0059]    +.0013 [-.0016, +.0044]
    released YuNet-s                   +.0006 [-.0012, +.0023]    +.0027 [+.0005, +.0049]
    bundled yunet_n                    +.0004 [-.0011, +.0018]    +.0012 [-.0003, +.0027]
    bundled yunet_s                    +.0000 [-.0014, +.0014]    -.0004 [-.0027, +.0018]

    rounded by outputs (GPTQ) besides, against equalised alone
    released YuNet-n                   -.0004 [-.0022, +.0014]    -.0018 [-.0051, +.0012]
    released YuNet-s                   -.0031 [-.0059, -.0003]    -.0043 [-.0060, -.0026]
    bundled yunet_n                    -.0013 [-.0026, -.0000]    +.0008 [-.0007, +.0023]
    bundled yunet_s                    -.0007 [-.0025, +.0010]    -.0001 [-.0028, +.0025]

So maps are equalised, which gains more than its interval, and weights are rounded to the nearest step.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from facetrain.detect.find_weights import find_weights
from facetrain.eval.difference import Difference, brackets, difference_of, signed
from facetrain.eval.evaluate import Evaluation, Source, evaluate_on, load_benchmark
from facetrain.eval.intervals import Estimate
from facetrain.eval.protocol import EvalProtocol
from facetrain.export.network.fold import fold
from facetrain.export.network.folded import FoldedNet, joined
from facetrain.export.onnx.model import onnx_bytes, onnx_model
from facetrain.export.precision.calibration import judged_images, refuse_overlap
from facetrain.export.precision.equalise import equalise, exits
from facetrain.export.precision.int8 import calibration_images, integer_convs, map_steps, round_weight, step_of
from facetrain.export.precision.measure import latency
from facetrain.export.precision.qdq import Int8, Step
from facetrain.export.precision.statistics import collect, image_input, map_model
from facetrain.model.operations import IMAGE, Conv, Network
from facetrain.model.weights import load_model

_SAMPLES = 40_000  # numbers of a map and image that percentiles are taken from


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
    ranges: float = 100
    weights_only: bool = False


FINAL = Recipe()
PLAIN = Recipe(0, "integer", None, False, False)
RECIPES: dict[str, Recipe | None] = {
    "onnxruntime's quantiser": None,
    "all convolutions": PLAIN,
    "outputs in float": replace(PLAIN, heads="last"),
    "+ stem, its unit, stage 1 in float": replace(PLAIN, heads="last", front=7),
    "+ heads in float": replace(PLAIN, heads="float", front=7),
    "+ joined, as shipped but not equalised": replace(FINAL, equalised=False),
    "+ equalised, as shipped": FINAL,
    "… half of stage 1 in integers": replace(FINAL, front=5),
    "… also strides 16, 32 in float": replace(FINAL, coarse=16),
    "… ranges cover 99.999 %": replace(FINAL, ranges=99.999),
    "… ranges cover 99.99 %": replace(FINAL, ranges=99.99),
    "… weights only": replace(FINAL, weights_only=True),
}


def chosen_convs(network: Network, recipe: Recipe) -> list[Conv]:
    """The convolutions that the recipe does in integers."""
    same = replace(FINAL, equalised=recipe.equalised, ranges=recipe.ranges, weights_only=recipe.weights_only)
    if recipe == same:
        return integer_convs(network)
    last = {conv.y for conv in network.convs if conv.y in exits(network)}
    first = {conv.x for conv in network.convs if conv.y in last}
    fixed = {"integer": set(), "last": last, "float": last | first}[recipe.heads]
    coarse = recipe.coarse or 1 << 30
    chosen = network.convs[recipe.front :]
    return [conv for conv in chosen if conv.y not in fixed and network.maps[conv.x].stride < coarse]


def covering(net: FoldedNet, steps: dict[str, Step], shown: Sequence[np.ndarray], share: float) -> dict[str, Step]:
    """Steps that cover `share` percent of what the images show, taken from a sample of it."""
    file, tensors = map_model(net)
    session = onnxruntime.InferenceSession(file.SerializeToString())
    seen: dict[str, list[np.ndarray]] = {name: [] for name in steps}
    rng = np.random.default_rng(0)
    for image in shown:
        for name, values in zip(steps, session.run([tensors[name] for name in steps], {"input": image}), strict=True):
            seen[name].append(rng.choice(values.ravel(), _SAMPLES))
    result = {}
    for name in steps:
        values = np.concatenate(seen[name])
        low, high = np.percentile(values, [100 - share, share])
        result[name] = step_of(float(low), float(high))
    return result


def build(net: FoldedNet, recipe: Recipe, images: Sequence[Path], multiple: int) -> onnx.ModelProto:
    """The file that a recipe makes."""
    net = joined(net) if recipe.joined else net
    convs = chosen_convs(net.network, recipe)

    def show(path: Path) -> np.ndarray:
        return image_input(path, multiple, None)

    found = collect(net, images, show, lambda done: None)
    if recipe.equalised:
        net, found, _ = equalise(net, found, convs)
    steps = map_steps(net.network, found, convs)
    if recipe.ranges < 100:
        steps = covering(net, steps, [show(path) for path in images], recipe.ranges)
    if any(conv.x == IMAGE for conv in convs):
        steps = {IMAGE: Step(1.0, 0), **steps}
    weights = {conv.y: round_weight(net.weights[conv.y], steps[conv.x]) for conv in convs}
    return onnx_model(net, {}, storage=Int8({} if recipe.weights_only else steps, weights))


def by_onnxruntime(model: onnx.ModelProto, images: Sequence[Path], multiple: int) -> onnx.ModelProto:
    """onnxruntime's own static quantiser: all nodes, per channel, the whole range."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            path = next(self.left, None)
            return None if path is None else {"input": image_input(path, multiple, None)}

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        before.write_bytes(onnx_bytes(model))
        quantize_static(before, after, Reader(), per_channel=True, weight_type=QuantType.QInt8)
        return onnx.load(after)


def averaged(parts: Sequence[Evaluation]) -> dict[str, Estimate]:
    """The AP of each subset, averaged over draws of calibration images: its value, and what each draw of the judged
    images makes of it."""
    fields = ("value", "samples", "influence")
    return {
        name: replace(
            first, **{key: np.mean([getattr(part.intervals[name], key) for part in parts], 0) for key in fields}
        )
        for name, first in parts[0].intervals.items()
    }


def compared(a: Mapping[str, Estimate], b: Mapping[str, Estimate], resampling) -> dict[str, Difference]:
    return {name: difference_of(a[name], b[name], resampling) for name in a}


def in_words(found: Mapping[str, Difference]) -> str:
    return "  ".join(f"{signed(d.value)} {brackets(d.low, d.high, 4, sign=True):17}" for d in found.values())


def as_json(found: Mapping[str, Difference]) -> dict[str, list[float | None]]:
    """Value and ends of the interval, by subset."""
    return {
        name: [None if end is None else round(float(end), 5) for end in (d.value, d.low, d.high)]
        for name, d in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="yunet_n")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=64, help="that calibrate")
    parser.add_argument("--seeds", type=int, default=1, help="draws of calibration images, averaged")
    parser.add_argument("--recipes", nargs="*", default=[""], help="only those whose name has one of these in it")
    parser.add_argument("--json", type=Path, help="add a line with the numbers to this file")
    args = parser.parse_args()
    checkpoint = find_weights(args.weights)
    if checkpoint.suffix == ".onnx":
        checkpoint = checkpoint.with_suffix(".pt")
    net = fold(load_model(checkpoint))
    model, multiple = onnx_model(net, {}), max(net.config.strides)
    benchmark = load_benchmark(args.data, widerface=None, present_only=True)
    draws = [calibration_images(args.data, args.images, seed) for seed in range(args.seeds)]
    for images in draws:
        refuse_overlap(images, judged_images(args.data))
    measured: dict[str, dict[str, Estimate]] = {}
    row = {"weights": args.weights, "images": len(benchmark.images), "calibrations": args.seeds, "lost": {}, "gain": {}}
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        before.write_bytes(onnx_bytes(model))
        exact = evaluate_on(benchmark, Source(weights=str(before), threads=1), EvalProtocol())
        aps = averaged([exact])
        print(f"{'recipe':44}   bytes  ratio  AP lost: {', '.join(aps)}")
        for name, recipe in RECIPES.items():
            if not any(part in name for part in args.recipes):
                continue
            parts = []
            for images in draws:
                made = (
                    by_onnxruntime(model, images, multiple) if recipe is None else build(net, recipe, images, multiple)
                )
                after.write_bytes(onnx_bytes(made))
                parts.append(evaluate_on(benchmark, Source(weights=str(after), threads=1), EvalProtocol()))
            measured[name] = averaged(parts)
            lost, ratio = compared(measured[name], aps, exact.resampling), latency(before, after)["ratio"]
            print(f"{name:44} {after.stat().st_size:7,}  {ratio:5.2f}  {in_words(lost)}", flush=True)
            row["lost"][name] = as_json(lost)
    names = list(measured)
    print("\nAP gained by one against another")
    for a, b in [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]:
        gain = compared(measured[a], measured[b], exact.resampling)
        print(f"{b}, against {a}:\n    {in_words(gain)}")
        row["gain"][f"{b} - {a}"] = as_json(gain)
    if args.json is not None:
        with args.json.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
