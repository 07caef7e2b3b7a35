"""Label files as text: read whole, and their numbers."""

from collections.abc import Sequence
from pathlib import Path

from facetrain.core.errors import DataError
from facetrain.core.files import is_lfs_pointer

_START = 4096  # bytes that tell a format


class MalformedError(Exception):
    """Something in a label file that cannot be read; a reader turns it into a LabelProblem."""

    def __init__(self, token: str, message: str) -> None:
        super().__init__(token, message)
        self.token = token
        self.message = message


def read_text(path: Path) -> str:
    """The file's text. Bytes that are not UTF-8 come as lone surrogates, so that their line can be named."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if is_lfs_pointer(content):
        raise DataError(f"{path}: a git-lfs pointer, not a label file", "run `git lfs pull` where it came from")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: UTF-16 text", "save it as UTF-8")
    return content.decode("utf-8-sig", "surrogateescape")


def lines_of(text: str) -> list[str]:
    """The lines of a text, whatever their ends are."""
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")


def start_of(path: Path, size: int = _START) -> str:
    """The first characters of a file, by which its format is recognised; "" where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(size).decode("utf-8-sig", "replace")
    except OSError:
        return ""


def ends_of(path: Path, size: int = 1 << 16) -> str:
    """The start and the end of a file, which tell the format of one that is long."""
    try:
        with path.open("rb") as file:
            start = file.read(size)
            file.seek(max(path.stat().st_size - size, len(start)))
            return (start + b"\n" + file.read()).decode("utf-8-sig", "replace")
    except OSError:
        return ""


def first_lines(path: Path, count: int) -> list[str]:
    """The first lines of a file that are not blank, as many as there are within its first characters."""
    start = start_of(path)
    lines = lines_of(start)
    if len(start) >= _START - 3:
        lines.pop()  # likely cut
    return [line for line in lines if line.strip()][:count]


def numbers(tokens: Sequence[str]) -> list[float]:
    """The numbers that some tokens are. Raises MalformedError that names the first that is none."""
    try:
        values = list(map(float, tokens))
    except ValueError:
        values = []
    # Python reads 1_0 as 10. Anywhere else the underscore is a slip of the finger.
    if (not values and tokens) or "_" in "".join(tokens):
        raise MalformedError(next(token for token in tokens if not is_number(token)), "not a number")
    return values


def is_number(token: str) -> bool:
    """Whether a token is a number, as files write them."""
    try:
        float(token)
    except ValueError:
        return False
    return "_" not in token
