"""Images that are in two of the sets which are trained on together: they come more often than the shares say."""

from collections import defaultdict
from collections.abc import Sequence

from facetrain.core.faces import LabelledImage
from facetrain.core.files import sha256

Pair = tuple[LabelledImage, LabelledImage]  # of two sources, the earlier first


def find_in_several(images: Sequence[LabelledImage]) -> list[Pair]:
    """The same file, or files of the same bytes, in two sources; each image once, with the first that is the same.

    Only files of equal length are read. An image that was saved anew is another one here.
    """
    lengths: dict[int, list[LabelledImage]] = defaultdict(list)
    for image in images:
        try:
            lengths[image.path.stat().st_size].append(image)
        except OSError:
            continue  # what cannot be read is told of elsewhere
    pairs = []
    for same in lengths.values():
        if len({image.source for image in same}) < 2:
            continue
        contents: dict[str, list[LabelledImage]] = defaultdict(list)
        for image in same:
            try:
                contents[sha256(image.path)].append(image)
            except OSError:
                continue
        for equal in contents.values():
            equal.sort(key=lambda image: image.source)
            pairs += [(equal[0], image) for image in equal[1:] if image.source != equal[0].source]
    return sorted(pairs, key=lambda pair: (pair[0].source, pair[1].source, pair[0].name))


def in_several_words(pairs: Sequence[Pair], names: Sequence[str]) -> list[str]:
    """A line for each two sources that have images in common. names: of the sources."""
    common: dict[tuple[int, int], list[Pair]] = defaultdict(list)
    for one, other in pairs:
        common[one.source, other.source].append((one, other))
    lines = []
    for (first, second), some in common.items():
        one, other = some[0]
        lines.append(
            f"{len(some):,} image{'s are' if len(some) > 1 else ' is'} both in {names[first]} and in {names[second]}, "
            f"such as {one.path} ({other.path}): counted twice"
        )
    return lines
