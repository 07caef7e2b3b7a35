"""Training on a GPU: images/s, milliseconds per part, peak memory, and what each way of running a step gains.

    python tests/benchmarks/gpu_training.py --data data/widerface --output gpu.json
    python tests/benchmarks/gpu_training.py --ways captured fused --batches 64 --teacher
    python tests/benchmarks/gpu_training.py --dry-run      # does the script itself run? On the CPU, with small numbers

End to end: batches made by the store and its thread, steps, weights averaged; validation and checkpoints left out.
  eager_fp32  what `facetrain train` does, uncompiled, in float32
  eager       … in the precision that is chosen for the device
  compiled    … with torch.compile
  captured    … and each step as one CUDA graph: the normal path of a long run
  fused       … with the network's own kernels (model/kernels/triton.py)
  plain       a usual PyTorch loop: float32, transforms image by image in worker processes, looped assigner
Each begins with nothing compiled, and is timed when every number of faces has been seen: a new one is recorded anew.
The plain loop comes last, in a process of its own under a time limit: its workers are forked, which may hang beside a
GPU. Parts are timed one by one, waiting for the device after each, so their sum is more than a step's time.
"""

import argparse
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from train_throughput import plain_loader, plain_step

from facetrain.config.load import load_config
from facetrain.config.schema import Config
from facetrain.core.faces import LabelledImage
from facetrain.core.files import user_cache
from facetrain.core.machine import available_cores, cpu_name
from facetrain.data.batch import Batch
from facetrain.data.batches import ahead, epoch_batches, make_batch, mirror_order, side_stream
from facetrain.data.crops import draw_crop
from facetrain.data.landmark_names import FIVE
from facetrain.data.layout import load_split
from facetrain.data.sample_set.make import sample_root
from facetrain.data.store.images import ImageStore
from facetrain.data.store.open import open_store
from facetrain.data.store.placement import choose_place
from facetrain.eval.benchmark import thin
from facetrain.model.frozen import freeze
from facetrain.model.kernels.choose import use_fused
from facetrain.model.yunet import YuNet, build
from facetrain.train.accelerate import Captured, CudaRecorder, compiled_losses
from facetrain.train.assign import assign
from facetrain.train.ema import Ema
from facetrain.train.losses import compute_losses
from facetrain.train.machine import choose_precision, keep_big_buffers, tuned_kernels
from facetrain.train.optim.optimizers import make_optimizer
from facetrain.train.step import Gradients, Task, make_step, plain_gradients

WAYS = ("eager_fp32", "eager", "compiled", "captured", "fused", "plain")
RECORDED = ("captured", "fused")
PARTS = ("augment", "forward", "assign", "losses", "backward", "optimiser")
DRY = {  # what --dry-run puts in the place of defaults
    "device": torch.device("cpu"), "size": 64, "batches": [4], "seconds": 0.3, "images": 16, "warmup": 2, "repeats": 1,
    "limit": 120.0, "ways": ["eager", "plain"], "teacher": True,
}  # fmt: skip


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def gradients_of(way: str, model: YuNet, task: Task, device: torch.device) -> Gradients:
    """Forward and backward pass in one of the ways."""
    if way.startswith("eager"):
        return plain_gradients(model, task)
    if way == "fused":
        print(use_fused(model, "on", device, user_cache() / "facetrain" / "kernels"), file=sys.stderr)
    compiled = plain_gradients(model, task, compiled_losses())
    return compiled if way == "compiled" else Captured(compiled, model, CudaRecorder(device))


def batches_of(store: ImageStore, config: Config, device: torch.device, dtype: torch.dtype) -> Iterator[Batch]:
    """Batches without end, made as `facetrain train` makes them. dtype: of the step."""
    stream = side_stream(device)
    settings = {"batch": config.train.batch, "seed": 0, "dtype": dtype if stream else torch.float32}
    for epoch in itertools.count():
        made = epoch_batches(store, config.data, config.model.landmarks, **settings, epoch=epoch)
        yield from (batch for _, batch in (ahead(made, stream=stream) if stream else made))


