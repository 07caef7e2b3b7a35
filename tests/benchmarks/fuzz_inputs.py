"""The damaged and hostile files that fuzz.py feeds: for every kind an endless, seeded stream of mutated files."""

import io
import random
import re
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

_NUMBERS = (0, 1, 2, 3, 7, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**62, -1, -(2**31))

Case = tuple[bytes, Callable[[Path], Any], str]  # content, what reads it, the suffix of its name


def mutated(rng: random.Random, content: bytes, most: int = 6) -> bytes:
    """Bytes flipped, cut, doubled, filled, replaced by numbers that lie at edges."""
    data = bytearray(content)
    for _ in range(rng.randint(1, most)):
        if not data:
            break
        at = rng.randrange(len(data))
        match rng.randrange(7):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at] = rng.choice((0, 255, 127, 128, rng.randrange(256)))
            case 2:
                del data[at : at + rng.choice((1, 2, 4, 64, 4096))]
            case 3:
                data[at:at] = data[at : at + rng.choice((1, 4, 64, 1024))]
            case 4:
                layout = rng.choice(("<I", ">I", "<H", ">H", "<Q"))
                number = rng.choice(_NUMBERS) % (1 << 8 * struct.calcsize(layout))
                data[at : at + struct.calcsize(layout)] = struct.pack(layout, number)
            case 5:
                del data[at:]
            case 6:
                data[at : at + 8] = bytes(8)
    return bytes(data)


def mutated_text(rng: random.Random, text: str) -> bytes:
    """Numbers, words and lines of a text exchanged, doubled, left out, or made absurd."""
    odd = (
        "",
        "nan",
        "inf",
        "-1",
        "1e309",
        "0",
        "9" * 400,
        "null",
        "[]",
        "{}",
        "é\u202e",
        "\t",
        "!!python/x",
        "&a",
        "*a",
        "true",
    )
    for _ in range(rng.randint(1, 5)):
        words = list(re.finditer(r"[^\s:\[\],]+", text))
        if not words:
            break
        word = rng.choice(words)
        match rng.randrange(5):
            case 0:
                text = text[: word.start()] + rng.choice(odd) + text[word.end() :]
            case 1:
                text = text[: word.start()] + rng.choice(words).group() + text[word.end() :]
            case 2:
                lines = text.split("\n")
                lines.insert(rng.randrange(len(lines)), rng.choice(lines))
                text = "\n".join(lines)
            case 3:
                text = text[: word.start()] + text[word.end() :]
            case 4:
                text = text[: word.start()]
    return mutated(rng, text.encode(), 2) if rng.random() < 0.3 else text.encode("utf-8", "surrogatepass")


def config(rng: random.Random) -> Iterator[Case]:
    """YAML: presets, and settings of --set."""
    from facetrain.config.load import load_config, preset_names, preset_text

    texts = [preset_text(name) for name in preset_names()]
    while True:
        content = mutated_text(rng, rng.choice(texts))
        yield content, load_config, ".yaml"


def labels(rng: random.Random) -> Iterator[Case]:
    """labelv2 files."""
    from facetrain.data.formats import labelv2

    lines = []
    for image in range(6):
        lines.append(f"# event/a{image}.jpg 640 480")
        for face in range(image):
            points = " ".join(f"{20 + face}.5 {30 + i} 1" for i in range(5))
            lines.append(f"{10 + face} 20 {60 + face} 90" + (f" {points}" if face % 2 else " 1" if face % 3 else ""))

    def read(path: Path) -> None:
        labelv2.read(path, path.parent).raise_on_problems()

    while True:
        yield mutated_text(rng, "\n".join(lines)), read, ".txt"


def formats(rng: random.Random) -> Iterator[Case]:
    """The other label formats, a file of each as facetrain writes it itself."""
    from facetrain.core.faces import LabelledImage
    from facetrain.core.files import write_bytes
    from facetrain.data.layout import format_module, format_names
    from facetrain.data.places import Split

    names = ("right_eye", "left_eye", "nose", "right_mouth", "left_mouth")
    boxes = np.array([[10, 20, 60.5, 90], [1, 2, 30, 40]], np.float32)
    points = np.ones((2, 5, 3), np.float32) * 25
    hidden = np.zeros((2, 5), bool)
    image = LabelledImage(Path("a.png"), "a.png", (64, 48), boxes, points, np.array([False, True]), hidden)
    home = tempfile.TemporaryDirectory()
    done, png = cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))
    assert done
    write_bytes(Path(home.name) / "images" / "a.png", png.tobytes())
    wholes: list[tuple[str, str, str]] = []
    for name in format_names():
        module = format_module(name)
        if name in ("labelv2", "fddb"):
            continue
        labels = module.target(Path(home.name) / name, "train").labels
        module.write(labels, [image], names)
        file = labels if labels.is_file() else next(path for path in labels.rglob("*") if path.is_file())
        wholes.append((name, file.read_text(), file.suffix))
    wholes.append(("fddb", "img_1\n2\n60.5 40 -1.4 100 87  1\n6 4 0.5 10 7  1\n", ".txt"))
    while True:
        name, text, suffix = rng.choice(wholes)

        def read(path: Path, name: str = name) -> None:
            module, images = format_module(name), Path(home.name) / "images"
            place = Split(path, images)
            if name == "yolo":
                (Path(home.name) / "labels").mkdir(exist_ok=True)
                path.replace(Path(home.name) / "labels" / "a.txt")
                place = Split(Path(home.name) / "labels", images)
            else:
                module.recognises(path)
            module.read(place.labels, place.images, names, ()).raise_on_problems()

        yield mutated_text(rng, text), read, suffix


