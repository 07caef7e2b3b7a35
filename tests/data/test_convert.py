"""Sets converted from one label format into another, and what is said of it."""

import json
from dataclasses import fields

import numpy as np
import pytest
import torch
from data.label_sets import draw_headers, random_set

from facetrain.cli.app import run_cli
from facetrain.config.schema import DataConfig, LandmarksConfig
from facetrain.core.errors import DataError, FacetrainError, UsageError
from facetrain.data.batch import Batch
from facetrain.data.batches import epoch_batches
from facetrain.data.convert import convert
from facetrain.data.corrections import Corrections
from facetrain.data.formats import labelv2
from facetrain.data.landmark_names import FIVE
from facetrain.data.layout import find_split, format_module, format_names, load_split, read_place
from facetrain.data.sample_set.make import sample_root
from facetrain.data.store.open import open_store

WRITABLE = [name for name in format_names() if hasattr(format_module(name), "write")]
# Of the real labels, with three decimals at most, all but WIDER FACE's whole pixels give the same float32 again.
EXACT = [name for name in WRITABLE if name != "wider_face"]


def write_set(root, format_name, seed, names="plain"):
    """A set with both parts in a format, of random labels."""
    module = format_module(format_name)
    points = ()
    for split, number in (("train", seed), ("val", seed + 1000)):
        place = module.target(root, split)
        points, images = random_set(number, place.images)
        if names == "plain":
            images = [image for image in images if module.HOLDS.name(image.name)]
        draw_headers(images)
        module.write(place.labels, images, points)
    return points


def everything(root):
    """All that the labels of a set say."""
    found = {}
    for split in ("train", "val"):
        for image in read_place(find_split(root, split), FIVE).images:
            found[split, image.name] = (
                image.boxes.tolist(),
                image.landmarks.tolist(),
                image.ignore.tolist(),
                None if image.hidden is None or not len(image.boxes) else image.hidden.tolist(),
                None if image.scores is None else image.scores.tolist(),
            )
    return found


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("there", ["csv", "coco"])
def test_there_and_back_loses_nothing_where_both_hold_it(tmp_path, there, seed):
    write_set(tmp_path / "a", "csv", seed)
    convert(tmp_path / "a", tmp_path / "b", there)
    parts = convert(tmp_path / "b", tmp_path / "c", "csv", images="copy")
    assert everything(tmp_path / "c") == everything(tmp_path / "a")
    assert all(not part.lost and not part.notes for part in parts)


@pytest.mark.parametrize("name", EXACT)
def test_real_images_give_the_same_batches_in_every_format(name, shared, tmp_path):
    """60 images of WIDER FACE's training part, in each format; ignored faces where it has a mark for them."""
    labels = labelv2.read(shared / "widerface/labelv2/train/labelv2.txt", shared / "widerface/WIDER_train/images", FIVE)
    module = format_module(name)
    source = tmp_path / "source/train"
    chosen = [image for image in labels.images[::40] if not image.ignore.any() or module.HOLDS.ignore][:60]
    (source / "images").parent.mkdir(parents=True)
    (source / "images").symlink_to(shared / "widerface/WIDER_train/images")
    labelv2.write(source / "labelv2.txt", chosen, FIVE)
    [part] = convert(tmp_path / "source", tmp_path / "new", name)
    assert part.counted.images == 60
    points = FIVE if module.HOLDS.landmarks else ()  # of a format without landmarks the boxes alone are compared
    before = load_split(tmp_path / "source", "train", points).images
    after = {image.name: image for image in load_split(tmp_path / "new", "train", points).images}
    assert_same_batches(before, [after[image.name] for image in before], points)


def assert_same_batches(one, other, points):
    mirror = LandmarksConfig().mirror if points else ()
    found = []
    for images in (one, other):
        store, broken = open_store(images, "ram", 1, torch.device("cpu"), 0.0)
        assert not broken
        config = LandmarksConfig(points, mirror)
        epoch = epoch_batches(store, DataConfig(size=64), config, batch=20, seed=3, epoch=0)
        found.append([batch for _, batch in epoch])
        store.close()
    assert len(found[0]) == 3
    for first, second in zip(*found, strict=True):
        for part in fields(Batch):
            own, others = getattr(first, part.name), getattr(second, part.name)
            assert own is others is None or torch.equal(own, others), part.name


