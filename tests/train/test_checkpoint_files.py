"""Checkpoints and training states that others made or something spoilt: one clear error, little memory, no code."""

import os
import pickle
import random
import resource
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from train_runs import MODEL, Recorder, draw_set, tiny_config

from facetrain.cli.app import run_cli
from facetrain.config.load import config_to_dict
from facetrain.config.schema import Config
from facetrain.core.errors import DataError, FacetrainError, InputError
from facetrain.core.run_dir import RunDir
from facetrain.model.safe_file import read_tensors
from facetrain.model.weights import FORMAT, load_checkpoint, load_model, save_checkpoint
from facetrain.model.yunet import build
from facetrain.train.loop import train_model
from facetrain.train.run.checkpoint import load_state


def ours() -> dict[str, Any]:
    return {
        "format": FORMAT,
        "config": config_to_dict(Config(model=MODEL)),
        "model": build(MODEL, 0).state_dict(),
        "info": {},
    }


def original() -> dict[str, Any]:
    """A state dict with the original trainer's names."""
    names = {"pointwise": "conv1", "depthwise": "conv2", "norm": "bn"}
    made = {}
    for key, value in build(Config().model, 0).state_dict().items():
        parts = [names.get(part, part) for part in key.split(".")]
        if parts[0] == "backbone":
            stage = 0 if parts[1] == "stem" else int(parts[2]) + 1
            inner = parts[2:] if parts[1] == "stem" else [f"conv{int(parts[3]) + 1}", *parts[4:]]
            if parts[1] == "stem":
                inner = {"conv": ["conv1"], "bn": ["bn1"], "unit": ["conv2"]}[inner[0]] + inner[1:]
            made[".".join(["backbone", f"model{stage}", *inner])] = value
        elif parts[0] == "neck":
            made[".".join(["neck", "lateral_convs", *parts[2:]])] = value
        else:
            kind = {"box": "bbox", "landmarks": "kps"}.get(parts[2], parts[2])
            name = "multi_level_share_convs" if kind == "shared" else f"multi_level_{kind}"
            made[".".join(["bbox_head", name, parts[1], *parts[3:]])] = value
    return made


def saved(path: Path, document: Any) -> Path:
    torch.save(document, path)
    return path


def refusal(path: Path) -> FacetrainError:
    with pytest.raises(FacetrainError) as caught:
        load_model(path)
    assert str(path) in caught.value.message
    return caught.value


def test_both_forms_are_read(tmp_path: Path) -> None:
    load_model(saved(tmp_path / "a.pt", ours()))
    load_model(saved(tmp_path / "b.pth", {"state_dict": {f"module.{k}": v for k, v in original().items()}}))


# One thing wrong


