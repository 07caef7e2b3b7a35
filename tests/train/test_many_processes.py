"""Whole runs of several processes: what they leave behind, and that none outlives the others."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from train_runs import MODEL, STEPS, Crash, crash_at, draw_set, several, start, tiny_config, train, wait_for_step

from facetrain.config.load import config_to_yaml, load_config
from facetrain.config.schema import Config
from facetrain.core.run_dir import RunDir
from facetrain.model.safe_file import read_tensors
from facetrain.model.weights import save_checkpoint
from facetrain.model.yunet import build
from facetrain.train.loop import train_model
from facetrain.train.run.metrics import read_metrics

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds processes as Linux lists them"),
]


def gentle(data: Path, epochs: int, **settings: Any) -> Config:
    return gently(tiny_config(data, epochs=epochs, **settings))


def gently(config: Config) -> Config:
    """At a tiny rate, where rounding stays rounding: elsewhere one prior matched otherwise is soon another run."""
    train = replace(config.train, optimizer="sgd", lr=1e-6)
    return replace(config, train=train, eval=replace(config.eval, every=2))


def write_config(config: Config, folder: Path) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(config_to_yaml(config))
    return path


def workers_of(process: "subprocess.Popen[str]") -> list[int]:
    """Processes that it has started and that train: those of Python's own book-keeping lead no session."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children if os.getsid(int(child)) == int(child)]


