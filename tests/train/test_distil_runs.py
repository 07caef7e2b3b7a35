"""Whole runs that learn from a teacher: from images alone, broken off and resumed, moved, compiled, fused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from train_runs import MODEL, Crash, Recorder, assert_same_run, crash_at, draw_set, numbers, tiny_config

from facetrain.config.load import load_config
from facetrain.config.schema import Config
from facetrain.core.errors import DataError, InputError, UsageError
from facetrain.core.files import sha256
from facetrain.core.run_dir import RunDir
from facetrain.data.store.open import open_store
from facetrain.model.safe_file import read_tensors
from facetrain.model.weights import load_checkpoint, save_checkpoint
from facetrain.model.yunet import build
from facetrain.train import unlabelled as first_look
from facetrain.train.loop import train_model
from facetrain.train.run.metrics import read_metrics
from facetrain.train.teacher import make_teacher, read_teacher

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACETRAIN_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that was trained a little: it sees some of the drawn faces."""
    folder = tmp_path_factory.mktemp("teacher")
    result = train_model(tiny_config(draw_set(folder / "set"), epochs=25), runs=folder)
    assert result.run is not None
    return result.run.best


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Images without a label: a copy of the drawn ones, and validation images with theirs."""
    root = draw_set(tmp_path / "set")
    (root / "train" / "labelv2.txt").unlink()
    return root


def taught(data: Path, teacher: Path, **train: Any) -> Config:
    return tiny_config(data, **({"teacher": str(teacher), "label_weight": 0.0} | train))


@pytest.mark.slow
def test_images_are_enough(photographs: Path, teacher: Path, tmp_path: Path) -> None:
    events = Recorder()
    result = train_model(taught(photographs, teacher), runs=tmp_path, events=events)
    assert result.run is not None
    assert result.best_ap is not None  # the validation images have labels
    assert any("no labels: the teacher alone teaches" in note for note in events.notes)
    [line] = [line for line in read_metrics(result.run.metrics) if line["kind"] == "train" and line["step"] == 1]
    assert line["losses"].keys() == {"teacher_cls", "teacher_obj", "teacher_box", "teacher_landmarks", "total"}
    environment = json.loads(result.run.environment.read_text())
    assert environment["labels"] is None
    assert environment["teacher"] == {"path": str(teacher.resolve()), "sha256": sha256(teacher)}
    assert load_checkpoint(result.run.best).info["teacher"] == sha256(teacher)
    assert load_config(result.run.config).train.teacher == str(teacher.resolve())


@pytest.mark.slow
def test_a_plain_folder_of_images_is_enough(photographs: Path, teacher: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(photographs / "train" / "images", plain / "holiday" / "ä b")
    shutil.copytree(photographs / "val" / "images", plain / "val")  # what is called so never trains
    result = train_model(taught(plain, teacher, epochs=1), runs=tmp_path)
    assert result.run is not None
    assert read_tensors(result.run.last)["state"]["images"] == 10
    with pytest.raises(InputError, match="no images in this folder"):
        train_model(taught(plain / "val" / "empty", teacher), runs=_made(plain / "val" / "empty"))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_labels_that_count_must_be_there(photographs: Path, teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="labelv2") as caught:
        train_model(taught(photographs, teacher, label_weight=1.0), runs=tmp_path)
    assert "train.label_weight=0" in str(caught.value.hint)


@pytest.mark.slow
def test_the_student_comes_nearer_to_its_teacher(photographs: Path, teacher: Path, tmp_path: Path) -> None:
    events = Recorder()
    train_model(taught(photographs, teacher, epochs=25, optimizer="muon", lr=0.02), runs=tmp_path, events=events)
    first, last = events.steps[0].losses, events.steps[-1].losses
    assert last["total"] < 0.5 * first["total"]


def test_windows_are_drawn_around_what_the_teacher_sees(
    photographs: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """… which is looked for once, and kept."""
    from facetrain.data.landmark_names import FIVE
    from facetrain.data.layout import find_images

    model = make_teacher(read_teacher(str(teacher), MODEL), CPU)
    images = find_images(photographs, FIVE)
    seen = []
    for _ in range(2):
        store, _ = open_store(images, "ram", 1, CPU, 0.0, unlabelled=True)
        count = first_look.find_faces(
            store, range(len(store.images)), model, "hash", torch.float32, tmp_path / "kept", lambda done, total: None
        )
        seen.append([image.boxes for image in store.images])
        assert count == sum(len(boxes) for boxes in seen[-1])
        assert all(image.landmarks.shape == (len(image.boxes), 5, 3) for image in store.images)
        monkeypatch.setattr(first_look, "_look", lambda *_: pytest.fail("looked again"))
    assert all((one == other).all() for one, other in zip(*seen, strict=True))
    assert sum(len(boxes) for boxes in seen[0]) > 3
    monkeypatch.undo()
    [kept] = (tmp_path / "kept").glob("*.npz")
    kept.write_bytes(kept.read_bytes()[:50])
    store, _ = open_store(images, "ram", 1, CPU, 0.0, unlabelled=True)
    first_look.find_faces(
        store, range(len(store.images)), model, "hash", torch.float32, tmp_path / "kept", lambda done, total: None
    )
    assert all((one == p.boxes).all() for one, p in zip(seen[0], store.images, strict=True))


# Broken off and resumed


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"label_weight": 1.0, "optimizer": "muon", "lr": 0.02, "ema": 0.9}])
def test_a_resumed_run_ends_bit_for_bit_the_same(
    data: Path, teacher: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    config = taught(data, teacher, **settings)
    whole = train_model(config, runs=tmp_path, name="whole")
    with pytest.raises(Crash):
        train_model(config, runs=tmp_path, name="broken", events=crash_at(5))
    run = RunDir(tmp_path / "broken")
    train_model(resume=run)
    assert whole.run is not None
    assert_same_run(run, whole.run)
    assert numbers(run) == numbers(whole.run)


@pytest.mark.slow
def test_a_teacher_that_moved_is_named_anew(data: Path, teacher: Path, tmp_path: Path) -> None:
    at_first, later = tmp_path / "here.pt", tmp_path / "there.pt"
    shutil.copy(teacher, at_first)
    config = taught(data, at_first)
    with pytest.raises(Crash):
        train_model(config, runs=tmp_path, events=crash_at(4))
    run = RunDir(tmp_path / "run-1")
    at_first.rename(later)
    with pytest.raises(InputError) as caught:
        train_model(resume=run)
    assert "`resume` with `teacher` FILE" in str(caught.value.hint)
    other = tmp_path / "other.pt"
    save_checkpoint(other, build(MODEL, 5).state_dict(), Config(model=MODEL), {})
    with pytest.raises(DataError, match="not the teacher that the run began with"):
        train_model(resume=run, teacher=str(other))
    result = train_model(resume=run, teacher=str(later))
    assert result.step == result.total_steps
    assert load_config(run.config).train.teacher == str(later)


def test_a_run_without_a_teacher_takes_none(unbroken: Callable[..., RunDir], teacher: Path) -> None:
    with pytest.raises(UsageError, match="this run has no teacher"):
        train_model(resume=unbroken(), teacher=str(teacher))


def test_bad_plans_and_times_are_refused_by_the_configuration() -> None:
    for value, words in (
        ("[]", "there must be one"),
        ("[[5, 9], [5, 9]]", "must be ascending"),
        ("[[-1, 9]]", "from 0 on"),
        ("[[8, 7]]", "is over"),
    ):
        with pytest.raises(UsageError, match=words):
            load_config("yunet_n", [f"train.plan={value}"])
    for key in ("train.keep_every", "eval.every"):
        with pytest.raises(UsageError, match="neither whole epochs nor a share"):
            load_config("yunet_n", [f"{key}=2.5"])