def without(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda document: document.pop(key)


def weight(value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["model"].__setitem__("backbone.stem.conv.weight", value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("config"), "'config' is missing"),
        (without("model"), "'model' holds no weights"),
        (without("info"), "'info' is missing"),
        (weight("text"), "holds something that is no weight"),
        (weight(torch.zeros(3)), "weights do not fit the model"),
        (weight(torch.full((8, 3, 3, 3), float("nan"))), "216 of 216 numbers are NaN or infinite"),
        (weight(torch.zeros(8, 0, 3, 3)), "is empty"),
        (weight(torch.zeros(1).expand(8, 3, 3, 3)), "has more values than the file"),
        (weight(torch.zeros(1).expand(10**6, 10**6)), "has more values than the file"),
        (weight(torch.eye(8).to_sparse()), "a tensor of a kind that no checkpoint has"),
        (weight(torch.zeros(8, 3, 3, 3, dtype=torch.complex64)), "a tensor of a kind that no checkpoint has"),
        (lambda d: d.update(info=[[[[[[[[[[[[[[1]]]]]]]]]]]]]]), "nested more than 12 levels"),
        (lambda d: d.update(info={"x": list(range(300_000))}), "more than 200,000 values"),
        (lambda d: d["config"]["model"].update(head_channels=4096), "its configuration describes"),
        (lambda d: d["config"]["model"].update(shared_convs=64), "its configuration describes"),
        (lambda d: d["config"].update(model=7), "model"),
        (lambda d: d["config"]["model"].update(landmarks={"names": ["a\nb"], "mirror": []}), "is not a name"),
    ],
)
def test_one_thing_wrong_in_ours(tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    document = ours()
    change(document)
    assert message in refusal(saved(tmp_path / "x.pt", document)).message


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("backbone.model0.conv1.weight", torch.zeros(16), "has the shape (16,), not that of a convolution"),
        ("backbone.model0.conv1.weight", torch.zeros(16, 0, 3, 3), "is empty"),
        ("backbone.model0.conv1.weight", torch.zeros(16, 5, 3, 3), "not a YuNet of the published form"),
        ("backbone.model0.conv2.conv1.weight", torch.zeros(5000, 16, 1, 1), "not a YuNet of the published form"),
        ("backbone.model3.conv1.conv1.weight", torch.zeros(()), "has the shape (), not that of a convolution"),
        ("backbone.model999.conv1.conv1.weight", torch.zeros(1), "is missing"),
        ("bbox_head.multi_level_kps.0.conv1.weight", torch.zeros(4000, 64, 1, 1), "weights do not fit"),
    ],
)
def test_one_thing_wrong_in_an_original(tmp_path: Path, key: str, value: torch.Tensor, message: str) -> None:
    document = original()
    document[key] = value
    assert message in refusal(saved(tmp_path / "x.pth", document)).message


@pytest.mark.parametrize(
    "document", [7, "text", [1, 2], None, {}, {"state_dict": 3}, {"format": FORMAT}, {1: 2}, torch.zeros(3)]
)
def test_documents_that_are_no_checkpoint(tmp_path: Path, document: Any) -> None:
    refusal(saved(tmp_path / "x.pt", document))


def test_an_archive_that_unpacks_to_more_is_refused_before_it_does(tmp_path: Path) -> None:
    plain, packed = saved(tmp_path / "a.pt", {"x": torch.zeros(60_000_000)}), tmp_path / "b.pt"
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            with old.open(entry) as source, new.open(entry.filename, "w") as target:
                shutil.copyfileobj(source, target)
    plain.unlink()
    assert packed.stat().st_size < 2_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="its archive is compressed"):
        read_tensors(packed)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


def test_no_code_runs(tmp_path: Path) -> None:
    class Act:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "name_ran"),)

    for number, protocol in enumerate((0, 2)):
        path = tmp_path / f"{number}.pt"
        path.write_bytes(pickle.dumps(Act(), protocol))
        refusal(path)
    refusal(saved(tmp_path / "zip.pt", {"format": FORMAT, "model": Act()}))
    assert not (tmp_path / "name_ran").exists()


def test_names_that_no_file_has() -> None:
    for name in ("a\0b", "x" * 5000, "/"):
        with pytest.raises((InputError, DataError)):
            read_tensors(Path(name))


# Anything wrong


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    if isinstance(value, dict):
        for key, item in value.items():
            found += places(item, (*path, key))
    return found


def mutated(document: Any, rng: random.Random) -> Any:
    """One value or key of the document exchanged for another of any kind."""
    path = rng.choice([place for place in places(document) if place])
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    old = parent[path[-1]]
    others: list[Any] = [
        None,
        7,
        -1,
        10**18,
        1.5,
        float("nan"),
        "x",
        "",
        [],
        {},
        [1],
        {"a": 1},
        True,
        torch.zeros(()),
        torch.zeros(3),
    ]
    if isinstance(old, torch.Tensor):
        shape = list(old.shape)
        if shape:
            shape[rng.randrange(len(shape))] = rng.choice([0, 1, 2, 3, 17])
        others += [torch.zeros(shape), old.flatten(), old[None], old.int(), old.double() * float("inf"), old.half()] * 2
    action = rng.randrange(4)
    if action == 0:
        del parent[path[-1]]
    elif action == 1:
        parent[rng.choice(["new", 7, "backbone.stages.7.0.pointwise.weight", str(path[-1]) + ".x"])] = parent.pop(
            path[-1]
        )
    else:
        parent[path[-1]] = rng.choice(others)
    return document


