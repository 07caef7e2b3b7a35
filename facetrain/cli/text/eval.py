"""A measurement in words, for stdout."""

import textwrap
from collections.abc import Mapping

from facetrain.cli import console
from facetrain.core.words import count
from facetrain.eval.against import Against
from facetrain.eval.details import Details, LandmarkError
from facetrain.eval.difference import brackets
from facetrain.eval.evaluate import Evaluation
from facetrain.eval.intervals import Estimate
from facetrain.eval.metrics import without_sentence

_WIDTH = 80
_POINTS = 12  # that are told one by one
_UNBROKEN = "\N{NO-BREAK SPACE}"


def evaluation_text(result: Evaluation, pair: Against | None = None) -> str:
    """AP, protocol and details as aligned plain text; and how it compares, where it was measured against another."""
    protocol = ", ".join(f"{name} {_plain(value)}" for name, value in result.protocol.items())
    rows = [["AP", *result.curves], ["", *(_number(ap) for ap in result.ap.values())]]
    spans = [_span(result.intervals.get(name), 4) for name in result.curves]
    if any(spans):
        rows.append(["95 %", *(span or "-" for span in spans)])
    rows.append(["faces", *(f"{curve.faces:,}" for curve in result.curves.values())])
    lines = [console.table(rows), "", *_about_intervals(result), *_wrapped(f"protocol: {protocol}")]
    lines += _about_labels(result)
    if pair is not None:
        lines += ["", f"against {pair.name}:", *(line for text in pair.sentences() for line in _wrapped(text))]
        lines += [*pair.others(), *_wrapped(pair.note()), *(line for text in pair.remarks() for line in _wrapped(text))]
    lines += _details(result.details)
    if result.missing:
        lines.append(f"{count(len(result.missing), 'image')} without a prediction file: taken as without detections")
    seconds = result.seconds
    times = f"seconds: {seconds['detections']:.1f} detections, {seconds['evaluation']:.2f} evaluation"
    lines.append(f"{times}, {seconds['intervals']:.2f} intervals and details")
    return "\n".join(lines)


def _about_labels(result: Evaluation) -> list[str]:
    """What cannot be right in the labels and what was done about it, and images that were trained on."""
    judgement = result.scores.benchmark.labels
    remarks = [] if judgement is None else judgement.remarks
    lines = [line for remark in remarks for line in _wrapped(f"labels: {remark}")]
    if result.in_training:
        many = f"{result.in_training:,} of {len(result.found):,} images are in the training set too"
        lines += _wrapped(f"{many}: AP on them says little of other images")
    return lines


def _about_intervals(result: Evaluation) -> list[str]:
    """What the brackets mean, and why there are none where there are none."""
    lines = []
    if result.resampling.draws:
        if any(some.low is not None for some in result.intervals.values()):
            draws, images = result.resampling.draws, len(result.found)
            lines += _wrapped(f"in brackets: 95 % intervals from {draws:,} draws of the {images:,} images")
        for name, some in result.intervals.items():
            if some.low is None:
                lines += _wrapped(f"{name}: no interval: {some.why}")
    for name, ap in result.ap.items():
        if ap is None:
            lines.append(f"{name}: no AP: none of its faces is among the images")
    return lines


def _details(details: Details) -> list[str]:
    """Recall by size, false alarms, threshold and landmarks."""
    known = details.intervals
    spans = [_span(known.get(f"by_size.{number}.recall"), 3) for number in range(len(details.by_size))]
    rows = [["shorter side, px", "faces", "recall", "95 %"]]
    for size, span in zip(details.by_size, spans, strict=True):
        name = f"{size.low}+" if size.high is None else f"{size.low}-{size.high}"
        rows.append([name, f"{size.faces:,}", "-" if size.recall is None else f"{size.recall:.3f}", span or "-"])
    if not any(spans):
        rows = [row[:-1] for row in rows]
    lines = ["", f"at score {details.score:g}:", console.table(rows)]
    found = [known.get(f"by_size.{number}.recall") for number in range(len(details.by_size))]
    if any(spans) and (reasons := {some.why for some in found if some is not None and some.why}):
        lines += _wrapped(f"-: no interval: {'; '.join(sorted(reasons))}")
    lines.append("")
    if details.recall is not None and details.false_alarms is not None:
        recall, alarms = (_behind(known.get(name)) for name in ("recall", "false_alarms"))
        lines += _wrapped(
            f"recall {details.recall:.3f}{recall}, {details.false_alarms:.3f}{alarms} false alarms per image"
        )
    for name, metric in without_sentence().items():
        if (value := details.numbers[name]) is not None:
            lines += _wrapped(f"{metric.title} {value:.3f}{_behind(known.get(name))}")
    point = details.operating_point
    if point is not None:
        recall, alarms = (_behind(known.get(f"operating_point.{name}")) for name in ("recall", "false_alarms"))
        lines += _wrapped(
            f"precision {point.precision:g} from score {point.score:.3f} on: recall {point.recall:.3f}{recall}, "
            f"{point.false_alarms:.3f}{alarms} false alarms per image"
        )
    error = details.landmark_error
    if error is None:
        lines.append("landmark error: the labels or the detections have no landmarks, or others")
    else:
        span = _span(known.get("landmark_error.mean"), 4)
        lines += _wrapped(
            f"landmark error: {error.mean:.4f}{span and ' ' + span} of the box side, over {error.faces:,} faces"
        )
        lines += _by_point(error, known)
    return lines


def _by_point(error: LandmarkError, known: Mapping[str, Estimate]) -> list[str]:
    """The error of each point; of many those that are the furthest off.

    known: intervals by their place, `landmark_error.per_point.0`
    """
    points = error.by_name
    if len(points) > _POINTS:
        points = sorted(points, key=lambda point: -point[1])[:_POINTS]
    which = "of each point" if len(points) == len(error.names) else "the furthest off"
    spans = [_span(known.get(f"landmark_error.per_point.{number}"), 4) for _, _, number in points]
    words = [f"{name} {value:.4f} {span}".rstrip() for (name, value, _), span in zip(points, spans, strict=True)]
    # a point stays on its line: wrapping takes a blank that does not break for a letter
    lines = _wrapped(f"{which}: {', '.join(word.replace(' ', _UNBROKEN) for word in words)}")
    return [line.replace(_UNBROKEN, " ") for line in lines]


def _behind(interval: Estimate | None) -> str:
    span = _span(interval, 3)
    return f" {span}" if span else ""


def _span(interval: Estimate | None, digits: int) -> str:
    """An interval in brackets, as narrow as it can be read; empty where there is none."""
    return "" if interval is None else brackets(interval.low, interval.high, digits)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, list) else f"{value}"
