"""A comparison in words: aligned tables for stdout, one wide table as Markdown."""

from facetrain.cli.text.fit import fitted, folded, wrapped
from facetrain.compare.pairs import MOST
from facetrain.compare.results import Comparison, Row, Speed, ratio
from facetrain.compare.timing import Times
from facetrain.core.inert import for_markdown
from facetrain.core.words import count
from facetrain.detect.views import AUTO
from facetrain.eval.difference import brackets, signed, told
from facetrain.eval.wider_face.ground_truth import SUBSETS

_FIXED = "*"
_ABSENT = "-"


def comparison_text(found: Comparison) -> str:
    """Everything as plain text: what the models are, how fast, how good, and how far they agree."""
    about = _about(found)
    if found.machine["threads"] > 1:
        about.append(f"FPS: images a second, on 1 core and on {found.machine['threads']} threads")
    tables = _cost_tables(found)
    if any(row.one_core for row in found.rows):
        tables.append(fitted([*_speed_heading(found), *_speed_rows(found)], headings=2))
    if found.protocol:
        tables.append(fitted([["AP", "easy", "medium", "hard"], *_ap_rows(found)]))
    blocks = ["\n".join(map(wrapped, about)), *tables, _long_names(found, tables)]
    if found.protocol:
        blocks.append(_pairs(found))
    if found.look:
        blocks.append("\n".join(_agreement(found)))
    blocks.append("\n".join([*map(wrapped, _notes(found)), *_failures(found)]))
    return "\n\n".join(block for block in blocks if block)


def comparison_markdown(found: Comparison) -> str:
    """One table with a line for each model, what it was measured with above and notes below."""
    heading = [*_cost_heading(found), "network, ms", "end to end, ms", *_fps_heading(found)]
    lines = []
    for cells, row in zip(_cost_rows(found), found.rows, strict=True):
        one = row.one_core
        times = [_median_p90(one.network if one else None), _median_p90(one.end_to_end if one else None)]
        lines.append([*cells, *times, *_fps(found, row), *_ap(found, row)])
    heading += ["easy", "medium", "hard"] if found.protocol else []
    rule = ["---"] * 3 + ["---:"] * (len(heading) - 3)
    table = "\n".join(
        f"| {' | '.join(line)} |" for line in (heading, rule, *([_escape(c) for c in line] for line in lines))
    )
    about = "\n".join(f"- {line}" for line in _about(found))
    notes = "\n".join(f"- {_escape(line)}" for line in [*_notes(found), *_failures(found)])
    return "\n\n".join(block for block in (table, about, notes, _markdown_pairs(found)) if block) + "\n"


def _markdown_pairs(found: Comparison) -> str:
    """The differences as a table of their own, models by their names."""
    lines = ["| second | first | | AP, second less first | 95 % | |", "| --- | --- | --- | ---: | --- | --- |"]
    for pair in found.pairs:
        names = [_escape(found.rows[number].name) for number in (pair.second, pair.first)]
        for subset, difference in pair.differences.items():
            span = brackets(difference.low, difference.high, 4, sign=True)
            cells = [*names, subset, signed(difference.value), span, told(difference)]
            lines.append(f"| {' | '.join(cells)} |")
    about = (f"- {_escape(line)}" for line in _about_pairs(found))
    return "\n".join([*lines, "", *about]) if found.pairs else ""


def _about(found: Comparison) -> list[str]:
    """With what, how and on what it was measured."""
    machine, timing = found.machine, found.timing
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [f"machine: {machine['cpu']}, {count(machine['cores'], 'core')}; {versions}"]
    runs = timing["rounds"] * timing["repeats"]
    lines += [
        f"times: {timing['size'][0]}x{timing['size'][1]}, one core, milliseconds; {runs} runs of each, models in turn: "
        "median, 90th percentile, ± half of what lies between the quartiles",
        "network: the network alone; end to end, and FPS: from a decoded image to faces that score "
        f"{timing['score']:g}",
    ]
    protocol = found.protocol
    if protocol:
        part = " (those that are there)" if protocol["present_only"] else ""
        lines.append(
            f"AP: WIDER FACE val, {protocol['images']:,} images{part}, size {protocol['size']}, score > "
            f"{protocol['score']:g}, NMS {protocol['nms']:g}, best {protocol['max_candidates']:,} candidates"
        )
    return lines


def _cost_heading(found: Comparison) -> list[str]:
    published = ["published"] if _has_published(found) else []
    return ["model", "family", "input", "parameters", "ratio", "M mult-adds", "MFLOPs", *published, "KB"]


def _cost_rows(found: Comparison) -> list[list[str]]:
    rows = []
    for row in found.rows:
        cost = row.cost
        times = ratio(cost, found.smallest)
        cells = [row.name, row.family or ("failed" if row.error else _ABSENT), _input(row)]
        cells += [f"{cost.parameters:,}" if cost and cost.parameters is not None else _ABSENT]
        cells += [f"{times:.1f}" if times else _ABSENT]
        cells += [f"{cost.multiply_adds / 1e6:,.1f}" if cost and cost.multiply_adds is not None else _ABSENT]
        cells += [f"{cost.mflops:,.0f}" if cost and cost.mflops is not None else _ABSENT]
        if _has_published(found):
            cells += [f"{cost.published:.0f}" if cost and cost.published is not None else _ABSENT]
        cells += [f"{row.bytes / 1000:,.0f}" if row.bytes is not None else _ABSENT]
        rows.append(cells)
    return rows


def _cost_tables(found: Comparison) -> list[str]:
    """What the models are, and what they cost: two tables, as one would be wider than a terminal."""
    heading, rows = _cost_heading(found), _cost_rows(found)
    numbered = [[_numbered(i, row), *cells[1:]] for i, (row, cells) in enumerate(zip(found.rows, rows, strict=True), 1)]
    what = [[*cells[:3], cells[-1]] for cells in (heading, *numbered)]
    cost = [[cells[0], *cells[3:-1]] for cells in (heading, *numbered)]
    return [fitted(what, numbers_from=3), fitted(cost)]


def _numbered(number: int, row: Row) -> str:
    return f"{number} {row.name}"


def _long_names(found: Comparison, tables: list[str]) -> str:
    """A line with the path of each model whose name is not whole in all tables."""
    long = [
        f"{number} is {row.given}"
        for number, row in enumerate(found.rows, 1)
        if any(_numbered(number, row) not in table for table in tables)
    ]
    return "\n".join(long)


def _speed_heading(found: Comparison) -> list[list[str]]:
    """Two lines."""
    counts = [1, *([found.machine["threads"]] if found.machine["threads"] > 1 else [])]
    above = ["", "network", "", "", "end to end", "", "", *("FPS" for _ in counts)]
    return [above, ["model", "ms", "p90", "±", "ms", "p90", "±", *(f"on {threads}" for threads in counts)]]


def _speed_rows(found: Comparison) -> list[list[str]]:
    rows = []
    for number, row in enumerate(found.rows, 1):
        one = row.one_core
        cells = [_numbered(number, row)]
        for times in (one.network, one.end_to_end) if one else (None, None):
            cells += [f"{times.median:.2f}", f"{times.p90:.2f}", _percent(times.spread)] if times else [_ABSENT] * 3
        rows.append([*cells, *_fps(found, row)])
    return rows


def _fps_heading(found: Comparison) -> list[str]:
    several = [f"FPS {found.machine['threads']} threads"] if found.machine["threads"] > 1 else []
    return ["FPS 1 core", *several]


def _fps(found: Comparison, row: Row) -> list[str]:
    speeds: list[Speed | None] = [row.one_core, *([row.all_cores] if found.machine["threads"] > 1 else [])]
    return [f"{speed.fps:.0f}" if speed else _ABSENT for speed in speeds]


def _ap(found: Comparison, row: Row) -> list[str]:
    if not found.protocol:
        return []
    cells = []
    for subset in SUBSETS:
        value = row.accuracy.ap[subset] if row.accuracy else None
        span = row.intervals.get(subset)
        behind = f" {brackets(span.low, span.high, 3)}" if span and span.low is not None else ""
        cells.append(_ABSENT if value is None else f"{value:.3f}{behind}")
    return cells


def _ap_rows(found: Comparison) -> list[list[str]]:
    return [[_numbered(number, row), *_ap(found, row)] for number, row in enumerate(found.rows, 1)]


def _pair_rows(found: Comparison) -> list[list[str]]:
    """A line for each two models and each subset."""
    rows = []
    for pair in found.pairs:
        for subset, difference in pair.differences.items():
            span = brackets(difference.low, difference.high, 4, sign=True)
            rows.append(
                [f"{pair.second + 1} less {pair.first + 1}", subset, signed(difference.value), span, told(difference)]
            )
    return rows


