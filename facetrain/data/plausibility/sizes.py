"""The size that labels say an image has, against the size that its file has."""

from facetrain.core.image_header import Header


def misfit(said: tuple[int, int] | None, header: Header | None) -> str:
    """How the size that labels say differs from the file's, and why that may be; empty where it does not."""
    if said is None or header is None or said == header.upright:
        return ""
    (width, height), stored = header.upright, (header.width, header.height)
    differs = f"{width}x{height} pixels, its label says {said[0]}x{said[1]}"
    if said == stored:
        return f"{differs}, as it lies before EXIF orientation {header.orientation} turns it upright"
    if said == (height, width):
        return f"{differs}: made on a copy that was turned, as by EXIF"
    if abs(said[0] * height - said[1] * width) <= max(*said, width, height):
        return f"{differs}: made on a copy {said[0] / width:.3g} times as large"
    return differs