def timed(items: Iterator[Any], step: Callable[[Any], object], args: argparse.Namespace) -> dict[str, float]:
    """Images/s after a warm-up, in three pieces of which the spread is told; seconds until it was warm."""
    began = time.perf_counter()
    for _ in range(args.warmup):
        step(next(items))
    wait(args.device)
    warm = time.perf_counter() - began
    if args.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(args.device)
    rates, milliseconds = [], []
    for _ in range(3):
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < args.seconds / 3 or done < 3:
            step(next(items))
            done += 1
            if done % 8 == 0:
                wait(args.device)  # or the host runs far ahead of what it measures
        wait(args.device)
        seconds = (time.perf_counter() - began) / done
        rates.append(args.batch / seconds)
        milliseconds.append(1000 * seconds)
    return {
        "images_per_s": round(statistics.median(rates), 1),
        "spread": round((max(rates) - min(rates)) / statistics.median(rates), 3),
        "step_ms": round(statistics.median(milliseconds), 2),
        "warm_after_s": round(warm, 1),
    }


def measure_way(way: str, store: ImageStore, config: Config, args: argparse.Namespace) -> dict[str, Any]:
    """One row of the table."""
    torch._dynamo.reset()  # or a program of the way before is a candidate at every step, and counts as a recompilation
    if way in RECORDED and args.device.type != "cuda":
        return {"failed": "CUDA graphs need a GPU"}
    if way == "plain":
        plain = plain_step(config, args.device)
        loader = plain_loader(store.images, config, min(available_cores(), 16))
        items = itertools.chain.from_iterable(iter(loader) for _ in itertools.count())
        row: dict[str, Any] = timed(items, lambda item: plain(*item), args)
    else:
        model = build(config.model, 0).to(args.device).train()
        teacher = freeze(build(config.model, 1)).to(args.device) if args.teacher else None
        dtype = torch.float32 if way == "eager_fp32" else choose_precision("auto", args.device)
        task = Task(config.train, dtype, teacher=teacher)
        gradients = gradients_of(way, model, task, args.device)
        step = make_step(model, make_optimizer(model, config.train), task, 10.0, gradients)
        ema, count = Ema(model, 0.999), itertools.count()

        def whole(batch: Batch) -> None:
            step(batch)
            ema.update(model, next(count))

        row = timed(batches_of(store, config, args.device, dtype), whole, args)
    if args.device.type == "cuda":
        row["peak_gib"] = round(torch.cuda.max_memory_allocated(args.device) / 2**30, 2)
        row["reserved_gib"] = round(torch.cuda.max_memory_reserved(args.device) / 2**30, 2)
    return row


def measured(way: str, store: ImageStore, config: Config, args: argparse.Namespace) -> dict[str, Any]:
    """One row of the table, or why there is none: a way that fails must not cost the figures of the others."""
    try:
        with tuned_kernels(way != "plain"):
            return measure_way(way, store, config, args)
    except Exception as error:
        return {"failed": str(error).strip().splitlines()[0][:300] if str(error) else repr(error)}


