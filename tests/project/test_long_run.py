"""The long trainings' script: what it starts, what it keeps, and that what it makes names no place."""

import json
import re
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from facetrain.config.load import config_to_yaml, load_config
from facetrain.config.schema import Config, ModelConfig
from facetrain.core.faces import Faces, LabelledImage
from facetrain.core.run_dir import RunDir
from facetrain.detect import bundled
from facetrain.detect.detector import FaceDetector
from facetrain.detect.face_range import FaceRange
from facetrain.detect.operating_points import OperatingPoints, OperatingScore
from facetrain.eval.evaluate import Evaluation
from facetrain.eval.labelled import labelled_benchmark
from facetrain.model.weights import load_checkpoint, save_checkpoint
from facetrain.model.yunet import build
from facetrain.train.optim.optimizers import make_optimizer
from facetrain.train.run.checkpoint import TrainState, save_state

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "tests" / "benchmarks"
PLACE = re.compile(rb"/(home|root|tmp|Users|var|mnt)/")  # what an absolute path begins with
EXTRA = tuple(f"reference data/extra/train/images/{name}" for name in ("with_terms", "youtube"))
AP = {"easy": 0.845, "medium": 0.8261, "hard": 0.7299}


@pytest.fixture
def long_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script, keeping and installing in folders of the test's own."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    sys.modules.pop("long_run", None)
    import long_run

    monkeypatch.setattr(long_run, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(long_run, "RECIPES", tmp_path / "recipes.jsonl")
    monkeypatch.setattr(long_run, "ROOT", tmp_path)
    monkeypatch.setattr(bundled, "FOLDER", tmp_path / "weights")
    monkeypatch.setenv("FACETRAIN_REFERENCE", str(tmp_path / "reference data"))
    monkeypatch.setenv("FACETRAIN_CACHE", str(tmp_path / "cache"))  # where a further set of links is made once
    for name in ("kept", "weights", "reference data/reference/yunet", *EXTRA):
        (tmp_path / name).mkdir(parents=True)
    labels = "".join(f"# {Path(name).name}/1.jpg 640 480\n0 0 32 32\n" for name in EXTRA)
    (tmp_path / "reference data" / "extra" / "train" / "labelv2.txt").write_text(labels)
    for name in EXTRA:
        (tmp_path / name / "1.jpg").touch()
    (tmp_path / "reference data" / "reference" / "yunet" / "yunet_n.pth").write_bytes(b"the teacher's file")
    module: ModuleType = long_run
    return module


def checkpoint(path: Path, network: str = "yunet_n") -> Path:
    places = ["data.root=/a/place", "data.roots=[{root: /a/place}, {root: /a/place/b, share: 0.3}]"]
    config = load_config(network, ["train.teacher=/a/place/w.pth", *places], "distil")
    save_checkpoint(path, build(config.model, 0).state_dict(), config, {})
    return path


def drawn_numbers() -> Any:
    """What `long_run_card.measure` gives, of detectors that find most of what is there."""
    from long_run_card import Numbers

    rng = np.random.default_rng(0)
    images, found = [], []
    for number in range(30):
        boxes = np.array([[50 * k, 0, 50 * k + size, size] for k, size in enumerate((10, 20, 40))], np.float32)
        points = np.ones((3, 5, 3), np.float32)
        images.append(LabelledImage(Path(f"{number}.jpg"), f"{number}.jpg", None, boxes, points, np.zeros(3, bool)))
        every = np.concatenate([boxes, boxes + 200])
        scores = np.sort(rng.uniform(0.3, 1, 6))[::-1].astype(np.float32)
        found.append(Faces(every[rng.permutation(6)], scores, np.ones((6, 5, 2), np.float32)))
    benchmark = labelled_benchmark(images)
    counted = dict.fromkeys(("easy", "medium", "hard"), benchmark.counted["all"])
    benchmark = replace(benchmark, name="widerface", counted=counted)
    resampling = benchmark.resampling(draws=100)

    def evaluation(least: float) -> Evaluation:
        scores = benchmark.score([faces.at_least(least) for faces in found])
        details = scores.details(resampling=resampling)
        return Evaluation(scores, {}, {}, resampling, scores.intervals(resampling), details)  # type: ignore[typeddict-item]

    points = OperatingPoints(30, "widerface", (OperatingScore(0.95, 0.61, 0.5, 0.7, 0.4),))
    views = {"grey": 0.123, "half": 0.2}
    own, released, int8 = evaluation(0.3), evaluation(0.5), evaluation(0.31)
    landmarks = own.details, released.details
    return Numbers(own, released, int8, points, FaceRange(9, 300), landmarks, views, (1.2, 3.4))


def test_a_stage_is_an_ordinary_training(long_run: ModuleType, tmp_path: Path) -> None:
    import long_run_plan

    place = long_run.Place(tmp_path / "work", "yunet_n")
    line = long_run.command(Path("python"), place, 0, 90.0)
    assert line[:7] == ["nice", "-n", "19", "python", "-m", "facetrain", "train"]
    assert "--weights" not in line  # nothing is bundled or kept here
    assert line[line.index("--for") + 1] == "90.0m"
    settings = [line[i + 1] for i, word in enumerate(line) if word == "--set"]
    load_config("yunet_n", [*settings, "train.teacher=t"], "distil")  # every stage's settings are settings
    for network, stages in long_run_plan.PLAN.items():
        for stage in stages:
            load_config(network, [*(f"{k}={v}" for k, v in stage.settings.items()), "train.teacher=t"], "distil")
    wide = long_run_plan.PLAN["yunet_n"].index(long_run_plan.WIDE)
    line = long_run.command(Path("python"), place, wide, 90.0)
    named = [Path(line[i + 1]).name for i, word in enumerate(line) if word == "--data"]
    assert named == ["widerface", "extra:0.3"]
    (place.run(0)).mkdir(parents=True)
    (place.run(0) / "last.pt").touch()
    again = long_run.command(Path("python"), place, 0, 90.0)
    assert "--resume" in again
    assert "--for" not in again
    checkpoint(place.run(0) / "best.pt")
    following = long_run.command(Path("python"), place, 1, None)
    assert following[following.index("--weights") + 1] == str(place.run(0) / "best.pt")


def test_a_later_machine_goes_on_from_what_was_kept(long_run: ModuleType, tmp_path: Path) -> None:
    info = {"ap": AP, "stages_done": 2, "settings": {"teacher": "reference/yunet/yunet_n.pth"}}
    info |= {"processor_s": 3600.0, "crops": 50_000}
    long_run.keep(checkpoint(tmp_path / "best.pt"), "yunet_n", info)
    place = long_run.Place(tmp_path / "work", "yunet_n")
    assert place.state() == {"stage": 2, "processor_s": 3600.0, "crops": 50_000, "pid": None}
    line = long_run.command(Path("python"), place, 2, None)
    assert line[line.index("--weights") + 1] == str(tmp_path / "kept" / "yunet_n.pt")


def test_what_a_card_made_is_measured_and_kept_where_it_is_better(
    long_run: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(long_run, "measure", lambda weights: AP)
    config = load_config("yunet_n", ["train.teacher=/a/place/w.pth"], "distil")
    save_checkpoint(tmp_path / "yunet_n.pt", build(config.model, 0).state_dict(), config, {"step": 500})
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            long_run.main(["status", "--gpu", "--output", str(tmp_path)])
        assert ended.value.code == 0
    first, _, second, _ = capsys.readouterr().out.splitlines()
    assert first.endswith(": kept") and second.endswith(": not kept")
    kept = long_run.kept_info("yunet_n")
    assert (kept["ap"], kept["crops"], kept["stages_done"]) == (AP, 500 * config.train.batch, 0)
    assert len((tmp_path / "recipes.jsonl").read_text().splitlines()) == 2


def test_what_is_better_becomes_bundled_without_any_path(
    long_run: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info: dict[str, Any] = {
        "network": "yunet_n", "stage": "teacher alone", "seed": 0, "processor_s": 5400.0, "crops": 250_000, "ap": AP,
        "commit": "0" * 40, "settings": {
            "teacher": "reference/yunet/yunet_n.pth", "data": "widerface", "more": ["extra_with_terms:0.3"],
        },
    }  # fmt: skip
    long_run.keep(checkpoint(tmp_path / "best.pt"), "yunet_n", info)
    row = "| yunet_n | yunet | 320x320 | 73,840 | 3.38 (3.46) ± 1% | 131 | {} | {} | {} |\n"
    sizes = "| yunet_n | yunet | 320x320 | 73,840 | 1.4 | 135.6 | 271 | 312 |\n"
    small = "| `yunet_n` as int8 | {} | {} | {} |\n"
    other = "| yunet_n_dynamic.onnx | yunet | 0.909 | 0.888 | 0.799 |\n"
    released = "| released YuNet-n, 640 epochs | 0.909 | 0.888 | 0.799 |\n"
    table = "| yunet_n | comes along | 73,840 | {} | {} | {} |\n"
    (tmp_path / "README.md").write_text("before\n" + table.format("0.794", "0.750 [.7, .8]", "0.618"))
    (tmp_path / "examples").mkdir()
    page = tmp_path / "examples/compare.md"
    page.write_text(sizes + row.format("0.794", "0.750", "0.618") + other + released + small.format(1, 2, 3))
    monkeypatch.setattr(long_run, "measure", lambda path: pytest.fail("nothing was bundled"))
    import long_run_card

    numbers = drawn_numbers()
    monkeypatch.setattr(long_run_card, "measure", lambda path, network, shared: numbers)
    cells = long_run_card.cells(numbers.own)
    long_run.install()
    assert (tmp_path / "README.md").read_text() == "before\n" + table.format(*cells.split(" | "))
    compared = page.read_text()
    added = f"| bundled `yunet_n` | {cells} |\n"
    int8 = small.format(*long_run_card.cells(numbers.int8).split(" | "))
    assert compared == sizes + row.format(*cells.split(" | ")) + other + added + released + int8
    again = long_run.with_row(compared, "yunet_n", "0.900 | 0.800 | 0.700")
    assert again.count("| bundled `yunet_n` | 0.900 | 0.800 | 0.700 |") == 1
    assert cells not in again
    weights = tmp_path / "weights"
    for name in ("yunet_n.pt", "yunet_n.onnx", "yunet_n.md"):
        content = (weights / name).read_bytes()
        assert b"/a/place" not in content
        assert str(tmp_path).encode() not in content
    loaded = load_checkpoint(weights / "yunet_n.pt")
    assert loaded.config is not None
    assert (loaded.config.train.teacher, loaded.config.train.plan, loaded.config.data.root) == (
        None, None, Config().data.root,
    )  # fmt: skip
    assert len(loaded.info["teacher_sha256"]) == 64
    assert b".pth" not in (weights / "yunet_n.pt").read_bytes()
    assert torch.equal(
        loaded.state["backbone.stem.conv.bias"], build(loaded.model, 0).state_dict()["backbone.stem.conv.bias"]
    )
    for name in ("yunet_n.onnx", "yunet_n.pt"):
        detector = FaceDetector(weights / name)
        assert (detector.face_range, detector.operating_points) == (numbers.found, numbers.points)
    card = (weights / "yunet_n.md").read_text(encoding="utf-8")
    assert f"| these weights | {cells} |" in card
    assert "250,000 crops in 1.5 processor hours" in " ".join(card.split())
    assert bundled.bundled_ap("yunet_n").keys() == {"easy", "medium", "hard"}
    assert max(map(len, card.splitlines())) <= 160
    for part in (
        "| difference | +.",
        "| 0.95 | 0.6",
        "of 9 to 300 pixels",
        "0.123 without colour",
        "and 5,019 others",
        "| recall, all 90 |",
        "faces of 256 px and more",
        "**Landmarks** of these weights are off by 0.",
    ):
        assert part in " ".join(card.split()), part
    monkeypatch.setattr(long_run, "measure", lambda path: {"easy": 0.9, "medium": 0.9, "hard": 0.8})
    assert not (tmp_path / "kept" / "yunet_n.pt").exists()
    long_run.keep(tmp_path / "best.pt", "yunet_n", info)
    before = (weights / "yunet_n.pt").read_bytes()
    long_run.install()  # the bundled ones are better now
    assert (weights / "yunet_n.pt").read_bytes() == before


def test_the_recorded_lines_hold_no_place() -> None:
    for text in (BENCHMARKS / "recipes.jsonl").read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        assert line["kind"] in ("recipe", "long run", "groups", "soup")
        assert set(line["ap"]) == {"easy", "medium", "hard"}
        assert not {"path", "host", "machine"} & set(line)
        assert not PLACE.search(text.encode())
        assert '"/' not in text


def test_kept_weights_hold_no_place() -> None:
    for path in (BENCHMARKS / "long_run").glob("*.pt"):
        loaded = load_checkpoint(path)
        assert isinstance(loaded.model, ModelConfig)
        assert loaded.config is not None
        assert loaded.config.train.teacher is None
        assert loaded.config.data.root == Config().data.root
        assert not PLACE.search(path.read_bytes())


def test_hours_add_up_over_machines_and_hints_begin_anew(long_run: ModuleType, tmp_path: Path) -> None:
    import long_run_plot

    def line(stage: str, hours: float, ap: float) -> dict[str, Any]:
        known = {"easy": ap, "medium": ap, "hard": ap}
        return {"kind": "long run", "network": "yunet_n", "stage": stage, "processor_s": 3600 * hours, "ap": known}

    lines = [line("a", 1, 0.5), line("a", 2, 0.6), line("b", 0.5, 0.7), line("teacher and its maps, a", 0.25, 0.8)]
    found = long_run_plot.curves([*lines, {"kind": "recipe"}])
    assert [hours for hours, _ in found["yunet_n", False]] == [1, 2, 2.5]
    assert [(hours, ap["easy"]) for hours, ap in found["yunet_n", True]] == [(0.25, 0.8)]
    (tmp_path / ".github").mkdir()
    (tmp_path / "recipes.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    long_run.main(["plot"])
    assert (tmp_path / ".github" / "ap_over_hours.png").read_bytes().startswith(b"\x89PNG")


def test_a_stage_that_begins_anew_starts_from_drawn_weights(long_run: ModuleType, tmp_path: Path) -> None:
    import long_run_plan

    stages = long_run_plan.PLAN["yunet_s"]
    first = stages.index(long_run_plan.HINTS["yunet_s"])
    place = long_run.Place(tmp_path / "work", "yunet_s")
    for number in (first - 1, first):
        place.run(number).mkdir(parents=True)
        checkpoint(place.run(number) / "best.pt", "yunet_s")
    line = long_run.command(Path("python"), place, first, None)
    assert "--weights" not in line
    assert "train.teacher_maps=40" in line
    assert line[line.index("--teacher") + 1].endswith("reference/yunet/yunet_s.pth")
    following = long_run.command(Path("python"), place, first + 1, None)
    assert following[following.index("--weights") + 1] == str(place.run(first) / "best.pt")


def test_sources_without_terms_take_no_part(long_run: ModuleType, tmp_path: Path) -> None:
    import long_run_plan

    with ThreadPoolExecutor(4) as threads:  # made once, by whoever is first
        found = set(threads.map(long_run_plan.further, ["extra_with_terms:0.3"] * 4))
    assert found == {Path(f"{tmp_path}/cache/facetrain/extra_with_terms:0.3")}
    assert [path.name for path in (tmp_path / "cache" / "facetrain").iterdir()] == ["extra_with_terms"]
    part = tmp_path / "cache" / "facetrain" / "extra_with_terms" / "train"
    assert [path.name for path in (part / "images").iterdir()] == ["with_terms"]
    assert (part / "labelv2.txt").read_text() == "# with_terms/1.jpg 640 480\n0 0 32 32\n"


def test_a_line_says_how_its_stage_is_repeated(
    long_run: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import long_run_plan

    place = long_run.Place(tmp_path / "work", "yunet_n")
    first = long_run_plan.PLAN["yunet_n"].index(long_run_plan.HINTS["yunet_n"])
    run = place.run(first)
    config = load_config("yunet_n", ["train.plan=[[1, 20], [9, 31]]", "train.teacher=t"], "distil")
    run.mkdir(parents=True)
    save_checkpoint(run / "best.pt", build(config.model, 0).state_dict(), config, {})
    (run / "config.yaml").write_text(config_to_yaml(config))
    state = TrainState(step=31, images=100)
    model = build(config.model, 0)
    save_state(RunDir(run), config, state, model, None, make_optimizer(model, config.train))
    place.write(stage=first + 1, commit="f" * 40)
    monkeypatch.setattr(long_run, "measure", lambda weights: AP)
    long_run.main(["status", "yunet_n", "--work", str(tmp_path / "work")])
    line = json.loads((tmp_path / "recipes.jsonl").read_text())
    assert (line["start"], line["plan"]) == (None, [[1, 20], [9, 31]])
    capsys.readouterr()
    long_run.main(["repeat", "1"])
    about, command = capsys.readouterr().out.splitlines()
    assert about == f"# at commit {'f' * 40}, from drawn weights"
    words = shlex.split(command)
    settings = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    again = load_config("yunet_n", [*settings, "train.teacher=t"], "distil")
    assert again.train.plan == ((1, 20), (9, 31))
    assert again.train.teacher_maps == 40
    for wrong in ("0", "2"):
        with pytest.raises(SystemExit, match="lines 1 to 1"):
            long_run.main(["repeat", wrong])
