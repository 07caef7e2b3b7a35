"""Images of numbers, drawn without a screen."""

import os
from types import ModuleType
from typing import Any


def load_matplotlib() -> ModuleType:
    """Import matplotlib whatever MPLBACKEND says.

    Notebooks name a backend of their own there for every process they start; matplotlib refuses to be imported where it
    cannot find that one, though files need none.
    """
    wanted = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if wanted is not None:
            os.environ["MPLBACKEND"] = wanted
    module: ModuleType = matplotlib
    return module


def new_figure(width: float, height: float) -> Any:
    """An empty figure of that size in inches, for files only."""
    load_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