@pytest.mark.slow
@pytest.mark.parametrize("make", [ours, original])
def test_mutations_are_read_or_refused(tmp_path: Path, make: Callable[[], dict[str, Any]]) -> None:
    rng = random.Random(0)
    refused = 0
    for number in range(150):
        path = saved(tmp_path / "x.pt", mutated(make(), rng))
        try:
            load_model(path)
        except FacetrainError as error:
            refused += 1
            assert str(path) in error.message, number
    assert refused > 40


def test_damaged_bytes_are_read_or_refused(tmp_path: Path) -> None:
    rng = random.Random(1)
    path = tmp_path / "x.pt"
    save_checkpoint(path, build(MODEL, 0).state_dict(), Config(model=MODEL), {})
    content = path.read_bytes()
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(rng.choice([1, 1, 3, 40])):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged[: rng.choice([len(damaged), rng.randrange(len(damaged))])])
        try:
            load_model(path)
        except FacetrainError as error:
            assert str(path) in error.message


# Training states


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    folder = tmp_path_factory.mktemp("state")
    result = train_model(tiny_config(draw_set(folder / "set"), epochs=2, ema=0.9), runs=folder)
    assert result.run is not None
    return result.run


@pytest.fixture
def run(finished: RunDir, tmp_path: Path) -> RunDir:
    shutil.copytree(finished.path, tmp_path / "run")
    return RunDir(tmp_path / "run")


def spoilt(run: RunDir, change: Callable[[dict[str, Any]], Any]) -> None:
    document = torch.load(run.last, weights_only=True)
    change(document)
    torch.save(document, run.last)


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no model": lambda d: d.pop("model"),
    "no state": lambda d: d.pop("state"),
    "no optimizer": lambda d: d.pop("optimizer"),
    "step -5": lambda d: d["state"].update(step=-5),
    "step 10**9": lambda d: d["state"].update(step=10**9),
    "step of another epoch": lambda d: d["state"].update(step=1),
    "text for a step": lambda d: d["state"].update(step="3"),
    "an unknown counter": lambda d: d["state"].update(moon=3),
    "a missing weight": lambda d: d["model"].pop("backbone.stem.conv.bias"),
    "a further weight": lambda d: d["ema"].update(other=torch.zeros(3)),
    "foreign averages": lambda d: d.update(ema=build(Config().model, 0).state_dict()),
    "NaN in the averages": lambda d: d["ema"]["backbone.stem.conv.bias"].fill_(float("nan")),
    "other channels": lambda d: d["config"]["model"].update(head_channels=24),
    "another optimiser": lambda d: (
        d["config"]["train"].update(optimizer="sgd", plan=None) or d.update(optimizer={"a": 1})
    ),
    "a momentum of another shape": lambda d: d["optimizer"]["state"][0].update(exp_avg=torch.zeros(7)),
    "a newer version": lambda d: d.update(facetrain="99.0"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_a_state_that_does_not_fit_is_left_for_the_one_before(
    run: RunDir, name: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    spoilt(run, CHANGES[name])
    load_state(run)
    assert f"going on from {run.previous}" in caplog.text
    assert str(run.last) in caplog.text
    train_model(resume=run, events=Recorder())
    shutil.copy(run.last, run.previous)
    spoilt(run, CHANGES[name])
    shutil.copy(run.last, run.previous)
    assert run_cli(["train", "--resume", str(run.path), "--gpus", "cpu"]) in (1, 2)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert str(run.last) in said


def test_a_state_of_a_newer_version_is_named_so(run: RunDir) -> None:
    spoilt(run, CHANGES["a newer version"])
    run.previous.unlink()
    with pytest.raises(DataError, match=r"written by facetrain 99\.0, this is"):
        load_state(run)


def test_a_state_serves_as_weights(run: RunDir) -> None:
    assert load_checkpoint(run.last).state.keys() == build(MODEL).state_dict().keys()
