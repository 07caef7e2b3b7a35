"""How many images of one's own help: the bundled weights trained on a few from a camera that they do not know.

    python tests/benchmarks/own_images.py                       # every way, 10 to 1,000 images, 6 processor minutes
    python tests/benchmarks/own_images.py --ways teacher --counts 50 --minutes 12
    python tests/benchmarks/own_images.py --table               # what own_images.jsonl holds

The camera is that of examples/night_camera.py: WIDER FACE's images without colour, at a few photons a pixel. Training
images are the first so many of the training part by a hash of their names, with their labels; AP is that of validation
images seen by the same camera, and of the same images as they were, to see what was forgotten (as 640x480). Each run is
a process of its own with one thread and a clock of processor time. Needs the folder FACETRAIN_REFERENCE (by default
`shared` beside the checkout).
"""

import argparse
import hashlib
import json
import runpy
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from long_run import git
from long_run_plan import reference

CAMERA = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "night_camera.py"))["camera"]
VALIDATION = 400
LEAST = 16  # pixels of a face's shorter side; smaller ones count neither way
WAYS: dict[str, dict[str, Any]] = {
    "labels": {},
    "labels, slower": {"train.lr": 0.005},
    "teacher": {"train.teacher": "yunet_n"},
    "teacher, slower": {"train.teacher": "yunet_n", "train.lr": 0.005},
}


def draw_set(root: Path, part: str, count: int, *, night: bool) -> None:
    """The first `count` images of a part by a hash of their names, as labelv2, seen by the camera or as they are."""
    from facetrain.core.images import read_image, write_image
    from facetrain.data.formats import labelv2
    from facetrain.data.layout import load_split

    folder = root / part
    if (folder / "labelv2.txt").exists():
        return
    labels = load_split(reference() / "widerface", "train" if part == "train" else "val", None)
    chosen = sorted(labels.images, key=lambda image: hashlib.sha256(image.name.encode()).digest())[:count]
    for number, image in enumerate(chosen):
        target = folder / "images" / image.name
        target.parent.mkdir(parents=True, exist_ok=True)
        pixels = read_image(image.path)
        write_image(target, CAMERA(pixels, number) if night else pixels)
    small = [image.ignore | ((image.boxes[:, 2:] - image.boxes[:, :2]).min(1, initial=1e9) < LEAST) for image in chosen]
    known = [replace(image, ignore=ignore) for image, ignore in zip(chosen, small, strict=True)]
    labelv2.write(folder / "labelv2.txt", known, labels.points)


def set_of(work: Path, count: int) -> Path:
    """A set of so many training images and all validation images."""
    root = work / f"night-{count}"
    if count:
        draw_set(root, "train", count, night=True)
    draw_set(work / "night-0", "val", VALIDATION, night=True)
    draw_set(work / "day", "val", VALIDATION, night=False)
    if not (root / "val").exists():
        (root / "val").symlink_to(work / "night-0" / "val")
    return root


def measured(weights: str, root: Path) -> dict[str, Any]:
    """AP of a set's validation images with its interval, shrunk to 640x480."""
    from facetrain.eval.evaluate import Source, evaluate_model
    from facetrain.eval.protocol import EvalProtocol

    found = evaluate_model(Source(weights, threads=1), root, EvalProtocol(size="vga"))
    return found.as_dict()["intervals"]["all"]


def one(way: str, count: int, minutes: float, seed: int, work: Path, out: Path) -> None:
    """Train in one way on so many images and measure; the line goes to `out`."""
    import torch

    from facetrain.config.load import load_config
    from facetrain.train.loop import train_model

    torch.set_num_threads(1)
    root = set_of(work, count)
    weights, seen = "yunet_n", 0
    if count:
        settings = {"data.root": str(root), "train.seed": seed, "eval.every": 1e6, "train.compile": "off"} | WAYS[way]
        config = load_config("yunet_n", [f"{key}={json.dumps(value)}" for key, value in settings.items()], "quick")
        config = replace(config, data=replace(config.data, workers=1))
        result = train_model(
            config, runs=work / "runs", weights="yunet_n", budget=60 * minutes, clock=time.process_time
        )
        assert result.run is not None
        weights, seen = str(result.run.last), result.step * config.train.batch
    line = {
        "way": way if count else "bundled",
        "images": count,
        "seed": seed,
        "minutes": minutes,
        "crops": seen,
        "night": measured(weights, root),
        "day": measured(weights, work / "day"),
        "commit": git("rev-parse", "--short", "HEAD"),
    }
    with out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def table(out: Path) -> str:
    """Rows of what was measured."""
    rows = [
        "| trained by | images | crops | AP at night | | AP by day | |",
        "| --- | ---: | ---: | ---: | --- | ---: | --- |",
    ]
    for line in map(json.loads, out.read_text(encoding="utf-8").splitlines()):
        cells = [line["way"], f"{line['images']:,}", f"{line['crops']:,}"]
        for each in (line["night"], line["day"]):
            cells += [f"{each['estimate']:.3f}", f"[{each['low']:.3f}, {each['high']:.3f}]"]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--counts", nargs="+", type=int, default=[0, 10, 50, 200, 1000])
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache/facetrain-own-images")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".jsonl"))
    parser.add_argument("--table", action="store_true", help="print what was measured, and train nothing")
    parser.add_argument("--one", nargs=3, metavar=("WAY", "COUNT", "SEED"), help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.table:
        print(table(args.out))
        return
    if args.one:
        way, count, seed = args.one
        one(way, int(count), args.minutes, int(seed), args.work, args.out)
        return
    for seed in range(args.seeds):
        for count in args.counts:
            for way in args.ways[: None if count else 1]:
                call = [sys.executable, __file__, "--one", way, str(count), str(seed), "--minutes", str(args.minutes)]
                subprocess.run([*call, "--work", str(args.work), "--out", str(args.out)], check=True)
    print(table(args.out))


if __name__ == "__main__":
    main()
