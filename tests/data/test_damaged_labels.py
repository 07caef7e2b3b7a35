"""Label files that are cut off, of wrong types, huge or hostile: each is an error that names file, place and value."""

import json
import random
import time
from pathlib import Path

import pytest
import yaml
from data.label_sets import draw_headers, random_set

from facetrain.core.errors import DataError, FacetrainError
from facetrain.data.holds import reduced
from facetrain.data.landmark_names import default_names
from facetrain.data.layout import find_split, format_module, format_names, load_split

WRITABLE = [name for name in format_names() if hasattr(format_module(name), "write")]
PNG = (64, 48)

COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}],
    "categories": [{"id": 1, "name": "face"}],
    "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40]}],
}


def problems(name: str, text: str | bytes, tmp_path: Path, suffix: str) -> list[str]:
    """What a format says of a text, without the path."""
    path = tmp_path / f"labels{suffix}"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        found = format_module(name).read(path, tmp_path / "images", ("nose",), ()).problems
    except DataError as error:
        return [error.message.replace(str(path), "")]
    return [str(problem).replace(str(path), "") for problem in found]


def coco_with(key: str, value: object) -> str:
    document = json.loads(json.dumps(COCO))
    owner, names = document, key.split(".")
    for part in names[:-1]:
        owner = owner[int(part)] if part.isdigit() else owner[part]
    owner[int(names[-1]) if names[-1].isdigit() else names[-1]] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("images.0.file_name", "../a.png", ": images[0].file_name: '../a.png': a path with `..`"),
        ("images.0.file_name", "C:\\a.png", ": images[0].file_name: 'C:\\\\a.png': an absolute path"),
        ("images.0.file_name", 7, ": images[0]: '7': `file_name` must be a text"),
        ("images.0.width", "64", ": images[0]: '\"64\"': `width` must be a whole number above 0"),
        ("images.0.id", [1], ": images[0]: '[1]': `id` must be a whole number"),
        ("images", {}, ": images: '{}': `images` must be a list"),
        ("annotations.0.bbox", [1, 2, 30], ": annotations[0]: '[1, 2, 30]': a box is four numbers"),
        ("annotations.0.bbox", "1234", ": annotations[0]: '1234': a box is four numbers"),
        ("annotations.0.bbox", [1, 2, float("nan"), 4], ": annotations[0]: 'nan': not a pixel position"),
        ("annotations.0.bbox", [1, 2, 10**400, 4], ": annotations[0]: '[1, 2, 1000"),
        ("annotations.0.bbox", [1, 2, 1e30, 4], ": annotations[0]: '1e+30': not a pixel position"),
        ("annotations.0.image_id", 9, ": annotations[0].image_id: '9': no image has this `id`"),
        ("annotations.0.category_id", 9, ": annotations[0]: '9': no category has this `id`: [1]"),
        ("annotations.0.category_id", {}, ": annotations[0]: '{}': `category_id` must be a whole number"),
        ("annotations.0.keypoints", [1, 2], ": annotations[0]: '[1, 2]': landmarks are 0 numbers"),
        ("annotations.0", None, ": annotations[0]: 'null': an object"),
        ("categories.0.name", None, ": categories[0]: 'null': `name` must be a text"),
    ],
)
def test_coco_names_the_path_and_the_value(tmp_path, key, value, said):
    assert any(line.startswith(said) for line in problems("coco", coco_with(key, value), tmp_path, ".json"))


def test_a_mark_behind_a_landmark_is_0_1_or_2(tmp_path):
    text = coco_with("annotations.0.keypoints", [1, 2, 3])
    assert problems("coco", text, tmp_path, ".json") == [
        ": annotations[0]: '3': behind a landmark stands 0 (missing), 1 (hidden) or 2 (visible)"
    ]


