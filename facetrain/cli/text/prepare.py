"""What `data prepare` made, in words."""

from facetrain.core.documents.prepare import PreparedDocument, PreparedPart
from facetrain.eval.wider_face.prepare import Prepared, PreparedSplit


def prepared_document(prepared: Prepared) -> PreparedDocument:
    """The result as plain values."""
    return {
        "folder": str(prepared.folder),
        "complete": prepared.complete,
        "parts": {name: _part(split) for name, split in prepared.splits.items()},
        "ground_truth": prepared.ground_truth,
        "missing": prepared.missing,
    }


def _part(split: PreparedSplit) -> PreparedPart:
    labels = split.labels
    counted = labels.statistics if labels else None
    return {
        "images": split.images,
        "events": split.events,
        "written": split.written,
        "labels_from": labels.source if labels else None,
        "faces": counted.faces if counted else 0,
        "with_landmarks": counted.with_landmarks if counted else 0,
        "ignored": counted.ignored if counted else 0,
        "boxes_without_area": counted.boxes_without_area if counted else 0,
        "unlabelled": labels.unlabelled if labels else split.images,
        "absent": labels.absent if labels else 0,
    }


def prepared_text(prepared: Prepared) -> str:
    """The result for a person: a line for each part, and what is missing."""
    lines = [f"{prepared.folder}:"]
    for name, split in prepared.splits.items():
        lines.append(f"  {name}: {split.images:,} images of {split.events} events ({split.written:,} new)")
        if split.labels is not None:
            lines.append(f"    labels from {split.labels.source}: {split.labels.statistics.summary()}")
            if split.labels.unlabelled:
                lines.append(f"    {split.labels.unlabelled:,} images without labels are not used")
            if split.labels.absent:
                lines.append(f"    {split.labels.absent:,} labelled images are not there")
    if prepared.ground_truth:
        lines.append(f"  ground truth: {', '.join(prepared.ground_truth)}")
    for what, source in prepared.missing.items():
        lines.append(f"  missing: {what}; from {source}")
    return "\n".join(lines)
