"""The long trainings that make the bundled weights, as stages that can be stopped at any time and go on anywhere.

    python tests/benchmarks/long_run.py start yunet_n yunet_s --for 90m
    python tests/benchmarks/long_run.py status            # APs, a line each in recipes.jsonl, and the best weights kept
    python tests/benchmarks/long_run.py pause | go | stop
    python tests/benchmarks/long_run.py install           # what beats the bundled weights becomes the bundled weights

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
from dataclasses import dataclass, field, replace
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
KEPT = HERE / "long_run"  # averaged weights that are not bundled
RECIPES = HERE / "recipes.jsonl"


@dataclass(frozen=True)
class Stage:
    """One run. settings: what `--set` gets, over the recipe `distil`; minutes: how long, unless --for says it."""

    name: str
    minutes: float
    teacher: str = "reference/yunet/yunet_n.pth"
    data: str = "widerface"
    more: tuple[str, ...] = ()  # further sets with their shares, as --data takes them; the weights name them
    settings: dict[str, Any] = field(default_factory=dict)


SMALL = Stage("teacher alone, crops of 320", 120)
AGAIN = Stage("teacher alone, crops of 320, again", 120, settings={"train.lr": 0.03})
LARGE = Stage("teacher alone, crops of 640", 120, settings={"data.size": 640, "train.batch": 16, "train.lr": 0.015})
BOTH = Stage(
    "labels and teacher, crops of 640",
    90,
    settings={"data.size": 640, "train.batch": 16, "train.lr": 0.01, "train.label_weight": 0.3},
)
TAIL = Stage(
    "averaged tail", 45, settings={"data.size": 640, "train.batch": 16, "train.lr": 0.003, "train.ema": 0.9995}
)
# The same once more: between .769 and the teacher's .811 there is room, and both are far below its number of crops.
MORE = replace(BOTH, name=f"{BOTH.name}, again", minutes=120, settings=BOTH.settings | {"train.lr": 0.015})
LAST = replace(TAIL, name=f"{TAIL.name}, again")
# The same with the teacher's labels of 6,830 other images: larger faces, masks, darker skin, images without any face.
# Their terms are for research, see their README: weights of this stage say what they have seen.
WIDE = replace(BOTH, name=f"{BOTH.name}, more images", minutes=120, more=("extra:0.3",))
# A network's stages in their order. The first starts from the bundled weights, or from drawn ones.
PLAN = {name: [SMALL, AGAIN, LARGE, BOTH, TAIL, MORE, LAST, WIDE] for name in ("yunet_n", "yunet_s")}
SEED = 0
SUBSETS = ("easy", "medium", "hard")


def reference() -> Path:
    """The folder with the data and the teachers."""
    return Path(os.environ.get("FACETRAIN_REFERENCE", ROOT.parent / "shared")).resolve()


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
        return {"stage": kept.get("stages_done", 0), "processor_s": 0.0, "crops": 0, "pid": None}

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
        *(part for name in what.more for part in ("--data", str(reference() / name))),
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
        fields = Path(f"/proc/{state['child']}/stat").read_text().rpartition(")")[2].split()
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


def table_cells(weights: Path) -> str:
    """The same as cells of a table, each with its 95 % interval in brackets."""
    from facetrain.eval.difference import brackets

    found = evaluation(weights)
    spans = (found["intervals"][name] for name in SUBSETS)
    return " | ".join(f"{span['estimate']:.3f} {brackets(span['low'], span['high'], 3)}" for span in spans)


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
        judge(weights, line, {"stages_done": stage + done})
        if done and place.state().get("counted") != stage:
            place.write(crops=line["crops"], counted=stage)


def judge(weights: Path, line: dict[str, Any], further: dict[str, Any]) -> None:
    """Write a measurement down, and keep its weights where they are better than before, with what is said further."""
    with RECIPES.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    network, ap = line["network"], line["ap"]
    known = kept_info(network).get("ap")
    known = known if isinstance(known, dict) else None  # an ordinary run's checkpoint has one number
    better = mean(ap) > mean(known)
    print(f"{network}: {line['stage']}: {ap}, kept so far {known}: {'kept' if better else 'not kept'}")
    if better:
        keep(weights, network, line | further)


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
    about = {key: value for key, value in info.items() if key != "kind"} | {
        "settings": settings,
        "taught_by": f"released {Path(teacher).stem}",
        "teacher_sha256": sha256(reference() / teacher),
    }
    config = portable(checkpoint.config or Config(model=checkpoint.model))
    save_checkpoint(KEPT / f"{network}.pt", checkpoint.state, config, about)


def install() -> None:
    """Make kept weights the bundled ones where they are better, with card, hashes and the rows of PAGES."""
    from facetrain.core.files import sha256
    from facetrain.detect.bundled import FOLDER, bundled_names
    from facetrain.export.bundle import write_bundle
    from facetrain.model.weights import load_checkpoint

    for path in sorted(KEPT.glob("*.pt")):
        network = path.stem
        info = load_checkpoint(path).info
        bundled = measure(FOLDER / f"{network}.pt") if network in bundled_names(".pt") else None
        if mean(info["ap"]) <= mean(bundled):
            print(f"{network}: {info['ap']} is no better than the bundled {bundled}")
            continue
        cells = table_cells(path)
        hashes = {made.suffix: sha256(made) for made in write_bundle(path, network, FOLDER)}
        (FOLDER / f"{network}.md").write_text(card(network, info, hashes, cells), encoding="utf-8")
        for page in (ROOT / name for name in PAGES):
            page.write_text(with_row(page.read_text(encoding="utf-8"), network, cells), encoding="utf-8")
        path.unlink()  # bundled now, and the next stage starts from there
        print(f"{network}: {info['ap']} replaces {bundled}")


PAGES = ("README.md", "examples/compare.md")  # with tables that hold the bundled weights' AP
RELEASED = {
    "yunet_n": "0.909 [.879, .931] | 0.888 [.854, .914] | 0.799 [.745, .842]",
    "yunet_s": "0.901 [.870, .923] | 0.875 [.838, .903] | 0.751 [.686, .801]",
}
SIZES = {"yunet_n": "75,856 parameters, 149 MFLOPs at 320×320", "yunet_s": "54,608 parameters, 96 MFLOPs at 320×320"}


def card(network: str, info: dict[str, Any], hashes: dict[str, str], cells: str) -> str:
    """The model card of bundled weights. cells: its AP with intervals, as they stand in a table."""
    hours = info["processor_s"] / 3600
    rows = "\n".join(f"| {network}{suffix} | {value} |" for suffix, value in hashes.items())
    return f"""# {network}: weights that come with facetrain