def test_what_is_lost_is_said_in_words_and_json(tmp_path, capsys):
    seed = next(
        seed
        for seed in range(500)
        if random_set(seed, tmp_path)[0] == FIVE
        and any(i.scores is not None and i.ignore.any() and i.hidden.any() for i in random_set(seed, tmp_path)[1])
        and any(" " in image.name for image in random_set(seed, tmp_path)[1])
    )
    write_set(tmp_path / "a", "coco", seed)
    assert run_cli(["data", "convert", str(tmp_path / "a"), "--to", str(tmp_path / "b"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    lost = document["parts"][0]["lost"]
    assert {"images whose names have blanks, left out", "scores", "marks of hidden landmarks"} <= lost.keys()
    assert run_cli(["data", "convert", str(tmp_path / "a"), "--to", str(tmp_path / "c"), "--as", "yolo"]) == 0
    out = capsys.readouterr().out
    assert "yolo cannot hold:" in out and "ignored faces, left out" in out
    assert run_cli(["data", "convert", str(tmp_path / "a"), "--to", str(tmp_path / "d"), "--as", "fddb"]) == 2
    assert "fddb: is read and not written" in capsys.readouterr().err


def test_whole_or_not_at_all(tmp_path):
    write_set(tmp_path / "a", "csv", 3)
    next((tmp_path / "a/val/images").rglob("*.png")).unlink()
    with pytest.raises(FacetrainError, match="no such image"):
        convert(tmp_path / "a", tmp_path / "b", "coco")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    convert(tmp_path / "a", tmp_path / "b", "coco", images="none")
    with pytest.raises(UsageError, match="is there already"):
        convert(tmp_path / "a", tmp_path / "b", "coco", images="none")


def test_two_images_of_one_label_file_are_told(tmp_path):
    (tmp_path / "train/images").mkdir(parents=True)
    (tmp_path / "train/labelv2.txt").write_text("# a.jpg 9 9\n# a.png 9 9\n")
    with pytest.raises(FacetrainError, match=r"a\.png: its labels would be the file a\.txt, as those of a\.jpg"):
        convert(tmp_path, tmp_path / "new", "yolo", images="none")


def test_a_set_that_is_not_divided_stays_so(tmp_path):
    points, images = random_set(5, tmp_path / "a/images")
    draw_headers(images)
    format_module("csv").write(tmp_path / "a/faces.csv", images, points)
    for name in WRITABLE:
        [part] = convert(tmp_path / "a", tmp_path / name, name)
        assert part.part == ""
        assert find_split(tmp_path / name, "val").whole, name


def test_parts_with_other_landmarks(tmp_path):
    """Without names of points, of which one file says the number for both parts."""
    for part, count in (("train", 7), ("val", 5)):
        (tmp_path / part / "images").mkdir(parents=True)
        (tmp_path / part / "labelv2.txt").write_text(f"# a.jpg 200 100\n10 10 90 90{' 20 20 1' * count}\n")
    with pytest.raises(DataError, match=r"val/labelv2\.txt:2: 5 landmarks a face, without names, where .* 7"):
        convert(tmp_path, tmp_path / "new", "yolo", images="none")
    (tmp_path / "val/labelv2.txt").write_text("# a.jpg 200 100\n10 10 90 90\n")
    convert(tmp_path, tmp_path / "new", "csv", images="none")


def test_conventions_are_put_right(tmp_path):
    (tmp_path / "train/images").mkdir(parents=True)
    lines = ["# a.jpg 200 100", "0.1 0.2 0.5 0.6", "50 60 20 30 60 70 1 55 65 1", "# b.jpg 200 100", "30 10 20 40"]
    (tmp_path / "train/labelv2.txt").write_text("\n".join(lines))

    def boxes(name, **corrections):
        convert(tmp_path, tmp_path / name, "csv", images="none", corrections=Corrections(**corrections))
        images = read_place(find_split(tmp_path / name / "train/labels.csv", "train"), None).images
        return [image.boxes.tolist() for image in images]

    assert boxes("one", boxes="xywh")[1] == [[30, 10, 50, 50]]
    assert [50, 60, 70, 90] in boxes("two", boxes="xywh")[0]
    np.testing.assert_allclose(boxes("three", boxes="xyxy-shares")[0][0], [20, 20, 100, 60], rtol=1e-6)
    with pytest.raises(UsageError, match="no such convention"):
        boxes("four", boxes="xwyh")
    with pytest.raises(UsageError, match="not the landmarks of these labels"):
        boxes("five", order=("a", "b"))


def test_landmarks_in_another_order_and_unit(tmp_path):
    (tmp_path / "train/images").mkdir(parents=True)
    points = " ".join(f"{x} {y} 1" for x, y in [(0.1, 0.1), (0.2, 0.1), (0.3, 0.2), (0.1, 0.3), (0.2, 0.3)])
    (tmp_path / "train/labelv2.txt").write_text(f"# a.jpg 200 100\n10 10 90 90 {points}\n")
    order = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
    convert(tmp_path, tmp_path / "new", "csv", images="none", corrections=Corrections(None, "shares", order))
    [image] = read_place(find_split(tmp_path / "new/train/labels.csv", "train"), FIVE).images
    np.testing.assert_allclose(image.landmarks[0, :, 0], [40, 20, 60, 40, 20], rtol=1e-6)


def test_boxes_of_another_size_are_scaled(tmp_path):
    _, images = random_set(2, tmp_path / "train/images")
    image = images[0]
    draw_headers([image])
    width, height = image.size
    lines = f"image,image_width,image_height,x1,y1,x2,y2\n{json.dumps(image.name)},{2 * width},{2 * height},2,4,20,40\n"
    (tmp_path / "train/labels.csv").write_text(lines)
    convert(tmp_path, tmp_path / "new", "coco", corrections=Corrections(rescale=True))
    [after] = read_place(find_split(tmp_path / "new", "train"), ()).images
    assert (after.size, after.boxes.tolist()) == (image.size, [[1, 2, 10, 20]])


def test_eval_says_what_it_recognised(tmp_path, capsys):
    convert(sample_root(), tmp_path / "new", "coco")
    file = tmp_path / "new/val/_annotations.coco.json"
    assert run_cli(["eval", "--data", str(file), "--draws", "0"]) == 0
    assert f"labels {file}, format coco, images in {file.parent / 'images'}: 100 images" in capsys.readouterr().err
