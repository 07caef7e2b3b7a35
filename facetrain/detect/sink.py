"""Text that grows while a command works: a file that is there when it is whole, one that grows, or standard output."""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from facetrain.core.errors import OutputError
from facetrain.core.files import replacing

STDOUT = Path("-")


@dataclass(frozen=True)
class Sink:
    """write: takes text as it is, raises OutputError; close: to be called once all was written."""

    write: Callable[[str], object]
    close: Callable[[], object]


def text_sink(path: Path, stdout: Callable[[str], object], *, whole: bool, append: bool = False) -> Sink:
    """A place for text in UTF-8; `-` is standard output.

    whole:  the file is there when all of it is; else it grows, and what was written so far can be read
    append: it grows behind what is there
    """
    if path == STDOUT:
        return Sink(stdout, lambda: None)
    return _File(path, whole, append).sink()


class _File:
    """A file, opened when something is written to it."""

    def __init__(self, path: Path, whole: bool, append: bool) -> None:
        self._path = path
        self._whole = whole
        self._mode: Literal["a", "w"] = "a" if append else "w"
        self._stack = ExitStack()
        self._file: IO[str] | None = None
        self._broken: OutputError | None = None

    def sink(self) -> Sink:
        return Sink(self._write, self._close)

    def _write(self, text: str) -> None:
        if self._broken is not None:
            raise self._broken
        try:
            self._put(text)
        except OSError as error:
            self._broken = OutputError(f"{self._path}: cannot be written: {error.strerror}", "is the disk full?")
            with suppress(OutputError):  # the same once more
                self._stack.__exit__(type(error), error, error.__traceback__)  # nothing half written is left
            raise self._broken from error

    def _put(self, text: str) -> None:
        if self._file is None:
            target = self._stack.enter_context(replacing(self._path)) if self._whole else self._path
            target.parent.mkdir(parents=True, exist_ok=True)
            self._file = target.open(self._mode, encoding="utf-8", errors="backslashreplace", newline="")
        self._file.write(text)
        if not self._whole:
            self._file.flush()  # who reads along sees whole lines

    def _close(self) -> None:
        if self._broken is not None:
            return
        try:
            if self._file is not None:
                self._file.close()
            self._stack.close()
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be written: {error.strerror}", "is the disk full?") from error
