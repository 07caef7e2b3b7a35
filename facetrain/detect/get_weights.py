"""Public weights fetched into the cache, when somebody asks for it: the only module that opens a connection."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from facetrain.core.download import LONGEST, WAIT, download
from facetrain.core.errors import DownloadError, InputError, OutputError, UsageError
from facetrain.core.suggest import choices_hint
from facetrain.detect.bundled import bundled_names
from facetrain.detect.public import PublicFile, PublicWeights, cached, public_names, public_weights, state_of

Progress = Callable[[int, str, int], None]  # bytes that have come, of which file, bytes of all files


@dataclass(frozen=True)
class CachedFile:
    """A file that is in the cache now. fetched: whether it has just come."""

    path: Path
    file: PublicFile
    fetched: bool


def get_weights(
    name: str,
    only: str | None = None,
    *,
    source: str | None = None,
    progress: Progress = lambda count, file, total: None,
    wait: float = WAIT,
    longest: float = LONGEST,
) -> list[CachedFile]:
    """Fetch the files of public weights that are not in the cache, or are damaged there.

    only:   `onnx` or `pth`: that file alone
    source: an address in place of the one in the table
    wait, longest: see `download`

    Raises InputError for a name that is no public one, DownloadError where a file does not come, with the addresses and
    where the files belong, and OutputError where the cache cannot be written.
    """
    row = _row(name)
    files = [file for file in row.files if only in (None, file.suffix.removeprefix("."))]
    if not files:
        kinds = [file.suffix.removeprefix(".") for file in row.files]
        raise UsageError(f"`only` {only}: {name} has no such file", choices_hint(only or "", kinds))
    wanted = [file for file in files if state_of(row, file) != "whole"]
    total = sum(file.size for file in wanted)
    for file in wanted:
        path = cached(row, file)
        try:
            download(
                f"{source or row.source}{file.path}",
                path,
                file.size,
                file.sha256,
                lambda count, path=path: progress(count, path.name, total),  # type: ignore[misc]
                wait=wait,
                longest=longest,
            )
        except DownloadError as error:
            error.hint = _by_hand(row, files)
            raise
        except OutputError as error:
            error.hint = "FACETRAIN_CACHE chooses another cache folder"
            raise
    return [CachedFile(cached(row, file), file, file in wanted) for file in files]


def _row(name: str) -> PublicWeights:
    row = public_weights(name)
    if row is not None:
        return row
    if name in bundled_names():
        raise InputError(
            f"{name}: comes along with facetrain, there is nothing to fetch",
            f"it is used by this name; public ones: {', '.join(public_names())}",
        )
    raise InputError(f"{name}: no public weights have this name", choices_hint(name, public_names()))


def _by_hand(row: PublicWeights, files: list[PublicFile]) -> str:
    """How to do without this machine's network: each address that is still missing, and the file it belongs into."""
    lines = [
        f"  {row.source}{file.path}\n    as {cached(row, file)}" for file in files if state_of(row, file) != "whole"
    ]
    return "\n".join(["try again, or fetch elsewhere and put here:", *lines])
