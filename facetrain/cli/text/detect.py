"""What `facetrain detect` says: a line for each image or video, and its end."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from facetrain.core.words import count
from facetrain.detect.looked import Looked
from facetrain.detect.run import Ended
from facetrain.detect.views import AUTO


def image_text(looked: Looked, folder: Path | None) -> str:
    """An image's line: path, size, faces, best score, time, and the drawn file where it has another name."""
    faces, image, source = looked.faces, looked.frame.image, looked.source
    best = f"best {faces.scores[0]:.2f}" if len(faces) else "best -"
    size = f"{image.width}x{image.height}"
    line = f"{source.name}  {size}  {count(len(faces), 'face')}  {best}  {looked.seconds * 1000:.0f} ms"
    renamed = folder is not None and source.path is not None and source.target.name != source.path.name
    return f"{line}  drawn as {folder / source.target}" if folder is not None and renamed else line


def video_text(ended: Ended, last: Looked) -> str:
    """The line of a video, an animation or a camera."""
    image = last.frame.image
    rate = f"{ended.frames / ended.seconds:.0f} frames/s" if ended.seconds > 0 else ""
    found = "no face" if not ended.faces else f"faces in {ended.with_faces:,}, at most {ended.most} at once"
    seconds = float(last.frame.time or 0) + float(last.frame.duration or 0)
    return (
        f"{ended.source.name}  {image.width}x{image.height}  {count(ended.frames, 'frame')} up to {seconds:.1f} s  "
        f"{found}  {rate}"
    )


@dataclass
class Told:
    """What was looked at so far, for the words at the end. Numbers alone: a camera may run for a month.

    smallest: the range of the smallest faces that were sought, pixels; sides: images of each shorter side below 10,000
    """

    images: int = 0
    frames: int = 0
    faces: int = 0
    smallest: tuple[float, float] = (math.inf, 0.0)
    sides: dict[int, int] = field(default_factory=dict)

    def add(self, looked: Looked) -> None:
        """One more image or frame."""
        moving = looked.frame.time is not None
        self.images, self.frames = self.images + (not moving), self.frames + moving
        self.faces += len(looked.faces)
        least = looked.seen.smallest
        self.smallest = min(self.smallest[0], least), max(self.smallest[1], least)
        side = min(looked.frame.image.width, looked.frame.image.height, 10_000)
        self.sides[side] = self.sides.get(side, 0) + 1


def summary_text(
    told: Told, saved: Sequence[tuple[str, Path]], failed: int, left: int | None, within: str | None = None
) -> str:
    """One line.

    saved:  what was written where
    left:   how many were not looked at at all, where it was interrupted
    within: the video that was interrupted
    """
    looked_at = [count(number, noun) for number, noun in ((told.images, "image"), (told.frames, "frame")) if number]
    text = f"{count(told.faces, 'face')} in {' and '.join(looked_at) or '0 images'}"
    text += "".join(f", {name} in {path}" for name, path in saved) if looked_at else ""
    text += f"; {failed} failed" if failed else ""
    if left is None:
        return text
    text += f"; interrupted within {within}" if within else "; interrupted"
    return text + (f", {left} not looked at" if left else "")


def sought_text(told: Told, size: str, min_face: float | None) -> str:
    """What was looked for, in one line. size: how the images were shown."""
    low, high = (math.ceil(least) for least in told.smallest)
    sizes = f"{low} px" if low == high else f"{low} to {high} px, by the image's size,"
    text = f"looked for faces of {sizes} and more"
    if size != AUTO:
        return f"{text}, in one look; --size auto looks for all sizes"
    if min_face is None:
        return text + (f"; --min-face {max(low // 2, 4)} looks closer" if low > 4 else "")
    if low > min_face:
        text += f", and not of {min_face:g}: no image shows more at more than twice its size"
    small = sum(images for side, images in told.sides.items() if side < min_face)
    return text + (f"; {count(small, 'image')} smaller than --min-face {min_face:g}" if small else "")


def covered_text(names: Sequence[str], score: float, asked: float | None) -> str:
    """What covers take, in one line. asked: the score that was given, None where it was not."""
    text = f"{' and '.join(names)}: faces of score {score:g} and more are covered; some can be missed, look it over"
    return text if asked is not None else f"{text}: a lower --score misses fewer, and covers more that are none"