@pytest.mark.parametrize(
    ("name", "suffix", "text", "said"),
    [
        ("coco", ".json", '{"images": [\n', ":2: not JSON"),
        ("coco", ".json", "[" * 100_000, ": not JSON"),
        ("coco", ".json", '{"images": ' + "9" * 10_000 + "}", ": not JSON"),
        ("coco", ".json", "[1]", ": [1]: an object"),
        ("cvat", ".xml", '<annotations><image name="a.png"\n', ":"),
        ("cvat", ".xml", "<a>" * 10, ":1: not XML"),
        ("cvat", ".xml", '<annotations><image><box xtl="1"/></image></annotations>', ":1: '<image>': has no `name`"),
        ("cvat", ".xml", "<annotations><image name='a.png'>" + "<b>" * 1000, ": not XML: more than 100"),
        ("cvat", ".xml", "<annotations><image name='a'>\n<box label='f' xtl='1' ytl='2' xbr='x' ybr='4'/></image></annotations>", ":2: 'x': not a number"),  # noqa: E501
        ("cvat", ".xml", "<annotations><image name='a'>\n<box label='f' xtl='1'/></image></annotations>", ":2: '<box>': has no `ytl`"),  # noqa: E501
        ("voc", ".xml", "<annotation><object>\n<name>face</name></object></annotation>", ":1: '<object>': has no `bndbox`"),  # noqa: E501
        ("voc", ".xml", "<annotation><object><bndbox><xmin>1</xmin></bndbox></object></annotation>", ":1: '<bndbox>': has no `ymin`"),  # noqa: E501
        ("voc", ".xml", "<other/>", ": no `annotation` in it"),
        ("csv", ".csv", "image,x1,y1,x2,y2\na.png,1,2,3\n", ":2: 'a.png,1,2,3': 4 columns; the header has 5"),
        ("csv", ".csv", "image,x1,y1,x2,y2\na.png,1,2,3,x\n", ":2: 'x': not a number"),
        ("csv", ".csv", "image,x1,y1,x2,y2\na.png,1,2,3,inf\n", ":2: 'inf': not a pixel position"),
        ("csv", ".csv", "name,left\n", ":1: 'name, left': not the header"),
        ("csv", ".csv", 'image,x1,y1,x2,y2\n"' + "a" * 200_000, ":2: not CSV"),
        ("retinaface", ".txt", "# a.png\n1 2 3\n", ":2: '1 2 3': 3 numbers"),
        ("retinaface", ".txt", "# a.png\n1 2 3 4 5 6 1 7 8 -1\n", ":2: '-1': below 0"),
        ("retinaface", ".txt", "1 2 3 4\n", ":1: '1 2 3 4': a face line before any header"),
        ("fddb", ".txt", "img\n2\n1 2 3 4 5 1\n", ":3: '1 2 3 4 5 1': the file ends before"),
        ("fddb", ".txt", "img\nx\n", ":2: 'x': below the name"),
        ("labelme", ".json", '{"imagePath": "a.png", "shapes": [{"label": "face"}]}', ": shapes[0]: '{label}': has no `shape_type`"),  # noqa: E501
        ("labelme", ".json", '{"imagePath": "a.png", "shapes": [{"label": "f", "shape_type": "rectangle", "points": [[1, 2]]}]}', ": shapes[0]: '[[1, 2]]': `points` must be 2 times [x, y]"),  # noqa: E501
        ("labelme", ".json", '{"imagePath": "a.png"}', ": shapes: '{imagePath}': has no `shapes`"),
    ],
)  # fmt: skip
def test_each_format_names_the_place_and_the_value(tmp_path, name, suffix, text, said):
    found = problems(name, text, tmp_path, suffix)
    assert any(line.startswith(said) for line in found), found


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 0.5 0.5 100 200", "'100': not a share of the image (0 … 1); are these pixels?"),
        ("0 0.5 nan 0.1 0.1", "'nan': not a share"),
        ("1 0.5 0.5 0.1 0.1", "'1': no such class in the yaml, which has 1"),
        ("0.5 0.5 0.5 0.1 0.1", "'0.5': a class is a whole number"),
        ("0 0.5 0.5 0.1", "'0 0.5 0.5 0.1': 4 numbers; a line has 5"),
        ("0 0.5 0.5 0.1 0.1 0.2 0.3 0.4", "8 numbers; a line has 5, or a `kpt_shape`"),
    ],
)
def test_yolo_names_file_and_line(tmp_path, line, said):
    module = format_module("yolo")
    place = module.target(tmp_path, "train")
    _, images = random_set(1, place.images)
    draw_headers(images)
    module.write(place.labels, images[:1], ())
    file = next(place.labels.rglob("*.txt"))
    file.write_text(f"\n{line}\n")
    [problem] = module.read(tmp_path / "data.yaml", place.images, (), ()).problems
    assert str(problem).startswith(f"{file}:2: ")
    assert said in str(problem)


