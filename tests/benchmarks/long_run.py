"""The long trainings that make the bundled weights, as stages that can be stopped at any time and go on anywhere.

    python tests/benchmarks/long_run.py start yunet_n yunet_s --for 90m
    python tests/benchmarks/long_run.py status            # APs, a line each in recipes.jsonl, and the best weights kept
    python tests/benchmarks/long_run.py pause | go | stop
    python tests/benchmarks/long_run.py install           # what beats the bundled weights becomes the bundled weights
    python tests/benchmarks/long_run.py repeat 61         # the command that repeats what line 61 of recipes.jsonl tells
    python tests/benchmarks/long_run.py plot              # AP over processor hours, .github/ap_over_hours.png

A stage is an ordinary `facetrain train` with a time, one thread, `nice -n 19`, by a wheel of the checkout in an
environment of its own, in a folder outside the checkout (--work, by default in the cache). Within a stage a run goes
on from its own last.pt; on another machine the next stage starts from the averaged weights that `status` has kept
beside this file. Data and teachers lie in the folder FACETRAIN_REFERENCE, by default `shared` beside the checkout.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import Any

from long_run_plan import PLAN, SEED, further, reference

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
KEPT = HERE / "long_run"  # averaged weights that are not bundled
RECIPES = HERE / "recipes.jsonl"


SUBSETS = ("easy", "medium", "hard")


@dataclass
class Place:
    """A network's folder of work: its runs, and what is known of them."""

    folder: Path
    network: str

    @property
    def state_file(self) -> Path:
        return self.folder / f"{self.network}.json"

    def state(self) -> dict[str, Any]:
        """stage: the one that runs or comes next; processor_s, crops: of the stages so far; pid, child: who works."""
        if self.state_file.is_file():
            return dict(json.loads(self.state_file.read_text()))
        kept = kept_info(self.network)
        spent = {"processor_s": kept.get("processor_s", 0.0), "crops": kept.get("crops", 0)}  # on other machines
        return {"stage": kept.get("stages_done", 0), **spent, "pid": None}

    def write(self, **changes: Any) -> None:
        self.state_file.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.state_file.with_suffix(".new")
        scratch.write_text(json.dumps(self.state() | changes, indent=2))
        scratch.replace(self.state_file)

    def run(self, stage: int) -> Path:
        return self.folder / "runs" / f"{self.network}-{stage}"


def kept_info(network: str) -> dict[str, Any]:
    """What the kept weights of a network say of themselves, or the bundled ones; empty where there are none."""
    from facetrain.detect.bundled import FOLDER
    from facetrain.model.weights import load_checkpoint

    for path in (KEPT / f"{network}.pt", FOLDER / f"{network}.pt"):
        if path.is_file():
            return load_checkpoint(path).info
    return {}


def start_weights(place: Place, stage: int) -> str | None:
    """What a stage starts from: the stage before it, the kept or the bundled weights, or nothing."""
    from facetrain.detect.bundled import bundled_names

    if PLAN[place.network][stage].fresh:
        return None
    before = place.run(stage - 1) / "best.pt"
    if stage and before.is_file():
        return str(before)
    kept = KEPT / f"{place.network}.pt"
    if kept.is_file():
        return str(kept)
    return place.network if place.network in bundled_names(".pt") else None


def environment(work: Path) -> Path:
    """The python of an environment that holds a wheel of this checkout as it is now; made once for each commit."""
    commit = git("rev-parse", "--short=12", "HEAD")
    folder = work / f"env-{commit}"
    python = folder / "bin" / "python"
    if (folder / "done").is_file():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    with tempfile.TemporaryDirectory() as scratch:
        archive = subprocess.run(["git", "-C", ROOT, "archive", "HEAD"], check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", scratch], input=archive, check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", scratch], check=True)
    (folder / "done").touch()
    return python


def commit_of(python: Path) -> str:
    """The commit of the wheel in one of these environments."""
    return git("rev-parse", python.parents[1].name.removeprefix("env-"))


def git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def command(python: Path, place: Place, stage: int, minutes: float | None) -> list[str]:
    """The training command of a stage: from its start, or on from where it was stopped."""
    what, run = PLAN[place.network][stage], place.run(stage)
    base = ["nice", "-n", "19", str(python), "-m", "facetrain", "train"]
    teacher = ["--teacher", str(reference() / what.teacher)]
    if (run / "last.pt").is_file():
        return [*base, "--resume", str(run), *teacher]
    settings = {"data.store": "mapped", "eval.every": 0.25} | what.settings
    chosen = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    weights = start_weights(place, stage)
    return [
        *(*base, place.network, "--recipe", "distil", *teacher, "--data", str(reference() / what.data)),
        *(part for name in what.more for part in ("--data", str(further(name)))),
        *("--for", f"{minutes or what.minutes}m", "--seed", str(SEED + stage), "--workers", "1", "--gpus", "cpu"),
        *("--runs", str(run.parent), "--name", run.name, *chosen),
        *(["--weights", weights] if weights else []),
    ]


