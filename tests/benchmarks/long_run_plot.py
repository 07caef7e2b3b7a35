"""AP over processor hours of the long trainings, from the lines of recipes.jsonl, beside the released weights."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from facetrain.core.plots import new_figure

SUBSETS = ("easy", "medium", "hard")
RELEASED = {"yunet_n": (0.909, 0.888, 0.799), "yunet_s": (0.901, 0.875, 0.751)}
COLOURS = {"yunet_n": "#1f4e9c", "yunet_s": "#c2571a"}
HINTS = " and its maps"  # in the names of stages that begin again


def curves(lines: Iterable[Mapping[str, Any]]) -> dict[tuple[str, bool], list[tuple[float, Mapping[str, float]]]]:
    """Of each network, and whether its teacher's maps were compared: processor hours so far, and AP.

    A line counts the stages of one machine; where its count falls, another machine went on with the kept weights.
    """
    found: dict[tuple[str, bool], list[tuple[float, Mapping[str, float]]]] = {}
    last: dict[tuple[str, bool], tuple[float, float]] = {}  # seconds of the line before, and of machines before it
    for line in lines:
        if line["kind"] != "long run":
            continue
        key = line["network"], HINTS in line["stage"]
        seconds = float(line["processor_s"])
        before, base = last.get(key, (0.0, 0.0))
        if seconds < before:
            base += before
        last[key] = seconds, base
        found.setdefault(key, []).append(((base + seconds) / 3600, line["ap"]))
    return found


def draw(recipes: Path, output: Path, networks: Sequence[str] = tuple(RELEASED)) -> None:
    """Write the plot as PNG."""
    with recipes.open(encoding="utf-8") as file:
        known = curves(json.loads(text) for text in file)
    figure = new_figure(9, 3.4)
    for number, name in enumerate(SUBSETS):
        axes = figure.add_subplot(1, 3, number + 1)
        for network in networks:
            for hints in (False, True):
                points = known.get((network, hints), [])
                style = {"linestyle": "-" if hints else ":", "marker": "o" if hints else "."}
                what = "and its maps" if hints else "what the teacher says"
                axes.plot(
                    [hours for hours, _ in points],
                    [ap[name] for _, ap in points],
                    color=COLOURS[network],
                    label=f"{network}, {what}",
                    **style,
                )
            axes.axhline(RELEASED[network][number], color=COLOURS[network], linewidth=0.8, linestyle="--")
        axes.set_title(f"{name} (dashed: released)", fontsize=9)
        axes.set_xlabel("processor hours", fontsize=8)
        axes.set_xlim(left=0)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
        if number == 0:
            axes.set_ylabel("AP on 400 images", fontsize=8)
        if number == 2:
            axes.legend(fontsize=6, loc="lower right")
    figure.savefig(output, dpi=110, metadata={"Software": None})