`{network}.onnx` (batch norm folded; what `facetrain detect` and `FaceDetector` load, without torch) and `{network}.pt`
(the same network for fine-tuning and exports).

| file | SHA-256 |
| --- | --- |
{rows}

**What it is.** {SIZES[network]}, boxes and five landmarks. A training of this
project's own on CPUs, taught by the {info["taught_by"]} (its file's SHA-256 stands in `{network}.pt`); not the weights
that the YuNet authors released.

**What it saw.** 2,971 of WIDER FACE's 12,880 training images, from 20 of its 61 kinds of scene, made smaller (longest
side 768 or 1,024 pixels), without their labels: {info["crops"]:,} crops in {hours:.1f} processor hours by
`tests/benchmarks/long_run.py`, the last stage "{info["stage"]}", seed {info["seed"]}; averaged weights.

**How good it is.** AP on 400 validation images of WIDER FACE (`facetrain eval --widerface --present-only`, drawn
evenly from all 61 kinds of scene; original size, score > 0.02, NMS 0.45). These weights were chosen on these images.

| | easy | medium | hard |
| --- | --- | --- | --- |
| these weights | {cells} |
| released by the YuNet authors (640 epochs, all images) | {RELEASED[network]} |

In brackets: 95 % intervals, of what other images of the same kinds would have given.

Where every face matters, train longer or use the released weights: facetrain reads them. Errors have not been measured
by age, sex or skin colour.

**Terms.** WIDER FACE allows research; see examples/licences.md before using these weights in a product.
"""


def with_row(page: str, network: str, cells: str) -> str:
    """A page with a network's AP in the tables of detectors and in that of the bundled weights, where it may be new."""
    bundled = f"| bundled `{network}` | {cells} |"
    page = re.sub(rf"(?m)^(\| {network} \|.*?)(?:\| 0?\.\d+(?: \[[^|]*\])? ){{3}}\|$", rf"\1| {cells} |", page)
    page, known = re.subn(rf"(?m)^\| bundled `{network}` \|.*$", bundled, page)
    return page if known else re.sub(r"(?m)^(\| released YuNet-n, )", rf"{bundled}\n\1", page, count=1)


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
    actions = ["start", "status", "pause", "go", "stop", "install", "work", "pack"]
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
        install()
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
