"""How far the host runs ahead of a GPU, and what float32 means there; with stand-ins for what only a GPU has."""

from typing import ClassVar

import torch

from facetrain.model.exact import exact_float32
from facetrain.train.machine import StepsAhead


class Event:
    told: ClassVar[list[str]] = []

    def __init__(self):
        self.number = len([line for line in self.told if line.startswith("record")])

    def record(self):
        self.told.append(f"record {self.number}")

    def synchronize(self):
        self.told.append(f"wait {self.number}")


def test_the_host_is_two_steps_ahead_at_most():
    Event.told.clear()
    lead = StepsAhead(torch.device("cuda"), Event)
    for _ in range(4):
        lead.after_step()
    assert Event.told == ["record 0", "record 1", "record 2", "wait 0", "record 3", "wait 1"]


def test_a_cpu_waits_for_nothing():
    lead = StepsAhead(torch.device("cpu"))
    lead.after_step()
    assert not lead.events


def test_float32_is_exact_inside_and_as_before_outside():
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True
    try:
        with exact_float32():
            assert not torch.backends.cudnn.allow_tf32
            assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = before
