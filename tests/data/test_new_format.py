"""A label format is one new file in data/formats."""

import importlib

import numpy as np

from facetrain.core.images import write_image
from facetrain.data import formats
from facetrain.data.landmark_names import FIVE
from facetrain.data.layout import find_split, format_names, load_split

DOTS = '''"""A face a line: the image's name, and x y of a face of ten pixels."""

import numpy as np

from facetrain.core.faces import LabelledImage
from facetrain.data.label_file import LabelFile, LabelStatistics
from facetrain.data.places import usual_places

FILE = "dots.txt"


def recognises(path):
    return path.read_text().count(" ") == 2


def places(root, split):
    yield from usual_places(root, split, FILE)


def read(path, images, points=None, classes=()):
    found = []
    for line in path.read_text().splitlines():
        name, x, y = line.split()
        box = np.array([[float(x), float(y), float(x) + 10, float(y) + 10]], np.float32)
        points = np.zeros((1, len(points), 3), np.float32)
        found.append(LabelledImage(images / name, name, None, box, points, np.zeros(1, bool)))
    return LabelFile(found, [], LabelStatistics.of(found))
'''


def test_one_file_is_one_format(tmp_path, monkeypatch):
    more = tmp_path / "more"
    more.mkdir()
    (more / "dots.py").write_text(DOTS)
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(more)])
    importlib.invalidate_caches()
    assert "dots" in format_names()
    (tmp_path / "data/val/images").mkdir(parents=True)
    write_image(tmp_path / "data/val/images/a.png", np.zeros((40, 40, 3), np.uint8))
    (tmp_path / "data/val/dots.txt").write_text("a.png 5 6\n")
    assert find_split(tmp_path / "data", "val").format == "dots"
    [image] = load_split(tmp_path / "data", "val", FIVE).images
    assert image.path.is_file()
    assert image.boxes.tolist() == [[5, 6, 15, 16]]
