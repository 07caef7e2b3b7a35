"""`facetrain train`: a detector from a model file and a folder of labelled images."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facetrain.cli import console
from facetrain.cli.flags import SETTINGS
from facetrain.cli.label_flags import CLASSES, FORMAT, TRUST, class_list
from facetrain.core.errors import InputError, UsageError
from facetrain.core.suggest import choices_hint

if TYPE_CHECKING:
    from facetrain.config.schema import Config
    from facetrain.core.run_dir import RunDir

_LENGTHS = ("train.epochs", "train.plan")  # what --for decides
_SETTLED = ("data.root", "data.roots", "train.teacher", "train.plan")  # a run's config.yaml has more than was asked

EXAMPLES = """
facetrain train yunet_n --data sample --for 10m
facetrain train yunet_n --data my_faces --weights yunet_n --name mine
facetrain train my_model.yaml --gpus 0,1 --set train.lr=0.02
facetrain train --resume mine
"""


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
        list[str] | None,
        typer.Option(
            metavar="DIR[:SHARE]",
            help="Folder of images and labels in any layout (labelv2, COCO, YOLO, …), a label file, or `sample` "
            "(drawn faces). Several times: trained on together, DIR:0.3 with its share of the samples; the first "
            "validates. With --resume: their places now.",
        ),
    ] = None,
    val: Annotated[
        float | None,
        typer.Option(help="Keep this share of a set without a validation part for it, chosen by the images' names."),
    ] = None,
    format: FORMAT = None,
    classes: CLASSES = None,
    trust_labels: TRUST = False,
    epochs: Annotated[int | None, typer.Option(help="Passes over the images.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images of one step.")] = None,
    gpus: Annotated[
        str,
        typer.Option(
            help="cpu, mps, or a GPU's number; several (0,1 or cpu,cpu): a process each. auto: GPU 0 if there is one."
        ),
    ] = "auto",
    weights: Annotated[
        str | None, typer.Option(help="Start from these weights: a checkpoint, a YuNet's ONNX file, a run or a name.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run that CONFIG names; without CONFIG the newest.")
    ] = False,
    or_resume: Annotated[
        bool,
        typer.Option(
            "--or-resume", help="Continue the run of --name where it has begun, else begin it: for jobs started again."
        ),
    ] = False,
    teacher: Annotated[
        str | None,
        typer.Option(help="Learn from this network: as --weights. With --resume: its place now."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; by default CONFIG-N.")] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="Settings over CONFIG: quick, distil, sample, none. auto: sample for --data sample, else none."
        ),
    ] = "auto",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any setting, such as train.lr=0.02. May be repeated."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, crops and order.")] = None,
    workers: Annotated[int | None, typer.Option(help="Threads that decode and crop.")] = None,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads of the network, a lane each; all that are there by default.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Use only so many training images.")] = None,
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
    from facetrain.config.load import config_name, load_config
    from facetrain.core.machine import check_threads
    from facetrain.core.run_dir import find_run
    from facetrain.detect.find_weights import find_weights
    from facetrain.train.parallel.launch import has_launcher, is_rank_0, run_workers

    devices = _devices(gpus)
    check_threads(threads)
    seconds, budget = _seconds("--max-time", max_time), _seconds("--for", duration)
    given: dict[str, Any] = {
        **{"--format": format, "--classes": class_list(classes) or None},
        **{"--trust-labels": trust_labels or None},
        **{"--teacher": None if resume else teacher, "--epochs": epochs, "--batch": batch},
        **{"--seed": seed, "--workers": workers, "--limit": limit, "--val": val},
    }
    fields: dict[str, Any] = {key: given[flag] for key, flag in SETTINGS.items() if given.get(flag) is not None}
    new = bool(fields or settings or weights or name or recipe != "auto" or budget or dry_run)
    _check_options(config, settings or [], resume=resume, new=new or or_resume, epochs=epochs, budget=budget)
    if data and not resume:
        fields |= _sources(data)
    chosen = None if resume else _recipe(recipe, data or [])
    resolved = None if resume or config is None else load_config(config, settings or [], chosen, fields)
    begun = find_run(runs, config or "") if resume and is_rank_0() else None
    if or_resume and resolved is not None and is_rank_0():
        begun = _begun(runs, name, resolved, dry_run=dry_run)
    if begun is not None:
        resolved = weights = budget = chosen = None  # the run has its own
    start = None if weights is None else find_weights(weights, "train", runs)
    if resolved is not None and not has_launcher():
        _check_places(resolved, runs, name, config_name(config or ""))
    order = Order(
        config=resolved,
        config_name=config_name(config or ""),
        runs=runs,
        name=name,
        resume=begun,
        weights=start,
        data=tuple(data or ()) if resume else (),
        teacher=teacher if resume else None,
        budget=budget,
        max_time=seconds,
        threads=threads,
        dry_run=dry_run,
        devices=tuple(_chosen(devices)),  # only now anything heavy
        note=f"recipe: {chosen} is laid over {config}; --recipe none leaves it as it is" if chosen else None,
        json=json,
    )
    if len(order.devices) > 1 and not has_launcher():
        code = run_workers(order.devices, train, {"order": order})
    else:
        code = train(order)
    if code:
        raise typer.Exit(code)


@dataclass(frozen=True)
class Order:
    """What the command has come to: all that a process needs to train, this one or each of several.

    config:  None where a run goes on
    resume:  that run; None also on the other ranks
    weights: the checkpoint to start from
    data, teacher: where these lie now for the run that goes on
    budget, max_time: seconds
    threads: of the CPU, in each process; None: as many as torch takes
    devices: one for each process, or one for all
    note:    a line to say first
    json:    whether the result is told as JSON
    """

    config: "Config | None"
    config_name: str
    runs: Path
    name: str | None
    resume: "RunDir | None"
    weights: Path | None
    data: tuple[str, ...]
    teacher: str | None
    budget: float | None
    max_time: float | None
    threads: int | None
    dry_run: bool
    devices: tuple[str, ...]
    note: str | None
    json: bool


def train(order: Order) -> int:
    """Train as ordered in this process, which may be one of several. Returns its exit code."""
    from facetrain.cli.text.train import TrainScreen, result_document, result_text
    from facetrain.train.loop import train_model
    from facetrain.train.parallel.launch import is_rank_0, own_device

    if order.threads is not None:
        import torch

        torch.set_num_threads(order.threads)
    with TrainScreen(shown=is_rank_0()) as screen:
        if order.resume is not None and is_rank_0():
            screen.keep_log(order.resume.log)
        if order.note is not None:
            screen.note(order.note)
        result = train_model(
            order.config,
            config_name=order.config_name,
            device=own_device(order.devices),
            runs=order.runs,
            name=order.name,
            resume=order.resume,
            weights=order.weights,
            data=order.data,
            teacher=order.teacher,
            budget=order.budget,
            max_time=order.max_time,
            dry_run=order.dry_run,
            events=screen,
        )
    if is_rank_0():
        console.result(result_document(result), result_text(result), as_json=order.json)
    if not result.interrupted:
        return 0
    if is_rank_0():
        where = quote(str(result.run.path)) if result.run else ""
        console.say(f"stopped; go on with: facetrain train --resume {where}")
    return 130


def _check_options(
    config: str | None, settings: Sequence[str], *, resume: bool, new: bool, epochs: int | None, budget: float | None
) -> None:
    """Raise UsageError for options that do not go together. new: whether there are any that only a new run takes."""
    if resume and new:
        raise UsageError(
            "--resume continues a run with its own settings; it takes only --gpus, --data, --teacher, --max-time, "
            "--threads, --runs and --json",
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


def _begun(runs: Path, name: str | None, config: "Config", *, dry_run: bool) -> "RunDir | None":
    """The run of that name, if it has come as far as its first save; it must have begun as it would now.

    Raises UsageError where it did not: what the command asks for would be passed over in silence.
    """
    from facetrain.config.load import load_config
    from facetrain.config.problems import show
    from facetrain.config.schema import entries
    from facetrain.core.run_dir import RunDir

    if name is None or dry_run:
        raise UsageError("--or-resume needs --name, by which it finds the run again, and no --dry-run")
    run = RunDir(runs / name)
    if not run.last.is_file() and not run.previous.is_file():
        return None
    if not run.config.is_file():
        return run
    lines = [
        f"  {key}: {show(own)} in the run, {show(other)} in the command"
        for (key, _, own), (_, _, other) in zip(entries(load_config(run.config)), entries(config), strict=True)
        if own != other and not is_dataclass(own) and key not in _SETTLED
    ]
    if lines:
        raise UsageError(
            "\n".join([f"{run.path}: has begun with other settings than those of the command:", *lines]),
            "give another --name, or the settings that the run has; --resume takes it as it is",
        )
    return run


def _check_places(config: "Config", runs: Path, name: str | None, config_name: str) -> None:
    """Judge the folders of data and runs before torch is imported, which takes seconds. Raises UsageError."""
    from facetrain.core.files import check_folder
    from facetrain.core.run_dir import new_run
    from facetrain.data.layout import find_split, reading_of
    from facetrain.data.sources import settle_sources
    from facetrain.detect.find_weights import find_teacher

    if config.train.teacher is not None:
        find_teacher(config.train.teacher, runs)
    check_folder(new_run(runs, name, config_name).path, "runs")
    if config.data.roots:
        settle_sources(config)
        return
    root = Path(config.data.root)
    if config.data.root == "sample" and not root.is_dir():
        return
    if config.train.label_weight > 0 or not root.is_dir():
        find_split(root, "train", reading_of(config.data))


def _sources(data: Sequence[str]) -> dict[str, Any]:
    """What --data says as settings: of one set its place, of several each with its share."""
    from facetrain.data.sources import source_of

    sources = [source_of(text) for text in data]
    if len(sources) == 1 and sources[0].share is None:
        return {"data.root": sources[0].root, "data.roots": []}
    return {
        "data.roots": [{"root": each.root} | ({} if each.share is None else {"share": each.share}) for each in sources]
    }


def _recipe(name: str, data: Sequence[str]) -> str | None:
    """The recipe to lay over the configuration; None for none. Raises InputError."""
    from facetrain.config.load import recipe_names

    if name == "auto":
        return "sample" if list(data) == ["sample"] and not Path("sample").is_dir() else None
    if name not in (known := ["auto", "none", *recipe_names()]):
        raise InputError(f"--recipe {name}: no such recipe", choices_hint(name, known))
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
    """Seconds of `90s`, `30m`, `30min` or `2h`."""
    if text is None:
        return None
    number = text.strip().lower()
    factor = 0
    for unit, seconds_of_it in (("min", 60), ("s", 1), ("m", 60), ("h", 3600)):
        if number.endswith(unit):
            number, factor = number.removesuffix(unit), seconds_of_it
            break
    try:
        seconds = float(number) * factor
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"{flag} {text}: not a time", "a number with its unit, such as 90s, 30m or 2h")
    return seconds
