"""What every label format's `read` returns: the images, what was wrong, and what was counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facetrain.core.errors import DataError
from facetrain.core.faces import LabelledImage
from facetrain.data.places import Split
from facetrain.data.plausibility.judge import Judgement

_SHOWN = 60  # characters of a token that a message repeats


def at_place(path: Path, line: int | str) -> str:
    """A place in a label file, in words. line: its number, or in JSON the path of the value."""
    return f"{path}:{line}" if isinstance(line, int) else f"{path}: {line}"


@dataclass(frozen=True)
class LabelProblem:
    """Something in a label file that cannot be read: where it stands, the text, and what is wrong with it."""

    path: Path
    line: int | str  # from 1; in JSON the path of the value, such as `annotations[3].bbox`
    token: str
    message: str

    def __str__(self) -> str:
        token = self.token if len(self.token) <= _SHOWN else self.token[: _SHOWN - 1] + "…"
        return f"{at_place(self.path, self.line)}: {token!r}: {self.message}"


@dataclass(frozen=True)
class LabelStatistics:
    """Counts over the images that were read.

    faces = with_landmarks + without_landmarks + ignored. Boxes without area are in none of them: they are left out.
    """

    images: int
    images_without_faces: int  # ignored faces count as faces here
    faces: int
    with_landmarks: int  # at least one point is there
    without_landmarks: int
    ignored: int
    boxes_without_area: int  # zero-size or inverted
    repeated_headers: int  # images that the file has once more; the last one counts
    blank_lines: int
    other_classes: int = 0  # boxes of classes that were not chosen

    @staticmethod
    def of(
        images: Sequence[LabelledImage],
        boxes_without_area: int = 0,
        repeated_headers: int = 0,
        blank_lines: int = 0,
        other_classes: int = 0,
    ) -> "LabelStatistics":
        """Count over the images; what they no longer show is passed in."""
        faces = sum(len(image.boxes) for image in images)
        ignored = sum(int(image.ignore.sum()) for image in images)
        with_landmarks = sum(int(((image.landmarks[..., 2] > 0).any(1) & ~image.ignore).sum()) for image in images)
        return LabelStatistics(
            images=len(images),
            images_without_faces=sum(len(image.boxes) == 0 for image in images),
            faces=faces,
            with_landmarks=with_landmarks,
            without_landmarks=faces - ignored - with_landmarks,
            ignored=ignored,
            boxes_without_area=boxes_without_area,
            repeated_headers=repeated_headers,
            blank_lines=blank_lines,
            other_classes=other_classes,
        )

    def summary(self) -> str:
        """One line for a person; what is zero and unusual is not mentioned."""
        text = (
            f"{self.images:,} images ({self.images_without_faces:,} without faces), {self.faces:,} faces: "
            f"{self.with_landmarks:,} with landmarks, {self.without_landmarks:,} without, {self.ignored:,} ignored"
        )
        if self.boxes_without_area:
            text += f"; left out {self.boxes_without_area:,} boxes without area"
        if self.repeated_headers:
            text += f"; {self.repeated_headers:,} repeated headers, the last of each counts"
        if self.other_classes:
            text += f"; left out {self.other_classes:,} boxes of other classes"
        return text


@dataclass(frozen=True)
class LabelFile:
    """All that was read of a split's labels. Lines with a problem are in `problems` and not in `images`.

    points: the names of the landmarks' columns
    named:  whether the labels name their points; without names they are known by their order
    form:   what right labels look like, for hints
    notes:  what else a user should hear, a sentence each
    files:  the label files, where they are not one
    place:  where the labels were found, and in which format
    flat:   images with boxes without area, and only with these: what was left out of `images`
    convention: what the four numbers of a box are in this format, see plausibility/conventions
    judgement: what was found in it that cannot be right; None where nobody has looked
    """

    images: list[LabelledImage]
    problems: list[LabelProblem]
    statistics: LabelStatistics
    points: tuple[str, ...] = ()
    form: str = ""
    notes: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    place: Split | None = None
    flat: tuple[LabelledImage, ...] = ()
    convention: str = "xyxy"
    judgement: Judgement | None = None
    named: bool = True

    def raise_on_problems(self, limit: int = 20) -> None:
        """Raise one DataError that lists the first `limit` problems and says how many more there are."""
        if not self.problems:
            return
        count = len(self.problems)
        lines = ["1 problem in the labels:" if count == 1 else f"{count:,} problems in the labels:"]
        lines += [f"  {problem}" for problem in self.problems[:limit]]
        if count > limit:
            lines.append(f"  and {count - limit:,} more")
        raise DataError("\n".join(lines), "; ".join(("correct these lines or take them out", self.form)).rstrip("; "))

    def remarks(self) -> list[str]:
        """What was found in the labels that cannot be right, a line for each thing that was done."""
        return [] if self.judgement is None else self.judgement.remarks

    def said(self) -> str:
        """What was recognised, in one line: where, which format, how much."""
        if self.place is None:
            return self.statistics.summary()
        where = f"labels {self.place.labels}, format {self.place.format}, images in {self.place.images}"
        return "; ".join((f"{where}: {self.statistics.summary()}", *self.notes))
