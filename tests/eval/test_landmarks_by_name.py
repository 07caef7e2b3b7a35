"""A detector's points are measured against those of the labels that are the same, by name, whatever their number."""

import json
from pathlib import Path

import numpy as np
import pytest

from facetrain.cli.app import run_cli
from facetrain.core.faces import Faces
from facetrain.core.images import write_image
from facetrain.data.landmark_names import FIVE, in_order_of
from facetrain.data.sample_set.make import write_sample
from facetrain.detect import detector
from facetrain.detect.detector import FaceDetector
from facetrain.eval.difference import brackets
from facetrain.eval.evaluate import Source, evaluate_model

BOX = (20.0, 20.0, 60.0, 60.0)


@pytest.mark.parametrize(
    ("wanted", "there", "columns"),
    [
        (FIVE, FIVE, [0, 1, 2, 3, 4]),
        (FIVE, ("a", "b", "c", "d", "e"), [0, 1, 2, 3, 4]),  # labelv2 does not name its points
        (FIVE, ("nose", "left_eye"), [-1, 1, 0, -1, -1]),
        (FIVE, ("x", "y"), None),
        (FIVE, ("right_eye", "left_eye", "nose", "mouth", "right_ear", "left_ear"), [0, 1, 2, -1, -1]),
        (FIVE, (), None),
        (("chin", "nose_tip"), FIVE, [-1, 2]),
        (("chin", "brow"), FIVE, None),
        (tuple(f"point_{i}" for i in range(7)), tuple("abcdefg"), list(range(7))),
        (tuple(f"point_{i}" for i in range(7)), FIVE, None),  # nobody knows which is which
        (FIVE, tuple(f"point_{i}" for i in range(68)), None),
        ((), FIVE, []),
    ],
)
def test_which_point_is_which(wanted: tuple[str, ...], there: tuple[str, ...], columns: list[int] | None) -> None:
    assert in_order_of(wanted, there) == columns


class Fake:
    """Finds one face everywhere; each point is off by ten times its number of pixels, to the right."""

    def __init__(self, names: tuple[str, ...], truth: dict[str, tuple[float, float]]) -> None:
        self.landmark_names = names
        self.points = np.array([truth.get(name, (0, 0)) for name in names], np.float32).reshape(-1, 2)
        self.points[:, 0] += np.arange(len(names)) * 10

    def detect_batch(self, images: list) -> list[Faces]:
        return [Faces(np.float32([BOX]), np.float32([0.9]), self.points[None]) for _ in images]


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Measure a fake detector with these names on labelv2 labels with `count` points a face."""

    def run(names: tuple[str, ...], count: int):
        truth = {name: (25.0 + 5 * number, 30.0) for number, name in enumerate((*FIVE, "chin", "crown"))}
        points = " ".join(f"{x:g} {y:g} 1" for x, y in list(truth.values())[:count])
        write_image(tmp_path / "val/images/a.png", np.zeros((80, 80, 3), np.uint8))
        (tmp_path / "val/labelv2.txt").write_text(f"# a.png 80 80\n20 20 60 60 {points}\n0 0 9 9\n")
        original = FaceDetector.__init__

        def init(self: FaceDetector, *arguments: object, **settings: object) -> None:
            original(self, *arguments, **settings)  # type: ignore[arg-type]
            self.detector, self.landmark_names = Fake(names, truth), names

        monkeypatch.setattr(detector.FaceDetector, "__init__", init)
        return evaluate_model(Source("yunet_n"), tmp_path, draws=0).details.landmark_error

    return run


def test_seven_points_have_an_error_each(measured) -> None:
    error = measured((*FIVE, "chin", "crown"), 7)
    assert error.names == [f"point_{i}" for i in range(7)]
    np.testing.assert_allclose(error.per_point, np.arange(7) * 10 / 40, atol=1e-6)
    assert error.mean == pytest.approx(30 / 40)
    assert error.faces == 1


def test_a_part_of_the_points_is_measured(measured) -> None:
    error = measured(("nose", "left_eye"), 5)
    assert error.names == list(FIVE)
    assert error.per_point == [None, pytest.approx(0.25), pytest.approx(0.0), None, None]


def test_the_error_of_each_point_has_its_interval_and_stays_on_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sample(tmp_path, train=1, val=40)
    arguments = ["eval", "--data", str(tmp_path), "--weights", "yunet_n"]
    assert run_cli([*arguments, "--json"]) == 0
    details = json.loads(capsys.readouterr().out)["details"]
    assert run_cli(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\N{NO-BREAK SPACE}" not in "".join(lines)
    error = details["landmark_error"]
    for number, (name, value) in enumerate(zip(error["names"], error["per_point"], strict=True)):
        span = details["intervals"][f"landmark_error.per_point.{number}"]
        assert span["low"] < value < span["high"]
        shown = f"{name} {value:.4f} {brackets(span['low'], span['high'], 4)}"
        assert any(shown in line for line in lines)


@pytest.mark.parametrize(("names", "count"), [((), 5), (FIVE, 0), (tuple(f"p{i}" for i in range(68)), 5)])
def test_other_points_have_no_error(measured, names: tuple[str, ...], count: int) -> None:
    assert measured(names, count) is None


def test_text_and_json_name_the_points(measured, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured(FIVE, 5)
    capsys.readouterr()
    assert run_cli(["eval", "--data", str(tmp_path), "--report", str(tmp_path / "report"), "--draws", "0"]) == 0
    out = capsys.readouterr().out
    assert "of each point: right_eye 0.0000, left_eye 0.2500, nose 0.5000" in " ".join(out.split())
    assert "right eye 0.0%, left eye 25.0%" in " ".join((tmp_path / "report/index.html").read_text().split())
    assert run_cli(["eval", "--data", str(tmp_path), "--draws", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["details"]["landmark_error"]
    assert found["names"] == list(FIVE)
