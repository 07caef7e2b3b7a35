"""Runs that meet a bad end at a bad moment: nothing that was saved is lost, and one message says what was wrong."""

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from train_runs import STEPS, Recorder, assert_same, assert_same_run, draw_set, live, numbers, tiny_config, train

from facetrain.config.load import config_to_yaml
from facetrain.core.errors import DataError, TrainingError, UsageError
from facetrain.core.run_dir import RunDir
from facetrain.model.safe_file import read_tensors
from facetrain.train import step
from facetrain.train.loop import train_model
from facetrain.train.run.metrics import read_metrics

pytestmark = pytest.mark.slow

KILLS = 20


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs processes that start quickly: a fork")
def test_killed_at_any_moment_a_run_goes_on_bit_by_bit(data: Path, tmp_path: Path) -> None:
    """Twenty lives that end without warning, and a last one; the moments are random, the seed is told."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    rng = random.Random(seed)
    config = tiny_config(data, epochs=8, ema=0.9)
    whole = train(config, tmp_path / "whole")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["facetrain.train.loop", "cv2"])  # torch is imported once for all lives
    run = RunDir(tmp_path / "runs" / "r")
    seen = []
    began = time.monotonic()
    for _ in range(KILLS):
        life = context.Process(target=live, args=(config, str(run.path.parent)))
        life.start()
        began = time.monotonic() if not seen else began  # the first one waits for the imports
        saved = _mark(run.last)
        # most moments lie where steps are done and saved, some before: while it starts, decodes, cuts back its metrics
        if rng.random() < 0.8:
            while life.is_alive() and _mark(run.last) == saved:
                time.sleep(0.001)
        life.join(rng.uniform(0, 0.15))
        life.kill()
        life.join()
        if run.path.exists() and any(run.path.glob("*.pt")):
            state = read_tensors(run.last)["state"]  # never torn, and never missing once it was there
            seen.append(state["step"])
            assert all(isinstance(line["step"], int) for line in read_metrics(run.metrics))
    print(f"{KILLS} kills in {time.monotonic() - began:.0f} s, steps saved then: {seen}")
    assert seen == sorted(seen)
    assert len(set(seen)) > KILLS / 4, "the kills did not hit many moments"

    life = context.Process(target=live, args=(config, str(run.path.parent)))
    life.start()
    life.join()
    assert life.exitcode == 0
    assert_same_run(run, whole)
    assert numbers(run) == numbers(whole)
    hidden = [path.name for path in run.path.iterdir() if path.name.startswith(".")]
    assert hidden == []  # what the killed ones left half written


def _mark(path: Path) -> tuple[int, int] | None:
    """What changes when another file takes this one's place."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


# A full disk