def wait_for_end(pids: list[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "a process was left behind"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def numbers(run: RunDir, kind: str) -> list[dict[str, Any]]:
    return [line for line in read_metrics(run.metrics) if line["kind"] == kind]


def assert_close_lines(run: RunDir, wanted: RunDir, tolerance: float) -> None:
    """Equal steps, rates and, but for rounding, losses, which at this rate depend on the images alone."""
    lines, wanted_lines = numbers(run, "train"), numbers(wanted, "train")
    assert [line["step"] for line in lines] == [line["step"] for line in wanted_lines]
    for line, other in zip(lines, wanted_lines, strict=True):
        assert line["losses"] == pytest.approx(other["losses"], rel=tolerance)
        assert line["lr"] == other["lr"]


def assert_close_run(run: RunDir, wanted: RunDir) -> None:
    """Equal but for rounding: lines of metrics, validation, weights, statistics and momentum."""
    assert_close_lines(run, wanted, 1e-2)
    validations, wanted_validations = numbers(run, "val"), numbers(wanted, "val")
    assert [(v["step"], v["images"]) for v in validations] == [(v["step"], v["images"]) for v in wanted_validations]
    assert [v["ap"] for v in validations] == pytest.approx([v["ap"] for v in wanted_validations], abs=0.02)
    state, other = read_tensors(run.last), read_tensors(wanted.last)
    assert state["state"]["step"] == other["state"]["step"]
    for name, value in other["model"].items():
        torch.testing.assert_close(state["model"][name], value, rtol=1e-3, atol=1e-3, msg=name)
    # the momentum holds the gradients of all steps, which at this rate depend on the images alone
    momentum, wanted_momentum = (
        torch.cat([entry["momentum_buffer"].flatten() for entry in document["optimizer"]["state"].values()])
        for document in (state, other)
    )
    assert (momentum - wanted_momentum).abs().max() < 1e-2 * wanted_momentum.abs().max()


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return train(gentle(data, 4), tmp_path_factory.mktemp("alone"))


def test_two_processes_train_like_one(data: Path, tmp_path: Path, alone: RunDir) -> None:
    file = write_config(gentle(data, 4), tmp_path)
    process = start(str(file), "--runs", str(tmp_path / "runs"), "--json", gpus="cpu,cpu")
    out, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    document = json.loads(out)  # one document and nothing else
    run = RunDir(tmp_path / "runs" / "tiny-1")
    assert (document["run"], document["step"], document["interrupted"]) == (str(run.path), 4 * STEPS, False)
    assert said.count("run: ") == 1
    assert "2 processes of 2 crops each" in said
    assert "= 1e-06 x batch 4 / 4" in said  # the rate belongs to the global batch
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["tiny-1"]
    assert {path.name for path in run.path.iterdir()} >= {"best.pt", "last.pt", "log.txt", "metrics.jsonl"}
    assert_close_run(run, alone)


def test_a_run_goes_on_with_another_number_of_processes(data: Path, tmp_path: Path) -> None:
    """Two, stopped politely; then one, which dies; then three."""
    config = gentle(data, 8)
    whole = train(config, tmp_path / "whole")
    run = RunDir(tmp_path / "runs" / "r")
    process = start(str(write_config(config, tmp_path)), "--runs", str(run.path.parent), "--name", "r", gpus="cpu,cpu")
    wait_for_step(process, run, 5)
    workers = workers_of(process)
    assert len(workers) == 2
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert f"facetrain train --resume {run.path}" in said
    wait_for_end(workers, 5)
    stopped_at = read_tensors(run.last)["state"]["step"]
    assert 5 <= stopped_at < 6 * STEPS

    with pytest.raises(Crash):
        train_model(resume=run, events=crash_at(stopped_at + STEPS))
    process = start("--resume", str(run.path), gpus="cpu,cpu,cpu")
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert_close_run(run, whole)


def test_two_processes_on_two_sets(two: list[Path], tmp_path: Path) -> None:
    """Each epoch has the samples that one process has, in a whole run and in one that was stopped within an epoch."""
    config = gently(several(two, {}, {"share": 0.6, "label_weight": 0.5}, epochs=4))
    wanted = train(config, tmp_path / "alone")
    assert read_tensors(wanted.last)["state"]["step"] == 4 * 7  # of 10 + 15 samples; another share has other steps
    file = str(write_config(config, tmp_path))
    runs = tmp_path / "runs"
    process = start(file, "--runs", str(runs), "--name", "whole", gpus="cpu,cpu")
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert f"{two[1]}: 6 images, 15 samples an epoch" in said
    assert_close_lines(RunDir(runs / "whole"), wanted, 1e-4)  # another image in one step is another loss

    run = RunDir(runs / "stopped")
    process = start(file, "--runs", str(runs), "--name", "stopped", gpus="cpu,cpu")
    wait_for_step(process, run, 9)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert 9 <= read_tensors(run.last)["state"]["step"] < 4 * 7
    process = start("--resume", str(run.path), gpus="cpu,cpu")
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert_close_lines(run, wanted, 1e-4)


def test_two_processes_share_a_teacher_and_a_clock(data: Path, tmp_path: Path) -> None:
    """What they learn without labels in the time there is, one process learns from the plan that they leave."""
    teacher = tmp_path / "teacher.pt"
    save_checkpoint(teacher, build(MODEL, 9).state_dict(), Config(model=MODEL), {})
    config = gentle(data, 1, teacher=str(teacher), label_weight=0.0, fused="off")  # several processes never use them
    file = write_config(replace(config, data=replace(config.data, store="mapped")), tmp_path)
    process = start(str(file), "--runs", str(tmp_path / "runs"), "--for", "8s", gpus="cpu,cpu")
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    run = RunDir(tmp_path / "runs" / "tiny-1")
    planned = load_config(run.config)
    assert planned.train.plan is not None
    assert "plan: " in said
    again = train(planned, tmp_path / "again")
    states = [read_tensors(other.last) for other in (run, again)]
    assert states[0]["state"]["step"] == states[1]["state"]["step"] == planned.train.plan[-1][1]
    for name, value in states[0]["model"].items():
        apart = (value - states[1]["model"][name]).abs().max()
        assert apart <= 1e-5 * max(1.0, value.abs().max()), name


def test_device_that_is_not_there_is_said_once(data: Path, tmp_path: Path) -> None:
    file = write_config(gentle(data, 4), tmp_path)
    number = torch.cuda.device_count() + 3
    process = start(str(file), "--runs", str(tmp_path / "runs"), gpus=f"{number},{number + 1}")
    out, said = process.communicate(timeout=120)
    assert process.returncode == 2
    assert (out, said.count("error: "), "Traceback" in said) == ("", 1, False)
    assert "is not there" in said
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def going(data: Path, tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", RunDir]]:
    """A run of two processes that has done some steps and would do many more."""
    config = gentle(data, 4000)
    config = replace(config, eval=replace(config.eval, every=4000))
    run = RunDir(tmp_path / "runs" / "r")
    process = start(str(write_config(config, tmp_path)), "--runs", str(run.path.parent), "--name", "r", gpus="cpu,cpu")
    wait_for_step(process, run, 2 * STEPS)
    yield process, run
    process.kill()
    process.communicate()


def test_one_killed_process_ends_all(going: tuple["subprocess.Popen[str]", RunDir]) -> None:
    process, run = going
    workers = workers_of(process)
    os.kill(max(workers), signal.SIGKILL)  # the second one was started last
    out, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert said.count("error: ") == 1
    assert "error: process 1 (cpu) was killed by signal 9 (SIGKILL)" in said
    assert "--resume" in said
    assert "Traceback" not in said
    assert out == ""
    wait_for_end(workers, 5)
    assert read_tensors(run.last)["state"]["step"] >= 2 * STEPS


def test_ctrl_c_stops_all_at_one_step(going: tuple["subprocess.Popen[str]", RunDir]) -> None:
    process, run = going
    workers = workers_of(process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert said.count("stopping after this step") == 1
    assert "error" not in said
    wait_for_end(workers, 5)
    assert read_tensors(run.last)["state"]["step"] == numbers(run, "train")[-1]["step"]


def test_nothing_outlives_the_process_that_started_it(going: tuple["subprocess.Popen[str]", RunDir]) -> None:
    process, run = going
    workers = workers_of(process)
    process.kill()
    process.wait()
    wait_for_end(workers, 60)
    assert read_tensors(run.last)["state"]["step"] == numbers(run, "train")[-1]["step"]  # and they saved before


def test_image_that_vanishes_ends_all_with_one_message(tmp_path: Path) -> None:
    root = draw_set(tmp_path / "data")
    config = gentle(root, 4000)
    config = replace(config, data=replace(config.data, store="disk"), eval=replace(config.eval, every=4000))
    run = RunDir(tmp_path / "runs" / "r")
    process = start(str(write_config(config, tmp_path)), "--runs", str(run.path.parent), "--name", "r", gpus="cpu,cpu")
    wait_for_step(process, run, 2 * STEPS)
    workers = workers_of(process)
    shutil.rmtree(root / "train" / "images")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert said.count("error: ") == 1
    assert ".png" in said
    assert "Traceback" not in said
    wait_for_end(workers, 5)
    assert read_tensors(run.last)["state"]["step"] >= 2 * STEPS


def test_torchrun(data: Path, tmp_path: Path, alone: RunDir) -> None:
    file = write_config(gentle(data, 4), tmp_path)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "facetrain", "train", str(file), "--runs", str(tmp_path / "runs"), "--gpus", "cpu", "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["step"] == 4 * STEPS
    assert done.stderr.count("run: ") == 1
    assert_close_run(RunDir(tmp_path / "runs" / "tiny-1"), alone)
