"""On a CUDA GPU: is the fused separable block (model/kernels/triton.py) worth its while? One command, minutes.

    python tests/benchmarks/fused_block.py
    python tests/benchmarks/fused_block.py --sweep    # other cuts of the kernels: the best go into FORWARD, BACKWARD
    TRITON_INTERPRET=1 python tests/benchmarks/fused_block.py --dry-run    # does it run? On the CPU, with small numbers

First the errors against float64, then two tables, forward and backward in bfloat16, each variant recorded as one CUDA
graph where that succeeds, so that the time of launching is left out:
  blocks   one separable block at the sizes of the network: milliseconds, and GB/s of the maps that it reads and writes
           (eager and fused, whose trips can be counted). What the card can do is measured by copying
  network  the whole of it: images/s
Each begins with nothing compiled, and with 60 steps that are not timed.
"""

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from facetrain.config.load import load_config
from facetrain.model.blocks import separable
from facetrain.model.kernels import triton as fused_triton
from facetrain.model.module import NetworkModule
from facetrain.model.operations import IMAGE, Builder
from facetrain.model.yunet import build

Step = Callable[[], None]
# inputs, outputs, share of the side: the blocks of yunet_n that take most
BLOCKS = [(16, 16, 2), (16, 64, 1), (64, 64, 1), (64, 64, 0.5)]
# how often a map of the inputs' channels and one of the outputs' is read or written (counted in kernels/triton.py)
TRIPS = {"eager": (3, 22), "fused": (3, 9)}
DRY = {"device": "cpu", "batch": 1, "side": 4, "size": 64, "repeats": 1, "group": 1, "warmup": 1}  # by --dry-run
SWEEP = [(values, warps) for values in (1024, 2048, 4096, 8192) for warps in (4, 8)]


def record(step: Step, device: torch.device) -> Step:
    """The step as a CUDA graph, or as it is where it cannot be recorded."""
    if device.type != "cuda":
        return step
    for _ in range(3):
        step()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            step()
    except RuntimeError as error:
        print(f"not recorded: {error}", file=sys.stderr)
        return step
    return graph.replay


def milliseconds(step: Step, device: torch.device, args: argparse.Namespace) -> float:
    """Median of a step when it is warm, in groups that are long enough to time."""
    for _ in range(args.warmup):
        step()
    times = []
    for _ in range(args.repeats):
        if device.type == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(args.group):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - began) / args.group * 1e3)
    return statistics.median(times)


