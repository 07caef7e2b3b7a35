"""Images that are trained on and validated on: a measurement on them says little of others."""

from collections.abc import Callable, Iterable
from pathlib import Path

from facetrain.data.plausibility.copies import same_images
from facetrain.data.plausibility.facts import Fact, image_facts, kept_facts

Pair = tuple[Path, Path]  # of the validation part, and of the training part


def find_in_both(
    root: Path, train: Iterable[Path], val: Iterable[Path], progress: Callable[[int, int], None] | None = None
) -> list[Pair]:
    """The validation images that look like a training image, each once. Looks are made where none are kept."""
    parts = {"val": list(val), "train": list(train)}
    looked = [image_facts(root, part, paths, looks=True, progress=progress) for part, paths in parts.items()]
    return _pairs(*looked)


def known_in_both(root: Path, val: Iterable[Path]) -> list[Pair] | None:
    """The same by looks that are kept; None where not all validation images or no training images were looked at."""
    kept = kept_facts(root, "val")
    paths = list(val)
    own = {path: kept[path.absolute()] for path in paths if path.absolute() in kept}
    train = {path: fact for path, fact in kept_facts(root, "train").items() if fact.look is not None}
    if not train or len(own) < len(paths) or any(fact.look is None for fact in own.values()):
        return None
    return _pairs(own, train)


def _pairs(val: dict[Path, Fact], train: dict[Path, Fact]) -> list[Pair]:
    pairs = same_images([fact.look or b"" for fact in val.values()], [fact.look or b"" for fact in train.values()])
    paths, others = list(val), list(train)
    first: dict[int, int] = {}
    for one, other in pairs:
        first.setdefault(one, other)
    return [(paths[one], others[other]) for one, other in sorted(first.items())]


def in_both_words(pairs: list[Pair], images: int) -> str:
    """What is said of them: how many of the validation images, and one of them."""
    one, other = pairs[0]
    what = f"{len(pairs):,} of {images:,} validation images are training images too"
    return f"{what}, such as {one} ({other}): AP on them says little of other images"
