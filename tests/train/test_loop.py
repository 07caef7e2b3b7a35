"""Whole runs on a tiny drawn set: what they leave behind, how they end, and how they go on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from facetrain.config.load import config_to_yaml, load_config
from facetrain.config.schema import Config, DataConfig, EvalConfig, LandmarksConfig, ModelConfig, TrainConfig
from facetrain.core.errors import DataError, FacetrainError, InputError, TrainingError, UsageError
from facetrain.core.run_dir import RunDir
from facetrain.model.weights import load_checkpoint, load_model, read_tensors, save_checkpoint
from facetrain.model.yunet import build
from facetrain.train import loop, step, window
from facetrain.train.events import Progress
from facetrain.train.loop import train_model
from facetrain.train.metrics import read_metrics

PICTURES, STEPS = 10, 3  # training pictures, and steps an epoch at a batch of 4
MODEL = ModelConfig(stem=(3, 8, 8), stages=((8, 8), (8, 16), (16, 16), (16, 16), (16, 16)), head_channels=16)


def draw(rng: np.random.Generator, path: Path, faces: int) -> list[str]:
    """A noise picture of 96 x 72 with bright discs for faces; returns its label lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = rng.integers(20, 90, (72, 96, 3)).astype(np.uint8)
    lines = []
    for k in range(faces):
        radius = int(rng.integers(8, 14))
        x, y = int(rng.integers(16, 32)) + 48 * (k % 2), int(rng.integers(18, 54))
        cv2.circle(image, (x, y), radius, (150, 190, 235), -1)
        points = [
            (x + sx * radius // 3, y + sy * radius // 3) for sx, sy in ((-1, -1), (1, -1), (0, 0), (-1, 1), (1, 1))
        ]
        for point in points:
            cv2.circle(image, point, 1, (30, 20, 60), -1)
        box = f"{x - radius} {y - radius} {x + radius} {y + radius}"
        lines.append(f"{box} {' '.join(f'{px} {py} 1' for px, py in points)}")
    cv2.imwrite(str(path), image)
    return [f"# {path.parent.name}/{path.name} 96 72", *lines]


def draw_set(root: Path, train: int = PICTURES, val: int = 3) -> Path:
    """Every fourth picture of the training part has no face; one has an ignored face besides."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        if count == 0:
            continue
        lines = []
        for i in range(count):
            lines += draw(rng, root / split / "images" / "drawn" / f"{split}{i}.png", 0 if i % 4 == 3 else 1 + i % 2)
        lines.insert(2, "2 2 9 9 1")
        (root / split / "labelv2.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_set(tmp_path_factory.mktemp("drawn"))


def tiny_config(data: Path, **train: Any) -> Config:
    settings: dict[str, Any] = {
        "epochs": 3,
        "batch": 4,
        "optimizer": "adamw",
        "lr": 0.01,
        "lr_batch": 4,
        "schedule": "cosine",
        "precision": "fp32",
    }
    return Config(
        model=MODEL,
        data=DataConfig(root=str(data), size=64, crop_scales=(0.7, 0.9, 1.1), store="ram", workers=2),
        train=TrainConfig(**(settings | train)),
        eval=EvalConfig(every=1),
    )


class Recorder:
    """Remembers what a run tells, and calls `at` after every logged step."""

    def __init__(self, at: Callable[[Progress], None] = lambda _: None) -> None:
        self.notes: list[str] = []
        self.steps: list[Progress] = []
        self.at = at

    def note(self, text: str) -> None:
        self.notes.append(text)

    def work(self, what: str, done: int, total: int) -> None:
        assert 0 <= done <= total

    def progress(self, progress: Progress) -> None:
        self.steps.append(progress)
        self.at(progress)


class Crash(Exception):  # noqa: N818
    """Stands for whatever ends a process between two steps."""


def crash_at(number: int) -> Recorder:
    def at(progress: Progress) -> None:
        if progress.step == number:
            raise Crash

    return Recorder(at)


def ctrl_c_at(number: int) -> Recorder:
    return Recorder(lambda progress: os.kill(os.getpid(), signal.SIGINT) if progress.step == number else None)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Curves take longer than these runs; only the test that looks at them has them drawn."""
    if "with_curves" not in request.fixturenames:
        monkeypatch.setattr(loop, "draw_curves", lambda run: None)


@pytest.fixture
def with_curves() -> None:
    """Asks for curves."""


def leaves(document: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a checkpoint, with its place."""
    if isinstance(document, Mapping):
        for key, value in document.items():
            yield from leaves(value, f"{path}/{key}")
    elif isinstance(document, list | tuple):
        for i, value in enumerate(document):
            yield from leaves(value, f"{path}/{i}")
    else:
        yield path, document


def assert_same(one: Any, other: Any, what: str = "") -> None:
    """Equal content, tensors bit by bit."""
    first, second = dict(leaves(one)), dict(leaves(other))
    assert first.keys() == second.keys()
    for key, value in first.items():
        same = torch.equal(value, second[key]) if isinstance(value, torch.Tensor) else value == second[key]
        assert same, f"{key} {what}"


def assert_same_file(one: Path, other: Path) -> None:
    assert_same(read_tensors(one), read_tensors(other), f"of {one} and {other}")


def assert_same_run(one: RunDir, other: RunDir) -> None:
    assert_same_file(one.last, other.last)
    assert_same_file(one.best, other.best)


def numbers(run: RunDir) -> list[dict[str, Any]]:
    """The metrics without what depends on the clock."""
    return [
        {key: value for key, value in line.items() if key not in ("images_per_s", "wait_share")}
        for line in read_metrics(run.metrics)
    ]


def train(config: Config, runs: Path, **arguments: Any) -> RunDir:
    result = train_model(config, runs=runs, **arguments)
    assert result.run is not None
    return result.run


@pytest.fixture(scope="module")
def unbroken(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunDir]:
    """Runs from beginning to end, to compare with; each is made once."""
    made: dict[str, RunDir] = {}
    runs = tmp_path_factory.mktemp("unbroken")

    def make(**settings: Any) -> RunDir:
        key = json.dumps(settings)
        if key not in made:
            made[key] = train(tiny_config(data, **settings), runs)
        return made[key]

    return make


@pytest.mark.usefixtures("with_curves")
def test_run_leaves_everything_in_its_folder(data: Path, tmp_path: Path) -> None:
    config, events = tiny_config(data, epochs=2), Recorder()
    result = train_model(config, config_name="tiny", runs=tmp_path, events=events)
    run = result.run
    assert run is not None
    assert run.path == tmp_path / "tiny-1"
    names = {"config.yaml", "metrics.jsonl", "last.pt", "previous.pt", "best.pt", "curves.png", "first_batch.jpg"}
    assert {path.name for path in run.path.iterdir()} == names | {"environment.json"}
    assert (result.step, result.total_steps, result.interrupted) == (2 * STEPS, 2 * STEPS, False)

    assert load_config(str(run.config)) == config
    for picture in (run.curves, run.first_batch):
        assert cv2.imread(str(picture)) is not None

    lines = read_metrics(run.metrics)
    steps, validations = ([line for line in lines if line["kind"] == kind] for kind in ("train", "val"))
    assert [line["step"] for line in steps] == [1, 2, 3, 4, 5, 6]
    assert [line["epoch"] for line in steps] == [0, 0, 0, 1, 1, 1]
    assert [(line["step"], line["epoch"]) for line in validations] == [(3, 0), (6, 1)]
    for line in steps:
        assert line["losses"].keys() == {"cls", "obj", "box", "landmarks", "total"}
        assert line["losses"]["total"] == pytest.approx(sum(v for k, v in line["losses"].items() if k != "total"))
        assert line["positives"] > 0
    assert [progress.step for progress in events.steps] == [1, 2, 3, 4, 5, 6]

    best = load_checkpoint(run.best)
    assert best.config == config
    assert best.info["ap"] == result.best_ap == max(line["ap"] for line in validations)
    assert best.info["epoch"] == result.best_epoch
    assert best.info["validation_pictures"] == 3
    load_model(run.best)
    state = read_tensors(run.last)
    assert state["state"]["step"] == 6
    assert read_tensors(run.previous)["state"]["step"] == 3

    environment = json.loads(run.environment.read_text())
    assert torch.__version__.startswith(environment["versions"]["torch"])
    assert (environment["device"], environment["precision"], environment["pictures"]) == ("cpu", "float32", PICTURES)
    assert environment["validation_pictures"] == 3
    assert len(environment["labels"]["sha256"]) == 64
    assert any("10 (" in note for note in events.notes)
    assert any(str(run.path) in note for note in events.notes)


def test_loss_falls_and_faces_are_found(data: Path, tmp_path: Path) -> None:
    result = train_model(
        replace(tiny_config(data, epochs=40, ema=0.9), eval=EvalConfig(every=20)), runs=tmp_path, events=Recorder()
    )
    assert result.run is not None
    lines = [line for line in read_metrics(result.run.metrics) if line["kind"] == "train"]
    totals = [line["losses"]["total"] for line in lines]
    assert np.mean(totals[-STEPS:]) < 0.5 * np.mean(totals[:STEPS])
    assert result.best_ap is not None
    assert result.best_ap > 0.3


def test_same_seed_gives_the_same_run(data: Path, tmp_path: Path, unbroken: Callable[..., RunDir]) -> None:
    again = train(tiny_config(data), tmp_path)
    assert_same_run(again, unbroken())
    assert numbers(again) == numbers(unbroken())


def test_seed_draws_weights_and_crops(data: Path, tmp_path: Path, unbroken: Callable[..., RunDir]) -> None:
    other = train(tiny_config(data, epochs=1, seed=1, lr=1e-30), tmp_path)
    weights, drawn = read_tensors(other.last)["model"], build(MODEL, seed=1).state_dict()
    for key in (key for key in weights if "running" not in key and "tracked" not in key):
        torch.testing.assert_close(weights[key], drawn[key], msg=key)
    sheets = [cv2.imread(str(run.first_batch)).astype(float) for run in (other, unbroken())]
    assert np.abs(sheets[0] - sheets[1]).mean() > 5


@pytest.mark.parametrize(("workers", "store"), [(1, "ram"), (5, "disk")])
def test_workers_and_place_change_no_bit(
    data: Path, tmp_path: Path, unbroken: Callable[..., RunDir], workers: int, store: Any
) -> None:
    config = tiny_config(data)
    run = train(replace(config, data=replace(config.data, workers=workers, store=store)), tmp_path)
    for name in ("model", "optimizer"):
        assert_same(read_tensors(run.last)[name], read_tensors(unbroken().last)[name])


@pytest.mark.parametrize("number", [1, 4, 5, 6, 8])
def test_run_continues_after_a_crash_as_if_nothing_had_been(
    data: Path, tmp_path: Path, unbroken: Callable[..., RunDir], number: int
) -> None:
    """Before the first save there is nothing to continue; later the steps since the last save are done again."""
    with pytest.raises(Crash):
        train_model(tiny_config(data), runs=tmp_path, events=crash_at(number))
    run = RunDir(tmp_path / "run-1")
    if number == 1:
        with pytest.raises(InputError):
            train_model(resume=run)
        return
    steps = [line["step"] for line in read_metrics(run.metrics) if line["kind"] == "train"]
    assert steps == list(range(1, number + 1))  # the killed run had written more lines than it had saved steps
    events = Recorder()
    result = train_model(resume=run, events=events)
    assert events.steps[0].step == (number - 1) // STEPS * STEPS + 1
    assert (result.run, result.step) == (run, 3 * STEPS)
    assert_same_run(run, unbroken())
    assert numbers(run) == numbers(unbroken())


def test_run_continues_from_a_save_within_an_epoch(
    data: Path, tmp_path: Path, unbroken: Callable[..., RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_SAVE_EVERY_S", 0.0)  # after every step
    with pytest.raises(Crash):
        train_model(tiny_config(data), runs=tmp_path, events=crash_at(6))
    run, events = RunDir(tmp_path / "run-1"), Recorder()
    train_model(resume=run, events=events)
    assert events.steps[0].step == 6
    assert_same_run(run, unbroken())
    assert numbers(run) == numbers(unbroken())


def test_crash_after_a_validation_writes_no_line_twice(
    data: Path, tmp_path: Path, unbroken: Callable[..., RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of the epoch's last step may be saved before its validation, which is then done again."""
    monkeypatch.setattr(loop, "_SAVE_EVERY_S", 0.0)

    class Crashing(Recorder):
        def note(self, text: str) -> None:
            if text.startswith("epoch 2: AP"):
                raise Crash

    with pytest.raises(Crash):
        train_model(tiny_config(data), runs=tmp_path, events=Crashing())
    run = RunDir(tmp_path / "run-1")
    train_model(resume=run)
    assert numbers(run) == numbers(unbroken())
    assert_same_run(run, unbroken())


@pytest.mark.parametrize("pictures", [6, 18])
def test_resuming_on_other_data_is_refused(tmp_path: Path, pictures: int) -> None:
    """With another number of pictures the steps of an epoch are others, and the saved step means another place."""
    root = draw_set(tmp_path / "data")
    with pytest.raises(Crash):
        train_model(tiny_config(root), runs=tmp_path / "runs", events=crash_at(8))
    draw_set(root, train=pictures)
    with pytest.raises(FacetrainError):
        train_model(resume=RunDir(tmp_path / "runs" / "run-1"))


def test_averaged_run_continues_bit_by_bit(data: Path, tmp_path: Path, unbroken: Callable[..., RunDir]) -> None:
    with pytest.raises(Crash):
        train_model(tiny_config(data, ema=0.9), runs=tmp_path, events=crash_at(5))
    run = RunDir(tmp_path / "run-1")
    train_model(resume=run)
    assert_same_run(run, unbroken(ema=0.9))
    state = read_tensors(run.last)
    assert not torch.equal(state["ema"]["backbone.stem.conv.weight"], state["model"]["backbone.stem.conv.weight"])
    plain = read_tensors(unbroken().last)
    assert torch.equal(state["model"]["backbone.stem.conv.weight"], plain["model"]["backbone.stem.conv.weight"])


def test_what_is_averaged_is_validated_and_kept(unbroken: Callable[..., RunDir]) -> None:
    run = unbroken(ema=0.9, epochs=1)
    averages = read_tensors(run.last)["ema"]
    assert all(torch.equal(value, averages[key]) for key, value in load_checkpoint(run.best).state.items())


@pytest.mark.parametrize("number", [2, 5])
def test_ctrl_c_saves_the_step_and_stops(
    data: Path, tmp_path: Path, unbroken: Callable[..., RunDir], number: int
) -> None:
    before = signal.getsignal(signal.SIGINT)
    result = train_model(tiny_config(data), runs=tmp_path, events=ctrl_c_at(number))
    assert signal.getsignal(signal.SIGINT) is before
    assert result.interrupted
    assert result.step == number
    assert result.run is not None
    assert read_tensors(result.run.last)["state"]["step"] == number
    resumed = train_model(resume=result.run)
    assert not resumed.interrupted
    assert_same_run(result.run, unbroken())
    assert numbers(result.run) == numbers(unbroken())


@pytest.mark.parametrize("number", [STEPS, 3 * STEPS])
def test_ctrl_c_at_the_end_of_an_epoch_loses_no_validation(
    data: Path, tmp_path: Path, unbroken: Callable[..., RunDir], number: int
) -> None:
    """The validation that was due is made up for on resuming; after the last step there would be no best.pt."""
    result = train_model(tiny_config(data), runs=tmp_path, events=ctrl_c_at(number))
    assert result.run is not None
    train_model(resume=result.run)
    assert numbers(result.run) == numbers(unbroken())
    assert_same_run(result.run, unbroken())


def test_time_limit_saves_validates_and_stops(data: Path, tmp_path: Path, unbroken: Callable[..., RunDir]) -> None:
    result = train_model(tiny_config(data), runs=tmp_path, max_time=1e-9)
    assert (result.step, result.interrupted) == (1, False)
    assert result.run is not None
    assert result.ap is not None
    assert result.run.best.is_file()
    train_model(resume=result.run)
    for name in ("model", "optimizer"):
        assert_same(read_tensors(result.run.last)[name], read_tensors(unbroken().last)[name])


@pytest.mark.parametrize("damage", ["cut", "gone", "empty"])
def test_damaged_last_state_falls_back_to_the_one_before(
    data: Path, tmp_path: Path, unbroken: Callable[..., RunDir], damage: str
) -> None:
    with pytest.raises(Crash):
        train_model(tiny_config(data), runs=tmp_path, events=crash_at(8))
    run = RunDir(tmp_path / "run-1")
    assert read_tensors(run.last)["state"]["step"] == 6
    if damage == "gone":
        run.last.unlink()
    else:
        run.last.write_bytes(run.last.read_bytes()[: 3000 if damage == "cut" else 0])
    events = Recorder()
    train_model(resume=run, events=events)
    assert events.steps[0].step == 4
    assert_same_run(run, unbroken())
    assert numbers(run) == numbers(unbroken())


def test_damaged_states_are_named(data: Path, tmp_path: Path) -> None:
    run = train(tiny_config(data, epochs=1), tmp_path)
    run.last.write_bytes(run.last.read_bytes()[:3000])
    with pytest.raises((DataError, InputError)) as caught:
        train_model(resume=run)
    assert "last.pt" in str(caught.value)


def test_torn_line_of_metrics_is_dropped(data: Path, tmp_path: Path, unbroken: Callable[..., RunDir]) -> None:
    with pytest.raises(Crash):
        train_model(tiny_config(data), runs=tmp_path, events=crash_at(5))
    run = RunDir(tmp_path / "run-1")
    with run.metrics.open("a") as file:
        file.write('{"kind": "train", "st')
    train_model(resume=run)
    assert numbers(run) == numbers(unbroken())


def test_finished_run_resumes_to_nothing(data: Path, tmp_path: Path) -> None:
    run = train(tiny_config(data, epochs=1), tmp_path)
    before = run.best.read_bytes(), numbers(run)
    result = train_model(resume=run)
    assert (result.step, result.total_steps) == (STEPS, STEPS)
    assert (run.best.read_bytes(), numbers(run)) == before


def spoil(monkeypatch: pytest.MonkeyPatch, number: int, term: str, value: float) -> list[int]:
    """Make a loss term of one step something that is not finite, as an overflow would. Returns a list of all steps."""
    real = step.compute_losses
    calls: list[int] = []

    def spoiled(*arguments: Any) -> dict[str, torch.Tensor]:
        calls.append(1)
        losses = real(*arguments)
        return losses | ({term: losses[term] * value} if len(calls) == number else {})

    monkeypatch.setattr(step, "compute_losses", spoiled)
    return calls


@pytest.mark.parametrize(("term", "value"), [("box", float("nan")), ("landmarks", float("inf"))])
def test_loss_that_is_not_finite_is_reported(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, term: str, value: float
) -> None:
    calls = spoil(monkeypatch, 5, term, value)
    monkeypatch.setattr(window, "_LOG_LINES", 1)  # a line an epoch only: the step is looked at all the same
    with pytest.raises(TrainingError) as caught:
        train_model(tiny_config(data), runs=tmp_path)
    assert len(calls) == 5
    message = caught.value.message
    assert "step 5" in message
    assert f"'{term}'" in message
    assert str(value) in message
    assert message.count("drawn/train") == 4  # the pictures of this step
    state = read_tensors(tmp_path / "run-1" / "last.pt")
    assert state["state"]["step"] == 3
    assert all(
        bool(v.isfinite().all()) for _, v in leaves(state) if isinstance(v, torch.Tensor) and v.is_floating_point()
    )


def test_wild_learning_rate_ends_in_an_error(data: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"step \d: the loss term '\w+' is (nan|inf)"):
        train_model(tiny_config(data, lr=1e30), runs=tmp_path)
    for name in ("last.pt", "previous.pt", "best.pt"):
        path = tmp_path / "run-1" / name
        tensors = [v for _, v in leaves(read_tensors(path))] if path.exists() else []
        floating = [v for v in tensors if isinstance(v, torch.Tensor) and v.is_floating_point()]
        assert all(bool(v.isfinite().all()) for v in floating)


def test_without_validation_the_last_weights_are_the_best(tmp_path: Path) -> None:
    events = Recorder()
    config = tiny_config(draw_set(tmp_path / "data", val=0), epochs=2)
    result = train_model(config, runs=tmp_path, events=events)
    assert result.run is not None
    assert (result.ap, result.best_ap) == (None, None)
    assert any("no validation" in note and "last weights" in note for note in events.notes)
    last, best = read_tensors(result.run.last)["model"], load_checkpoint(result.run.best)
    assert all(torch.equal(value, last[key]) for key, value in best.state.items())
    assert (best.info["ap"], best.info["epoch"], best.info["validation_pictures"]) == (None, 2, 0)


def test_fine_tuning_takes_what_fits_and_lists_the_rest(data: Path, tmp_path: Path) -> None:
    """From a model without landmarks, wider in its head: backbone and neck fit, the head does not."""
    given = Config(model=replace(MODEL, head_channels=24, landmarks=LandmarksConfig((), ())))
    weights = build(given.model, seed=9).state_dict()
    save_checkpoint(tmp_path / "given.pt", weights, given, {})
    events = Recorder()
    config = tiny_config(data, epochs=1, lr=1e-30, weight_decay=0.0)
    run = train(config, tmp_path / "runs", weights=tmp_path / "given.pt", events=events)
    got, drawn = read_tensors(run.last)["model"], build(MODEL, seed=0).state_dict()
    misfits = [note for note in events.notes if "not taken over" in note]
    more = [note for note in events.notes if note.strip().startswith("…")]
    assert any("levels.0.shared.0.pointwise.weight: (24, 16, 1, 1), the model has (16, 16, 1, 1)" in n for n in misfits)
    assert len(misfits) == 20
    assert len(more) == 1
    for key in (key for key in got if "norm.running" not in key and "tracked" not in key):
        fits = key in weights and weights[key].shape == got[key].shape
        torch.testing.assert_close(got[key], weights[key] if fits else drawn[key], msg=key)
    assert any(f"{len(weights)}" in n or "weights taken over" in n for n in events.notes)


def test_weights_of_which_nothing_fits_are_refused(data: Path, tmp_path: Path) -> None:
    other = Config(model=ModelConfig(stem=(3, 6, 6), stages=((6, 6),), maps=(1,), strides=(4,), pool_after=(0,)))
    foreign = {f"other.{key}": value for key, value in build(other.model, seed=0).state_dict().items()}
    save_checkpoint(tmp_path / "other.pt", foreign, other, {})
    with pytest.raises(TrainingError, match="none of its weights"):
        train_model(tiny_config(data), runs=tmp_path / "runs", weights=tmp_path / "other.pt")
    assert not (tmp_path / "runs").exists()


def test_dry_run_trains_a_step_and_writes_nothing(data: Path, tmp_path: Path) -> None:
    events = Recorder()
    before = sorted(path.name for path in data.rglob("*"))
    result = train_model(tiny_config(data), runs=tmp_path / "runs", dry_run=True, events=events)
    assert (result.run, result.step, result.total_steps) == (None, 1, 3 * STEPS)
    assert len(events.steps) == 1
    assert list(tmp_path.iterdir()) == []
    assert sorted(path.name for path in data.rglob("*")) == before


def test_missing_data_folder_hints_at_the_sample_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--data sample"):
        train_model(tiny_config(tmp_path / "nowhere"), runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_only_ignored_faces_are_an_error(tmp_path: Path) -> None:
    root = draw_set(tmp_path / "data", train=2)
    labels = root / "train" / "labelv2.txt"
    lines = [line for line in labels.read_text().splitlines() if line.startswith("#")]
    labels.write_text("".join(f"{line}\n10 10 30 30 1\n" for line in lines))
    with pytest.raises(DataError, match="has a face that counts"):
        train_model(tiny_config(root), runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_broken_pictures_are_left_out_and_too_many_are_an_error(tmp_path: Path) -> None:
    root = draw_set(tmp_path / "data")
    (root / "train" / "images" / "drawn" / "train2.png").write_bytes(b"no picture")
    config = tiny_config(root, epochs=1)
    with pytest.raises(DataError, match=r"train2\.png"):
        train_model(config, runs=tmp_path / "runs")
    events = Recorder()
    tolerant = replace(config, data=replace(config.data, max_broken=0.2))
    result = train_model(tolerant, runs=tmp_path / "runs", events=events)
    assert result.total_steps == STEPS
    assert any("left out 1 " in note and "train2.png" in note for note in events.notes)


def test_unreadable_validation_pictures_are_named(tmp_path: Path) -> None:
    """They lower the AP by which the best weights are chosen, so nobody should have to guess."""
    root = draw_set(tmp_path / "data")
    (root / "val" / "images" / "drawn" / "val1.png").write_bytes(b"no picture")
    events = Recorder()
    train_model(tiny_config(root, epochs=1), runs=tmp_path / "runs", events=events)
    assert any("val1.png" in note for note in events.notes)


def test_all_pictures_broken_is_an_error_for_the_user(tmp_path: Path) -> None:
    root = draw_set(tmp_path / "data", train=2)
    for path in (root / "train" / "images").rglob("*.png"):
        path.write_bytes(b"no picture")
    config = tiny_config(root, epochs=1)
    with pytest.raises(DataError):
        train_model(replace(config, data=replace(config.data, max_broken=1.0)), runs=tmp_path / "runs")


def test_name_that_is_taken_is_refused(data: Path, tmp_path: Path) -> None:
    config = tiny_config(data, epochs=1)
    run = train(config, tmp_path, name="mine")
    content = run.last.read_bytes()
    with pytest.raises(UsageError, match="--resume mine"):
        train_model(config, runs=tmp_path, name="mine")
    assert run.last.read_bytes() == content


def start(*arguments: str) -> "subprocess.Popen[str]":
    """`facetrain train …` on the CPU, with as many threads as the runs it is compared with."""
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-m", "facetrain", "train", *arguments, "--gpus", "cpu"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def wait_for_step(process: "subprocess.Popen[str]", run: RunDir, number: int) -> None:
    """Until the run has logged a step, or has ended."""
    while process.poll() is None and not any(line["step"] >= number for line in read_metrics(run.metrics)):
        time.sleep(0.01)


@pytest.mark.slow
def test_killed_processes_leave_a_run_that_continues_bit_by_bit(data: Path, tmp_path: Path) -> None:
    """Ctrl-C first, then resumed as the message says and killed without warning, then resumed to the end."""
    config = tiny_config(data, epochs=8, ema=0.9)
    whole = train(config, tmp_path / "whole", name="r")
    file, run = tmp_path / "tiny.yaml", RunDir(tmp_path / "runs" / "r")
    file.write_text(config_to_yaml(config))

    process = start(str(file), "--runs", str(tmp_path / "runs"), "--name", "r", "--recipe", "none")
    wait_for_step(process, run, STEPS + 2)
    process.send_signal(signal.SIGINT)
    _, conversation = process.communicate(timeout=120)
    assert process.returncode == 130, conversation
    assert f"facetrain train --resume {run.path}" in conversation
    stopped_at = read_tensors(run.last)["state"]["step"]
    assert STEPS + 2 <= stopped_at < 8 * STEPS

    process = start("--resume", str(run.path))
    wait_for_step(process, run, (stopped_at // STEPS + 1) * STEPS + 2)
    process.kill()
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert stopped_at < read_tensors(run.last)["state"]["step"] < 8 * STEPS

    train_model(resume=run)
    assert_same_run(run, whole)
    assert numbers(run) == numbers(whole)
