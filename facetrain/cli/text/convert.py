"""What `data convert` made, in words."""

from collections.abc import Sequence
from pathlib import Path

from facetrain.core.documents.convert import ConvertedDocument, ConvertedPart
from facetrain.core.words import count
from facetrain.data.convert import Converted

_DONE = {"link": "linked in", "copy": "copied to"}


def converted_document(to: Path, format_name: str, images: str, parts: Sequence[Converted]) -> ConvertedDocument:
    """The result as plain values."""
    return {
        "folder": str(to),
        "format": format_name,
        "image_files": images,
        "parts": [_part(part, images) for part in parts],
    }


def _part(part: Converted, images: str) -> ConvertedPart:
    return {
        "part": part.part or "all",
        "from_format": part.source.format,
        "from_labels": str(part.source.labels),
        "from_images": str(part.source.images),
        "labels": str(part.target.labels),
        "images_folder": None if images == "none" else str(part.target.images),
        "images": part.counted.images,
        "faces": part.counted.faces,
        "with_landmarks": part.counted.with_landmarks,
        "ignored": part.counted.ignored,
        "lost": part.lost,
        "notes": list(part.notes),
    }


def converted_text(document: ConvertedDocument) -> str:
    """The result for a person."""
    lines = []
    for part in document["parts"]:
        lines.append(f"{part['part']}: {part['from_labels']}, {part['from_format']} -> {document['format']}")
        lines.append(
            f"  {part['labels']}: {count(part['images'], 'image')}, {count(part['faces'], 'face')}, "
            f"{part['with_landmarks']:,} with "
            f"landmarks, {part['ignored']:,} ignored"
        )
        if part["images_folder"]:
            lines.append(f"  images {_DONE[document['image_files']]} {part['images_folder']}")
        else:
            lines.append(f"  images stay in {part['from_images']}")
        lines += [f"  {document['format']} cannot hold: {number:,} {what}" for what, number in part["lost"].items()]
        lines += [f"  {note}" for note in part["notes"]]
    return "\n".join(lines)
