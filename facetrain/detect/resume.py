"""What JSON lines hold already, so that it is not done again: `--resume`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facetrain.core.errors import DataError, UsageError

_MADE_BY = "facetrain"  # another version may look at the same image in the same way: it is no setting


@dataclass
class Done:
    """images: names of those that are done; frames: of moving sources the last frame that is; videos: all of whose are.

    whole: bytes of the file up to the end of its last whole line
    """

    images: set[str] = field(default_factory=set)
    frames: dict[str, int] = field(default_factory=dict)
    videos: set[str] = field(default_factory=set)
    whole: int = 0

    def holds(self, name: str) -> bool:
        """Whether a source is done."""
        return name in self.images or name in self.videos


def read_done(path: Path, head: Mapping[str, Any]) -> Done:
    """What a file of JSON lines holds; nothing where there is none. A last line that was cut off does not count.

    head: the first line that the file would get now
    Raises UsageError where it was made with other settings, DataError where it is no such file.
    """
    done = Done()
    if not path.exists():
        return done
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                entry = _parsed(path, number, line)
                if number == 1:
                    _check_head(path, entry, head)
                else:
                    _take(done, entry)
                done.whole += len(line)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return done


def cut_off(path: Path, done: Done) -> None:
    """Remove a last line that is not whole."""
    if path.exists() and path.stat().st_size > done.whole:
        with path.open("rb+") as file:
            file.truncate(done.whole)


def _parsed(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        raise DataError(f"{path}:{number}: not a JSON object", "name another file, or leave out `resume`")
    return entry


def _take(done: Done, entry: Mapping[str, Any]) -> None:
    name = entry.get("path")
    if not isinstance(name, str) or "error" in entry:
        return
    if "frames" in entry:
        done.videos.add(name)
    elif isinstance(entry.get("frame"), int):
        done.frames[name] = entry["frame"]
    else:
        done.images.add(name)


def _check_head(path: Path, there: Mapping[str, Any], head: Mapping[str, Any]) -> None:
    if "schema" not in there or "weights" not in there:
        raise DataError(f"{path}:1: not the first line of JSON lines", "name another file, or leave out `resume`")
    now = json.loads(json.dumps(head))
    differ = [
        f"{key} {_shown(there.get(key))} then, {_shown(now.get(key))} now"
        for key in dict.fromkeys((*there, *now))
        if key != _MADE_BY and there.get(key) != now.get(key)
    ]
    if differ:
        raise UsageError(
            f"{path}: was made with other settings: {'; '.join(differ)}",
            "give the same ones, or name another file",
        )


def _shown(value: object) -> str:
    text = "not there" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:20]}…{text[-8:]}"
