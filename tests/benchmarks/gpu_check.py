"""Everything to be known of a CUDA card, in one call: is what runs there right, and how fast is it?

    python tests/benchmarks/gpu_check.py --output gpu --within 570      # on a card
    python tests/benchmarks/gpu_check.py --device cpu --quick           # does the script itself run?

Each part is a process of its own under a time limit, so that one that hangs or breaks the card's state costs the others
nothing; a line each, and its whole output as gpu/<part>.txt. In this order: what is there and how fast it copies; crops
against the CPU's, from beyond 2^31 pixels too; the eager step against the CPU's; fused units against float64; captured,
compiled and eager steps of changing numbers of faces; three eager steps that must not wait for the device; the fused
block; training, without a teacher and with one; a profile; a recording that fails; the sample run, Ctrl-C, and
going on.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from facetrain.config.load import load_config
from facetrain.config.schema import Config
from facetrain.core.errors import TrainingError
from facetrain.data.batch import FACE, IGNORED, PADDING, Batch
from facetrain.data.store.gather import gather_crops, plain_crops
from facetrain.model.exact import exact_float32
from facetrain.model.kernels.choose import use_fused
from facetrain.model.yunet import build
from facetrain.train.accelerate import Captured, CudaRecorder, compiled_losses
from facetrain.train.machine import choose_precision
from facetrain.train.optim.optimizers import make_optimizer
from facetrain.train.step import Gradients, Task, make_step, plain_gradients

HERE = Path(__file__).parent
LIMITS = {  # seconds, for a card
    "versions": 60,
    "crops": 90,
    "eager": 90,
    "fused": 120,
    "ways": 240,
    "waiting": 60,
    "fused_block": 120,
    "gpu_training": 240,
    "taught": 150,
    "profile": 90,
    "failing": 90,
    "sample": 120,
}


def drawn(seed: int, faces: int, config: Config, device: torch.device) -> Batch:
    """Noise images with so many faces, an eighth of them ignored, filled up like a real batch."""
    numbers = torch.Generator().manual_seed(seed)
    count, size = config.train.batch, config.data.size
    rows = -(-max(faces, 1) // 16) * 16
    centre, side = torch.rand(rows, 2, generator=numbers) * size, torch.rand(rows, 1, generator=numbers) * 60 + 8
    points = torch.rand(rows, len(config.model.landmarks.names), 3, generator=numbers)
    points[..., :2] = centre[:, None] + (points[..., :2] - 0.5) * side[:, None]
    points[..., 2] = (points[..., 2] > 0.2).float()
    kind = torch.full((rows,), PADDING, dtype=torch.int8)
    kind[:faces] = torch.where(torch.arange(faces) % 8 == 7, IGNORED, FACE).to(torch.int8)
    images = torch.randint(0, 256, (count, 3, size, size), generator=numbers).float()
    boxes = torch.cat([centre - side / 2, centre + side / 2], 1)
    image = torch.randint(0, count, (rows,), generator=numbers)
    return Batch(images.to(memory_format=torch.channels_last), boxes, points, image, kind).to(device)


def settings(args: argparse.Namespace) -> Config:
    small = ["train.batch=4", "data.size=64"] if args.quick else ["train.batch=32", "data.size=640"]
    return load_config("yunet_n", [*small, "train.optimizer=adamw", "train.lr=1e-3"])


def relative(got: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((got.double().cpu() - wanted.double().cpu()).norm() / wanted.double().cpu().norm().clamp(min=1e-30))


def versions(args: argparse.Namespace) -> str:
    lines = [f"torch {torch.__version__}, CUDA {torch.version.cuda}"]
    if args.device.type == "cuda":
        card = torch.cuda.get_device_properties(args.device)
        a = torch.empty(1 << 28, dtype=torch.float32, device=args.device)
        b = torch.empty_like(a)
        for _ in range(3):
            b.copy_(a)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(20):
            b.copy_(a)
        end.record()
        end.synchronize()
        rate = 20 * 2 * a.nbytes / begin.elapsed_time(end) / 1e6
        lines.append(f"{card.name}, {card.total_memory >> 20} MiB, copies {rate:,.0f} GB/s read and written")
    return ", ".join(lines)


def crops(args: argparse.Namespace) -> str:
    numbers = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (900 * 700, 4), generator=numbers, dtype=torch.uint8)
    plan = torch.tensor([[0, 900, 700, -40, 55, 333], [0, 900, 700, 300, -200, 1200], [0, 900, 700, 10, 10, 64]])
    wanted = plain_crops(image, plan, 320)
    found = gather_crops(image.to(args.device), plan.to(args.device), 320)
    rounded = gather_crops(image.to(args.device), plan.to(args.device), 320, torch.bfloat16).cpu()
    cut = (wanted.view(torch.int32) & ~0xFFFF).view(torch.float32)  # how Triton's interpreter rounds on a CPU
    nearest = (wanted if args.device.type == "cuda" else cut).bfloat16()
    gaps = [float((found.cpu() - wanted).abs().max()), float((rounded - nearest).abs().max())]
    if args.device.type == "cuda":
        start = (1 << 31) + 5
        flat = torch.zeros((start + len(image), 4), dtype=torch.uint8, device=args.device)
        flat[start:] = image.to(args.device)
        far = plan.clone()
        far[:, 0] = start
        gaps.append(float((gather_crops(flat, far.to(args.device), 320).cpu() - wanted).abs().max()))
    assert max(gaps) == 0, gaps
    return f"equal to the CPU's, bit by bit ({len(gaps)} ways)"


def eager(args: argparse.Namespace) -> str:
    config = settings(args)
    task = Task(config.train, torch.float32)
    gradients = {}
    with exact_float32():
        for device in (torch.device("cpu"), args.device):
            model = build(config.model, 0).to(device).train()
            plain_gradients(model, task)(drawn(0, 40, config, device))
            gradients[device.type] = [p.grad for p in model.parameters()]
    one, other = gradients["cpu"], gradients[args.device.type]
    gap = max(relative(b, a) for a, b in zip(one, other, strict=True) if a is not None and b is not None and a.any())
    assert gap < 1e-2, gap
    return f"gradients in float32 within {gap:.1e} of the CPU's"


def fused(args: argparse.Namespace) -> str:
    config = settings(args)
    pixels = drawn(0, 40, config, args.device).images
    wanted = build(config.model, 0).to(args.device).double().train()
    reference = [part for level in wanted.raw_levels(pixels.double()) for part in level]
    errors = {}
    for mode in ("off", "on"):
        model = build(config.model, 0).to(args.device).train()
        line = use_fused(model, mode, args.device, Path(args.output) / "kernels")
        outputs = [part for level in model.raw_levels(pixels) for part in level]
        errors[mode] = max(relative(a, b) for a, b in zip(outputs, reference, strict=True))
    assert errors["on"] < 4 * errors["off"] + 1e-5, errors
    return f"{line}: within {errors['on']:.1e} of float64, torch's own {errors['off']:.1e}"


def ways(args: argparse.Namespace) -> str:
    config = settings(args)
    task = Task(config.train, choose_precision("auto", args.device))
    faces = [40, 40, 40, 300, 300, 300, 40, 700, 12, 300, 700, 40]
    batches = [drawn(seed, count, config, args.device) for seed, count in enumerate(faces)]
    totals = {}
    for way in ("eager", "compiled", "captured"):
        if way != "eager" and args.device.type != "cuda":
            continue
        model = build(config.model, 0).to(args.device).train()
        gradients: Gradients = plain_gradients(model, task)
        if way != "eager":
            torch._dynamo.reset()
            gradients = plain_gradients(model, task, compiled_losses())
        if way == "captured":
            gradients = Captured(gradients, model, CudaRecorder(args.device))
        step = make_step(model, make_optimizer(model, config.train), task, 10.0, gradients)
        losses = [step(batch) for batch in batches]
        totals[way] = [sum(float(v) for k, v in some.items() if k != "positives") for some in losses]
    for way, values in totals.items():
        gap = max(abs(a - b) / b for a, b in zip(values, totals["eager"], strict=True))
        assert gap < 0.05, (way, values, totals["eager"])
        totals[way] = [gap]
    return ", ".join(f"{way} within {values[0]:.1e} of eager over 12 steps" for way, values in totals.items())


def eager_step(args: argparse.Namespace, count: int) -> tuple[Callable[[Batch], object], list[Batch]]:
    """A step as it is without compiling, and batches for it."""
    config = settings(args)
    task = Task(config.train, choose_precision("auto", args.device))
    model = build(config.model, 0).to(args.device).train()
    step = make_step(model, make_optimizer(model, config.train), task, 10.0)
    return step, [drawn(seed, 40, config, args.device) for seed in range(count)]


def waiting(args: argparse.Namespace) -> str:
    step, batches = eager_step(args, 5)
    for batch in batches[:2]:
        step(batch)
    if args.device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    for batch in batches[2:]:
        step(batch)
    return "three eager steps did not wait for the device" if args.device.type == "cuda" else "three steps"


def profile(args: argparse.Namespace) -> str:
    step, batches = eager_step(args, 6)
    for batch in batches[:3]:
        step(batch)
    with torch.profiler.profile() as seen:
        for batch in batches[3:]:
            step(batch)
    key = "self_cuda_time_total" if args.device.type == "cuda" else "self_cpu_time_total"
    print(seen.key_averages().table(sort_by=key, row_limit=40, max_name_column_width=60))
    return "see profile.txt"


def failing(args: argparse.Namespace) -> str:
    if args.device.type != "cuda":
        return "needs a card"
    config = settings(args)
    model = build(config.model, 0).to(args.device).train()
    plain = plain_gradients(model, Task(config.train, torch.float32))

    def waits(batch: Batch) -> dict[str, torch.Tensor]:
        losses = plain(batch)
        losses["positives"].item()  # not permitted while recording
        return losses

    captured = Captured(waits, model, CudaRecorder(args.device))
    batch = drawn(0, 40, config, args.device)
    captured(batch)
    captured(batch)
    try:
        captured(batch)
    except TrainingError as error:
        return f"ends with: {error.message[:100]}"
    raise AssertionError("a recording that waits for the host was not refused")


def sample(args: argparse.Namespace) -> str:
    runs = Path(args.output) / "runs"
    tiny = ["--set", "data.size=128", "--set", "train.fused=off"] if args.quick else []
    base = [sys.executable, "-m", "facetrain", "train"]
    device = "cpu" if args.device.type == "cpu" else str(args.device.index or 0)
    command = [*base, "yunet_n", "--data", "sample", *tiny, "--gpus", device, "--runs", str(runs)]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 90
    while time.monotonic() < until and first.poll() is None and not list(runs.glob("*/first_batch.*")):
        time.sleep(0.2)
    time.sleep(0 if args.quick else 2)
    first.send_signal(signal.SIGINT)
    code = first.wait()
    assert code == 130, f"interrupted, it ended with {code}"
    run = max(runs.iterdir(), key=lambda path: path.stat().st_mtime)
    subprocess.run([*base, "--resume", str(run), "--gpus", device], check=True, stdout=subprocess.DEVNULL)
    return f"interrupted with {code}, and gone on to the end: {(run / 'best.pt').stat().st_size:,} bytes"


def other_script(name: str, *own: str) -> Callable[[argparse.Namespace], str]:
    """A benchmark beside this one, as it is run on a card; its own dry run without one."""

    def run(args: argparse.Namespace) -> str:
        arguments = ["--dry-run"] if args.quick else ["--device", str(args.device), *own]
        environment = os.environ | ({"TRITON_INTERPRET": "1"} if args.device.type == "cpu" else {})
        subprocess.run([sys.executable, HERE / f"{name}.py", *arguments], check=True, env=environment)
        return f"see {args.one}.txt"

    return run


PARTS: dict[str, Callable[[argparse.Namespace], str]] = {
    "versions": versions,
    "crops": crops,
    "eager": eager,
    "fused": fused,
    "ways": ways,
    "waiting": waiting,
    "fused_block": other_script("fused_block"),
    "gpu_training": other_script("gpu_training", "--batches", "64", "--seconds", "6"),
    "taught": other_script(
        "gpu_training", "--batches", "64", "--seconds", "6", "--teacher", "--ways", "captured", "fused"
    ),
    "profile": profile,
    "failing": failing,
    "sample": sample,
}


def run_part(part: str, folder: Path, args: argparse.Namespace, limit: float) -> int:
    """One part in a process of its own, which ends with all that it started. Its exit code, 124 past the limit."""
    command = [sys.executable, __file__, "--one", part, "--device", str(args.device), "--output", args.output]
    quick = ["--quick"] if args.quick else []
    with (folder / f"{part}.txt").open("w") as file:
        process = subprocess.Popen([*command, *quick], stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return 124


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("--output", default="gpu", help="folder for what the parts print")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--within", type=float, default=3600.0, help="seconds for all parts; says what is left out")
    parser.add_argument("--one", choices=list(PARTS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(f"\n= {PARTS[args.one](args)}")
        return
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    bad, end = 0, time.monotonic() + args.within
    for part in args.parts:
        begun = time.monotonic()
        if begun > end - 10:
            print(f"{part:13} left out: --parts {part} runs it", flush=True)
            continue
        code = run_part(part, folder, args, min(end - begun, LIMITS[part] * (5 if args.quick else 1)))
        lines = (folder / f"{part}.txt").read_text(errors="replace").strip().splitlines() or [""]
        bad += code != 0
        verdict, seconds = "ok" if code == 0 else f"FAILED ({code})", time.monotonic() - begun
        print(f"{part:13} {verdict}, {seconds:.0f} s: {lines[-1].removeprefix('= ')}", flush=True)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
