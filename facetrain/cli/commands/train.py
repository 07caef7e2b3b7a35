"""`facetrain train`: a detector from a model file and a folder of labelled pictures."""

from pathlib import Path
from typing import Annotated

import typer

from facetrain.cli import console
from facetrain.core.errors import UsageError


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
        str | None, typer.Option(help="Folder in the WIDER FACE layout, or `sample` (drawn faces).")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the pictures.")] = None,
    batch: Annotated[int | None, typer.Option(help="Pictures of one step.")] = None,
    gpus: Annotated[
        str, typer.Option(help="cpu, mps, or a GPU's number; `auto` takes GPU 0 if there is one.")
    ] = "auto",
    weights: Annotated[
        str | None, typer.Option(help="Start from these weights: a checkpoint or a bundled name.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run that CONFIG names; without CONFIG the newest.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="Name of the run; by default <config>-<n>.")] = None,
    recipe: Annotated[
        str, typer.Option(help="Settings laid over CONFIG: sample, quick, none; `auto`: sample for --data sample.")
    ] = "auto",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting, such as train.lr=0.02.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, crops and order.")] = None,
    workers: Annotated[int | None, typer.Option(help="Threads that decode and crop.")] = None,
    limit: Annotated[int | None, typer.Option(help="Use only so many training pictures.")] = None,
    max_time: Annotated[str | None, typer.Option(help="Stop after a time: 90s, 30m, 2h.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, train one step, write nothing.")] = False,
    runs: Annotated[Path, typer.Option(help="Folder of all runs.")] = Path("runs"),
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a face detector, or continue a run."""
    from facetrain.cli.train_screen import TrainScreen, result_document, result_text

    device = _device(gpus)
    seconds = _seconds(max_time)
    flags = {
        "data.root": data,
        "train.epochs": epochs,
        "train.batch": batch,
        "train.seed": seed,
        "data.workers": workers,
        "data.limit": limit,
    }
    given = [f"{key}={value}" for key, value in flags.items() if value is not None] + (settings or [])
    if resume and (given or weights or name or recipe != "auto" or dry_run):
        raise UsageError(
            "--resume continues a run with its own settings; it takes only --gpus, --max-time, --runs and --json",
            "for new settings start a new run from its weights: --weights runs/<name>/best.pt",
        )
    if config is None and not resume:
        raise UsageError("no CONFIG given", "facetrain train yunet_n.yaml --data sample")

    with TrainScreen() as screen:
        if resume:
            from facetrain.core.run_dir import find_run
            from facetrain.train.loop import train_model

            run_dir = find_run(runs, config or "")
            screen.keep_log(run_dir.log)
            result = train_model(resume=run_dir, device=device, max_time=seconds, events=screen)
        else:
            from facetrain.config.load import config_name, load_config
            from facetrain.detect.bundled import bundled_weights

            assert config is not None
            chosen = _recipe(recipe, data)
            resolved = load_config(config, given, chosen)
            if chosen:
                screen.note(f"recipe: {chosen} is laid over {config}; --recipe none leaves it as it is")
            from facetrain.train.loop import train_model

            start = None
            if weights is not None:
                start = Path(weights) if Path(weights).is_file() else bundled_weights(weights, ".pt")
            result = train_model(
                resolved,
                config_name=config_name(config),
                device=device,
                runs=runs,
                name=name,
                weights=start,
                max_time=seconds,
                dry_run=dry_run,
                events=screen,
            )
    console.result(result_document(result), result_text(result), as_json=json)
    if result.interrupted:
        console.say(f"stopped; go on with: facetrain train --resume {result.run.path if result.run else ''}")
        raise typer.Exit(130)


def _recipe(name: str, data: str | None) -> str | None:
    """The recipe to lay over the configuration; None for none."""
    if name == "auto":
        return "sample" if data == "sample" and not Path("sample").is_dir() else None
    return None if name == "none" else name


def _device(gpus: str) -> str:
    """The device that --gpus means."""
    if "," in gpus:
        raise UsageError(
            f"--gpus {gpus}: training on several GPUs is not there yet", f"use one: --gpus {gpus.partition(',')[0]}"
        )
    if gpus == "auto":
        import torch

        return "0" if torch.cuda.is_available() else "cpu"
    return gpus


def _seconds(text: str | None) -> float | None:
    """Seconds of `90s`, `30m`, `2h` or a plain number of seconds."""
    if text is None:
        return None
    factor = {"s": 1, "m": 60, "h": 3600}.get(text[-1:].lower())
    try:
        seconds = float(text[:-1] if factor else text) * (factor or 1)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"--max-time {text}: not a time", "a number with s, m or h, such as 90s, 30m or 2h")
    return seconds
