"""The share that the teacher takes of a distilling step, and what each measure against it brings.

    python tests/benchmarks/teacher_share.py [--size 320] [--batch 32] [--threads 1] [--student yunet_n]

Whole steps (both networks, losses, backward pass, Muon; no images are read) in turn with: no teacher (its predictions
made once), the teacher as it is used, the teacher with torch's own operations on folded batch norms, and unfolded.
Medians of --rounds rounds; the share is 1 - (step without) / (step with).
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from facetrain.config.load import load_config
from facetrain.core.files import user_cache
from facetrain.core.machine import cpu_name
from facetrain.data.batch import Batch
from facetrain.model.frozen import freeze
from facetrain.model.kernels.choose import look_kernels, use_fused
from facetrain.model.kernels.plain import FOLDED, Kernels
from facetrain.model.weights import load_model
from facetrain.model.yunet import Predictions, YuNet, build
from facetrain.train.machine import choose_precision, keep_big_buffers
from facetrain.train.optim.optimizers import make_optimizer
from facetrain.train.step import Task, make_step
from facetrain.train.teacher import look

CPU = torch.device("cpu")
CACHE = user_cache() / "facetrain" / "kernels"


class Remembered(torch.nn.Module):
    """A teacher that looked once: what it says costs nothing."""

    def __init__(self, predictions: Predictions) -> None:
        super().__init__()
        self.predictions = predictions

    def forward(self, images: torch.Tensor) -> Predictions:
        return self.predictions


def folded(path: Path, kernels: Kernels) -> YuNet:
    return freeze(load_model(path), kernels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--teacher", type=Path, required=True, help="a YuNet checkpoint")
    parser.add_argument("--student", default="yunet_n", help="a preset")
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_big_buffers()
    config = load_config(args.student, [f"train.teacher={args.teacher}", f"data.size={args.size}"], "distil")
    dtype = choose_precision("auto", CPU)
    pixels = torch.rand(args.batch, args.size, args.size, 3, generator=torch.Generator().manual_seed(0)) * 255
    none = [
        torch.zeros(0, 4),
        torch.zeros(0, 5, 3),
        torch.zeros(0, dtype=torch.int64),
        torch.zeros(0, dtype=torch.int8),
    ]
    batch = Batch(pixels.permute(0, 3, 1, 2), *none)
    plain = load_model(args.teacher)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        remembered = Remembered(look(plain, batch.images))
    teachers: dict[str, torch.nn.Module] = {
        "none": remembered,
        "as used": folded(args.teacher, look_kernels(CPU, CACHE)),
        "folded, torch's operations": folded(args.teacher, FOLDED),
        "not folded": plain,
    }
    steps: dict[str, Callable[[], object]] = {}
    for name, teacher in teachers.items():
        model = build(config.model, 0).train()
        use_fused(model, "auto", CPU, CACHE)
        task = Task(config.train, dtype, teacher=teacher)  # type: ignore[arg-type]
        step = make_step(model, make_optimizer(model, config.train), task, 10.0)
        steps[name] = lambda step=step: step(batch)  # type: ignore[misc]
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(args.rounds + 2):
        for name, work in steps.items():
            start = time.perf_counter()
            work()
            if number >= 2:
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(some) for name, some in seconds.items()}
    result = {
        "processor": cpu_name(),
        "torch": torch.__version__,
        "threads": args.threads,
        "batch": args.batch,
        "size": args.size,
        "step_ms": {name: round(1000 * value, 1) for name, value in medians.items()},
        "teacher_share": {name: round(1 - medians["none"] / value, 3) for name, value in medians.items()},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
