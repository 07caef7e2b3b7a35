"""float32 that is float32 on a GPU too."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exact_float32(device: torch.device | None = None) -> Iterator[None]:
    """Let a GPU multiply float32 as float32, not as TF32 with 10 bits: what is called fp32 is that, validation too.

    device: where work is done. The setting is the process's; a CPU, whose threads may be in here together, needs none.
    """
    if device is not None and device.type == "cpu":
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn
