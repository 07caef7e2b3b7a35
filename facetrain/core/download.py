"""One file from the network into its place: of a known size and SHA-256, whole or not at all.

By the standard library, which checks certificates and goes through the proxies that HTTPS_PROXY and NO_PROXY name.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from http.client import HTTPMessage
from pathlib import Path
from typing import IO
from urllib.request import HTTPRedirectHandler, Request

from facetrain import __version__
from facetrain.core.errors import DownloadError
from facetrain.core.fetch import answered
from facetrain.core.files import replacing

_PIECE = 1 << 16
WAIT = 30.0  # seconds without a byte
LONGEST = 600.0  # seconds for one file

Progress = Callable[[int], None]  # of bytes that have come


def download(
    address: str,
    path: Path,
    size: int,
    sha256: str,
    progress: Progress = lambda count: None,
    *,
    wait: float = WAIT,
    longest: float = LONGEST,
) -> None:
    """Fetch `address` into `path`, where it gets once it has `size` bytes with that SHA-256 and not before.

    wait, longest: seconds to wait for the next bytes, and for all of them
    Raises DownloadError where it does not come or is another file, OutputError where it cannot be written.
    """
    digest = hashlib.sha256()
    with replacing(path) as scratch:
        with scratch.open("wb") as file:
            for piece in _pieces(address, size, wait, longest):
                digest.update(piece)
                file.write(piece)
                progress(len(piece))
        if digest.hexdigest() != sha256:
            raise DownloadError(
                f"{address}: not the file it should be: SHA-256 {digest.hexdigest()[:12]}…, not {sha256[:12]}…"
            )


def _pieces(address: str, size: int, wait: float, longest: float) -> Iterator[bytes]:
    """The bytes of an answer as they come; `size` of them, and never more are taken."""
    end = time.monotonic() + longest
    received = 0
    request = Request(address, headers={"User-Agent": f"facetrain/{__version__}"})
    with answered(request, address, wait, _SafeRedirects()) as answer:
        told = answer.headers.get("Content-Length")
        if told is not None and told != str(size):
            raise DownloadError(f"{address}: has {told} bytes, and should have {size}")
        while piece := answer.read1(min(_PIECE, size + 1 - received)):
            received += len(piece)
            if received > size:
                raise DownloadError(f"{address}: goes on after {size} bytes, which is all it should have")
            yield piece
            if time.monotonic() > end:
                raise DownloadError(f"{address}: too slow: {received} of {size} bytes in {longest:g} s")
    if received < size:
        raise DownloadError(f"{address}: was cut off: {received} of {size} bytes came")


class _SafeRedirects(HTTPRedirectHandler):
    """Lets an answer point elsewhere, if that is https too."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        """The request to the new address. Raises DownloadError where it is not https."""
        if not newurl.lower().startswith("https://"):
            fp.close()
            raise DownloadError(f"{req.full_url}: redirected to {newurl[:200]}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