def work_on(place: Place, python: Path, minutes: float | None) -> None:
    """Go through the stages, one process after the other, until told to stop."""
    stopped = []
    child: subprocess.Popen[bytes] | None = None

    def stop(number: int, _: object) -> None:
        stopped.append(number)
        if child is not None:
            child.send_signal(signal.SIGINT)

    signal.signal(signal.SIGTERM, stop)
    while not stopped and (stage := place.state()["stage"]) < len(PLAN[place.network]):
        before = getrusage(RUSAGE_CHILDREN)
        if PLAN[place.network][stage].fresh and not (place.run(stage) / "last.pt").is_file():
            place.write(processor_s=0.0, crops=0)  # what was spent before is in none of its weights
        with (place.folder / f"{place.network}.log").open("ab") as log:
            child = subprocess.Popen(
                command(python, place, stage, minutes),
                stdout=log,
                stderr=log,
                cwd=place.folder,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            place.write(pid=os.getpid(), child=child.pid, commit=commit_of(python))
            code = child.wait()
        after = getrusage(RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        place.write(processor_s=place.state()["processor_s"] + spent, child=None)
        if code == 0 and minutes is not None:
            place.write(stage=stage + 1)
            break  # --for was meant for one stage
        if code:
            break
        place.write(stage=stage + 1)
    place.write(pid=None)


def processor_seconds(place: Place) -> float:
    """Of all stages so far, the running process included."""
    state = place.state()
    seconds = float(state["processor_s"])
    with suppress(OSError, TypeError):
        fields = Path(f"/proc/{state.get('child')}/stat").read_text().rpartition(")")[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


def running(work: Path) -> Iterator[tuple[Place, int]]:
    """The networks that are worked on, and the process that does."""
    for network in PLAN:
        place = Place(work, network)
        pid = place.state().get("pid")
        if pid and Path(f"/proc/{pid}").exists():
            yield place, pid


def evaluation(weights: Path) -> dict[str, Any]:
    """What `facetrain eval` says of a checkpoint on the validation images that are there, at original size."""
    with tempfile.TemporaryDirectory() as scratch:
        onnx = Path(scratch) / "weights.onnx"
        line = [sys.executable, "-m", "facetrain", "export-onnx", "--weights", str(weights), "--output", str(onnx)]
        subprocess.run(line, check=True, capture_output=True)
        data = ["--widerface", "--present-only", "--data", str(reference() / "widerface")]
        line = [sys.executable, "-m", "facetrain", "eval", *data, "--weights", str(onnx), "--json", "--threads", "1"]
        done = subprocess.run(line, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def measure(weights: Path) -> dict[str, float]:
    """Easy, medium and hard."""
    found = evaluation(weights)
    return {name: round(found[name], 4) for name in SUBSETS}


def mean(ap: dict[str, float] | None) -> float:
    return sum(ap.values()) / len(ap) if ap else 0.0


def status(work: Path, networks: Sequence[str]) -> None:
    """Measure the newest averaged weights of every network, write it down, and keep what is better than before."""
    for network in networks:
        place = Place(work, network)
        stage = place.state()["stage"]
        done = not (place.run(stage) / "last.pt").is_file()
        stage -= done
        run = place.run(stage)
        weights = run / ("best.pt" if done else "last.pt")
        if stage < 0 or not weights.is_file():
            print(f"{network}: no run here; stage {place.state()['stage']} comes next")
            continue
        ap = measure(weights)
        what = PLAN[network][stage]
        line = {
            "kind": "long run",
            "network": network,
            "stage": what.name,
            "finished": done,
            "commit": place.state().get("commit"),
            "settings": {"teacher": what.teacher, "data": what.data}
            | ({"more": list(what.more)} if what.more else {})
            | what.settings,
            "seed": SEED + stage,
            "processor_s": round(processor_seconds(place)),
            "crops": place.state()["crops"] + crops_of(run),
            "ap": ap,
        }
        if done:
            line |= origin(place, stage)
        judge(weights, line, {"stages_done": stage + done})
        if done and place.state().get("counted") != stage:
            place.write(crops=line["crops"], counted=stage)


def origin(place: Place, stage: int) -> dict[str, Any]:
    """What `repeat` needs of a finished stage. start: SHA-256 of its first weights, None where they were drawn."""
    from facetrain.config.load import load_config
    from facetrain.core.files import sha256
    from facetrain.detect.find_weights import find_weights

    first = start_weights(place, stage)
    plan = load_config(str(place.run(stage) / "config.yaml")).train.plan
    return {"start": None if first is None else sha256(find_weights(first, "train")), "plan": plan}


def judge(weights: Path, line: dict[str, Any], also: dict[str, Any]) -> None:
    """Write a measurement down, and keep its weights where they are better than before, and `also` in them."""
    with RECIPES.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    network, ap = line["network"], line["ap"]
    known = kept_info(network).get("ap")
    known = known if isinstance(known, dict) else None  # an ordinary run's checkpoint has one number
    better = mean(ap) > mean(known)
    print(f"{network}: {line['stage']}: {ap}, kept so far {known}: {'kept' if better else 'not kept'}")
    if better:
        keep(weights, network, line | also)


def crops_of(run: Path) -> int:
    """Crops that a run has trained on, by its newest state."""
    from facetrain.model.safe_file import read_tensors

    document = read_tensors(run / "last.pt")
    return int(document["state"]["step"]) * int(document["config"]["train"]["batch"])


def keep(weights: Path, network: str, info: dict[str, Any]) -> None:
    """Write averaged weights beside this file, without any path of this machine."""
    from facetrain.config.schema import Config
    from facetrain.core.files import sha256
    from facetrain.export.bundle import portable
    from facetrain.model.weights import load_checkpoint, save_checkpoint

    checkpoint = load_checkpoint(weights)
    teacher = info["settings"]["teacher"]
    settings = {key: value for key, value in info["settings"].items() if key not in ("teacher", "data")}
    about = {key: value for key, value in info.items() if key not in ("kind", "plan")} | {
        "settings": settings,
        "taught_by": f"released {Path(teacher).stem}",
        "teacher_sha256": sha256(reference() / teacher),
    }
    config = portable(checkpoint.config or Config(model=checkpoint.model))
    save_checkpoint(KEPT / f"{network}.pt", checkpoint.state, config, about)


def install(networks: Sequence[str] = ()) -> None:
    """Make kept weights, of all or of these networks, the bundled ones where they are better: card, hashes, PAGES."""
    import long_run_card

    from facetrain.core.files import sha256
    from facetrain.detect import face_range, operating_points
    from facetrain.detect.bundled import FOLDER, bundled_names
    from facetrain.export.bundle import write_bundle
    from facetrain.model.weights import load_checkpoint, save_checkpoint

    for path in sorted(KEPT.glob("*.pt")):
        network = path.stem
        if networks and network not in networks:
            continue
        kept = load_checkpoint(path)
        bundled = measure(FOLDER / f"{network}.pt") if network in bundled_names(".pt") else None
        if mean(kept.info["ap"]) <= mean(bundled):
            print(f"{network}: {kept.info['ap']} is no better than the bundled {bundled}")
            continue
        numbers = long_run_card.measure(path, network, reference())
        said = {**face_range.as_metadata(numbers.found), **operating_points.as_metadata(numbers.points)}
        assert kept.config is not None
        save_checkpoint(path, kept.state, kept.config, {**kept.info, **said})
        hashes = {made.suffix: sha256(made) for made in write_bundle(path, network, FOLDER)}
        card = long_run_card.card(network, kept.info, hashes, numbers)
        (FOLDER / f"{network}.md").write_text(card, encoding="utf-8")
        for page in (ROOT / name for name in PAGES):
            changed = with_row(page.read_text(encoding="utf-8"), network, long_run_card.cells(numbers.own))
            changed = with_int8_row(changed, network, long_run_card.cells(numbers.int8))
            page.write_text(changed, encoding="utf-8")
        path.unlink()  # bundled now, and the next stage starts from there
        print(f"{network}: {kept.info['ap']} replaces {bundled}")


PAGES = ("README.md", "examples/compare.md")  # with tables that hold the bundled weights' AP


def with_row(page: str, network: str, cells: str) -> str:
    """A page with a network's AP in the tables of detectors and in that of the bundled weights, where it may be new."""
    bundled = f"| bundled `{network}` | {cells} |"
    page = re.sub(
        rf"(?m)^(\| {network} \|(?! int8 ).*?)(?:\| 0?\.\d+(?: \[[^|]*\])? ){{3}}\|$", rf"\1| {cells} |", page
    )
    page, known = re.subn(rf"(?m)^\| bundled `{network}` \|.*$", bundled, page)
    return page if known else re.sub(r"(?m)^(\| released YuNet-n, )", rf"{bundled}\n\1", page, count=1)


def with_int8_row(page: str, network: str, cells: str) -> str:
    """A page with the AP of a network's int8 file, where it has a row of it."""
    page = re.sub(rf"(?m)^(\| {network} \| int8 \|.*?)(?:\| 0?\.\d+(?: \[[^|]*\])? ){{3}}\|$", rf"\1| {cells} |", page)
    return re.sub(rf"(?m)^\| `{network}` as int8 \|.*$", f"| `{network}` as int8 | {cells} |", page)


def on_a_gpu(options: argparse.Namespace) -> int:
    """Pack what travels, or train where it has arrived. An exit code."""
    import long_run_gpu

    if options.action == "pack":
        print(long_run_gpu.pack(reference()))
        return 0
    if options.action == "status":
        for network in options.networks or list(PLAN):
            weights = options.output / f"{network}.pt"
            if weights.is_file():
                line = long_run_gpu.told(network, weights) | {"ap": measure(weights)}
                judge(weights, line, {"stages_done": kept_info(network).get("stages_done", 0)})
            else:
                print(f"{network}: no {weights}")
        return 0
    if options.action != "start" or options.minutes is None:
        sys.exit("--gpu: `pack`, `start --for TIME`, such as 9m or 20s, or `status` of what came back")
    seconds = float(options.minutes[:-1]) * {"s": 1, "m": 60}[options.minutes[-1]]
    return long_run_gpu.train(options.networks or list(PLAN), seconds, options.output.resolve(), options.dry_run)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    actions = ["start", "status", "pause", "go", "stop", "install", "work", "pack", "plot", "repeat"]
    parser.add_argument("action", choices=actions)
    parser.add_argument("networks", nargs="*", help="of: " + ", ".join(PLAN))
    parser.add_argument("--for", dest="minutes", help="minutes of this stage, such as 90m")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    parser.add_argument(
        "--work", type=Path, default=cache / "facetrain-long-run", help="folder of runs and environment"
    )
    parser.add_argument(
        "--gpu", action="store_true", help="pack, start, status: on another machine's card, see long_run_gpu.py"
    )
    parser.add_argument(
        "--output", type=Path, default=Path(os.environ.get("OUT", "gpu")), help="--gpu: what comes back"
    )
    parser.add_argument("--dry-run", action="store_true", help="--gpu: on the CPU, with small numbers")
    parser.add_argument("--python", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.gpu or options.action == "pack":
        sys.exit(on_a_gpu(options))
    if options.action == "repeat":
        import long_run_repeat

        for number in options.networks:
            print(long_run_repeat.command_of(RECIPES, int(number)))
        return
    if options.action == "plot":
        import long_run_plot

        long_run_plot.draw(RECIPES, ROOT / ".github" / "ap_over_hours.png")
        return
    minutes = float(options.minutes.removesuffix("m")) if options.minutes else None
    work = options.work.resolve()
    if options.action == "work":
        [network] = options.networks
        work_on(Place(work, network), options.python, minutes)
    elif options.action == "start":
        work.mkdir(parents=True, exist_ok=True)
        python = options.python or environment(work)
        busy = {place.network for place, _ in running(work)}
        for network in options.networks or PLAN:
            if network in busy:
                print(f"{network}: is being worked on")
                continue
            line = [sys.executable, __file__, "work", network, "--work", str(work), "--python", str(python)]
            line += ["--for", options.minutes] if options.minutes else []
            process = subprocess.Popen(line, start_new_session=True, stdin=subprocess.DEVNULL)
            Place(work, network).write(pid=process.pid)
            print(f"{network}: stage {Place(work, network).state()['stage']}, {work / f'{network}.log'}")
    elif options.action == "status":
        status(work, options.networks or list(PLAN))
    elif options.action == "install":
        install(options.networks)
    else:
        number = {"pause": signal.SIGSTOP, "go": signal.SIGCONT, "stop": signal.SIGTERM}[options.action]
        for place, pid in list(running(work)):
            child = place.state().get("child")
            os.kill(pid if options.action == "stop" else child or pid, number)
            print(f"{place.network}: {options.action}")
        while options.action == "stop" and list(running(work)):
            time.sleep(0.5)


if __name__ == "__main__":
    main()
