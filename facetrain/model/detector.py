"""A network as a detector: the torch counterpart of detect/onnx.py."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.ops import nms

from facetrain.core.boxes import pad_image, padded_size
from facetrain.core.errors import DeviceError
from facetrain.core.faces import Faces, Image
from facetrain.core.memory import taking
from facetrain.model.exact import exact_float32
from facetrain.model.priors import decode_boxes, decode_landmarks
from facetrain.model.weights import load_checkpoint, model_of
from facetrain.model.yunet import Predictions, YuNet


class ModelDetector:
    """Finds faces with a YuNet, at each image's own size, padded with black to a multiple of the largest stride.

    info: what the file of its weights says besides them
    """

    def __init__(
        self,
        model: YuNet,
        *,
        score: float = 0.5,
        nms: float = 0.45,
        max_candidates: int = 5000,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        self.model, self.info = model, info or {}
        self.score = score
        self.nms = nms
        self.max_candidates = max_candidates

    @property
    def landmark_names(self) -> tuple[str, ...]:
        """Of the points of a face, in their order."""
        return self.model.config.landmarks.names

    def detect_batch(self, images: Sequence[Image]) -> list[Faces]:
        """Faces of each image, (H, W, 3) uint8 BGR of any size. The model's mode is left as it was.

        Several threads may ask at a time if the model is in evaluation mode.
        """
        training = self.model.training
        if training:
            self.model.eval()
        try:
            with torch.inference_mode(), exact_float32(next(self.model.parameters()).device):
                return self._detect(images)
        finally:
            if training:
                self.model.train()

    def _detect(self, images: Sequence[Image]) -> list[Faces]:
        """Images of one padded size go through the network together."""
        multiple = max(self.model.config.strides)
        groups: dict[tuple[int, int], list[int]] = {}
        for index, image in enumerate(images):
            groups.setdefault(padded_size(image.shape[1], image.shape[0], multiple), []).append(index)
        found: dict[int, Faces] = {}
        device = next(self.model.parameters()).device
        # Measured: the pixels as bytes and as numbers, and the maps of the stem, half as wide and high as the image.
        pixel_bytes = 16 + (4 * max(self.model.config.stem[1:]) if device.type == "cpu" else 0)
        for size, indices in groups.items():
            with taking(size[0] * size[1] * len(indices) * pixel_bytes, None, size):
                pixels = torch.from_numpy(np.stack([pad_image(images[index], *size) for index in indices])).to(device)
                # (B, H, W, 3) seen as (B, 3, H, W) is channels_last already
                predictions = self.model(pixels.permute(0, 3, 1, 2).float())
                for row, index in enumerate(indices):
                    found[index] = self._select(predictions, row)
        return [found[index] for index in range(len(images))]

    def _select(self, predictions: Predictions, row: int) -> Faces:
        """The faces of one image: threshold, best candidates, decode, suppression."""
        scores = predictions.cls[row].sigmoid() * predictions.obj[row].sigmoid()
        chosen = (scores >= self.score).nonzero()[:, 0]
        chosen = chosen[scores[chosen].argsort(descending=True, stable=True)[: self.max_candidates]]
        priors, scores = predictions.priors[chosen], scores[chosen]
        boxes = decode_boxes(predictions.boxes[row, chosen], priors)
        kept = nms(boxes, scores, self.nms)
        landmarks = decode_landmarks(predictions.landmarks[row, chosen], priors)
        return Faces(*(part[kept].cpu().numpy() for part in (boxes, scores, landmarks)))


def load_detector(path: Path, device: str, score: float, nms: float, max_candidates: int) -> ModelDetector:
    """A checkpoint's network as a detector on `device` (cpu, cuda, cuda:N, N, mps)."""
    checkpoint = load_checkpoint(path)
    model = model_of(checkpoint).to(torch_device(device)).eval()
    return ModelDetector(model, score=score, nms=nms, max_candidates=max_candidates, info=checkpoint.info)


def torch_device(name: str) -> torch.device:
    """The torch device of a name: cpu, cuda, cuda:N, N (a GPU's number), mps. Raises DeviceError if it is not there."""
    text = f"cuda:{name}" if name.isdigit() else name
    try:
        device = torch.device(text)
    except RuntimeError as error:
        raise DeviceError(f"unknown device '{name}'", "there are: cpu, cuda, a GPU's number such as 0, mps") from error
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            found = f"this machine has GPUs 0 to {count - 1}" if count else "torch sees no CUDA GPU on this machine"
            raise DeviceError(f"device '{name}' is not there: {found}", "use `device` cpu or `gpus` cpu")
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device 'mps' is not there", "it needs macOS on Apple silicon; use cpu")
    elif device.type not in ("cpu", "mps"):
        raise DeviceError(f"device '{name}' is not supported", "there are: cpu, cuda, a GPU's number such as 0, mps")
    return device
