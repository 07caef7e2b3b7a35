"""Training on two nodes by torchrun, each with a process of its own: one dies and comes back, and the run goes on."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import cv2
import numpy as np
import pytest

from facetrain.config.load import config_to_yaml
from facetrain.config.schema import Config, DataConfig, EvalConfig, ModelConfig, TrainConfig
from facetrain.core.run_dir import RunDir
from facetrain.model.safe_file import read_tensors
from facetrain.train.run.metrics import read_metrics

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds processes as Linux lists them"),
]

EPOCHS, STEPS = 12, 3  # of a batch of 4, from 10 images
PATIENCE = 240.0  # seconds, of a machine that does other things as well


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of a tiny network, on ten drawn images."""
    folder = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(0)
    for split, count in (("train", 10), ("val", 2)):
        lines = []
        (folder / split / "images").mkdir(parents=True)
        for number in range(count):
            image = rng.integers(20, 90, (72, 96, 3)).astype(np.uint8)
            cv2.circle(image, (40, 36), 12, (150, 190, 235), -1)
            cv2.imwrite(str(folder / split / "images" / f"{number}.png"), image)
            lines += [f"# {number}.png 96 72", "28 24 52 48"]
        (folder / split / "labelv2.txt").write_text("\n".join(lines) + "\n")
    tiny = ModelConfig(stem=(3, 8, 8), stages=((8, 8), (8, 16), (16, 16), (16, 16), (16, 16)), head_channels=16)
    data = DataConfig(root=str(folder), size=64, crop_scales=(1.0,), store="ram", workers=1)
    train = TrainConfig(epochs=EPOCHS, batch=4, optimizer="sgd", lr=1e-4, lr_batch=4, precision="fp32")
    path = folder / "tiny.yaml"
    path.write_text(config_to_yaml(Config(model=tiny, data=data, train=train, eval=EvalConfig(every=EPOCHS))))
    return path


class Nodes:
    """Two machines, as far as torchrun can tell. Each is its agent and the process that trains."""

    def __init__(self, config: Path, runs: Path) -> None:
        self.config, self.run = config, RunDir(runs / "r")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        runs.mkdir()
        self.said: list[IO[str]] = [(runs / f"node{number}.txt").open("w+") for number in range(2)]
        self.agents = [self.start(number) for number in range(2)]

    def start(self, number: int) -> "subprocess.Popen[bytes]":
        """What a job's script does on each node, also after a death: always the same command."""
        where = f"--rdzv-backend c10d --rdzv-id job --rdzv-endpoint 127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
        # both are on one machine: which of them the endpoint belongs to has to be said
        command += [*where.split(), "--rdzv-conf", f"is_host={number == 0}", "--max-restarts", "3"]
        command += ["-m", "facetrain", "train", str(self.config), "--gpus", "cpu"]
        command += ["--runs", str(self.run.path.parent), "--name", "r", "--or-resume"]
        environment = os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "OMP_NUM_THREADS": "1"}
        said = self.said[number]
        return subprocess.Popen(command, stdout=said, stderr=said, env=environment, start_new_session=True)

    def workers(self, number: int) -> list[int]:
        pid = self.agents[number].pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def kill(self, number: int, *, agent: bool) -> None:
        """SIGKILL, as a machine without current: to the process that trains, and to what started it."""
        workers = self.workers(number)
        assert workers
        if agent:
            self.agents[number].kill()
            self.agents[number].wait()
        for pid in workers:
            os.kill(pid, signal.SIGKILL)

    def wait_for_step(self, step: int) -> int:
        """Until the run has logged it."""
        deadline = time.monotonic() + PATIENCE
        while (last := self.steps()[-1:]) < [step]:
            assert time.monotonic() < deadline, self.text()
            assert all(agent.poll() is None for agent in self.agents), self.text()
            time.sleep(0.05)
        return last[0]

    def steps(self) -> list[int]:
        return [line["step"] for line in read_metrics(self.run.metrics) if line["kind"] == "train"]

    def finish(self, again: tuple[int, ...] = ()) -> None:
        """Until both are through. again: nodes whose script starts a torchrun that failed once more."""
        deadline = time.monotonic() + PATIENCE
        while any(agent.poll() != 0 for agent in self.agents):
            assert time.monotonic() < deadline, self.text()
            for number, agent in enumerate(self.agents):
                if agent.poll() not in (None, 0):
                    assert number in again, self.text()
                    self.agents[number] = self.start(number)
            time.sleep(0.2)

    def text(self) -> str:
        return "\n".join(Path(file.name).read_text() for file in self.said)

    def close(self) -> None:
        for number, agent in enumerate(self.agents):
            if agent.poll() is None:
                workers = self.workers(number)
                agent.kill()
                agent.wait()
                for pid in workers:
                    os.kill(pid, signal.SIGKILL)
        for file in self.said:
            file.close()


@pytest.fixture
def nodes(config: Path, tmp_path: Path) -> Iterator[Nodes]:
    both = Nodes(config, tmp_path / "runs")
    yield both
    both.close()


def assert_whole(nodes: Nodes) -> None:
    """Each step once, to the last; and it is said that the run went on."""
    assert nodes.steps() == list(range(1, EPOCHS * STEPS + 1))
    assert read_tensors(nodes.run.last)["state"]["step"] == EPOCHS * STEPS
    assert "going on after step" in nodes.text()
    assert nodes.text().count(f"step {EPOCHS * STEPS} of {EPOCHS * STEPS}") == 1
    assert "2 processes of 2 crops each" in nodes.run.log.read_text()


def test_a_process_that_dies_is_started_again_by_torchrun(nodes: Nodes) -> None:
    nodes.wait_for_step(3 * STEPS)
    nodes.kill(1, agent=False)
    nodes.finish()
    assert_whole(nodes)
    assert "another process of this run has ended" in nodes.text()


def test_a_node_that_dies_is_met_again_when_it_comes_back(nodes: Nodes) -> None:
    """The other one's torchrun goes on all the time."""
    nodes.wait_for_step(3 * STEPS)
    nodes.kill(1, agent=True)
    nodes.agents[1] = nodes.start(1)
    nodes.finish()
    assert_whole(nodes)


def test_where_the_meeting_point_dies_every_node_starts_anew(nodes: Nodes) -> None:
    """The other one's torchrun fails then; the scripts of both start one again."""
    nodes.wait_for_step(3 * STEPS)
    nodes.kill(0, agent=True)
    nodes.agents[0] = nodes.start(0)
    nodes.finish(again=(1,))
    assert_whole(nodes)