def mat(rng: random.Random) -> Iterator[Case]:
    """MATLAB files as the official ground truth has them."""
    from scipy.io import savemat

    from facetrain.eval.wider_face.mat_reader import read_mat

    names = ("event_list", "file_list", "face_bbx_list", "gt_list")
    cells = np.empty((2, 1), object)
    cells[:] = [[np.array(["a"], object)], [np.ones((3, 4))]]
    wholes = []
    for packed in (False, True):
        stream = io.BytesIO()
        savemat(stream, dict.fromkeys(names, cells), do_compression=packed)
        wholes.append(stream.getvalue())
    while True:
        yield mutated(rng, rng.choice(wholes)), lambda path: read_mat(path, names), ".mat"


def predictions(rng: random.Random) -> Iterator[Case]:
    """Result files of other detectors."""
    from facetrain.eval.prediction_files import read_predictions

    whole = "a.jpg\n3\n10.5 20 30 40 0.98\n1 2 3 4 0.5\n7 8 9 10 0.01\n"
    while True:
        yield mutated_text(rng, whole), lambda path: read_predictions(path.parent, [path.stem]), ".txt"


def images(rng: random.Random) -> Iterator[Case]:
    """Every format that is read, with headers that lie."""
    import PIL.Image

    from facetrain.core.images import read_image

    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    wholes: list[tuple[bytes, str]] = []
    for suffix in (".jpg", ".png", ".webp", ".bmp", ".tif", ".ppm", ".pgm", ".jp2", ".hdr", ".pfm", ".pam", ".sr"):
        image = pixels.astype(np.float32) / 255 if suffix in (".hdr", ".pfm") else pixels
        done, content = cv2.imencode(suffix, image[..., 0] if suffix == ".pgm" else image)
        if done:
            wholes.append((content.tobytes(), suffix))
    wholes.append((cv2.imencode(".png", pixels.astype(np.uint16) << 4)[1].tobytes(), ".png"))
    wholes.append((cv2.imencode(".tif", pixels.astype(np.float32))[1].tobytes(), ".tif"))
    for kind in ("GIF", "AVIF", "TGA", "TIFF", "PNG", "JPEG", "WEBP"):
        stream, exif = io.BytesIO(), PIL.Image.Exif()
        exif[0x0112] = 6
        PIL.Image.fromarray(pixels).save(stream, kind, **({} if kind in ("GIF", "TGA") else {"exif": exif}))
        wholes.append((stream.getvalue(), f".{kind.lower()}"))
    while True:
        content, suffix = rng.choice(wholes)
        if rng.random() < 0.4:  # sizes stand near the start
            start = mutated(rng, content[:64], 3)
            content = start + content[64:]
        else:
            content = mutated(rng, content)
        yield content, read_image, suffix


def checkpoints(rng: random.Random) -> Iterator[Case]:
    """Weights: bytes of the archive, and documents whose values are of other kinds."""
    from facetrain.detect.bundled import bundled_weights
    from facetrain.model.weights import load_model

    whole = bundled_weights("yunet_n", ".pt").read_bytes()
    document = _document(whole)
    while True:
        content = mutated(rng, whole) if rng.random() < 0.4 else _saved(_other(rng, document))
        yield content, load_model, ".pt"


def states(rng: random.Random) -> Iterator[Case]:
    """Training states, as --resume reads them."""
    from facetrain.config.schema import Config
    from facetrain.core.run_dir import RunDir
    from facetrain.model.yunet import build
    from facetrain.train.optim.optimizers import make_optimizer
    from facetrain.train.run.checkpoint import TrainState, load_state, save_state

    settings = Config()
    model = build(settings.model)
    optimizer = make_optimizer(model, settings.train)
    with tempfile.TemporaryDirectory() as folder:
        save_state(RunDir(Path(folder)), settings, TrainState(3, 0, 100, "x"), model, None, optimizer)
        whole = (Path(folder) / "last.pt").read_bytes()
    document = _document(whole)

    def read(path: Path) -> None:
        run = RunDir(path.parent)
        path.replace(run.last)
        try:
            load_state(run)
        finally:
            run.last.unlink(missing_ok=True)

    while True:
        content = mutated(rng, whole) if rng.random() < 0.4 else _saved(_other(rng, document))
        yield content, read, ".pt"


