"""What happened since the last logged line."""

import time
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from facetrain.core.errors import TrainingError
from facetrain.core.faces import LabelledImage
from facetrain.data.batch import Batch
from facetrain.data.crops import Crop
from facetrain.train.events import Progress

_LOG_LINES = 2000  # about so many lines of metrics a run …
_MAX_STEPS = 20  # … but never more steps to a line than this
Item = tuple[list[Crop], Batch]


class Window:
    """Collects steps until a line is due. On a GPU their losses stay there meanwhile, so that no step waits."""

    def __init__(self, total_steps: int, steps_per_epoch: int, pictures: list[LabelledImage]) -> None:
        self.total_steps = total_steps
        self.steps_per_epoch = steps_per_epoch
        self.every = max(1, min(_MAX_STEPS, total_steps // _LOG_LINES))
        self.pictures = pictures
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
        return bool(self.steps) and (step % self.every == 0 or step % self.steps_per_epoch == 0)

    @property
    def looked_at(self) -> bool:
        """Whether every loss so far is known to be finite: only then the weights may be saved."""
        return not self.steps

    def close(self, epoch: int, epochs: int, rate: float) -> Progress:
        """Sum the steps up. Raises TrainingError naming term, step and pictures of a loss that is not finite."""
        names = list(self.steps[0][2])
        values = torch.stack([torch.stack([losses[name] for name in names]) for _, _, losses in self.steps]).cpu()
        if not bool(values.isfinite().all()):
            bad = int((~values.isfinite()).any(1).nonzero()[0, 0])
            self._report(bad, names[int((~values[bad].isfinite()).nonzero()[0, 0])])
        means = dict(zip(names, values.double().mean(0).tolist(), strict=True))
        positives = means.pop("positives")
        means["total"] = sum(means.values())
        seconds = time.perf_counter() - self.began
        count = sum(len(crops) for _, crops, _ in self.steps)
        progress = Progress(
            epoch=epoch,
            epochs=epochs,
            step=self.steps[-1][0],
            steps=self.total_steps,
            lr=rate,
            losses=means,
            positives=positives,
            images_per_s=count / seconds,
            wait_share=min(1.0, self.waited / seconds),
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
        names = [self.pictures[crop.picture].name for crop in crops]
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        raise TrainingError(
            f"step {step}: the loss term '{term}' is {losses[term].item()}; pictures: {', '.join(names[:8])}{more}",
            "last.pt is from before this step; try a lower train.lr, a longer warm-up or train.clip=10, "
            "and look at the labels of these pictures",
        )
