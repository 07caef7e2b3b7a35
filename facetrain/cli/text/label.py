"""What `data label` made, in words."""

from facetrain.cli import console
from facetrain.core.documents.label import LabelledDocument
from facetrain.core.words import count
from facetrain.label.look import Observers
from facetrain.label.make import Labelled


def labelled_document(made: Labelled, observers: Observers) -> LabelledDocument:
    """The result as plain values."""
    counted = made.statistics
    return {
        "labels": str(made.labels),
        "detections": str(made.journal),
        "landmarks": list(observers.landmark_names),
        "images": counted.images,
        "images_without_faces": counted.images_without_faces,
        "looked": made.looked,
        "faces": counted.faces - counted.ignored,
        "with_landmarks": counted.with_landmarks,
        "ignored": counted.ignored,
        "lost": made.lost,
        "skipped": [str(path) for path in made.skipped],
        "errors": [console.error_entry(failure.error, failure.path) for failure in made.failures],
    }


def labelled_text(made: Labelled) -> str:
    """The result for a person."""
    lines = [f"{made.labels}: {made.statistics.summary()}"]
    known = made.statistics.images - made.looked
    if known > 0:
        lines.append(f"{count(known, 'image')} known from an earlier call")
    lines += [f"not in the labels: {number:,} {what}" for what, number in made.lost.items()]
    lines.append(f"with scores: {made.journal}")
    if made.failures:
        lines.append(f"{count(len(made.failures), 'image')} could not be read")
    return "\n".join(lines)
