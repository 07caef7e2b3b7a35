"""What an image costs by examples/detect_ray.py, beside the plain command on the same cores.

    python tests/benchmarks/ray_cost.py --images DIR [--size original] [--rounds 1] [--times 1]

Both sides start anew, in turns. What starting takes, once for each job however many images there are, is told by a call
on one image. --times: the images so many times, by links, so that it weighs less. Seconds on the clock depend on what
else runs; seconds of processors are those of all processes that a call leads to, as Linux lists them 10 times a second.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]


TICKS = os.sysconf("SC_CLK_TCK")


def look(used: dict[int, float]) -> None:
    """Add what the processes have used that come from those known. Ray's do not give it to their parents."""
    for path in sorted(Path("/proc").glob("[0-9]*/stat"), key=lambda path: int(path.parent.name)):
        try:
            _, parent, *rest = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(path.parent.name) in used or int(parent) in used:
            used[int(path.parent.name)] = (int(rest[9]) + int(rest[10])) / TICKS


def seconds_of(command: list[str], folder: str) -> tuple[float, float]:
    """Of one call, all of it: by the clock, and of processors."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    with Path(folder, "said.txt").open("w") as said, Path(folder, "out.txt").open("w") as out:
        begun = time.perf_counter()
        process = subprocess.Popen([sys.executable, *command], env=environment, cwd=folder, stdout=out, stderr=said)
        used = {process.pid: 0.0}
        while process.poll() is None:
            look(used)
            time.sleep(0.1)
        taken = time.perf_counter() - begun
    assert process.returncode == 0, Path(folder, "said.txt").read_text()
    return taken, sum(used.values())


def by_command(images: Path, size: str) -> tuple[float, float, int]:
    """Seconds, by the clock and of processors, and faces of `facetrain detect`."""
    with tempfile.TemporaryDirectory() as folder:
        taken = seconds_of(["-m", "facetrain", "detect", str(images), "--size", size, "--json"], folder)
        document = json.loads(Path(folder, "out.txt").read_text())
        return *taken, sum(len(image["faces"]) for image in document["images"])


def by_ray(images: Path, size: str) -> tuple[float, float, int]:
    """The same of the example."""
    import pyarrow.parquet as pq

    with tempfile.TemporaryDirectory() as folder:
        script = str(ROOT / "examples/detect_ray.py")
        taken = seconds_of([script, str(images), "--size", size, "--output", f"{folder}/faces"], folder)
        scores = pq.read_table(f"{folder}/faces", columns=["scores"])["scores"].to_pylist()
        return *taken, sum(len(each or ()) for each in scores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--size", default="original")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--times", type=int, default=1)
    given = parser.parse_args()
    paths = sorted(path for path in given.images.rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    with tempfile.TemporaryDirectory() as name:
        many, one = Path(name, "many"), Path(name, "one")
        for turn in range(given.times):
            (many / str(turn)).mkdir(parents=True)
            for number, path in enumerate(paths):
                (many / str(turn) / f"{number:06}{path.suffix}").symlink_to(path.resolve())
        one.mkdir()
        (one / paths[0].name).symlink_to(paths[0].resolve())
        count = len(paths) * given.times
        load = f"load {os.getloadavg()[0]:.1f}"
        print(f"{count:,} images, --size {given.size}, {len(os.sched_getaffinity(0))} cores, {load}", flush=True)
        ways = {"facetrain detect --json": by_command, "detect_ray.py": by_ray}
        runs = [
            {way: (call(many, given.size), call(one, given.size)) for way, call in ways.items()}
            for _ in range(given.rounds)
        ]
        print("| | faces | all, s | one image, s | processors, s | one image, s | processors, ms an image |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        for way in ways:
            clock, used = ([median(run[way][call][kind] for run in runs) for call in (0, 1)] for kind in (0, 1))
            cells = " | ".join(f"{seconds:.1f}" for seconds in (*clock, *used))
            print(f"| {way} | {runs[0][way][0][2]:,} | {cells} | {1000 * (used[0] - used[1]) / count:.1f} |")


if __name__ == "__main__":
    main()
