"""examples/detect_ray.py on a cluster of this machine: the faces of the plain command, and what goes wrong as rows."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facetrain.cli.app import run_cli
from facetrain.core.images import write_image
from facetrain.data.sample_set.make import draw_image

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/detect_ray.py"
CORES = 2

# Two images that end whatever process looks at them, and a cluster of few cores.
DYING = f"""
import os
from functools import partial
import detect_ray
detect_ray.ray.init = partial(detect_ray.ray.init, num_cpus={CORES})
class Dying(detect_ray.Look):
    def row(self, path):
        if "deadly" in path:
            os._exit(9)
        return super().row(path)
detect_ray.Look = Dying
detect_ray.main()
"""


def start(*arguments: object, code: str | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    program = [str(EXAMPLE)] if code is None else ["-c", code]
    # nothing is told to anyone, and nothing is left in the home folder
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    paths = {"PYTHONPATH": f"{ROOT}{os.pathsep}{EXAMPLE.parent}"}
    command = [sys.executable, *program, *map(str, arguments)]
    environment = os.environ | quiet | paths | more
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=400, check=False)


def needs_ray() -> None:
    for module in ("ray", "pyarrow"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install -e '.[dev]'")


def rows_of(output: Path) -> dict[str, dict[str, Any]]:
    import pyarrow.parquet as pq

    rows = pq.read_table(output).to_pylist()
    found = {row["path"]: row for row in rows}
    assert len(found) == len(rows), "an image has two rows"
    return found


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty: 27 with drawn faces, of which one is in a folder below, a broken one, and two whose names are deadly."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(27):
        write_image(folder / ("below" if number == 9 else "") / f"{number:02}.jpg", draw_image(0, 0, number)[0])
    (folder / "broken.jpg").write_bytes((folder / "00.jpg").read_bytes()[:300])
    for name in ("05-deadly.jpg", "06-deadly.jpg"):
        (folder / name).write_bytes((folder / "00.jpg").read_bytes())
    return folder


@pytest.fixture(scope="module")
def by_command(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    lines = tmp_path_factory.mktemp("command") / "faces.jsonl"
    assert run_cli(["detect", str(images), "--size", "original", "--save", f"jsonl={lines}"]) == 1
    return {line["path"]: line for line in map(json.loads, lines.read_text().splitlines()) if "faces" in line}


@pytest.fixture(scope="module")
def job(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A job in which processes die, on blocks of eight images."""
    needs_ray()
    output = tmp_path_factory.mktemp("ray") / "faces"
    done = start(images, "--output", output, "--block", 8, code=DYING)
    assert done.returncode == 0, done.stderr[-4000:]
    return output, done


def test_faces_are_those_of_the_command(
    job: tuple[Path, subprocess.CompletedProcess[str]], by_command: dict[str, Any]
) -> None:
    rows = rows_of(job[0])
    assert len(rows) == 30
    compared = 0
    for path, line in by_command.items():
        if "deadly" not in path:
            row = rows[path]
            assert (row["width"], row["height"], row["error"]) == (line["width"], line["height"], None)
            assert row["scores"] == pytest.approx([face["score"] for face in line["faces"]], abs=1e-6)
            for face, box, points in zip(line["faces"], row["boxes"], row["landmarks"], strict=True):
                assert box == pytest.approx(face["box"], abs=1e-3)
                assert np.array(points) == pytest.approx(np.array(face["landmarks"]), abs=1e-3)
            compared += len(line["faces"])
    assert compared > 50


def test_what_goes_wrong_is_told_in_the_rows_of_its_images(
    job: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    output, done = job
    errors = {Path(path).name: row["error"] for path, row in rows_of(output).items() if row["error"] is not None}
    assert errors.keys() == {"broken.jpg", "05-deadly.jpg", "06-deadly.jpg"}
    assert "broken.jpg" in errors["broken.jpg"]
    assert errors["05-deadly.jpg"] == errors["06-deadly.jpg"] == "its process died"
    assert "30 images, 3 with an error" in done.stdout
    assert [path.name for path in output.iterdir() if path.suffix != ".parquet"] == ["_detector.txt"]


def test_a_job_goes_on_where_it_was_stopped(
    job: tuple[Path, subprocess.CompletedProcess[str]], images: Path, tmp_path: Path
) -> None:
    """A list with one more image, beside a file that was cut off; other settings are refused."""
    output, _ = job
    before = {path: path.read_bytes() for path in output.glob("*.parquet")}
    write_image(tmp_path / "new.jpg", draw_image(0, 0, 40)[0])
    (output / "cut.parquet").write_bytes(next(iter(before.values()))[:-40])
    (tmp_path / "list.txt").write_text("\n".join([*map(str, sorted(images.glob("0*.jpg"))), str(tmp_path / "new.jpg")]))
    done = start(f"@{tmp_path / 'list.txt'}", "--output", output, code=DYING)
    assert done.returncode == 0, done.stderr[-4000:]
    rows = rows_of(output)
    assert len(rows) == 31
    assert rows[str(tmp_path / "new.jpg")]["scores"]
    assert not (output / "cut.parquet").exists()
    assert {path: path.read_bytes() for path in before} == before

    refused = start(images, "--output", output, "--size", "640")
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "size='original'" in refused.stderr


def test_ray_that_is_missing_is_one_line(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['pyarrow'] = None; import detect_ray"
    done = start(code=hidden)
    assert (done.returncode, done.stderr) == (1, "error: Ray Data is not installed: pip install 'ray[data]'\n")


@pytest.mark.parametrize("source", ["@absent.txt", "absent", "@empty.txt"])
def test_nothing_to_look_at_is_one_line(source: str, tmp_path: Path) -> None:
    needs_ray()
    (tmp_path / "empty.txt").touch()
    place = f"@{tmp_path / source[1:]}" if source[0] == "@" else str(tmp_path / source)
    done = start(place, "--output", tmp_path / "faces")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "faces").exists()
