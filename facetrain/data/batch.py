"""What one training step sees."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """B square images and the faces in them, flat: the faces of all images stand in one list of M rows.

    images:    (B, 3, S, S) BGR 0 … 255, channels_last; float32, or bfloat16 for a step on a GPU that would round them
    boxes:     (M, 4) float32 xyxy pixels of the crop
    landmarks: (M, L, 3) float32 x, y, weight (0: missing)
    image:     (M,) int64, the image a face stands in
    kind:      (M,) int8: FACE, IGNORED or PADDING
    label_weight: (B,) float32, what the labels of each image count; None: 1 everywhere
    """

    images: Tensor
    boxes: Tensor
    landmarks: Tensor
    image: Tensor
    kind: Tensor
    label_weight: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """The batch on another device; copies overlap with computing where the memory is pinned."""
        return Batch(
            self.images.to(device, non_blocking=True),
            self.boxes.to(device, non_blocking=True),
            self.landmarks.to(device, non_blocking=True),
            self.image.to(device, non_blocking=True),
            self.kind.to(device, non_blocking=True),
            None if self.label_weight is None else self.label_weight.to(device, non_blocking=True),
        )

    @staticmethod
    def joined(parts: "Sequence[Batch]") -> "Batch":
        """Batches one after the other as one."""
        weights = [part.label_weight for part in parts if part.label_weight is not None]
        first = [sum(len(part.images) for part in parts[:index]) for index in range(len(parts))]
        return Batch(
            torch.cat([part.images for part in parts]),
            torch.cat([part.boxes for part in parts]),
            torch.cat([part.landmarks for part in parts]),
            torch.cat([part.image + start for part, start in zip(parts, first, strict=True)]),
            torch.cat([part.kind for part in parts]),
            torch.cat(weights) if weights else None,
        )


FACE = 0
IGNORED = 1  # neither a face to learn nor background
PADDING = 2  # a row without meaning, so that the number of rows takes few values
