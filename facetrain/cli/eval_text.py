"""A measurement in words, for stdout."""

from facetrain.cli import console
from facetrain.eval.benchmark import Evaluation


def evaluation_text(result: Evaluation) -> str:
    """AP and protocol as aligned plain text."""
    protocol = ", ".join(f"{name} {_plain(value)}" for name, value in result.protocol.items())
    rows = [["AP", *result.curves], ["", *(_number(ap) for ap in result.ap.values())]]
    rows.append(["faces", *(f"{curve.faces:,}" for curve in result.curves.values())])
    lines = [console.table(rows), "", f"protocol: {protocol}"]
    if result.missing:
        lines.append(f"{len(result.missing):,} pictures have no prediction file and count as without detections")
    seconds = result.seconds
    lines.append(f"seconds: {seconds['detections']:.1f} detections, {seconds['evaluation']:.2f} evaluation")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, list) else f"{value}"
