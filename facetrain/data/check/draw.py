"""An image with its labels as they were read: boxes and landmarks, and in red what cannot be right."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facetrain.core.drawing import dotted, outline, side_colours, whole_pixels
from facetrain.core.faces import Image, LabelledImage
from facetrain.core.images import opencv

RIGHT, FOUND, IGNORED = (80, 200, 60), (50, 50, 255), (190, 190, 190)  # BGR


def drawn_labels(
    image: Image, factor: float, labelled: LabelledImage, names: Sequence[str], wrong: NDArray[np.bool_]
) -> Image:
    """The image (H, W, 3) at `factor` of its size with its labels. names: of the landmarks; wrong: (F,) drawn red."""
    cv2 = opencv()
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    canvas: Image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    # labels may be of another size than the file has: they are drawn where they say
    scale = np.divide(size, image.shape[1::-1])
    boxes = whole_pixels(labelled.boxes * np.tile(scale, 2), max(size))
    for box in boxes[labelled.ignore & ~wrong]:
        dotted(canvas, box, IGNORED)
    for box in boxes[~labelled.ignore & ~wrong]:
        outline(canvas, box, RIGHT, 2)
    for box in boxes[wrong]:
        outline(canvas, box, FOUND, 3)
    colours = side_colours(names) if len(names) == labelled.landmarks.shape[1] else []
    points = np.clip(np.nan_to_num(labelled.landmarks[..., :2] * scale), -max(size), 2 * max(size))
    for box, face, there in zip(boxes, points, labelled.landmarks[..., 2] > 0, strict=True):
        radius = int(np.clip((box[2] - box[0]) // 24, 1, 5))
        for (x, y), colour in zip(face[there], np.array(colours, int).reshape(-1, 3)[there], strict=True):
            cv2.circle(canvas, (round(float(x)), round(float(y))), radius, colour.tolist(), cv2.FILLED, cv2.LINE_AA)
    return canvas
