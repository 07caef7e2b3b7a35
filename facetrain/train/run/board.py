"""The numbers of a run for TensorBoard, where that is installed: `tensorboard --logdir runs`."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from facetrain.core.run_dir import RunDir


class Board:
    """Writes every number of a line of metrics as a curve, named as it is in metrics.jsonl."""

    def __init__(self, writer: Any) -> None:
        self.writer = writer

    def add(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """The numbers of a line of metrics, such as `train/losses/box`."""
        for name, value in values.items():
            if isinstance(value, Mapping):
                self.add(f"{kind}/{name}", step, value)
            elif isinstance(value, int | float):
                self.writer.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Write what is still waiting."""
        self.writer.close()


def open_board(run: RunDir, step: int) -> Board | None:
    """A board in the run's folder; None without TensorBoard. Events past `step` (of a killed process) are void."""
    if find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return Board(SummaryWriter(str(run.path / "tensorboard"), purge_step=step + 1))
