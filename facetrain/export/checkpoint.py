"""How what is exported is called."""

from pathlib import Path


def export_name(path: Path) -> str:
    """What files made from a checkpoint are called: its own name, or for a run's best.pt and last.pt the run's."""
    return path.resolve().parent.name if path.stem in ("best", "last", "previous") else path.stem
