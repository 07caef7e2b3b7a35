"""The stages of the long trainings, and the data that they read."""

import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Stage:
    """One run. settings: what `--set` gets, over the recipe `distil`; minutes: how long, unless --for says it."""

    name: str
    minutes: float
    teacher: str = "reference/yunet/yunet_n.pth"
    data: str = "widerface"
    more: tuple[str, ...] = ()  # further sets with their shares, as --data takes them; the weights name them
    fresh: bool = False  # from drawn weights, whatever there is
    settings: dict[str, Any] = field(default_factory=dict)


SMALL = Stage("teacher alone, crops of 320", 120)
AGAIN = Stage("teacher alone, crops of 320, again", 120, settings={"train.lr": 0.03})
LARGE = Stage("teacher alone, crops of 640", 120, settings={"data.size": 640, "train.batch": 16, "train.lr": 0.015})
BOTH = Stage(
    "labels and teacher, crops of 640",
    90,
    settings={"data.size": 640, "train.batch": 16, "train.lr": 0.01, "train.label_weight": 0.3},
)
TAIL = Stage(
    "averaged tail", 45, settings={"data.size": 640, "train.batch": 16, "train.lr": 0.003, "train.ema": 0.9995}
)
# The same once more: between .769 and the teacher's .811 there is room, and both are far below its number of crops.
MORE = replace(BOTH, name=f"{BOTH.name}, again", minutes=120, settings=BOTH.settings | {"train.lr": 0.015})
LAST = replace(TAIL, name=f"{TAIL.name}, again")
# The same with the teacher's labels of 6,830 other images: larger faces, masks, darker skin, images without any face.
# Their terms are for research, see their README: weights of this stage say what they have seen.
WIDE = replace(BOTH, name=f"{BOTH.name}, more images", minutes=120, more=("extra:0.3",))
WIDER = replace(WIDE, name=f"{WIDE.name}, again")
END = replace(TAIL, name=f"{TAIL.name}, more images", minutes=60, more=WIDE.more)
OUTPUTS = (SMALL, AGAIN, LARGE, BOTH, TAIL, MORE, LAST, WIDE, WIDER, END)  # all of these taught by what a teacher says
# From the start again: told how the teacher sees, a quarter of an hour is worth the first stage. The teacher is the
# network's own twin, all of whose maps can be compared.
HINTS = {
    name: Stage(
        "teacher and its maps, crops of 320",
        26,
        teacher=f"reference/yunet/{name}.pth",
        more=("extra_with_terms:0.3",),
        fresh=True,
        settings={"train.teacher_maps": 40},
    )
    for name in ("yunet_n", "yunet_s")
}
HINTS_LARGE = {
    name: replace(
        stage,
        name="teacher and its maps, crops of 640",
        minutes=34,
        fresh=False,
        settings=stage.settings | {"data.size": 640, "train.batch": 16, "train.lr": 0.015},
    )
    for name, stage in HINTS.items()
}
# Half an hour of crops of 640 brought .013 to .021 in easy and nothing in hard: most of them show their image enlarged,
# up to 3.7 times, and hard's faces are small ones in images as they are. These scales lie around that size.
HINTS_SMALL = {
    name: replace(
        stage,
        name=f"{stage.name}, near the images' own size",
        minutes=75,
        settings=stage.settings | {"data.crop_scales": [0.4, 0.6, 0.8, 0.9, 1.0, 1.15, 1.3]},
    )
    for name, stage in HINTS_LARGE.items()
}
# What is left of hard between yunet_n and its teacher is in three of the 400 images, crowds of faces of 6 to 9 pixels.
# Crops that reach far beyond the image's shorter side show their faces as small.
HINTS_TINY = {
    name: replace(
        stage,
        name=f"{HINTS_LARGE[name].name}, down to tiny faces",
        minutes=120,
        settings=stage.settings | {"data.crop_scales": [0.5, 0.8, 1.0, 1.2, 1.5, 2.0, 2.5]},
    )
    for name, stage in HINTS_SMALL.items()
}
# A network's stages in their order. The first starts from the bundled weights, or from drawn ones.
PLAN = {
    name: [*OUTPUTS, HINTS[name], HINTS_LARGE[name], HINTS_SMALL[name], HINTS_TINY[name]]
    for name in ("yunet_n", "yunet_s")
}
# Sources of the further images that come without any terms: they take no part.
NO_TERMS = {"maskwearing", "prajnasb_wo", "humanseg", "youtube"}
SEED = 0


def reference() -> Path:
    """The folder with the data and the teachers."""
    return Path(os.environ.get("FACETRAIN_REFERENCE", ROOT.parent / "shared")).resolve()


def further(name: str) -> Path:
    """The folder of a further set, with its share as --data takes it; `extra_with_terms` is made once, of links."""
    from facetrain.core.files import user_cache

    folder, _, share = name.partition(":")
    if folder != "extra_with_terms":
        return reference() / name
    source, root = reference() / "extra" / "train", user_cache() / "facetrain" / folder
    if not root.is_dir():
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root.parent) as scratch:  # two networks begin at the same time
            made = Path(scratch) / folder
            _link_those_with_terms(source, made / "train")
            with suppress(OSError):
                made.rename(root)
    return Path(f"{root}:{share}")


def _link_those_with_terms(source: Path, part: Path) -> None:
    from facetrain.core.files import write_text

    kept = {path.name for path in (source / "images").iterdir()} - NO_TERMS
    for path in (path for name in kept for path in (source / "images" / name).iterdir()):
        link = part / "images" / path.parent.name / path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    lines, taken = [], False
    for line in (source / "labelv2.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            taken = line.split()[1].partition("/")[0] in kept
        lines += [line] if taken else []
    write_text(part / "labelv2.txt", "\n".join(lines) + "\n")