def in_a_process(batch: int, limit: float) -> dict[str, Any]:
    """The plain loop's row by a process of its own, which ends with all its workers after `limit` seconds."""
    own = ["--batches", str(batch), "--ways", "plain", "--store", "disk", "--row"]
    process = subprocess.Popen(
        [sys.executable, *sys.argv, *own], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        printed, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return {"failed": f"not done after {limit:.0f} s"}
    return dict(json.loads(printed)) if process.returncode == 0 else {"failed": f"ended with {process.returncode}"}


def measure_parts(store: ImageStore, config: Config, args: argparse.Namespace) -> dict[str, float]:
    """Median milliseconds of each part of the eager step in the device's precision."""
    device, train = args.device, config.train
    dtype = choose_precision("auto", device)
    model = build(config.model, 0).to(device).train()
    optimizer, ema = make_optimizer(model, train), Ema(model, 0.999)
    mirror = mirror_order(config.model.landmarks)
    seconds: dict[str, list[float]] = {part: [] for part in PARTS}
    for repeat in range(args.repeats + 2):
        marks = [time.perf_counter()]

        def mark(marks: list[float] = marks) -> None:
            wait(device)
            marks.append(time.perf_counter())

        crops = [
            draw_crop(store.images[i % len(store.images)], i % len(store.images), config.data, 0, repeat, i)
            for i in range(train.batch)
        ]
        marks[0] = time.perf_counter()
        batch = make_batch(store, crops, config.data, mirror)
        mark()
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            predictions = model(batch.images)
        mark()
        targets = assign(predictions, batch, train.assign, True)
        mark()
        losses = compute_losses(predictions, targets, targets.positive.sum().clamp(min=1), train.loss)
        mark()
        torch.stack(list(losses.values())).sum().backward()
        mark()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        ema.update(model, repeat)
        optimizer.zero_grad()
        mark()
        for part, (begin, end) in zip(PARTS, itertools.pairwise(marks), strict=True):
            seconds[part].append(end - begin)
    return {part: round(1000 * statistics.median(values[2:]), 2) for part, values in seconds.items()}


def images_of(args: argparse.Namespace) -> list[LabelledImage]:
    root = sample_root() if args.data == "sample" else Path(args.data)
    return list(thin(load_split(root, "train", FIVE).images, args.images))


def describe(device: torch.device) -> dict[str, Any]:
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else cpu_name(),
        "memory_gib": round(torch.cuda.mem_get_info(device)[1] / 2**30, 1) if cuda else None,
        "cores": available_cores(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "precision": str(choose_precision("auto", device)).removeprefix("torch."),
    }


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sample", help="folder in the WIDER FACE layout, or sample")
    parser.add_argument("--model", default="yunet_n")
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--size", type=int, default=640)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--store", default="auto", choices=("auto", "device", "ram", "disk"))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--teacher", action="store_true", help="with a frozen network of the same size as teacher")
    parser.add_argument("--seconds", type=float, default=9.0, help="of measuring, for each row")
    parser.add_argument("--warmup", type=int, default=64, help="steps before: most numbers of faces come up in them")
    parser.add_argument("--repeats", type=int, default=20, help="of each part")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for a row of the plain loop")
    parser.add_argument("--output", type=Path, help="write the JSON here as well")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, with small numbers")
    parser.add_argument("--row", action="store_true", help=argparse.SUPPRESS)
    if parser.parse_args().dry_run:
        parser.set_defaults(**DRY)
    return parser.parse_args()


def main() -> None:
    args = parsed()
    began = time.perf_counter()
    if args.device.type == "cpu":
        keep_big_buffers()
    images = images_of(args)
    placement = choose_place(images, args.device, args.store)
    print(placement.line, file=sys.stderr)
    opened = time.perf_counter()
    store, _ = open_store(images, placement.place, None, args.device, 0.1)
    wait(args.device)
    document: dict[str, Any] = describe(args.device) | {
        "model": args.model,
        "size": args.size,
        "teacher": args.teacher,
        "images": len(store.images),
        "store": store.place,
        "opened_in_s": round(time.perf_counter() - opened, 1),
        "batches": {},
    }
    ways = [way for way in args.ways if way != "plain" or args.row]
    for batch in args.batches:
        args.batch = batch
        config = load_config(args.model, [f"train.batch={batch}", f"data.size={args.size}", "train.lr=1e-4"])
        rows: dict[str, Any] = {}
        for way in ways:
            rows[way] = measured(way, store, config, args)
            if args.row:
                print(json.dumps(rows[way]))
                return
            print(f"batch {batch:3} {way:11} {rows[way]}", file=sys.stderr)
            if args.device.type == "cuda":
                torch.cuda.empty_cache()
        with tuned_kernels(True):
            parts = measure_parts(store, config, args)
        print(f"batch {batch:3} parts in ms  {parts}", file=sys.stderr)
        document["batches"][str(batch)] = {"ways": rows, "parts_ms": parts}
    store.close()
    for batch in args.batches if "plain" in args.ways else []:
        rows = document["batches"][str(batch)]["ways"]
        rows["plain"] = in_a_process(batch, args.limit)
        print(f"batch {batch:3} {'plain':11} {rows['plain']}", file=sys.stderr)
    document["seconds"] = round(time.perf_counter() - began)
    text = json.dumps(document, indent=2)
    print(text)
    if args.output:
        args.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
