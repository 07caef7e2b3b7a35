"""The backward kernel compiled for sm_90, which needs no card: its sums must stay in registers."""

import re
import subprocess
from pathlib import Path

import pytest

from facetrain.model.kernels import triton as launching

triton = pytest.importorskip("triton")
pytestmark = pytest.mark.slow

MAPS = ("gradient", "middle", "source", "point", "out")
NUMBERS = ("point_bias", "taps", "back", "small", "large")
COUNTS = ("height", "width", "pixels", "steps")


def assembler() -> Path:
    path = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
    if not path.is_file():
        pytest.skip("needs Triton's own assembler")
    return path


# the separable blocks of yunet_n and yunet_s
@pytest.mark.parametrize("inputs, channels", [(16, 16), (16, 32), (16, 64), (32, 64), (64, 64)])
def test_nothing_is_spilled(inputs: int, channels: int, tmp_path: Path) -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from facetrain.model.kernels.triton_kernels import separable_backward

    names = separable_backward.arg_names
    constants = {
        "inputs": inputs, "channels": channels, "tile": launching.BACKWARD.tile(channels), "precision": "tf32",
        "late": launching._late(inputs, channels),
    }  # fmt: skip
    types = dict.fromkeys(MAPS, "*bf16") | dict.fromkeys(NUMBERS, "*fp32") | dict.fromkeys(COUNTS, "i32")
    source = ASTSource(
        separable_backward,
        {name: types.get(name, "constexpr") for name in names},
        {(names.index(name),): value for name, value in constants.items()},
        {(names.index(name),): [["tt.divisibility", 16]] for name in (*MAPS, *NUMBERS)},
    )
    options = {"num_warps": launching.BACKWARD.warps, "num_stages": 1}
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert made.metadata.shared <= 227 * 1024 // 2  # bytes: a processor of an H100 has room for two programs
    file = tmp_path / "kernel.ptx"
    file.write_text(made.asm["ptx"])
    command = [assembler(), "-v", "--gpu-name=sm_90a", file, "-o", tmp_path / "kernel.cubin"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    assert re.findall(r"(\d+) bytes spill", said) == ["0", "0"], said
