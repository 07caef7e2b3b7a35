"""Images to try things with: drawn faces as a camera sees them at night, 50 to train on and 100 to judge by.

    python examples/night_camera.py night

They are drawn by facetrain, then lose their colours and all but a few photons a pixel.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from facetrain.core.images import read_image, write_image
from facetrain.data.sample_set.make import write_sample

PHOTONS = 20  # of a white pixel
DARK = 0.5  # what a black pixel counts, and the noise of reading it


def camera(image: np.ndarray, seed: int) -> np.ndarray:
    """What the camera makes of an image: (H, W, 3) uint8, B G R, in and out."""
    numbers = np.random.default_rng(seed)
    light = (cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32) / 255) ** 2.2
    seen = numbers.poisson(light * PHOTONS + DARK) + numbers.normal(0, DARK, light.shape)
    grey = 255 * np.clip(seen / (PHOTONS + DARK), 0, 1) ** (1 / 2.2)
    return cv2.cvtColor(grey.astype(np.uint8), cv2.COLOR_GRAY2BGR)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write_sample(folder, train=50, val=100)
    for number, path in enumerate(sorted(folder.rglob("*.jpg"))):
        write_image(path, camera(read_image(path), number))
