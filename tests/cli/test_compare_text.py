"""The text of a comparison stays within 80 columns, whatever files are called, and breaks no word."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from facetrain.cli.text.compare import comparison_markdown, comparison_text
from facetrain.cli.text.fit import WIDTH, fitted, folded, shortened, wrapped
from facetrain.compare.models import Cost
from facetrain.compare.pairs import Pair
from facetrain.compare.results import Comparison, Row, Speed
from facetrain.compare.timing import Times
from facetrain.core.errors import DataError
from facetrain.eval.difference import Difference
from facetrain.eval.intervals import Estimate

NAMES = [
    "yunet_n",
    "runs/a_long_name_of_a_run_of_last_week/best.pt",
    "retinaface_mobile025_cat_640.onnx",
    "a_detector_of_faces_with_a_name_that_says_everything_there_is_to_say_640x640.onnx",
    "facetrain_decoded_by_onnxruntime_with_suppression.onnx",
]
SUBSETS = ("easy", "medium", "hard")


def row(name: str, *, large: bool) -> Row:
    cost = Cost((1024, 1024), 12_345_678 if large else 75_856, 12_345_600_000 if large else 86_100_000, 93)
    times = Times(1234.56, 2345.67, 0.29, 60)
    accuracy = SimpleNamespace(ap=dict.fromkeys(SUBSETS, 0.93412), cached=True, detections=1, size="original")
    intervals = {
        subset: Estimate(0.93412, 0.91234, 0.95678, "percentile", np.zeros(0), np.zeros(0)) for subset in SUBSETS
    }
    speed = Speed(times, times)
    return Row(
        name, f"/models/{name}", Path(name), "checkpoint" if large else "onnx", "facetrain_decoded", 12_345_678,
        static_shape=True, cost=cost, one_core=speed, all_cores=speed, accuracy=accuracy, intervals=intervals,
    )  # fmt: skip


@pytest.fixture
def comparison() -> Comparison:
    rows = [row(name, large=number % 2 == 1) for number, name in enumerate(NAMES)]
    rows.append(Row("absent.onnx", "absent.onnx", error=DataError("absent.onnx: no such file")))
    versions = {"python": "3.11.7", "onnxruntime": "1.32.0", "numpy": "2.4.6", "opencv": "5.0.0", "torch": "2.14.1"}
    difference = Difference(-0.01234, -0.0345, 0.0123, 0.4, 0.8, 3226, 2000, 0, "percentile", together=30)
    return Comparison(
        rows,
        {"cpu": "AMD EPYC 7763 64-Core Processor", "cores": 64, "threads": 64, "versions": versions},
        {"size": [1024, 1024], "rounds": 6, "repeats": 10, "score": 0.5},
        {
            **{"images": 3226, "size": "original", "score": 0.02, "nms": 0.45, "max_candidates": 5000},
            **{"draws": 2000, "present_only": True},
        },
        None,
        False,
        [Pair(0, 1, dict.fromkeys(SUBSETS, difference))],
    )


def test_everything_fits_80_columns(comparison):
    text = comparison_text(comparison)
    paths = [f"{number} is /models/{name}" for number, name in enumerate(NAMES, 1) if number > 1]
    lines = text.splitlines()
    assert [line for line in lines if line.startswith(tuple(f"{number} is " for number in range(9)))] == paths
    assert [line for line in lines if len(line) > WIDTH and line not in paths] == []
    for words in (
        "M mult-adds",
        "facetrain_decoded",
        "12,345,678",
        "1024x1024*",
        "[.912, .957]",
        "cannot be told apart",
    ):
        assert words in text
    for line in text.split("\n\n")[3].splitlines()[2:]:
        assert line.split()[0] in "123456"


def test_markdown_has_one_wide_table_with_whole_names(comparison):
    table = comparison_markdown(comparison).splitlines()
    assert table[0].startswith(
        "| model | family | input | parameters | ratio | M mult-adds | MFLOPs | published | KB |"
    )
    assert all(any(line.startswith(f"| {name} |") for line in table) for name in NAMES)


def test_short_names_stay_whole_and_need_no_path(comparison):
    few = Comparison(
        [row("yunet_n", large=False), row("yunet_s", large=False)],
        comparison.machine, comparison.timing, None, None, interrupted=True,
    )  # fmt: skip
    text = comparison_text(few)
    assert "1 yunet_n " in text
    assert " is /models/" not in text
    assert text.endswith("interrupted: what is missing was not finished")


def test_names_lose_their_middle():
    assert shortened("short", 5) == "short"
    assert shortened("retinaface_640.onnx", 11) == "retin….onnx"
    assert len(shortened("a" * 99, 20)) == 20


def test_a_table_fits_and_words_go_on_below():
    table = fitted([["name", "n"], ["x" * 200, "1" * 30]])
    assert max(map(len, table.splitlines())) == WIDTH
    rows = [["1", "cannot be told apart; about 12,000 images would do, if each of them had as many faces as these"]]
    lines = folded(rows, 0, 0).splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("   ")
    assert max(map(len, wrapped("word " * 50).splitlines())) <= WIDTH
