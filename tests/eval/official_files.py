"""WIDER FACE's published files, small: archives and lists of the official layout, with drawn images."""

import zipfile
from pathlib import Path

import numpy as np
from scipy.io import savemat

from facetrain.core.images import opencv

EVENTS = ("0--Parade", "1--Handshaking", "11--Meeting")
COUNTS = {"train": 6, "val": 3}
SIZE = (96, 64)  # width, height
# x y w h blur expression illumination invalid occlusion pose
FACES = (
    ("10 12 20 24 0 0 0 0 0 0", "50 20 8 9 2 0 0 1 0 0", "70 30 0 9 0 0 0 0 0 0"),
    ("30 8 40 44 0 0 0 0 0 0",),
    (),
)
POINTS = "18 20 1 26 20 1 22 26 1 19 31 1 25 31 1"  # of the first face of all


def image_names(split: str) -> list[str]:
    return [
        f"{event}/{event.replace('--', '_')}_{split}_1_{number}.jpg"
        for event in EVENTS
        for number in range(COUNTS[split] // len(EVENTS))
    ]


def jpeg(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (8, 12, 3), np.uint8)
    cv2 = opencv()
    pixels = cv2.resize(pixels, SIZE)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def bbx_gt(split: str) -> str:
    """The official list: blanks at the ends of lines, an image without faces with a line of zeros."""
    lines = []
    for number, name in enumerate(image_names(split)):
        faces = FACES[number % len(FACES)]
        lines += [name, str(len(faces)), *(f"{face} " for face in faces or ("0 0 0 0 0 0 0 0 0 0",))]
    return "\n".join(lines) + "\n"


def label_txt(split: str) -> str:
    """RetinaFace's: the same boxes, points for the first of each image, a last number for blur."""
    lines = []
    for number, name in enumerate(image_names(split)):
        lines.append(f"# {name}")
        for place, face in enumerate(FACES[number % len(FACES)]):
            points = POINTS.replace(" 1 ", " 0.0 ") if place == 0 else " ".join(["-1.0"] * 15)
            lines.append(f"{' '.join(face.split()[:4])} {points} 0.82")
    return "\n".join(lines) + "\n"


def labelv2_txt(split: str) -> str:
    lines = []
    for number, name in enumerate(image_names(split)):
        lines.append(f"# {name} {SIZE[0]} {SIZE[1]}")
        for place, face in enumerate(FACES[number % len(FACES)]):
            x, y, width, height = map(int, face.split()[:4])
            points = f" {POINTS}" if place == 0 else " 1" if place == 1 else ""
            lines.append(f"{x} {y} {x + max(width, 1)} {y + height}{points}")
    return "\n".join(lines) + "\n"


def write_image_archive(folder: Path, split: str) -> Path:
    path = folder / f"WIDER_{split}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for place in (f"WIDER_{split}/", f"WIDER_{split}/images/"):
            file.writestr(place, "")
        for number, name in enumerate(image_names(split)):
            file.writestr(f"WIDER_{split}/images/{name}", jpeg(number))
        file.writestr(f"__MACOSX/WIDER_{split}/images/0--Parade/._a.jpg", "a Mac's")
        file.writestr(f"WIDER_{split}/.DS_Store", "a Mac's")
    return path


def write_split_archive(folder: Path) -> Path:
    path = folder / "wider_face_split.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for split in COUNTS:
            file.writestr(f"wider_face_split/wider_face_{split}_bbx_gt.txt", bbx_gt(split))
            file.writestr(f"wider_face_split/wider_face_{split}.mat", "not read")
        file.writestr("wider_face_split/readme.txt", "WIDER FACE")
    return path


def write_tools_archive(folder: Path) -> Path:
    names = image_names("val")
    events: dict[str, list[str]] = {}
    for name in names:
        events.setdefault(name.partition("/")[0], []).append(Path(name).stem)
    boxes = {Path(name).stem: FACES[number % len(FACES)] for number, name in enumerate(names)}
    faces = [[np.array([f.split()[:4] for f in boxes[n]], np.int32).reshape(-1, 4) for n in e] for e in events.values()]
    content = {
        "event_list": _cell(list(events)),
        "file_list": _cell([_cell(inner) for inner in events.values()]),
        "face_bbx_list": _cell([_cell(inner) for inner in faces]),
        "gt_list": _cell([_cell([np.arange(1, len(f) + 1, dtype=np.uint8)[:, None] for f in e]) for e in faces]),
    }
    path = folder / "eval_tools.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for subset in ("face", "easy", "medium", "hard"):
            savemat(folder / "scratch.mat", content)
            file.write(folder / "scratch.mat", f"eval_tools/ground_truth/wider_{subset}_val.mat")
        file.writestr("eval_tools/wider_eval.m", "% MATLAB")
    (folder / "scratch.mat").unlink()
    return path


def write_published(folder: Path) -> None:
    """All of it as it comes, without landmarks."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in COUNTS:
        write_image_archive(folder, split)
    write_split_archive(folder)
    write_tools_archive(folder)


def _cell(values: list) -> np.ndarray:
    out = np.empty((len(values), 1), object)
    for i, value in enumerate(values):
        out[i, 0] = value
    return out
