"""What teaches best in a given processor time: recipes side by side, one thread, several seeds, AP on 200 images.

    python tests/benchmarks/recipes.py                     # every recipe, seeds 0 to 2, 4 processor minutes each
    python tests/benchmarks/recipes.py --only "teacher, Muon" --seeds 5 --minutes 12
    python tests/benchmarks/recipes.py --table             # mean and spread of what recipes.jsonl holds

Each run is a process of its own that calls `train_model` with a clock of processor time, so that other work on the
machine costs it nothing but warmth of caches. Seeds go outermost: whenever it is stopped, all recipes have had the
same. Needs the folder FACETRAIN_REFERENCE (by default `shared` beside the checkout).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from long_run import RECIPES, git
from long_run_plan import reference

VALIDATION = 200  # images, evenly from those that are there
BASE = {"data.store": "mapped", "eval.every": 1000, "eval.limit": 1, "train.compile": "off"}
LABELS = {"train.teacher": None, "train.label_weight": 1}
SMALL = {"data.size": 256, "train.batch": 16}  # what the smallest groups that are usual do
ADAMW = {"train.optimizer": "adamw", "train.lr": 0.004}
MAPS = {"train.teacher_maps": 40}
COLOUR = {"data.colour.jitter": 0.3, "data.colour.grey": 0.1, "data.colour.blur": 0.2}


@dataclass(frozen=True)
class Recipe:
    """Settings over the recipe `distil`.

    views: what the networks look at, a name of VIEWS; relabelled: by a better detector; by_face: windows are chosen so
    that a face gets a drawn size
    """

    settings: dict[str, Any] = field(default_factory=dict)
    views: str = "one"
    relabelled: bool = False
    by_face: bool = False


# What is asked: labels or a teacher, by which optimiser (the published one as well);
# then teachers that see more than the student does, and what the crops are.
PUBLISHED = {"train.optimizer": "sgd", "train.lr": 0.01, "train.schedule": "steps", "train.warmup_limit": 0.1}
CANDIDATES = {
    "labels, published SGD": Recipe(LABELS | PUBLISHED),
    "labels, AdamW": Recipe(LABELS | ADAMW),
    "labels, Muon": Recipe(LABELS | {"train.lr": 0.02}),
    "teacher, AdamW": Recipe(ADAMW),
    "teacher, Muon": Recipe(),
    "teacher at twice the size, Muon": Recipe({"data.size": 640}, "double"),
    "teacher, the surer of both sizes, Muon": Recipe({"data.size": 640}, "surer"),
    "teacher and labels of a better detector, Muon": Recipe({"train.label_weight": 0.3}, relabelled=True),
    "teacher and labels, Muon": Recipe({"train.label_weight": 0.3}),
    "teacher and its maps, Muon": Recipe(MAPS),
    "teacher, Muon, batch of 64": Recipe({"train.batch": 64}),
    "teacher, Muon, longer average": Recipe({"train.ema": 0.9995}),
    "teacher, Muon, colour and blur": Recipe(COLOUR),
    "teacher, Muon, faces of drawn sizes": Recipe(by_face=True),
    "teacher, Muon, mosaics": Recipe(views="mosaics"),
    "teacher, Muon, blur and JPEG": Recipe(views="worn"),
    "labels, AdamW, 16 crops of 256, one norm": Recipe(LABELS | ADAMW | SMALL | {"train.norm_group": 16}),
    "labels, AdamW, 16 crops of 256, norms of 8": Recipe(LABELS | ADAMW | SMALL | {"train.norm_group": 8}),
}


def one(name: str, seed: int, minutes: float, out: Path) -> None:
    """Train by one recipe and measure; the line goes to `out`."""
    import torch

    from facetrain.config.load import load_config
    from facetrain.train import accelerate
    from facetrain.train.loop import train_model

    torch.set_num_threads(1)
    recipe = CANDIDATES[name]
    if recipe.views != "one":
        accelerate.GroupGradients = partial(accelerate.GroupGradients, losses=VIEWS[recipe.views])  # type: ignore[assignment,misc]
    if recipe.by_face:
        from facetrain.data import batches

        batches.draw_crop = window_by_face  # type: ignore[attr-defined]
    root = relabelled() if recipe.relabelled else reference() / "widerface"
    settings = BASE | {"train.teacher": str(reference() / "reference/yunet/yunet_n.pth")} | recipe.settings
    text = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    config = load_config("yunet_n", [*text, f"data.root={json.dumps(str(root))}", f"train.seed={seed}"], "distil")
    config = replace(config, data=replace(config.data, workers=1))
    result = train_model(config, runs=out.parent / "runs", budget=60 * minutes, clock=time.process_time)
    assert result.run is not None
    line = {
        "kind": "recipe",
        "recipe": name,
        "network": "yunet_n",
        "seed": seed,
        "processor_minutes": minutes,
        "steps": result.step,
        "crops": result.step * config.train.batch,
        "ap": measure(result.run.best),
        "images": VALIDATION,
    }
    out.write_text(json.dumps(line))


def measure(weights: Path) -> dict[str, float]:
    """Easy, medium and hard on the fixed validation images, at original size."""
    from facetrain.config.schema import Config, EvalConfig
    from facetrain.model.detector import load_detector
    from facetrain.train.events import LogEvents
    from facetrain.train.validation import find_validation

    val = find_validation(reference() / "widerface", Config(eval=EvalConfig(limit=VALIDATION)), LogEvents())
    assert val is not None
    report = val.measure(load_detector(weights, "cpu", 0.02, 0.45, 5000), lambda done, total: None)
    assert report is not None
    return {name: round(ap or 0.0, 4) for name, ap in report.subsets.items()}


def half(images: Any) -> Any:
    """Crops at half their size, every pixel the mean of four."""
    from torch.nn.functional import avg_pool2d

    return avg_pool2d(images, 2)


def two_views(choose: Callable[[Any, Any, Any], Any]) -> Callable[..., Any]:
    """A step's losses where the crops come at twice the student's size, and the teacher sees both sizes.

    What it says at twice the size stands one level finer for the student: its strides 16 and 32 are the student's 8 and
    16, in the same units of strides. The student's 32 is the teacher's own. choose: same size, double size, weights of
    both -> which of them teaches, for the two finer levels
    """

    def losses(model: Any, batch: Any, task: Any) -> Any:
        import torch

        from facetrain.model.yunet import Predictions
        from facetrain.train.teacher import look, prior_weights
        from facetrain.train.terms import Seen, teacher_terms

        double = batch.images.to(task.dtype)
        same = half(double)
        with torch.autocast("cpu", task.dtype, enabled=task.dtype != torch.float32):
            predictions = model(same)
            near, far = look(task.teacher, double), look(task.teacher, same)
        coarse = same.shape[2] // 32 * (same.shape[3] // 32)  # priors of the student's coarsest level
        count = predictions.cls.shape[1]
        first = near.cls.shape[1] - (count - coarse)  # the finest level of the double size has no counterpart

        def shifted(name: str) -> Any:
            theirs, own = getattr(near, name), getattr(far, name)
            return torch.cat([theirs[:, first:], own[:, count - coarse :]], 1)

        names = ("cls", "obj", "boxes", "landmarks")
        finer = Predictions(*(shifted(name) for name in names), predictions.priors)
        taught = choose(far, finer, (prior_weights(far), prior_weights(finer)))
        return teacher_terms(Seen(task.config, task.world, batch, predictions, None, taught))

    return losses


def surer(far: Any, finer: Any, weights: tuple[Any, Any]) -> Any:
    """Per prior, what the view says that gives it the higher score."""
    import torch

    from facetrain.model.yunet import Predictions

    takes = weights[1] > weights[0]
    parts = []
    for name in ("cls", "obj", "boxes", "landmarks"):
        theirs, own = getattr(finer, name), getattr(far, name)
        parts.append(torch.where(takes.view(*takes.shape, *[1] * (own.dim() - 2)), theirs, own))
    return Predictions(*parts, far.priors)


def changed(change: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """A step's losses where both networks see the crops after a change: (images, random numbers) -> images."""
    import numpy as np

    rng = np.random.default_rng(0)

    def losses(model: Any, batch: Any, task: Any) -> Any:
        from facetrain.train.step import batch_losses

        return batch_losses(model, replace(batch, images=change(batch.images, rng)), task)

    return losses