def onnx(rng: random.Random) -> Iterator[Case]:
    """Networks whose attributes, dimensions, names and operators are others."""
    import onnx as package

    from facetrain.detect.bundled import bundled_weights
    from facetrain.detect.detector import FaceDetector

    whole = bundled_weights("yunet_n", ".onnx").read_bytes()
    image = np.zeros((64, 64, 3), np.uint8)

    def read(path: Path) -> None:
        FaceDetector(path, threads=1).detect(image)

    while True:
        if rng.random() < 0.3:
            yield mutated(rng, whole), read, ".onnx"
            continue
        model = package.load_from_string(whole)
        for _ in range(rng.randint(1, 3)):
            _other_graph(rng, model)
        yield model.SerializeToString(), read, ".onnx"


def _other_graph(rng: random.Random, model: Any) -> None:
    graph, number = model.graph, rng.choice((*_NUMBERS, 1000, 100_000))
    match rng.randrange(5):
        case 0:  # strides, pads, kernel shapes, groups
            nodes = [node for node in graph.node if any(a.ints for a in node.attribute)]
            attribute = rng.choice([a for a in rng.choice(nodes).attribute if a.ints])
            attribute.ints[rng.randrange(len(attribute.ints))] = number
        case 1:  # the sizes of stored numbers
            tensor = rng.choice(graph.initializer)
            if tensor.dims:
                tensor.dims[rng.randrange(len(tensor.dims))] = number
        case 2:  # the numbers themselves, scales of a Resize among them
            tensor = rng.choice(graph.initializer)
            values = bytearray(tensor.raw_data)
            if values:
                at = rng.randrange(len(values))
                values[at : at + 4] = struct.pack("<f", rng.choice((1e9, -1.0, float("nan"), 3e5, 0.0)))[
                    : len(values) - at
                ]
                tensor.raw_data = bytes(values)
        case 3:
            node = rng.choice(graph.node)
            node.op_type = rng.choice(
                ("Resize", "Tile", "Expand", "ConstantOfShape", "Loop", "Pad", "Identity", "Range")
            )
        case 4:  # declared sizes of inputs and outputs
            value = rng.choice([*graph.input, *graph.output])
            dims = value.type.tensor_type.shape.dim
            if dims:
                dims[rng.randrange(len(dims))].dim_value = max(number, 0)


def _document(whole: bytes) -> Any:
    import torch

    return torch.load(io.BytesIO(whole), weights_only=True)


def _saved(document: Any) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(document, stream)
    if len(stream.getvalue()) % 3 == 0:  # packed again: zeros that take no room in the file
        packed = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(stream.getvalue())) as old,
            zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new,
        ):
            for name in old.namelist():
                new.writestr(name, old.read(name))
        return packed.getvalue()
    return stream.getvalue()


def _other(rng: random.Random, document: Any) -> Any:
    """A document with a value somewhere inside replaced, left out or added."""
    import torch

    if isinstance(document, dict) and document and rng.random() < 0.85:
        changed = dict(document)
        key = rng.choice(list(changed))
        match rng.randrange(8):
            case 0:
                del changed[key]
            case 1:
                changed["another"] = changed[key]
            case 2:
                changed[rng.choice((3, None, "x" * 300))] = changed.pop(key)
            case _:
                changed[key] = _other(rng, changed[key])
        return changed
    if isinstance(document, torch.Tensor) and rng.random() < 0.6:
        shape = list(document.shape)
        match rng.randrange(5):
            case 0:
                return torch.full_like(document, float("nan")) if document.is_floating_point() else document.float()
            case 1:
                return document.flatten()
            case 2:
                return torch.zeros(1).expand(rng.choice(([10**6, 10**4], [2**40], [*shape, 10**6])))
            case 3:
                return torch.zeros([rng.choice((0, 1, 33)), *shape[1:]])
            case 4:
                return document.to(rng.choice((torch.int8, torch.float16, torch.complex64, torch.bool)))
    values = (
        None,
        -5,
        10**9,
        10**400,
        1.5,
        float("nan"),
        "text",
        [],
        {},
        [1, 2, 3],
        b"x",
        True,
        torch.zeros(2),
        {"a": {}},
    )
    return rng.choice(values)


KINDS: dict[str, tuple[Callable[[random.Random], Iterator[Case]], int]] = {
    "config": (config, 5000),
    "labels": (labels, 4500),
    "formats": (formats, 9000),
    "mat": (mat, 2500),
    "predictions": (predictions, 2500),
    "images": (images, 4500),
    "checkpoints": (checkpoints, 1200),
    "states": (states, 300),
    "onnx": (onnx, 300),
}