@pytest.mark.parametrize("name", ["cvat", "voc"])
@pytest.mark.parametrize(
    "start",
    [
        '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>',
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
    ],
)
def test_xml_bombs_are_refused(tmp_path, name, start):
    [said] = problems(name, f"<?xml version='1.0'?>{start}<annotation>&a;</annotation>", tmp_path, ".xml")
    assert "refused: entities" in said


@pytest.mark.parametrize("name", WRITABLE)
def test_mutated_files_give_labels_or_an_error(name, tmp_path):
    module, rng = format_module(name), random.Random(0)
    place = module.target(tmp_path, "train")
    seed = next(seed for seed in range(300) if random_set(seed, place.images)[0] == default_names(5))
    images, _ = reduced(random_set(seed, place.images)[1], module.HOLDS)
    draw_headers(images)
    module.write(place.labels, images, default_names(5) if module.HOLDS.landmarks else ())
    suffix = {"yolo": ".txt", "voc": ".xml", "labelme": ".json"}.get(name)
    file = place.labels if suffix is None else next(place.labels.rglob(f"*{suffix}"))
    whole = file.read_bytes()
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(content)) if content else 0
            match rng.randrange(4):
                case 0:
                    del content[at:]
                case 1:
                    content[at : at + 1] = bytes([rng.randrange(256)])
                case 2:
                    content[at:at] = rng.choice([b"nan", b"1e999", b"\0", b"\xff", b"9" * 400, b'"', b"<", b"\n"])
                case 3:
                    del content[at : at + rng.randrange(1, 40)]
        file.write_bytes(content)
        try:
            module.recognises(place.labels)
            module.read(place.labels, place.images, default_names(5), ()).raise_on_problems()
        except FacetrainError as error:
            assert str(tmp_path) in str(error)


def test_what_is_no_label_file_is_told_what_was_looked_for(tmp_path):
    file = tmp_path / "film.mp4"
    file.write_bytes(bytes(range(256)) * 100)
    with pytest.raises(FacetrainError, match="none of the label formats") as caught:
        find_split(file, "train")
    assert "coco (*.json)" in str(caught.value)


def test_classes_are_chosen_by_name(tmp_path):
    document = json.loads(json.dumps(COCO))
    document["categories"] = [{"id": 1, "name": "head"}, {"id": 2, "name": "person"}]
    document["annotations"].append({"image_id": 1, "category_id": 2, "bbox": [5, 6, 20, 30]})
    (tmp_path / "train").mkdir()
    (tmp_path / "train/_annotations.coco.json").write_text(json.dumps(document))
    (tmp_path / "train/a.png").touch()
    module = format_module("coco")
    place = find_split(tmp_path, "train")
    assert place.images == tmp_path / "train"
    with pytest.raises(FacetrainError) as caught:
        load_split(tmp_path, "train", ())
    assert "which of its 2 classes are faces? head (1), person (1)" in str(caught.value)
    assert "`classes` head" in str(caught.value)
    with pytest.raises(FacetrainError, match="did you mean `classes` person"):
        module.read(place.labels, place.images, (), ("persn",))
    labels = module.read(place.labels, place.images, (), ("Person",))
    assert labels.images[0].boxes.tolist() == [[5, 6, 25, 36]]
    assert labels.statistics.other_classes == 1
    document["categories"][0]["name"] = "Human face"
    place.labels.write_text(json.dumps(document))
    assert module.read(place.labels, place.images, (), ()).images[0].boxes.tolist() == [[1, 2, 31, 42]]


def test_landmarks_are_matched_by_their_names(tmp_path):
    document = json.loads(json.dumps(COCO))
    document["categories"][0]["keypoints"] = ["Nose", "eye-left", "leftEar"]
    document["annotations"][0]["keypoints"] = [9, 9, 2, 7, 8, 1, 0, 0, 0]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document))
    module = format_module("coco")
    labels = module.read(path, tmp_path, ("right_eye", "left_eye", "nose"), ())
    assert labels.images[0].landmarks.tolist() == [[[-1, -1, 0], [7, 8, 1], [9, 9, 1]]]
    assert labels.images[0].hidden.tolist() == [[False, True, False]]
    assert labels.notes == ("without the landmarks right_eye, which the labels do not have",)
    assert "not used" in module.read(path, tmp_path, ("chin",), ()).notes[0]
    del document["categories"][0]["keypoints"]
    path.write_text(json.dumps(document))
    labels = module.read(path, tmp_path, ("a", "b", "c"), ())  # by order
    assert labels.images[0].landmarks[..., 2].tolist() == [[1, 1, 0]]
    with pytest.raises(DataError, match=r"annotations\[0\]: 3 landmarks a face, without names, where the model has 2"):
        module.read(path, tmp_path, ("a", "b"), ())