def copy_bandwidth(device: torch.device, args: argparse.Namespace) -> float:
    """GB/s that the device reads and writes when it copies."""
    source = torch.zeros(2**28 if device.type == "cuda" else 2**20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / milliseconds(lambda: target.copy_(source), device, args) / 1e6


def trainer(module: nn.Module, forward: Callable, x: Tensor, leaf: bool) -> Step:
    """Forward and backward pass. leaf: the input is a map that has a gradient too."""
    x.requires_grad_(leaf)

    def step() -> None:
        module.zero_grad(set_to_none=True)
        x.grad = None
        with torch.autocast(x.device.type, torch.bfloat16):
            outputs = forward(x)
        parts = [outputs] if isinstance(outputs, Tensor) else [part for level in outputs for part in level]
        torch.autograd.backward(parts, [torch.ones_like(part) for part in parts])

    return step


class OneUnit(NetworkModule):
    """(B, inputs, H, W) -> (B, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        builder = Builder(inputs)
        self.end = separable(builder, IMAGE, "unit", outputs)
        super().__init__(builder.network({("cls", 1): self.end}))

    def forward(self, x: Tensor) -> Tensor:
        return self.maps(x)[self.end]


def unit(inputs: int, outputs: int, device: torch.device, fused: bool) -> OneUnit:
    torch.manual_seed(0)
    made = OneUnit(inputs, outputs).to(device, memory_format=torch.channels_last).train()
    if fused:
        made.kernels = fused_triton.gpu_kernels()
    return made


def maps(batch: int, channels: int, side: int, device: torch.device) -> Tensor:
    x = torch.randn(batch, channels, side, side, device=device, dtype=torch.bfloat16)
    return x.contiguous(memory_format=torch.channels_last)


def errors(device: torch.device) -> dict[str, dict[str, float]]:
    """Relative distance of the gradients to float64's, fused and by torch's autocast."""
    x = maps(2, 64, 8 if device.type == "cpu" else 40, device)
    found = {}
    for name, fused, dtype in (("exact", False, torch.float64), ("fused", True, None), ("torch", False, None)):
        module = unit(64, 64, device, fused)
        leaf = x.clone() if dtype is None else x.to(dtype)
        leaf.requires_grad_()
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype is None):
            y = module.to(dtype or torch.float32)(leaf)
        torch.manual_seed(1)
        y.backward(torch.randn(y.shape, device=device).to(y.dtype))
        found[name] = {key: p.grad.double() for key, p in module.named_parameters() if p.grad is not None}
        found[name] |= {"output": y.detach().double(), "input": leaf.grad.double()}
    exact = found.pop("exact")
    del exact["unit.depthwise.bias"]  # before a batch norm: noise in torch, 0 here
    return {
        name: {key: round(((some[key] - exact[key]).norm() / exact[key].norm()).item(), 5) for key in exact}
        for name, some in found.items()
    }


def time_block(
    shape: tuple[int, int, float], args: argparse.Namespace, device: torch.device, names: list[str]
) -> dict[str, dict[str, float]]:
    inputs, outputs, share = shape
    side = int(args.side * share)
    table = {}
    for name in names:
        torch._dynamo.reset()
        module = unit(inputs, outputs, device, "fused" in name)
        forward = torch.compile(module) if "compiled" in name else module
        x = maps(args.batch, inputs, side, device)
        spent = milliseconds(record(trainer(module, forward, x, leaf=True), device), device, args)
        row: dict[str, float] = {"ms": round(spent, 4)}
        if name in TRIPS:
            of_inputs, of_outputs = TRIPS[name]
            moved = 2 * args.batch * side * side * (of_inputs * inputs + of_outputs * outputs)
            row |= {"GB": round(moved / 1e9, 4), "GB_per_s": round(moved / spent / 1e6, 1)}
        table[name] = row
    return table


def time_network(args: argparse.Namespace, device: torch.device, names: list[str]) -> dict[str, dict[str, float]]:
    plain = build(load_config(args.config).model, 0).to(device).train()
    table = {}
    for name in names:
        torch._dynamo.reset()
        model = copy.deepcopy(plain)
        if "fused" in name:
            model.kernels = fused_triton.gpu_kernels()
        forward = torch.compile(model.raw_levels) if "compiled" in name else model.raw_levels
        x = 255 * torch.rand(args.batch, 3, args.size, args.size, device=device)
        x = x.contiguous(memory_format=torch.channels_last)
        began = time.perf_counter()
        step = record(trainer(model, forward, x, leaf=False), device)
        setup = time.perf_counter() - began
        spent = milliseconds(step, device, args)
        rate = args.batch / spent * 1e3
        table[name] = {"ms": round(spent, 3), "images_per_s": round(rate, 1), "setup_s": round(setup, 1)}
    return table


def sweep(args: argparse.Namespace, device: torch.device) -> list[dict[str, float]]:
    """The block 64 -> 64 by other cuts of the kernels, fastest first."""
    rows = []
    for which in ("FORWARD", "BACKWARD"):
        usual = getattr(fused_triton, which)
        for values, warps in SWEEP:
            setattr(fused_triton, which, fused_triton.Launch(values, warps))
            try:
                spent = time_block((64, 64, 1), args, device, ["fused"])["fused"]["ms"]
            except Exception as error:  # too much for the card: that is an answer too
                print(f"{which} {values} {warps}: {str(error).splitlines()[0]}", file=sys.stderr)
                continue
            rows.append({"kernel": which, "values": values, "warps": warps, "ms": spent})
        setattr(fused_triton, which, usual)
    return sorted(rows, key=lambda row: row["ms"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="yunet_n")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=640)
    parser.add_argument("--side", type=int, default=160, help="of the map of stride 4")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--group", type=int, default=5, help="steps that are timed together")
    parser.add_argument("--warmup", type=int, default=60, help="steps before")
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, with small numbers")
    if parser.parse_args().dry_run:
        parser.set_defaults(**DRY)
    args = parser.parse_args()
    device = torch.device(args.device)
    cuda = device.type == "cuda"
    if cuda and not torch.cuda.is_available():
        parser.error("no CUDA GPU here")
    names = ["eager", "compiled", "fused", "fused compiled"] if cuda else ["eager", "fused"]
    document = {
        "card": torch.cuda.get_device_name(device) if cuda else "cpu",
        "torch": torch.__version__,
        "triton": fused_triton.triton.__version__,
        "batch": args.batch,
        "copy_GB_per_s": round(copy_bandwidth(device, args), 1),
        "errors": errors(device),
    }
    if args.sweep:
        document["sweep"] = sweep(args, device)
    else:
        document["blocks"] = {
            f"{shape[0]} -> {shape[1]} at {int(args.side * shape[2])}": time_block(shape, args, device, names)
            for shape in BLOCKS
        }
        document["network"] = time_network(args, device, names)
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
