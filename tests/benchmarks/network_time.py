"""The network alone on a CPU, forward and backward: torch's own operations beside the fused kernels, in one process.

    python tests/benchmarks/network_time.py
    OMP_NUM_THREADS=1 python tests/benchmarks/network_time.py --rounds 20 --profile

The variants take turns, and the fastest round counts: on a machine that does other work too, means say little. Beside
the time on the clock stands the processor time, which other work disturbs less.
  plain     torch's operations, in the memory format and with the allocator setting of training
  fused     the kernels of facetrain/model/kernels/cpu.cpp
  compiled  torch.compile (--compile: takes minutes)
"""

import argparse
import copy
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.profiler import profile

from facetrain.config.load import load_config
from facetrain.core.machine import cpu_name
from facetrain.model.kernels.choose import use_fused
from facetrain.model.yunet import build
from facetrain.train.machine import choose_precision, keep_big_buffers

Step = Callable[[], None]


def make_step(
    model: nn.Module, forward: Callable[[Tensor], list[list[Tensor]]], images: Tensor, dtype: torch.dtype
) -> Step:
    def step() -> None:
        model.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            outputs = forward(images)
        torch.stack([part.float().mean() for level in outputs for part in level]).sum().backward()

    return step


def variants(args: argparse.Namespace, dtype: torch.dtype, folder: Path) -> dict[str, Step]:
    config = load_config(args.config)
    generator = torch.Generator().manual_seed(0)
    images = 255 * torch.rand((args.batch, 3, args.size, args.size), generator=generator)
    images = images.contiguous(memory_format=torch.channels_last)
    plain = build(config.model, 0).train()
    fused = copy.deepcopy(plain)
    began = time.perf_counter()
    print(use_fused(fused, "on", torch.device("cpu"), folder), file=sys.stderr)
    print(f"compiled in {time.perf_counter() - began:.1f} s", file=sys.stderr)
    steps = {
        "plain": make_step(plain, plain.raw_levels, images, dtype),
        "fused": make_step(fused, fused.raw_levels, images, dtype),
    }
    if args.compile:
        model = copy.deepcopy(plain)
        steps["compiled"] = make_step(model, torch.compile(model.raw_levels), images, dtype)
    return steps


def timed(steps: dict[str, Step], rounds: int) -> dict[str, tuple[float, float]]:
    """Least seconds of each: on the clock, of the processor."""
    least = dict.fromkeys(steps, (float("inf"), float("inf")))
    for step in steps.values():
        step()
    for _ in range(rounds):
        for name, step in steps.items():
            clock, processor = time.perf_counter(), time.process_time()
            step()
            seconds = time.perf_counter() - clock, time.process_time() - processor
            least[name] = min(least[name][0], seconds[0]), min(least[name][1], seconds[1])
    return least


def shares(step: Step) -> dict[str, float]:
    """Which share of a step the operations take that take most."""
    with profile() as seen:
        step()
    events = sorted(seen.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    return {event.key: round(event.self_cpu_time_total / total, 3) for event in events[:10]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="yunet_n")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    keep_big_buffers()
    dtype = choose_precision(args.precision, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        steps = variants(args, dtype, Path(folder))
        least = timed(steps, args.rounds)
        document = {
            "processor": cpu_name(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "precision": str(dtype),
            "size": args.size,
            "batch": args.batch,
            "images_per_s": {name: round(args.batch / clock, 2) for name, (clock, _) in least.items()},
            "step_ms": {name: round(1e3 * clock, 1) for name, (clock, _) in least.items()},
            "processor_ms": {name: round(1e3 * spent, 1) for name, (_, spent) in least.items()},
            "faster_than_plain": {name: round(least["plain"][0] / clock, 2) for name, (clock, _) in least.items()},
        }
        if args.profile:
            document["shares"] = {name: shares(step) for name, step in steps.items()}
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