@pytest.mark.parametrize("name", ["labelv2", "retinaface", "yolo"])
def test_by_order_there_must_be_as_many(tmp_path, name):
    module = format_module(name)
    place = module.target(tmp_path, "train")
    sets = (random_set(seed, place.images) for seed in range(300))
    images = next(
        images for points, images in sets if len(points) == 7 and any((i.landmarks[..., 2] > 0).any() for i in images)
    )
    images, _ = reduced(images, module.HOLDS)
    draw_headers(images)
    module.write(place.labels, images, default_names(7))
    if name == "yolo":  # which names them otherwise
        document = yaml.safe_load((tmp_path / "data.yaml").read_text())
        del document["kpt_names"]
        (tmp_path / "data.yaml").write_text(yaml.safe_dump(document))
    for points in (default_names(5), tuple(map(str, range(8)))):
        wanted = rf":\d+: 7 landmarks a face, without names, where the model has {len(points)}"
        with pytest.raises(DataError, match=wanted) as raised:
            module.read(place.labels, place.images, points, ())
        assert "facetrain init" in raised.value.hint
    found = module.read(place.labels, place.images, tuple("abcdefg"), ())
    assert (len(found.images), found.named) == (len(images), False)
    assert module.read(place.labels, place.images, (), ()).problems == []


@pytest.mark.parametrize("name", ["labelv2", "retinaface", "yolo"])
def test_of_five_by_order_some_are_wanted_by_name(tmp_path, name):
    """The five have one order everywhere: a model of some of them, as examples/tiny.yaml, learns these."""
    module = format_module(name)
    place = module.target(tmp_path, "train")
    sets = (random_set(seed, place.images) for seed in range(300))
    images = next(images for points, images in sets if len(points) == 5 and any(len(i.boxes) > 1 for i in images))
    images, _ = reduced(images, module.HOLDS)
    draw_headers(images)
    module.write(place.labels, images, default_names(5))
    if name == "yolo":
        document = yaml.safe_load((tmp_path / "data.yaml").read_text())
        del document["kpt_names"]
        (tmp_path / "data.yaml").write_text(yaml.safe_dump(document))
    five = module.read(place.labels, place.images, None, ()).images
    found = module.read(place.labels, place.images, ("nose", "Eye Left"), ())
    assert found.notes == ()
    for image, whole in zip(found.images, five, strict=True):
        assert image.landmarks.tolist() == whole.landmarks[:, [2, 1]].tolist()
    with pytest.raises(DataError, match="5 landmarks a face, without names, where the model has 2"):
        module.read(place.labels, place.images, ("nose", "chin"), ())


def test_retinaface_with_one_line_of_other_landmarks(tmp_path):
    usual = f"1 2 30 40{' 5 6 0' * 5} 0.5\n"
    text = f"# a.png\n{usual}{usual}1 2 30 40{' 5 6 0' * 6}\n"
    [problem] = problems("retinaface", text, tmp_path, ".txt")
    assert problem.endswith("22 numbers; a face line has 4 (a box) or 19 to 21") and problem.startswith(":4: ")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["coco", "csv", "cvat", "wider_face", "retinaface", "labelv2"])
def test_many_faces_in_one_image_take_no_longer_than_in_many(name, tmp_path):
    """Nothing is quadratic: 100,000 faces of one image, whose processor time a million would take ten times of."""
    import numpy as np

    from facetrain.core.faces import LabelledImage

    count, module = 100_000, format_module(name)
    corner = np.random.default_rng(0).integers(0, 900, (count, 2))
    boxes = np.concatenate([corner, corner + 9], 1).astype(np.float32)
    nothing = np.zeros((count, 0, 3), np.float32), np.zeros(count, bool)
    image = LabelledImage(Path("a.png"), "a.png", (999, 999), boxes, *nothing)
    path = module.target(tmp_path, "train").labels
    module.write(path, [image], ())
    began = time.process_time()
    assert len(module.read(path, tmp_path, (), ()).images[0].boxes) == count
    assert time.process_time() - began < 5
