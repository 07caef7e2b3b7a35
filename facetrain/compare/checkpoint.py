"""Checkpoints in a comparison: the one part of it that needs torch, imported where there is one."""

from collections.abc import Callable
from pathlib import Path

import torch

from facetrain.core.boxes import pad_image, padded_size
from facetrain.core.faces import Detector, Image
from facetrain.model.cost import describe
from facetrain.model.detector import ModelDetector

Work = Callable[[], object]


def checkpoint_works(detector: Detector, image: Image, threads: int) -> tuple[tuple[int, int], Work, Work]:
    """Size (width, height) of the network's input, the network alone, and the way from image to faces."""
    assert isinstance(detector, ModelDetector)
    model = detector.model.eval()
    width, height = padded_size(image.shape[1], image.shape[0], max(model.config.strides))
    # seen as (1, 3, H, W), in memory channels_last, as the detector itself feeds it
    pixels = torch.from_numpy(pad_image(image, width, height)[None]).permute(0, 3, 1, 2).float()

    def network() -> object:
        torch.set_num_threads(threads)  # one setting for the whole process: other models may have changed it
        with torch.inference_mode():
            return model(pixels)

    def end_to_end() -> object:
        torch.set_num_threads(threads)
        return detector.detect_batch([image])

    return (width, height), network, end_to_end


def checkpoint_cost(path: Path, size: tuple[int, int]) -> tuple[int, int, float | None]:
    """Parameters, multiply-adds and published MFLOPs on an image of `size` (width, height)."""
    total = describe(str(path), size)["total"]
    return total["parameters"], total["multiply_adds"], total["mflops"]