def mosaics(images: Any, rng: Any) -> Any:
    """Every second crop becomes four crops of the group at half their size. Without labels, that is all of it."""
    import torch

    small, made = half(images.float()), images.clone()
    for number in range(0, len(images), 2):
        first, second, third, fourth = (small[index] for index in rng.choice(len(images), 4, replace=len(images) < 4))
        made[number] = torch.cat([torch.cat([first, second], 2), torch.cat([third, fourth], 2)], 1).to(made.dtype)
    return made


def worn(images: Any, rng: Any) -> Any:
    """A third of the crops blurred and kept as a small JPEG, as what cheap cameras and messengers pass on."""
    import cv2
    import numpy as np
    import torch

    made = images.clone()
    for number in np.flatnonzero(rng.random(len(images)) < 1 / 3):
        pixels = images[number].float().clamp(0, 255).round().byte().permute(1, 2, 0).contiguous().numpy()
        pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.3, 1.5))
        _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 86))])
        seen = torch.from_numpy(cv2.imdecode(data, cv2.IMREAD_COLOR))
        made[number] = seen.permute(2, 0, 1).to(made.dtype)
    return made


def window_by_face(image: Any, index: int, config: Any, seed: int, epoch: int, position: int) -> Any:
    """A crop in which one of the faces gets a size drawn evenly in octaves, 10 pixels to seven eighths of the crop."""
    import numpy as np

    from facetrain.data.crops import draw_crop

    crop = draw_crop(image, index, config, seed, epoch, position)
    faces = image.boxes[~image.ignore]
    if not len(faces):
        return crop
    rng = np.random.default_rng([seed, epoch, position, 1])
    box = faces[rng.integers(len(faces))]
    wanted = np.exp(rng.uniform(np.log(10), np.log(config.size * 7 / 8)))
    short = min(image.size)
    side = int(np.clip((box[2:] - box[:2]).min() * config.size / wanted, 0.2 * short, 1.5 * short))
    places = []
    for centre, length in zip((box[:2] + box[2:]) / 2, image.size, strict=True):
        low, high = min(0, length - side), max(0, length - side)
        place = rng.uniform(max(low, centre - 0.95 * side), max(low, min(high, centre - 0.05 * side)))
        places.append(int(np.clip(place, low, high)))
    return replace(crop, left=places[0], top=places[1], side=side)


VIEWS: dict[str, Any] = {
    "double": two_views(lambda far, finer, weights: finer),
    "surer": two_views(surer),
    "mosaics": changed(mosaics),
    "worn": changed(worn),
}


def relabelled() -> Path:
    """The training images with boxes by the far better detector in place of their labels; made once."""
    from facetrain.core.files import user_cache, write_text
    from facetrain.core.images import read_image
    from facetrain.data.landmark_names import FIVE
    from facetrain.data.layout import load_split
    from facetrain.detect.detector import FaceDetector

    root = user_cache() / "facetrain" / "relabelled"
    target = root / "labelv2" / "train" / "labelv2.txt"
    if target.is_file():
        return root
    source = reference() / "widerface"
    detector = FaceDetector(str(reference() / "reference/teachers/scrfd_2.5g_dynamic.onnx"), score=0.15, threads=1)
    lines = []
    for image in load_split(source, "train", FIVE).images:
        faces = detector.detect(read_image(image.path))
        lines.append("# {} {} {}".format(image.name, *(image.size or ())))
        for box, score in zip(faces.boxes.tolist(), faces.scores.tolist(), strict=True):
            numbers = " ".join(f"{value:.2f}" for value in box)
            lines.append(numbers if score >= 0.42 else f"{numbers} 1")  # below that it is ignored
    for name in ("WIDER_train", "WIDER_val"):
        root.mkdir(parents=True, exist_ok=True)
        if not (root / name).exists():
            (root / name).symlink_to(source / name, target_is_directory=True)
    (root / "labelv2").mkdir(exist_ok=True)
    if not (root / "labelv2" / "val").exists():
        (root / "labelv2" / "val").symlink_to(source / "labelv2" / "val", target_is_directory=True)
    write_text(target, "\n".join(lines) + "\n")
    return root


def known(minutes: float) -> dict[tuple[str, int], dict[str, Any]]:
    """The recorded runs of this length, by recipe and seed."""
    return {(line["recipe"], line["seed"]): line for line in recorded() if line["processor_minutes"] == minutes}


def recorded() -> Iterator[dict[str, Any]]:
    """The lines of recipes.jsonl that this script has written."""
    if RECIPES.is_file():
        for text in RECIPES.read_text(encoding="utf-8").splitlines():
            line = json.loads(text)
            if line["kind"] == "recipe":
                yield line


def table(minutes: float) -> str:
    """Mean and spread (largest less smallest) over the seeds, and how often a recipe was the best of its seed."""
    rows = [f"| {minutes:g} processor minutes | seeds | steps | easy | medium | hard | mean |", "|" + " --- |" * 7]
    runs = known(minutes)
    for name in CANDIDATES:
        lines = [line for (recipe, _), line in runs.items() if recipe == name]
        if not lines:
            continue
        cells = []
        for subset in ("easy", "medium", "hard"):
            values = [line["ap"][subset] for line in lines]
            cells.append(f"{statistics.mean(values):.3f} ± {(max(values) - min(values)) / 2:.3f}")
        mean = statistics.mean(sum(line["ap"].values()) / 3 for line in lines)
        steps = statistics.mean(line["steps"] for line in lines)
        rows.append(f"| {name} | {len(lines)} | {steps:,.0f} | {' | '.join(cells)} | {mean:.3f} |")
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", action="append", choices=[*CANDIDATES], help="a recipe; by default all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=4.0, help="processor minutes of each run")
    parser.add_argument("--work", type=Path, default=Path("recipes-runs"), help="folder for the runs")
    parser.add_argument("--table", action="store_true", help="print what is recorded, run nothing")
    parser.add_argument("--one", nargs=2, metavar=("RECIPE", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.table:
        print(table(options.minutes))
        return
    options.work.mkdir(parents=True, exist_ok=True)
    out = options.work.resolve() / "line.json"
    if options.one:
        one(options.one[0], int(options.one[1]), options.minutes, out)
        return
    for seed in range(options.seeds):
        for name in options.only or CANDIDATES:
            if (name, seed) in known(options.minutes):
                continue
            line = [sys.executable, __file__, "--one", name, str(seed), "--minutes", str(options.minutes)]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            subprocess.run([*line, "--work", str(options.work)], check=True, env=environment)
            result = json.loads(out.read_text()) | {"commit": git("rev-parse", "HEAD")}
            with RECIPES.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
            print(name, seed, result["steps"], result["ap"], flush=True)
    print(table(options.minutes))


if __name__ == "__main__":
    main()
