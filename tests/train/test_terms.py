"""A further term of the loss: one function, and its row."""

from pathlib import Path

import pytest
import torch
from train_runs import Recorder, numbers, tiny_config, train

from facetrain.cli.text.train import progress_text
from facetrain.core.run_dir import RunDir
from facetrain.model.safe_file import read_tensors
from facetrain.train.terms import TERMS, Losses, Seen


def quiet(seen: Seen) -> Losses:
    """Priors without a face should not all be half sure."""
    assert seen.targets is not None
    count = seen.world.sum((1 - seen.targets.positive).sum())
    silence = (seen.predictions.obj.sigmoid() * (1 - seen.targets.positive)).sum()
    return {"quiet": 3 * silence / count.clamp(min=1)}


def weights(run: RunDir) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = read_tensors(run.last)["model"]
    return state


def test_a_further_term_is_a_function_and_its_row(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is minimised, and told in the metrics and on the screen; the others stand there as they did."""
    without = train(tiny_config(data, epochs=1), tmp_path)
    monkeypatch.setitem(TERMS, "quiet", quiet)
    events = Recorder()
    run = train(tiny_config(data, epochs=1), tmp_path, events=events)
    before, after = numbers(without)[0], numbers(run)[0]
    assert list(after["losses"]) == ["cls", "obj", "box", "landmarks", "quiet", "total"]
    assert {name: after["losses"][name] for name in before["losses"] if name != "total"} == {
        name: value for name, value in before["losses"].items() if name != "total"
    }
    assert after["losses"]["total"] == pytest.approx(before["losses"]["total"] + after["losses"]["quiet"])
    assert after["positives"] == before["positives"]
    text = progress_text(events.steps[0], "?")
    assert f"quiet {after['losses']['quiet']:.3f}" in text
    assert any(not torch.equal(value, weights(run)[name]) for name, value in weights(without).items())
