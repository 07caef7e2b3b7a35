"""Where a run takes place, and how it is stopped."""

import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType

import torch

from facetrain import __version__
from facetrain.config.load import config_to_yaml
from facetrain.config.schema import Config
from facetrain.core.documents.train import EnvironmentDocument
from facetrain.core.files import write_json, write_text
from facetrain.core.machine import available_cores, cpu_name
from facetrain.core.run_dir import RunDir
from facetrain.train.prepare import Setup
from facetrain.train.teacher import TeacherFile

_PACKAGES = ("torch", "torchvision", "numpy", "opencv-python", "opencv-python-headless", "onnxruntime")


def describe_environment(run: RunDir, config: Config, setup: Setup, teacher: TeacherFile | None) -> None:
    """Write config.yaml (it starts the same run again) and environment.json."""
    write_text(run.config, config_to_yaml(config))
    versions = {"facetrain": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    cuda = setup.device.type == "cuda"
    document: EnvironmentDocument = {
        "versions": versions,
        "platform": platform.platform(),
        "processor": cpu_name(),
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "processes": setup.world.size,
        "device": str(setup.device),
        "device_name": torch.cuda.get_device_name(setup.device) if cuda else None,
        "precision": str(setup.dtype).removeprefix("torch."),
        "command": sys.argv,
        "commit": _commit(),
        "labels": None if setup.labels is None else {"path": str(setup.labels), "sha256": setup.data},
        "teacher": None if teacher is None else {"path": teacher.name, "sha256": teacher.sha256},
        "images": len(setup.store.images),
        "validation_images": len(setup.val.images) if setup.val else 0,
    }
    write_json(run.environment, document)


def _commit() -> str | None:
    """The commit of the checkout that runs, or None outside of one."""
    folder = Path(__file__).resolve().parents[3]
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@contextmanager
def interruptible(said: Callable[[str], None]) -> Iterator[threading.Event]:
    """An event set by Ctrl-C, a polite kill or a lost terminal, so that a run can finish its step and save.

    A second Ctrl-C ends it at once. said: receives the line that tells so.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def stop(number: int, _: FrameType | None) -> None:
        if event.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        event.set()
        with suppress(RuntimeError):  # the signal came in the middle of another line
            said("stopping after this step; Ctrl-C again ends at once, without saving")

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
