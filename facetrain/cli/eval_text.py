"""A measurement in words, for stdout."""

from facetrain.cli import console
from facetrain.eval.benchmark import Evaluation
from facetrain.eval.details import Details


def evaluation_text(result: Evaluation) -> str:
    """AP, protocol and details as aligned plain text."""
    protocol = ", ".join(f"{name} {_plain(value)}" for name, value in result.protocol.items())
    rows = [["AP", *result.curves], ["", *(_number(ap) for ap in result.ap.values())]]
    rows.append(["faces", *(f"{curve.faces:,}" for curve in result.curves.values())])
    lines = [console.table(rows), "", f"protocol: {protocol}"]
    lines += _details(result.details)
    if result.missing:
        lines.append(f"{len(result.missing):,} pictures have no prediction file and count as without detections")
    seconds = result.seconds
    lines.append(f"seconds: {seconds['detections']:.1f} detections, {seconds['evaluation']:.2f} evaluation")
    return "\n".join(lines)


def _details(details: Details) -> list[str]:
    """Recall by size, false alarms, threshold and landmarks, a line each."""
    rows = [["shorter side, px", *(f"{r.low}+" if r.high is None else f"{r.low}-{r.high}" for r in details.by_size)]]
    rows.append(["faces", *(f"{row.faces:,}" for row in details.by_size)])
    rows.append(["recall", *("-" if row.recall is None else f"{row.recall:.3f}" for row in details.by_size)])
    lines = ["", f"at score {details.score:g}:", console.table(rows), ""]
    if details.recall is not None and details.false_alarms is not None:
        lines.append(f"recall {details.recall:.3f}, {details.false_alarms:.3f} false alarms per picture")
    point = details.operating_point
    if point is not None:
        lines.append(
            f"precision {point.precision:g} from score {point.score:.3f} on: recall {point.recall:.3f}, "
            f"{point.false_alarms:.3f} false alarms per picture"
        )
    error = details.landmark_error
    if error is None:
        lines.append("landmark error: the labels or the detections have no landmarks")
    else:
        lines.append(f"landmark error: {error.mean:.4f} of the box side, over {error.faces:,} faces")
    return lines


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, list) else f"{value}"
