"""A stage of the long trainings on a machine with a card, where nothing lies but this checkout and one folder.

    python tests/benchmarks/long_run.py pack --gpu                 # here: images and teacher into .gpu, at most 45 MiB
    python tests/benchmarks/long_run.py start --gpu --for 9m       # there: yunet_n first, then yunet_s
    python tests/benchmarks/long_run.py start --gpu --for 20s --dry-run    # here: does it run? On the CPU, small
    python tests/benchmarks/long_run.py status --gpu --output gpu  # here: measure what came back, keep what is better

`.gpu` is ignored by git and travels beside the checkout. A run starts from the best weights kept
or bundled and learns from labels and the released YuNet-n at 640x640, without validating: those images stay here. What
it brings back lies in --output, by default the folder $OUT: weights, numbers and the log of each network.
Without torch.compile and fused kernels, until gpu_check.py has passed on a card.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from facetrain.core.faces import LabelledImage

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PACKED = ROOT / ".gpu"
ROOM = 45 << 20  # bytes
TEACHER = "reference/yunet/yunet_n.pth"
SHARES = {"yunet_n": 0.55, "yunet_s": 0.45}  # of the time
SETTINGS = {
    "data.size": 640, "data.store": "device", "train.batch": 64, "train.lr_batch": 64, "train.lr": 0.01,
    "train.label_weight": 0.3, "train.compile": "off", "train.fused": "off",
}  # fmt: skip
DRY = {"data.size": 64, "data.store": "ram", "train.batch": 4, "data.limit": 16}


def that_fit(images: Sequence[LabelledImage], labels: int, room: float) -> list[LabelledImage]:
    """As many images, evenly over the list, as fit into so many bytes with their part of the labels' bytes."""
    from facetrain.eval.benchmark import thin

    lines = sum(1 + len(image.boxes) for image in images)
    sizes = {image.name: image.path.stat().st_size + labels * (1 + len(image.boxes)) / lines for image in images}
    fewest, most = 0, len(images)  # the first number fits, and none above the second does
    while fewest < most:
        middle = (fewest + most + 1) // 2
        fits = sum(sizes[image.name] for image in thin(images, middle)) <= room
        fewest, most = (middle, most) if fits else (fewest, middle - 1)
    return thin(images, fewest) if fewest else []


def pack(reference: Path, folder: Path = PACKED, room: int = ROOM) -> str:
    """Training images with their labels, and the teacher, in a folder that travels. Returns what it holds, in words."""
    from facetrain.data.formats import labelv2
    from facetrain.data.landmark_names import FIVE
    from facetrain.data.layout import load_split

    shutil.rmtree(folder, ignore_errors=True)
    teacher = folder / TEACHER
    teacher.parent.mkdir(parents=True)
    shutil.copyfile(reference / TEACHER, teacher)
    source, target = reference / "widerface", folder / "widerface"
    whole = load_split(source, "train", FIVE).images
    labels = target / "labelv2/train/labelv2.txt"
    labels.parent.mkdir(parents=True)
    kept = []
    text = (source / labels.relative_to(target)).stat().st_size
    for image in that_fit(whole, text, 0.99 * (room - teacher.stat().st_size)):  # labels are written a little longer
        path = target / image.path.relative_to(source)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image.path, path)
        kept.append(replace(image, path=path))
    labelv2.write(labels, kept, FIVE)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{folder}: {len(kept):,} of {len(whole):,} images, {size / 2**20:.1f} MiB"


def command(network: str, runs: Path, seconds: float, dry_run: bool, folder: Path = PACKED) -> list[str]:
    """The training command of a network."""
    kept = HERE / "long_run" / f"{network}.pt"
    settings = SETTINGS | (DRY if dry_run else {})
    return [
        *(sys.executable, "-m", "facetrain", "train", network, "--recipe", "distil"),
        *("--teacher", str(folder / TEACHER), "--data", str(folder / "widerface")),
        *("--weights", str(kept) if kept.is_file() else network, "--runs", str(runs), "--name", network),
        *("--for", f"{seconds:.0f}s", "--gpus", "cpu" if dry_run else "0"),
        *(part for key, value in settings.items() for part in ("--set", f"{key}={value}")),
    ]


def told(network: str, weights: Path) -> dict[str, Any]:
    """What is written down of weights that came back, but for their AP."""
    from facetrain.model.safe_file import read_tensors

    document = read_tensors(weights)
    about = document["state"] if "state" in document else document["info"]  # last.pt, best.pt
    settings = {"teacher": TEACHER, "data": "widerface", **SETTINGS}
    return {
        "kind": "long run on a card",
        "network": network,
        "stage": "labels and teacher, crops of 640, on a card",
        "finished": True,
        "settings": settings,
        "crops": int(about["step"]) * int(document["config"]["train"]["batch"]),
    }


def train(networks: Sequence[str], seconds: float, output: Path, dry_run: bool, folder: Path = PACKED) -> int:
    """Train one network after the other; what each brings lies in `output` as soon as it is done. 0 where all did."""
    output.mkdir(parents=True, exist_ok=True)
    runs = Path(tempfile.mkdtemp())  # a run's folder has more in it than what comes back
    bad = 0
    for network in networks:
        own = seconds * SHARES[network] / sum(SHARES[name] for name in networks)
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with (output / f"{network}.log").open("w") as log:
            process = subprocess.Popen(
                command(network, runs, own, dry_run, folder), stdout=log, stderr=log, env=environment
            )
            try:
                code = process.wait(1.2 * own + 60)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)  # it saves what it has
                code = process.wait() or 1
        brought = [name for name in ("best.pt", "last.pt") if (runs / network / name).is_file()][:1]
        for name, kept in [*((name, f"{network}.pt") for name in brought), ("metrics.jsonl", f"{network}.jsonl")]:
            if (runs / network / name).is_file():
                shutil.copyfile(runs / network / name, output / kept)
        print(f"{network}: ended with {code}, {brought[0] if brought else 'no weights'}", flush=True)
        bad += code != 0 or not brought
    shutil.rmtree(runs)
    return int(bad > 0)
