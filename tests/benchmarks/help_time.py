"""How much longer `facetrain --help` takes than the help of a bare Typer application with as many commands.

    python tests/benchmarks/help_time.py [--runs 15]

Both start the way an installed console script does, in turn, so that a busy machine slows both. The table goes to
stderr, JSON to stdout; times are those of whole processes.
"""

import argparse
import importlib.metadata
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from pkgutil import iter_modules

from facetrain.cli import commands
from facetrain.core.machine import available_cores, cpu_name

SCRIPT = "import sys\nfrom {module} import main\nsys.exit(main())\n"
BARE_HEAD = 'import typer\n\napp = typer.Typer(help="A bare application.")\n'
BARE_COMMAND = (
    '\n\n@app.command()\ndef command_{number}(path: str, size: int = 320) -> None:\n    """Do one thing."""\n'
)
BARE_TAIL = "\n\ndef main() -> None:\n    app()\n"
WARM_UP = 2  # runs that write bytecode and fill the file cache


def write_scripts(folder: Path, count: int) -> dict[str, Path]:
    """Write the two scripts, and the bare application as a module, because only modules keep their bytecode."""
    body = "".join(BARE_COMMAND.format(number=number) for number in range(count))
    (folder / "bare_application.py").write_text(BARE_HEAD + body + BARE_TAIL)
    scripts = {"facetrain": "facetrain.cli.app", "bare": "bare_application"}
    for name, module in scripts.items():
        (folder / f"run_{name}.py").write_text(SCRIPT.format(module=module))
    return {name: folder / f"run_{name}.py" for name in scripts}


def seconds_of_help(script: Path) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, script, "--help"], check=True, stdout=subprocess.DEVNULL, cwd=script.parent)
    return time.perf_counter() - start


def summary(seconds: list[float]) -> dict[str, float]:
    quarters = statistics.quantiles(seconds, n=4)
    named = {"median_ms": quarters[1], "q1_ms": quarters[0], "q3_ms": quarters[2], "min_ms": min(seconds)}
    return {name: round(1000 * value, 1) for name, value in named.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=15, help="how often each is measured (15)")
    runs = max(parser.parse_args().runs, 2)
    count = len(list(iter_modules(commands.__path__)))
    with tempfile.TemporaryDirectory() as folder:
        scripts = write_scripts(Path(folder), count)
        times: dict[str, list[float]] = {name: [] for name in scripts}
        for number in range(-WARM_UP, runs):
            for name, script in scripts.items():
                seconds = seconds_of_help(script)
                if number >= 0:
                    times[name].append(seconds)
    results = {name: summary(seconds) for name, seconds in times.items()}
    # Of two neighbours in time, not of the medians alone: what else the machine does then weighs on both.
    ratios = [ours / bare for ours, bare in zip(times["facetrain"], times["bare"], strict=True)]
    document = {
        "benchmark": "help_time",
        "commands": count,
        "runs": runs,
        **results,
        "ratio_of_medians": round(results["facetrain"]["median_ms"] / results["bare"]["median_ms"], 3),
        "median_of_ratios": round(statistics.median(ratios), 3),
        "python": platform.python_version(),
        "typer": importlib.metadata.version("typer"),
        "cpu": cpu_name(),
        "cores": available_cores(),
        "platform": platform.platform(),
    }
    for name, result in results.items():
        print(
            f"{name:10} --help  median {result['median_ms']:7.1f} ms   "
            f"quartiles {result['q1_ms']:.1f} to {result['q3_ms']:.1f}   least {result['min_ms']:.1f}",
            file=sys.stderr,
        )
    print(f"ratio of medians {document['ratio_of_medians']}, {count} commands, {runs} runs", file=sys.stderr)
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
