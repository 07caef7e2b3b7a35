"""Whose folder a run gets, what a resumed run takes over, and where it finds its data."""

import os
import shutil
import tempfile
import threading
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
import pytest
from train_runs import assert_same_run, ctrl_c_at, draw_set, leaves, tiny_config, train

from facetrain.config.load import config_to_yaml, load_config
from facetrain.config.schema import Config, entries
from facetrain.core.errors import ConfigError, DataError, InputError, UsageError
from facetrain.core.run_dir import RunDir, claim_run, held
from facetrain.detect.bundled import bundled_names, bundled_weights
from facetrain.model.safe_file import read_tensors
from facetrain.train.loop import train_model


@pytest.fixture
def stopped(tmp_path: Path) -> RunDir:
    """A run of three epochs that was stopped in its first, on data of its own."""
    data = draw_set(tmp_path / "data")
    return train(tiny_config(data, ema=0.9), tmp_path / "runs", name="r", events=ctrl_c_at(2))


def edit(run: RunDir, **values: object) -> None:
    config = load_config(run.config)
    for section in ("train", "data", "eval"):
        own = {key.removeprefix(f"{section}_"): v for key, v in values.items() if key.startswith(f"{section}_")}
        config = replace(config, **{section: replace(getattr(config, section), **own)})
    run.config.write_text(config_to_yaml(config))


def test_processes_that_ask_at_once_get_two_names(tmp_path: Path) -> None:
    given, barrier = [], threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        given.append(claim_run(tmp_path / "runs", "yunet_n").path.name)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(given) == sorted(f"yunet_n-{n}" for n in range(1, 9))


def test_a_link_to_nowhere_takes_a_name(tmp_path: Path) -> None:
    (tmp_path / "yunet_n-1").symlink_to("nowhere")
    assert claim_run(tmp_path, "yunet_n").path.name == "yunet_n-2"


def test_a_folder_that_another_run_took_meanwhile_is_left_alone(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "r")
    with held(run), pytest.raises(UsageError, match="another process is training"), held(run, fresh=True):
        pass
    assert not run.path.exists()  # nothing was written: nothing stays
    run.path.mkdir()
    run.best.write_bytes(b"finished")
    with pytest.raises(UsageError, match="meanwhile"), held(run, fresh=True):
        pass
    assert [path.name for path in run.path.iterdir()] == ["best.pt"]
    with held(run):
        pass


def test_a_run_holds_its_folder_before_it_reads_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(draw_set(tmp_path / "data"), epochs=1)
    seen = []

    def prepare(*_: object) -> None:
        seen.append([path.name for path in (tmp_path / "runs").iterdir()])
        with pytest.raises(UsageError, match="another process is training"), held(RunDir(tmp_path / "runs" / "run-1")):
            pass
        raise DataError("nothing to read")

    monkeypatch.setattr("facetrain.train.loop.prepare", prepare)
    with pytest.raises(DataError, match="nothing to read"):
        train_model(config, runs=tmp_path / "runs")
    assert seen == [["run-1"]]
    assert not (tmp_path / "runs").exists()


def test_an_edited_config_is_refused_where_it_matters(stopped: RunDir) -> None:
    before = stopped.last.read_bytes()
    edit(stopped, train_lr=0.5, data_size=96)
    with pytest.raises(UsageError) as caught:
        train_model(resume=stopped)
    assert "changed in what a run cannot change" in caught.value.message
    assert "  data.size: 64 in the run, 96 in the file" in caught.value.message
    assert "  train.lr: 0.01 in the run, 0.5 in the file" in caught.value.message
    assert stopped.last.read_bytes() == before
    assert load_config(stopped.config).train.lr == 0.5  # not overwritten
    stopped.config.write_text("train: {lr: [}")
    with pytest.raises(ConfigError) as broken:
        train_model(resume=stopped)
    assert "without the file the run goes on" in str(broken.value.hint)
    stopped.config.unlink()
    assert train_model(resume=stopped).step == 9


def test_these_keys_may_change_while_a_run_goes_on() -> None:
    assert {key for key, field, _ in entries(Config()) if field.metadata.get("may_change")} == {
        *("data.root", "data.store", "data.memory", "data.workers"),
        *("train.epochs", "train.compile", "train.teacher", "train.patience", "train.keep_every", "train.keep_last"),
        *("eval.every", "eval.score", "eval.nms", "eval.limit"),
    }


def test_what_may_change_is_taken_over_and_said(stopped: RunDir) -> None:
    from train_runs import Recorder

    edit(stopped, train_epochs=2, eval_score=0.1, data_workers=1)
    heard = Recorder()
    result = train_model(resume=stopped, events=heard)
    assert (result.step, result.total_steps) == (6, 6)
    said = [note for note in heard.notes if note.startswith("changed in")]
    assert [note.partition(": ")[2] for note in said] == [
        "data.workers from 2 to 1",
        "train.epochs from 3 to 2",
        "eval.score from 0.02 to 0.1",
    ]
    assert read_tensors(stopped.last)["config"]["eval"]["score"] == 0.1


@pytest.mark.slow
def test_a_run_goes_on_from_any_folder_and_after_a_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    draw_set(Path("data"))
    whole = train(tiny_config(Path("data")), tmp_path / "whole", name="r")
    run = train(tiny_config(Path("data")), tmp_path / "runs", name="r", events=ctrl_c_at(2))
    assert load_config(run.config).data.root == str(tmp_path / "one" / "data")
    monkeypatch.chdir(os.sep)
    second = RunDir(shutil.copytree(run.path, tmp_path / "second" / "r"))
    train_model(resume=run)
    assert_same_run(whole, run)
    shutil.move(tmp_path / "one" / "data", tmp_path / "moved")
    with pytest.raises(InputError, match="no longer there") as caught:
        train_model(resume=second)
    assert "`data` FOLDER" in str(caught.value.hint)
    draw_set(tmp_path / "other", train=9)
    with pytest.raises(DataError, match="not what the run began with"):
        train_model(resume=second, data=str(tmp_path / "other"))
    train_model(resume=second, data=str(tmp_path / "moved"))
    assert read_tensors(second.best)["model"].keys() == read_tensors(whole.best)["model"].keys()
    assert load_config(second.config).data.root == str(tmp_path / "moved")


def test_bundled_weights_hold_no_path() -> None:
    """No text inside them is an absolute path, of any system, and no place of this machine stands in their bytes."""
    own = [os.fsencode(place) for place in (Path.home(), Path.cwd(), tempfile.gettempdir())]
    for name in bundled_names(".pt"):
        document = read_tensors(bundled_weights(name, ".pt"))
        graph = onnx.load(bundled_weights(name, ".onnx"))
        texts = [value for _, value in leaves(document) if isinstance(value, str)]
        texts += [entry.value for entry in graph.metadata_props] + [node.name for node in graph.graph.node]
        assert len(texts) > 20
        assert [text for text in texts if PurePosixPath(text).is_absolute() or PureWindowsPath(text).drive] == []
        assert document["config"]["data"]["root"] == "data/widerface"
        assert document["config"]["train"]["teacher"] is None
        contents = [bundled_weights(name, suffix).read_bytes() for suffix in (".pt", ".onnx")]
        assert not any(len(place) > 3 and place in content for place in own for content in contents)