FULL = """
import resource, sys, threading, time
from pathlib import Path
from facetrain.cli.app import run_cli
from facetrain.train import training
training._SAVE_EVERY_S = 0.0
metrics = Path(sys.argv[1])
def fill():
    while not metrics.exists() or metrics.read_text().count("train") < 4:
        time.sleep(0.005)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
threading.Thread(target=fill, daemon=True).start()
sys.exit(run_cli(sys.argv[3:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files as POSIX systems do")
@pytest.mark.parametrize("room", [100, 20_000])
def test_full_disk_ends_a_run_with_one_message_and_what_was_saved(
    data: Path, tmp_path: Path, unbroken: Callable[..., RunDir], room: int
) -> None:
    """Too little room for a line of metrics, or for a state; with room again it goes on as if nothing had been."""
    (tmp_path / "tiny.yaml").write_text(config_to_yaml(tiny_config(data, epochs=40)))
    run = RunDir(tmp_path / "runs" / "r")
    command = [sys.executable, "-c", FULL, str(run.metrics), str(room)]
    command += ["train", str(tmp_path / "tiny.yaml"), "--runs", str(run.path.parent), "--name", "r", "--gpus", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr
    assert "cannot be written" in done.stderr
    assert str(run.path) in done.stderr
    saved = read_tensors(run.last)["state"]["step"]
    assert saved >= 3
    assert not list(run.path.glob(".*"))
    result = train_model(resume=run)
    assert result.step == 40 * STEPS
    assert_same_run(run, unbroken(epochs=40))


@pytest.mark.skipif(sys.platform == "win32", reason="a file in place of a folder is told otherwise there")
def test_folder_that_cannot_be_made_is_refused_before_anything_is_read(data: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    events = Recorder()
    with pytest.raises(UsageError, match="is not a folder") as caught:
        train_model(tiny_config(data), runs=tmp_path / "runs", events=events)
    assert "`runs`" in str(caught.value.hint)
    assert events.notes == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir(mode=0o555)
    with pytest.raises(UsageError, match="cannot be written: no permission"):
        train_model(tiny_config(data), runs=tmp_path / "runs")


def test_run_killed_before_its_first_save_takes_no_name(data: Path, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / ".last.abc.pt").write_bytes(b"half")
    run = train(tiny_config(data, epochs=1), tmp_path, name="r")
    assert read_tensors(run.last)["state"]["step"] == STEPS
    assert not list(run.path.glob(".*"))


# Images and memory that are gone


def test_image_that_vanishes_costs_no_step(
    tmp_path: Path, unbroken: Callable[..., RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = draw_set(tmp_path / "data")
    config = replace(tiny_config(root), data=replace(tiny_config(root).data, store="disk"))
    images = root / "train" / "images"

    def vanish(progress: Any) -> None:
        if progress.step == 5:
            images.rename(root / "elsewhere")

    with pytest.raises(DataError, match=r"train\d+\.png") as caught:
        train_model(config, runs=tmp_path / "runs", events=Recorder(vanish))
    run = RunDir(tmp_path / "runs" / "run-1")
    assert caught.value.hint
    assert read_tensors(run.last)["state"]["step"] == 5  # the steps since the last save are not lost
    (root / "elsewhere").rename(images)
    train_model(resume=run)
    for name in ("model", "optimizer"):
        assert_same(read_tensors(run.last)[name], read_tensors(unbroken().last)[name])


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"), MemoryError()]
)
def test_memory_that_does_not_suffice_names_the_options_and_costs_no_step(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    real, calls = step.assign, []

    def assign(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise error
        return real(*arguments)

    monkeypatch.setattr(step, "assign", assign)
    with pytest.raises(TrainingError, match="out of memory") as caught:
        train_model(tiny_config(data), runs=tmp_path)
    assert "`batch`" in str(caught.value.hint)
    assert "data.store" in str(caught.value.hint)
    run = RunDir(tmp_path / "run-1")
    assert read_tensors(run.last)["state"]["step"] == 4
    assert train_model(resume=run).step == 3 * STEPS


@pytest.mark.parametrize("number", [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])])
def test_polite_kill_is_like_ctrl_c(
    data: Path, tmp_path: Path, unbroken: Callable[..., RunDir], number: signal.Signals
) -> None:
    events = Recorder(lambda progress: os.kill(os.getpid(), number) if progress.step == 4 else None)
    result = train_model(tiny_config(data), runs=tmp_path, events=events)
    assert (result.interrupted, result.step) == (True, 4)
    assert result.run is not None
    train_model(resume=result.run)
    assert_same_run(result.run, unbroken())


def test_file_system_without_hard_links_keeps_the_state_before(
    data: Path, tmp_path: Path, unbroken: Callable[..., RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    run = train(tiny_config(data), tmp_path)
    assert_same_run(run, unbroken())
    assert read_tensors(run.previous)["state"]["step"] == 2 * STEPS


def test_everything_of_a_run_can_go_but_its_state(data: Path, tmp_path: Path, unbroken: Callable[..., RunDir]) -> None:
    """last.pt alone continues a run."""
    result = train_model(tiny_config(data), runs=tmp_path, max_time=1e-9)
    assert result.run is not None
    content = result.run.last.read_bytes()
    shutil.rmtree(result.run.path)
    result.run.path.mkdir()
    result.run.last.write_bytes(content)
    train_model(resume=result.run)
    for name in ("model", "optimizer"):
        assert_same(read_tensors(result.run.last)[name], read_tensors(unbroken().last)[name])
