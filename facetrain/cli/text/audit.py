"""What `data audit` found, in words."""

from collections import Counter

from facetrain.cli import console
from facetrain.core.documents.audit import AppliedDocument, AuditDocument, AuditFinding
from facetrain.core.words import count
from facetrain.label.audit import KINDS, Finding
from facetrain.label.audit_run import Applied, Audit

_SHOWN = 20


def audit_document(found: Audit) -> AuditDocument:
    """The result as plain values."""
    counts = Counter(finding.kind for finding in found.findings)
    return {
        "images": len(found.images),
        "counts": {kind: counts[kind] for kind in KINDS},
        "findings": [_entry(finding, found) for finding in found.findings],
        "errors": [console.error_entry(error, path) for path, error in found.failures],
    }


def _entry(finding: Finding, found: Audit) -> AuditFinding:
    return {
        "image": found.images[finding.image].name,
        "kind": finding.kind,
        "box": [round(float(value), 2) for value in finding.box],
        "label": None if finding.label < 0 else finding.label + 1,
        "score": round(finding.score, 5),
        "strength": round(finding.strength, 5),
        "said": finding.said,
    }


def audit_text(found: Audit) -> str:
    """Counts, and the strangest findings."""
    counts = Counter(finding.kind for finding in found.findings)
    lines = [f"{counts[kind]:,} {said}" for kind, said in KINDS.items()]
    rows = [["image", "box", "what"]]
    for finding in found.findings[:_SHOWN]:
        box = " ".join(f"{value:.0f}" for value in finding.box)
        rows.append([found.images[finding.image].name, box, finding.said])
    if found.findings:
        lines += ["", console.table(rows, numbers_from=len(rows[0]))]
    if len(found.findings) > _SHOWN:
        lines.append(f"and {len(found.findings) - _SHOWN:,} more; --report DIR shows them")
    return "\n".join(lines)


def applied_document(applied: Applied) -> AppliedDocument:
    """The result as plain values."""
    return {
        "labels": str(applied.labels),
        "decisions": applied.decisions,
        "images": applied.statistics.images,
        "faces": applied.statistics.faces,
        "lost": applied.lost,
    }


def applied_text(applied: Applied) -> str:
    """The result for a person."""
    lines = [f"{applied.labels}: {count(applied.decisions, 'decision')}; {applied.statistics.summary()}"]
    return "\n".join([*lines, *(f"not in the labels: {number:,} {what}" for what, number in applied.lost.items())])
