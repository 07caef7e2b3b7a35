"""A number beside AP is one row of METRICS: words, JSON, report and `--against` follow."""

import json
from pathlib import Path

import numpy as np
import pytest

from facetrain.cli.app import run_cli
from facetrain.core.documents.eval import EvalDocument
from facetrain.data.sample_set.make import write_sample
from facetrain.eval.metrics import METRICS, Metric
from tests.documents.fields import hints, misfits


def duplicates(outcomes, found, images):
    """Detections above the score that belong to a face already found, an image."""
    return np.array([float(some.false.sum()) / 2 for some in outcomes]), np.ones(len(images))


def test_one_row_is_shown_everywhere(tmp_path, monkeypatch, capsys):
    write_sample(tmp_path / "data", train=1, val=6)
    monkeypatch.chdir(tmp_path)
    arguments = ["eval", "--data", "data", "--at-score", "0.1", "--against", "yunet_s"]
    monkeypatch.setitem(METRICS, "halves", Metric("half alarms per image", duplicates, share=False))
    assert run_cli([*arguments, "--report", "report"]) == 0
    words = capsys.readouterr().out
    assert "\nhalf alarms per image 0." in words  # the number …
    assert words.count("half alarms per image") == 2  # … and its difference
    assert "half alarms per image: " in Path("report/index.html").read_text()
    assert run_cli([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    details = document["details"]
    assert details["halves"] == pytest.approx(details["false_alarms"] / 2)
    assert details["intervals"]["halves"]["estimate"] == details["halves"]
    assert document["against"]["differences"]["halves"]["own"] == details["halves"]
    assert misfits({key: value for key, value in document.items() if key in hints(EvalDocument)}, EvalDocument) == []
