"""What WIDER FACE is published as: which files there are, what is in them, and where they come from."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from facetrain.core.archives import Archive, opened
from facetrain.core.errors import InputError
from facetrain.core.suggest import path_hint

HOME = "http://shuoyang1213.me/WIDERFACE"
EVENTS = 61
IMAGES = {"train": 12_880, "val": 3_226}
GROUND_TRUTH = tuple(f"wider_{subset}_val.mat" for subset in ("face", "easy", "medium", "hard"))
_GROUND_TRUTH_PLACES = ("", "ground_truth/", "eval_tools/ground_truth/", "labelv2/val/gt/", "wider_face_split/")

SOURCES = {
    "train images": f"WIDER_train.zip, of {HOME} (WIDER Face Training Images)",
    "val images": f"WIDER_val.zip, of {HOME} (WIDER Face Validation Images)",
    "train labels": f"wider_face_split.zip, of {HOME} (Face annotations)",
    "val labels": f"wider_face_split.zip, of {HOME} (Face annotations)",
    "landmarks": "label.txt of RetinaFace (retinaface_gt_v1.1.zip, named on the page of insightface's RetinaFace), or "
    "labelv2/train/labelv2.txt of libfacedetection.train; WIDER FACE itself has none",
    "ground truth": f"eval_tools.zip, of {HOME} (evaluation code); `eval` with `widerface` needs it",
}


@dataclass(frozen=True)
class Given:
    """A file of the published ones: one on the disk, or a member of an archive."""

    path: Path
    archive: Archive | None = None
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.member}" if self.archive else str(self.path)

    def content(self) -> bytes:
        """Its bytes. Raises DataError."""
        return self.path.read_bytes() if self.archive is None else self.archive.read(self.member)


@dataclass(frozen=True)
class Published:
    """What is there. Every dictionary lacks what is not.

    images:       per split, by `<event>/<name>`
    lists:        per split, `wider_face_<split>_bbx_gt.txt`
    landmarks:    per split, `label.txt` of RetinaFace or `labelv2.txt`
    ground_truth: by name
    sources:      where the images of a split are: an archive, or a folder
    """

    images: dict[str, dict[str, Given]]
    lists: dict[str, Given]
    landmarks: dict[str, Given]
    ground_truth: dict[str, Given]
    sources: dict[str, Path]


def find_published(folder: Path, stack: ExitStack) -> Published:
    """Look through a folder for the published files, as they come or unpacked. Archives are closed with the stack.

    Raises InputError where nothing of it is there, DataError for an archive that is damaged or not the official one.
    """
    if not folder.is_dir():
        reason = "not a folder" if folder.exists() else "no such folder"
        raise InputError(f"{folder}: {reason}", path_hint(folder, _wanted()))
    archives = {path.name: stack.enter_context(opened(path)) for path in _archives(folder)}
    images, sources = {}, {}
    for split in IMAGES:
        found, source = _images(folder, split, archives.get(f"WIDER_{split}.zip"))
        if found and source is not None:
            images[split], sources[split] = found, source
    lists, landmarks = {}, {}
    for split in IMAGES:
        name = f"wider_face_{split}_bbx_gt.txt"
        lists[split] = _first(folder, archives, (name, f"wider_face_split/{name}"), (name,))
        named = (f"labelv2/{split}/labelv2.txt", f"{split}/labelv2.txt", f"{split}/label.txt")
        plain = ("labelv2.txt", "label.txt") if split == "train" else ()
        landmarks[split] = _first(folder, archives, (*named, *plain), named)
    ground_truth = {}
    for name in GROUND_TRUTH:  # wider_face_split.zip has another wider_face_val.mat, without what counts
        places = [f"{place}{name}" for place in _GROUND_TRUTH_PLACES]
        ground_truth[name] = _first(folder, archives, places, (f"ground_truth/{name}",))
    published = Published(images, _there(lists), _there(landmarks), _there(ground_truth), sources)
    if not any((published.images, published.lists, published.landmarks, published.ground_truth)):
        raise InputError(f"{folder}: nothing of WIDER FACE in this folder", _wanted())
    return published


def _archives(folder: Path) -> list[Path]:
    names = [*(f"WIDER_{split}.zip" for split in IMAGES), "wider_face_split.zip", "eval_tools.zip"]
    paths = (*(folder / name for name in names), *sorted(folder.glob("retinaface_gt*.zip")))
    return [path for path in paths if path.is_file()]


def _images(folder: Path, split: str, archive: Archive | None) -> tuple[dict[str, Given], Path | None]:
    """The images of a split by `<event>/<name>`, from the archive, or from its folder where that is missing."""
    top = f"WIDER_{split}/images"
    if archive is not None:
        found = {}
        for name in archive.members:
            path = PurePosixPath(name)
            inside = path.relative_to(top) if path.is_relative_to(top) else PurePosixPath()
            if len(inside.parts) == 2 and _is_image(inside.name):
                found[str(inside)] = Given(archive.path, archive, name)
        return found, archive.path
    place = folder / top
    if not place.is_dir():
        return {}, None
    events = sorted(event for event in place.iterdir() if event.is_dir() and not event.name.startswith("."))
    return {
        f"{event.name}/{path.name}": Given(path)
        for event in events
        for path in sorted(event.iterdir())
        if _is_image(path.name)
    }, place


def _is_image(name: str) -> bool:
    """Not what a Mac adds to an archive, `._name.jpg`."""
    return name.lower().endswith((".jpg", ".jpeg")) and not name.startswith(".")


def _first(folder: Path, archives: dict[str, Archive], places: Sequence[str], members: Sequence[str]) -> Given | None:
    """The first of these files that is in the folder; or else in an archive, there below any folders."""
    for place in places:
        if (folder / place).is_file():
            return Given(folder / place)
    for archive in archives.values():
        for member in archive.members:
            if "__MACOSX" not in member and any(f"/{member}".endswith(f"/{name}") for name in members):
                return Given(archive.path, archive, member)
    return None


def _there(given: dict[str, Given | None]) -> dict[str, Given]:
    return {name: some for name, some in given.items() if some is not None}


def _wanted() -> str:
    return "put there, as they come:\n" + "\n".join(f"  {what}: {source}" for what, source in SOURCES.items())
