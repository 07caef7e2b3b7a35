"""Muon against a singular value decomposition, torch's own Muon and torch's own AdamW."""

import pytest
import torch
from torch import nn

from facetrain.config.load import load_config
from facetrain.config.schema import MuonConfig, TrainConfig
from facetrain.model.yunet import build
from facetrain.train.optim.muon import MATRIX_MOMENTUM, Muon, orthogonalise, split_parameters
from facetrain.train.optim.optimizers import make_optimizer, set_rate


def matrices(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(3, 64, 64), (2, 64, 16), (2, 16, 64), (1, 16, 16)])
def test_orthogonalised_is_near_the_nearest_orthogonal_matrix(shape: tuple[int, ...]) -> None:
    """Same singular vectors, and singular values where five steps bring them: near 1 but for the tiniest."""
    given = matrices(0, *shape)
    u, s, v = torch.linalg.svd(given, full_matrices=False)
    result = orthogonalise(given)
    core = u.mT @ result @ v.mT  # diagonal where the singular vectors are kept
    values = core.diagonal(dim1=1, dim2=2)
    assert torch.allclose(core, torch.diag_embed(values), atol=2e-4)
    wanted = s / s.norm(dim=1, keepdim=True)
    for _ in range(5):
        wanted = 3.4445 * wanted - 4.775 * wanted**3 + 2.0315 * wanted**5
    torch.testing.assert_close(values, wanted, atol=2e-4, rtol=0)
    large = s > 0.02 * s.norm(dim=1, keepdim=True)
    assert values[large].min() > 0.65
    assert values.max() < 1.25


def test_each_matrix_is_treated_alone_and_scale_does_not_matter() -> None:
    given = matrices(1, 4, 32, 64)
    scaled = given * torch.tensor([1e-3, 1.0, 30.0, 1e4])[:, None, None]
    assert torch.allclose(orthogonalise(scaled), orthogonalise(given), atol=1e-4)
    for index in range(4):
        torch.testing.assert_close(orthogonalise(given)[index], orthogonalise(given[index : index + 1])[0])


def test_no_gradient_moves_nothing() -> None:
    assert torch.equal(orthogonalise(torch.zeros(1, 16, 16)), torch.zeros(1, 16, 16))


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has no Muon before 2.9")
@pytest.mark.parametrize("shape", [(64, 64), (64, 16), (16, 64)])
def test_steps_are_those_of_torch(shape: tuple[int, int]) -> None:
    """torch orthogonalises in bfloat16: its steps are near, and point the same way."""
    start = matrices(2, *shape)
    own, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizer = Muon([own], [], 0.02, 0.001, 0.1, 0.0)
    other = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, momentum=MATRIX_MOMENTUM, nesterov=True)
    for seed in range(5):
        own.grad = matrices(10 + seed, *shape)
        theirs.grad = own.grad.clone()
        optimizer.step()
        other.step()
    moved, wanted = own.detach() - start, theirs.detach() - start
    assert torch.nn.functional.cosine_similarity(moved.flatten(), wanted.flatten(), dim=0) > 0.9995
    assert float((moved - wanted).norm() / wanted.norm()) < 0.03


def test_other_parameters_move_as_by_adamw() -> None:
    start = [matrices(3, 64), matrices(4, 16, 1, 3, 3)]
    own, theirs = ([nn.Parameter(value.clone()) for value in start] for _ in range(2))
    optimizer = Muon([], own, 0.05, 0.004, 0.0, 5e-4)
    other = torch.optim.AdamW(theirs, lr=0.004, weight_decay=5e-4)
    for seed in range(6):
        for a, b in zip(own, theirs, strict=True):
            a.grad = matrices(20 + seed, *a.shape)
            b.grad = a.grad.clone()
        optimizer.step()
        other.step()
    for a, b in zip(own, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_matrices_are_the_wide_1x1_convolutions_before_the_outputs() -> None:
    model = build(load_config("yunet_n").model, 0)
    chosen, others = split_parameters(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert len(chosen) + len(others) == len(names)
    picked = {names[id(parameter)] for parameter in chosen}
    assert picked == {
        name
        for name, parameter in model.named_parameters()
        if name.endswith("pointwise.weight")
        and not any(f".{part}." in name for part in ("cls", "obj", "box", "landmarks"))
    }
    assert {parameter.shape[:2] for parameter in chosen} == {(16, 16), (64, 16), (64, 64)}


def test_one_schedule_moves_both_rates() -> None:
    config = TrainConfig(optimizer="muon", lr=0.05, batch=64, lr_batch=32, muon=MuonConfig(adamw_lr=0.004))
    optimizer = make_optimizer(build(load_config("yunet_n").model, 0), config)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.008])
    set_rate(optimizer, 0.025)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.025, 0.002])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 5e-4]


def test_a_saved_state_goes_on_bit_for_bit() -> None:
    def parameters() -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        return [nn.Parameter(matrices(5, 32, 16, 1, 1))], [nn.Parameter(matrices(6, 32))]

    def move(optimizer: Muon, some: list[nn.Parameter], seeds: range) -> None:
        for seed in seeds:
            for parameter in some:
                parameter.grad = matrices(seed, *parameter.shape)
            optimizer.step()

    one, rest = parameters()
    straight = Muon(one, rest, 0.05, 0.004, 0.01, 5e-4)
    move(straight, [*one, *rest], range(6))
    two, others = parameters()
    first = Muon(two, others, 0.05, 0.004, 0.01, 5e-4)
    move(first, [*two, *others], range(3))
    saved = first.state_dict()
    second = Muon(two, others, 0.05, 0.004, 0.01, 5e-4)
    second.load_state_dict(saved)
    move(second, [*two, *others], range(3, 6))
    for a, b in zip([*one, *rest], [*two, *others], strict=True):
        assert torch.equal(a, b)
