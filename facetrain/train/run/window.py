"""What happened since the last logged line."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from facetrain.core.errors import TrainingError
from facetrain.data.crops import Crop
from facetrain.train.events import Progress
from facetrain.train.optim.pace import Pace
from facetrain.train.prepare import Setup

_LOG_LINES = 2000  # about so many lines of metrics a run …
_MAX_STEPS = 20  # … but never more steps to a line than this
_PLANNED_STEPS = 5  # to a line where steps are planned by time
Item = tuple[list[Crop], Any]  # with their batch, or its parts


class Window:
    """Collects steps until a line is due. On a GPU their losses stay there meanwhile, so that no step waits."""

    def __init__(self, setup: Setup, pace: Pace) -> None:
        self.setup, self.pace = setup, pace
        # a run whose length is not known yet has a line every few steps, and so has its repeat
        self.every = max(1, min(_MAX_STEPS, (pace.total or 0) // _LOG_LINES)) if pace.plan is None else _PLANNED_STEPS
        self.steps: list[tuple[int, list[Crop], dict[str, Tensor]]] = []
        self.began = time.perf_counter()
        self.waited = 0.0

    def timed(self, batches: Iterable[Item]) -> Iterator[Item]:
        """Pass batches on and count the time spent waiting for them."""
        iterator = iter(batches)
        while True:
            asked = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            self.waited += time.perf_counter() - asked
            yield item

    def add(self, step: int, crops: list[Crop], losses: dict[str, Tensor]) -> None:
        """Step number `step`, counted from 1, is done."""
        self.steps.append((step, crops, losses))

    @property
    def due(self) -> bool:
        """Lines stand at fixed steps and at the end of an epoch, so that a resumed run writes the same ones."""
        step = self.steps[-1][0] if self.steps else 0
        at_end = step % self.setup.steps_per_epoch == 0 or self.pace.over(step)
        return bool(self.steps) and (step % self.every == 0 or at_end)

    @property
    def looked_at(self) -> bool:
        """Whether every loss so far is known to be finite: only then the weights may be saved."""
        return not self.steps

    def all_finite(self) -> bool:
        """Whether every loss of the steps not yet looked at is finite. Makes a GPU finish its work."""
        return all(bool(value.isfinite()) for _, _, losses in self.steps for value in losses.values())

    def close(self, epoch: int, rate: float, best_ap: float | None) -> Progress:
        """Sum the steps up. Raises TrainingError naming term, step and images of a loss that is not finite."""
        names = list(self.steps[0][2])
        values = torch.stack([torch.stack([losses[name] for name in names]) for _, _, losses in self.steps]).cpu()
        if not bool(values.isfinite().all()):
            bad = int((~values.isfinite()).any(1).nonzero()[0, 0])
            self._report(bad, names[int((~values[bad].isfinite()).nonzero()[0, 0])])
        means = dict(zip(names, values.double().mean(0).tolist(), strict=True))
        positives = means.pop("positives")
        means["total"] = sum(means.values())
        seconds = time.perf_counter() - self.began
        count = len(self.steps) * self.setup.config.train.batch
        device = self.setup.device
        progress = Progress(
            epoch=epoch,
            epochs=self.pace.epochs or epoch + 1,
            step=self.steps[-1][0],
            steps=self.pace.total or self.steps[-1][0] + 1,
            lr=rate,
            losses=means,
            positives=positives,
            images_per_s=count / seconds,
            wait_share=min(1.0, self.waited / seconds),
            best_ap=best_ap,
            memory=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
        )
        self.restart()
        return progress

    def restart(self) -> None:
        """Begin a new window now, so that time spent on validation and saving does not count."""
        self.steps = []
        self.began = time.perf_counter()
        self.waited = 0.0

    def _report(self, bad: int, term: str) -> None:
        step, crops, losses = self.steps[bad]
        own = [self.setup.store.images[crop.image].name for crop in crops]
        names = [name for some in self.setup.world.gather(own) for name in some]
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        raise TrainingError(
            f"step {step}: the loss term '{term}' is {losses[term].item()}; images: {', '.join(names[:8])}{more}",
            "last.pt is from before this step; try a lower train.lr, a longer warm-up or train.clip=10, "
            "and look at the labels of these images",
        )