def _pairs(found: Comparison) -> str:
    rows = _pair_rows(found)
    if not rows:
        return ""
    every = [difference for pair in found.pairs for difference in pair.differences.values()]
    if all(difference.told is not True and difference.low is None for difference in every):
        why = "; ".join(sorted({difference.why for difference in every} - {""}))
        return wrapped(f"no intervals: {why}") if why else "no differences: image by image all have the same"
    table = folded([["differences", "", "AP", "95 %", ""], *rows], 2, 3)
    return "\n".join([table, *map(wrapped, _about_pairs(found))])


def _about_pairs(found: Comparison) -> list[str]:
    """How the differences were found, and of which models."""
    protocol = found.protocol or {}
    if not found.pairs or "draws" not in protocol:
        return []
    count = sum(len(pair.differences) for pair in found.pairs)
    several = f"; {count} differences looked at together, better or worse at 5 % in all (Holm)" if count > 1 else ""
    lines = [f"95 % intervals: {protocol['draws']:,} draws of the same {protocol['images']:,} images for all{several}"]
    models = {number for pair in found.pairs for number in (pair.first, pair.second)}
    if len(models) > MOST:
        first = found.rows[min(models)].name
        lines.append(f"each with {first} alone: of more than {MOST} models not every two are compared")
    return lines


def _agreement(found: Comparison) -> list[str]:
    """A square of numbers: faces of each model on the diagonal, elsewhere faces that both found and their mean IoU."""
    look = found.look
    assert look is not None
    numbers = sorted(look.found)
    cells = {(n, n): str(len(look.found[n])) for n in numbers}
    for pair in look.pairs:
        iou = "" if pair.mean_iou is None else f" {pair.mean_iou:.2f}"
        cells[pair.first, pair.second] = cells[pair.second, pair.first] = f"{pair.both}{iou}"
    rows = [["faces found by both, mean IoU", *(str(i) for i, _ in enumerate(numbers, 1))]]
    for place, number in enumerate(numbers, 1):
        rows.append([_numbered(place, found.rows[number]), *(cells[number, other] for other in numbers)])
    return [
        f"{look.path} ({look.image.shape[1]}x{look.image.shape[0]}), score {found.timing['score']:g}:",
        fitted(rows),
    ]


def _notes(found: Comparison) -> list[str]:
    """What must be known to read the tables."""
    lines = []
    if any(row.static_shape for row in found.rows):
        images = "larger images are looked at in parts of it" if found.size == AUTO else "images are fitted into it"
        lines.append(
            f"{_FIXED} the file fixes its input size: timed at that size, and {images} whatever the rule of the others"
        )
    if any(row.kind == "checkpoint" for row in found.rows):
        published = "; published: MFLOPs by the rule of the published figure" if _has_published(found) else ""
        lines.append(f"checkpoints (.pt, .pth) run in PyTorch, the others in onnxruntime{published}")
    if any(row.cost for row in found.rows):
        lines.append(
            "parameters: learnt numbers as the file stores them (batch norm is folded in most ONNX files); MFLOPs: "
            "twice the multiply-adds of the convolutions, borders included"
        )
    cached = sum(row.accuracy is not None and row.accuracy.cached for row in found.rows)
    if cached:
        lines.append(f"AP of {count(cached, 'model')} from an earlier measurement; --fresh measures anew")
    return lines


def _failures(found: Comparison) -> list[str]:
    """Lines on what is missing. They hold paths, and stay as long as they are."""
    lines = [f"failed: {_first_line(row.error.message)}" for row in found.rows if row.error]
    return [*lines, "interrupted: what is missing was not finished"] if found.interrupted else lines


def _input(row: Row) -> str:
    if row.cost is None:
        return _ABSENT
    width, height = row.cost.size
    return f"{width}x{height}{_FIXED if row.static_shape else ''}"


def _has_published(found: Comparison) -> bool:
    return any(row.cost and row.cost.published is not None for row in found.rows)


def _median_p90(times: Times | None) -> str:
    return f"{times.median:.2f} ({times.p90:.2f}) ± {_percent(times.spread)}" if times else _ABSENT


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0]


def _escape(cell: str) -> str:
    """A cell's text as Markdown: nothing in a file's name may end the cell or start a style."""
    return for_markdown(cell)
