"""`facetrain train`: a detector from a model file and a folder of labelled pictures."""

import os
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facetrain.cli import console
from facetrain.core.errors import UsageError

if TYPE_CHECKING:
    from facetrain.config.schema import Config

_LENGTHS = ("train.epochs", "train.plan")  # what --for decides


def run(
    config: Annotated[
        str | None,
        typer.Argument(
            metavar="CONFIG",
            help="A model file, or a preset: yunet_n, yunet_s. With --resume: the run's name or folder.",
        ),
    ] = None,
    *,
    data: Annotated[
        str | None,
        typer.Option(help="Folder in the WIDER FACE layout, or `sample` (drawn faces). With --resume: its place now."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the pictures.")] = None,
    batch: Annotated[int | None, typer.Option(help="Pictures of one step.")] = None,
    gpus: Annotated[
        str,
        typer.Option(
            help="cpu, mps, or a GPU's number; several (0,1 or cpu,cpu): a process each. auto: GPU 0 if there is one."
        ),
    ] = "auto",
    weights: Annotated[
        str | None, typer.Option(help="Start from these weights: a checkpoint or a bundled name.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run that CONFIG names; without CONFIG the newest.")
    ] = False,
    teacher: Annotated[
        str | None,
        typer.Option(help="Learn from this network: a YuNet checkpoint or a bundled name. With --resume: its place."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; by default <config>-<n>.")] = None,
    recipe: Annotated[
        str,
        typer.Option(help="Settings over CONFIG: quick, distil, sample, none; `auto`: sample for --data sample."),
    ] = "auto",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting, such as train.lr=0.02.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, crops and order.")] = None,
    workers: Annotated[int | None, typer.Option(help="Threads that decode and crop.")] = None,
    limit: Annotated[int | None, typer.Option(help="Use only so many training pictures.")] = None,
    duration: Annotated[
        str | None,
        typer.Option("--for", metavar="TIME", help="Plan the run so that it ends after a time: 30m, 90min, 2h."),
    ] = None,
    max_time: Annotated[str | None, typer.Option(help="Stop after a time, wherever the schedule is.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, train one step, write nothing.")] = False,
    runs: Annotated[Path, typer.Option(help="Folder of all runs.")] = Path("runs"),
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a face detector, or continue a run."""
    arguments = dict(locals())
    from facetrain.config.load import config_name, load_config
    from facetrain.core.run_dir import find_run
    from facetrain.train.launch import has_launcher, leads, own_device, run_workers

    devices = _devices(gpus)
    seconds, budget = _seconds("--max-time", max_time), _seconds("--for", duration)
    given = {
        "data.root": data,
        "train.teacher": None if resume else teacher,
        **{"train.epochs": epochs, "train.batch": batch, "train.seed": seed},
        **{"data.workers": workers, "data.limit": limit},
    }
    fields = {key: value for key, value in given.items() if value is not None}
    new = bool(fields.keys() - {"data.root"} or settings or weights or name or recipe != "auto" or budget or dry_run)
    _check_options(config, settings or [], resume=resume, new=new, epochs=epochs, budget=budget)
    chosen = None if resume else _recipe(recipe, data)
    resolved = None if resume or config is None else load_config(config, settings or [], chosen, fields)
    start = None if weights is None else _checkpoint(weights)
    if resolved is not None and not has_launcher():
        _check_places(resolved, runs, name, config_name(config or ""))
    devices = _chosen(devices)  # only now anything heavy
    if len(devices) > 1 and not has_launcher():
        if code := run_workers(devices, _as_worker, arguments):
            raise typer.Exit(code)
        return

    from facetrain.cli.text.train import TrainScreen, result_document, result_text
    from facetrain.train.loop import train_model

    with TrainScreen(shown=leads()) as screen:
        run_dir = find_run(runs, config or "") if resume and leads() else None
        if run_dir is not None:
            screen.keep_log(run_dir.log)
        if chosen:
            screen.note(f"recipe: {chosen} is laid over {config}; --recipe none leaves it as it is")
        result = train_model(
            resolved,
            config_name=config_name(config or ""),
            device=own_device(devices),
            runs=runs,
            name=name,
            resume=run_dir,
            weights=start,
            data=data if resume else None,
            teacher=teacher if resume else None,
            budget=budget,
            max_time=seconds,
            dry_run=dry_run,
            events=screen,
        )
    if leads():
        console.result(result_document(result), result_text(result), as_json=json)
    if result.interrupted:
        if leads():
            where = quote(str(result.run.path)) if result.run else ""
            console.say(f"stopped; go on with: facetrain train --resume {where}")
        raise typer.Exit(130)


def _checkpoint(weights: str) -> Path:
    """The checkpoint that `weights` means, a file or a bundled name."""
    from facetrain.detect.bundled import bundled_weights

    return Path(weights) if Path(weights).is_file() else bundled_weights(weights, ".pt")


def _check_options(
    config: str | None, settings: Sequence[str], *, resume: bool, new: bool, epochs: int | None, budget: float | None
) -> None:
    """Raise UsageError for options that do not go together. new: whether there are any that only a new run takes."""
    if resume and new:
        raise UsageError(
            "--resume continues a run with its own settings; it takes only --gpus, --data, --teacher, --max-time, "
            "--runs and --json",
            "for new settings start a new run from its weights: --weights runs/<name>/best.pt",
        )
    lengths = ["--epochs"] if epochs else []
    lengths += [f"--set {text}" for text in settings if text.partition("=")[0].strip() in _LENGTHS]
    if budget and lengths:
        raise UsageError(
            f"--for plans the number of steps itself: {lengths[0]} does not go with it", "leave one of them out"
        )
    if config is None and not resume:
        raise UsageError("no CONFIG given", "facetrain train yunet_n.yaml --data sample")


def _check_places(config: "Config", runs: Path, name: str | None, config_name: str) -> None:
    """Judge the folders of data and runs before torch is imported, which takes seconds. Raises UsageError."""
    from facetrain.core.places import check_folder
    from facetrain.core.run_dir import new_run
    from facetrain.data.formats.layout import find_split
    from facetrain.detect.bundled import find_teacher

    if config.train.teacher is not None:
        find_teacher(config.train.teacher)
    check_folder(new_run(runs, name, config_name).path, "runs")
    root = Path(config.data.root)
    if config.data.root == "sample" and not root.is_dir():
        return
    if config.train.label_weight > 0 or not root.is_dir():
        find_split(root, "train")


def _as_worker(**arguments: Any) -> int:
    """The command in one of several processes, as a function that returns its exit code."""
    try:
        run(**arguments)
    except typer.Exit as leaving:
        return leaving.exit_code
    return 0


def _recipe(name: str, data: str | None) -> str | None:
    """The recipe to lay over the configuration; None for none."""
    if name == "auto":
        return "sample" if data == "sample" and not Path("sample").is_dir() else None
    return None if name == "none" else name


def _devices(gpus: str) -> list[str]:
    """The devices that --gpus names, one for each process; under torchrun one entry stands for all of them."""
    from facetrain.detect.detector import parse_device

    if gpus == "auto":
        return [gpus]
    names = [name.strip() for name in gpus.split(",")]
    for name in names:
        parse_device(name)
    if len(names) > 1:
        numbers = [name for name in names if name.isdigit()]
        if set(names) != {"cpu"} and len(set(numbers)) < len(names):
            raise UsageError(
                f"--gpus {gpus}: several processes need a GPU each, or all of them the CPU", "such as 0,1 or cpu,cpu"
            )
    return names


def _chosen(devices: list[str]) -> list[str]:
    """The devices with `auto` decided, for which torch is asked."""
    if devices != ["auto"]:
        return devices
    import torch

    own = os.environ.get("LOCAL_RANK", "0")
    return [own if torch.cuda.is_available() else "cpu"]


def _seconds(flag: str, text: str | None) -> float | None:
    """Seconds of `90s`, `30m`, `30min`, `2h` or a plain number of seconds."""
    if text is None:
        return None
    number = text.strip().lower()
    factor = 1
    for unit, seconds_of_it in (("min", 60), ("s", 1), ("m", 60), ("h", 3600)):
        if number.endswith(unit):
            number, factor = number.removesuffix(unit), seconds_of_it
            break
    try:
        seconds = float(number) * factor
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"{flag} {text}: not a time", "a number with s, m or h, such as 90s, 30m or 2h")
    return seconds
