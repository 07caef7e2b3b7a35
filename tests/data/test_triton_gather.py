"""Crops by one Triton kernel are those of torch's operations, bit by bit; by Triton's interpreter, without a GPU.

The interpreter is chosen when Triton is imported: this file as a program compares, and the test judges.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from facetrain.data.store.gather import gather_crops, plain_crops

pytestmark = pytest.mark.slow


def compare() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = [(31, 17), (8, 60), (200, 3)]
    flat = torch.randint(0, 256, (sum(w * h for w, h in sizes), 4), generator=generator, dtype=torch.uint8)
    starts = [0, 31 * 17, 31 * 17 + 8 * 60]
    # enlarged and shrunk, inside, beyond every border, wholly beside, of one pixel
    windows = [(0, 0, 17), (-5, 3, 40), (20, -9, 11), (500, 500, 20), (7, 2, 1), (-300, -300, 777), (3, 1, 8)]
    plan = torch.tensor([[starts[i % 3], *sizes[i % 3], *window] for i, window in enumerate(windows)])
    found = {}
    from facetrain.data.store import triton_gather

    triton_gather._TILE = 16  # rows of several tiles
    for size in (1, 8, 31):
        ours, wanted = gather_crops(flat, plan, size), plain_crops(flat, plan, size)
        same_layout = ours.is_contiguous(memory_format=torch.channels_last) and ours.shape == wanted.shape
        rounded = gather_crops(flat, plan, size, torch.bfloat16)
        cut = (wanted.view(torch.int32) & ~0xFFFF).view(torch.float32).bfloat16()  # how the interpreter rounds
        equal = torch.equal(ours, wanted) and torch.equal(rounded, cut)
        found[size] = [equal, same_layout, float((ours - wanted).abs().max())]
    print(json.dumps(found))


def test_the_kernel_gives_the_bits_of_the_plain_way() -> None:
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for size, (equal, layout, gap) in json.loads(done.stdout.splitlines()[-1]).items():
        assert equal and layout, (size, gap)


def test_compiled_for_sm90_it_rounds_as_torch_does() -> None:
    """To the nearest, which the interpreter does not do."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from facetrain.data.store.triton_gather import _TILE, _gather

    types = {"pixels": "*i32", "plan": "*i64", "out": "*bf16", "size": "i32", "fill": "fp32", "tile": "constexpr"}
    names = _gather.arg_names
    source = ASTSource(_gather, {name: types[name] for name in names}, {(names.index("tile"),): _TILE})
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": False})
    roundings = [line.split()[0] for line in made.asm["ptx"].splitlines() if "cvt" in line and ".bf16" in line]
    assert roundings
    assert all(name.startswith("cvt.rn.bf16") for name in roundings), roundings


if __name__ == "__main__":
    compare()
