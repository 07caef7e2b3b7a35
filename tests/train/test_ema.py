"""Averaged weights."""

import torch
from torch import nn

from facetrain.train.ema import Ema


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def test_averages_follow_the_formula_batch_norm_included() -> None:
    model = small_model()
    ema = Ema(model, 0.8)
    wanted = {key: value.double() for key, value in model.state_dict().items()}
    decays = []
    for step in range(60):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(5 * torch.randn(2, 3, 4, 4) + step)  # moves the running statistics
        ema.update(model, step)
        decays.append(min(0.8, (1 + step) / (10 + step)))
        wanted = {
            key: decays[-1] * wanted[key] + (1 - decays[-1]) * value.double()
            for key, value in model.state_dict().items()
        }
    assert decays[0] == 0.1  # the first weights are nearly forgotten at once
    assert decays[-1] == 0.8
    for key, value in ema.state.items():
        if key.endswith("num_batches_tracked"):
            assert value == 60
        else:
            torch.testing.assert_close(value.double(), wanted[key], rtol=1e-4, atol=1e-5)
    assert "1.running_var" in ema.state


def test_averages_are_no_view_of_the_model() -> None:
    model = small_model()
    ema = Ema(model, 0.9)
    before = {key: value.clone() for key, value in ema.state.items()}
    with torch.no_grad():
        model[0].weight.fill_(7)
    assert all(torch.equal(ema.state[key], before[key]) for key in before)


def test_saved_averages_continue() -> None:
    model = small_model()
    first, second = Ema(model, 0.9), Ema(model, 0.9)
    with torch.no_grad():
        model[0].weight.add_(1)
    first.update(model, 3)
    saved = {key: value.clone() for key, value in first.state.items()}
    second.load(saved)
    for ema in (first, second):
        with torch.no_grad():
            model[0].weight.fill_(2)
        ema.update(model, 4)
    assert all(torch.equal(first.state[key], second.state[key]) for key in saved)
    assert not torch.equal(saved["0.weight"], second.state["0.weight"])  # what was loaded is not written to
