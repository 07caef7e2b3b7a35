"""Image files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from facetrain.core.images import read_image, read_reduced
from facetrain.media.frame import Frame, ScaleOf


@dataclass(frozen=True)
class Still:
    """One image of a file. Of several in it the first counts."""

    path: Path
    target: Path
    moving = False

    @property
    def name(self) -> str:
        """Its path."""
        return str(self.path)

    def frames(self, scale_of: ScaleOf) -> Iterator[Frame]:
        """The image. Raises DataError."""
        if not self.path.is_file():  # a pipe gives its bytes once, so at full size
            yield Frame(read_reduced(self.path, lambda width, height: 1))
            return
        yield Frame(read_reduced(self.path, scale_of), reread=lambda: read_image(self.path))

    def count(self) -> int:
        """One."""
        return 1
