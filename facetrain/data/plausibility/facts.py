"""What is known of a set's image files without their labels: size, how they are turned, what they look like.

Kept in the user's cache, a file for each part of a set, and made anew for every image whose file has changed. Sizes
come from headers; looks, which tell the same image in two files, want it decoded: made where they are asked for.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from facetrain.core.errors import DataError, OutputError
from facetrain.core.files import user_cache, write_text
from facetrain.core.image_header import Header, file_header
from facetrain.core.images import opencv
from facetrain.core.machine import available_cores
from facetrain.data.plausibility.copies import look_of_file

_VERSION = 1
_SOME = 64  # files from which on threads are worth it

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Fact:
    """Of one image file.

    source:  its bytes and the time of its last change, by which the rest is known to be of this very file
    header:  None where it is no image
    look:    see `copies`; empty where it has none, None where nobody has looked
    problem: why it cannot be read, as far as that is known
    """

    source: tuple[int, int]
    header: Header | None
    look: bytes | None = None
    problem: str = ""


def image_facts(
    place: Path, part: str, paths: Iterable[Path], *, looks: bool = False, progress: Progress | None = None
) -> dict[Path, Fact]:
    """What is known of these files, of each that is there. What is new is kept for the next time.

    place, part: the set's folder and `train` or `val`, under which it is kept
    looks:       whether images are decoded for what they look like
    """
    kept = _read(place, part)
    facts: dict[Path, Fact] = {}
    wanted = []
    for path in paths:
        if (source := _source(path)) is None:
            continue
        fact = kept.get(str(path.absolute()))
        if fact is not None and fact.source == source:
            facts[path] = fact
        if fact is None or fact.source != source or (looks and fact.look is None):
            wanted.append((path, source))

    def find(item: tuple[Path, tuple[int, int]]) -> Fact:
        return _look(*item) if looks else _head(*item)

    if wanted:
        with ThreadPoolExecutor(
            available_cores() if len(wanted) >= _SOME else 1, initializer=lambda: opencv().setNumThreads(1)
        ) as pool:
            for done, ((path, _), fact) in enumerate(zip(wanted, pool.map(find, wanted), strict=True), 1):
                facts[path] = fact
                if progress:
                    progress(done, len(wanted))
        _write(place, part, kept | {str(path.absolute()): fact for path, fact in facts.items()})
    return facts


def kept_facts(place: Path, part: str) -> dict[Path, Fact]:
    """What is kept of a part of a set, of files that have not changed since; nothing is read of any image."""
    return {Path(name): fact for name, fact in _read(place, part).items() if _source(Path(name)) == fact.source}


def _head(path: Path, source: tuple[int, int]) -> Fact:
    try:
        header = file_header(path)
    except OSError as error:
        return Fact(source, None, problem=f"cannot be read: {error.strerror}")
    return Fact(source, header)


def _look(path: Path, source: tuple[int, int]) -> Fact:
    fact = _head(path, source)
    try:
        return replace(fact, look=look_of_file(path))
    except DataError as error:
        return replace(fact, look=b"", problem=error.message.removeprefix(f"{path}: "))


def _source(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _file(place: Path, part: str) -> Path:
    name = hashlib.sha256(os.fsencode(place.absolute())).hexdigest()[:20]
    return user_cache() / "facetrain" / "images" / f"{name}-{part}.json"


def _read(place: Path, part: str) -> dict[str, Fact]:
    try:
        document = json.loads(_file(place, part).read_bytes())
        if document["version"] != _VERSION:
            return {}
        return {name: _fact(*entry) for name, entry in document["images"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # nothing kept, or nothing whole
        return {}


def _fact(source: list[int], header: list[Any] | None, look: str | None, problem: str) -> Fact:
    length, time = source
    known = None
    if header is not None:
        kind, width, height, orientation = header
        known = Header(str(kind), int(width), int(height), int(orientation))
    return Fact((int(length), int(time)), known, None if look is None else bytes.fromhex(look), str(problem))


def _write(place: Path, part: str, facts: Mapping[str, Fact]) -> None:
    entries = {}
    for name, fact in facts.items():
        head = fact.header
        header = None if head is None else [head.format, head.width, head.height, head.orientation]
        entries[name] = [fact.source, header, None if fact.look is None else fact.look.hex(), fact.problem]
    try:
        write_text(_file(place, part), json.dumps({"version": _VERSION, "images": entries}))
    except OutputError:
        return  # a cache that cannot be written costs the next start a look
