"""Bytes from an address: bounded in number and in time, by http and https alone.

By the standard library, which checks certificates and goes through the proxies that HTTPS_PROXY and NO_PROXY name.
"""

import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage, HTTPResponse
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from facetrain import __version__
from facetrain.core.errors import DownloadError

_PIECE = 1 << 16
_REDIRECTS = 10
_AS_THEY_ARE = "/%:@!$&'()*+,;=~"  # in an address; all else, blanks and letters beyond ASCII, is coded


@dataclass(frozen=True)
class Limits:
    """most: bytes of an answer; wait: seconds without a byte; longest: seconds for its body."""

    most: int = 256 << 20
    wait: float = 15.0
    longest: float = 120.0


class Answer:
    """What a server gives. kind: its media type, such as `image/jpeg`, in small letters; empty where it says none."""

    def __init__(self, address: str, response: HTTPResponse, limits: Limits) -> None:
        self.kind = (response.headers.get_content_type() if "Content-Type" in response.headers else "").lower()
        self._address = address
        self._response = response
        self._limits = limits

    def read(self) -> bytes:
        """All of it. Raises DownloadError where it is too long, too slow or cut off."""
        limits, end = self._limits, time.monotonic() + self._limits.longest
        told = self._response.headers.get("Content-Length", "")
        size = int(told) if told.isascii() and told.isdecimal() else None
        if size is not None and size > limits.most:
            raise DownloadError(f"{self._address}: {size >> 20} MiB are too many", f"at most {limits.most >> 20} MiB")
        pieces, received = [], 0
        while piece := self._response.read1(_PIECE):
            pieces.append(piece)
            received += len(piece)
            if received > limits.most:
                raise DownloadError(f"{self._address}: goes on after {limits.most >> 20} MiB, which is the most")
            if time.monotonic() > end:
                raise DownloadError(f"{self._address}: too slow: {received:,} bytes in {limits.longest:g} s")
        if size is not None and received < size:
            raise DownloadError(f"{self._address}: was cut off: {received:,} of {size:,} bytes came")
        return b"".join(pieces)


@contextmanager
def answer_of(address: str, name: str, limits: Limits) -> Iterator[Answer]:
    """Ask a server. A user and a password in the address are sent as HTTP's basic ones.

    name: the address as it may be shown. Raises DownloadError, also for what happens while the answer is read.
    """
    with answered(_request(address), name, limits.wait, _Redirects(name)) as response:
        yield Answer(name, response, limits)


@contextmanager
def answered(request: Request, name: str, wait: float, redirects: HTTPRedirectHandler) -> Iterator[HTTPResponse]:
    """What a server answers. What goes wrong, also while it is read, is a DownloadError that begins with `name`.

    wait: seconds without a byte; redirects: says where an answer may point to
    """
    try:
        with build_opener(redirects).open(request, timeout=wait) as response:
            yield response
    except HTTPError as error:
        error.close()
        if "infinite loop" in str(error.reason):
            raise DownloadError(f"{name}: is redirected without end") from error
        raise DownloadError(f"{name}: the server answers {error.code} {error.reason}") from error
    except TimeoutError as error:
        raise DownloadError(f"{name}: no answer for {wait:g} s") from error
    except (OSError, HTTPException, ValueError) as error:  # ValueError: of an answer's or a proxy's malformed parts
        raise DownloadError(f"{name}: cannot be fetched: {_reason_of(error, wait)}") from error


def _request(address: str) -> Request:
    parts = urlsplit(address)
    user, at, host = parts.netloc.rpartition("@")
    if not host.isascii():
        host = host.encode("idna").decode()
    path, query = quote(parts.path, _AS_THEY_ARE), quote(parts.query, f"{_AS_THEY_ARE}?")
    headers = {"User-Agent": f"facetrain/{__version__}", "Accept": "*/*"}
    request = Request(urlunsplit(parts._replace(netloc=host, path=path, query=query, fragment="")), headers=headers)
    if at:  # where it is redirected to, nobody gets it
        request.add_unredirected_header("Authorization", f"Basic {b64encode(unquote(user).encode()).decode()}")
    return request


def _reason_of(error: Exception, wait: float) -> str:
    """What the innermost error says, in a line. wait: seconds that were waited for an answer."""
    inner = error.reason if isinstance(error, URLError) else error
    if isinstance(inner, TimeoutError):
        return f"no answer for {wait:g} s"
    text = (inner.strerror if isinstance(inner, OSError) else None) or str(inner) or type(inner).__name__
    return text.splitlines()[0][:200]


class _Redirects(HTTPRedirectHandler):
    """Lets an answer point elsewhere, to http or https, and from https to nothing less."""

    max_redirections = _REDIRECTS

    def __init__(self, name: str) -> None:
        self._name = name

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        """The request to the new address. Raises DownloadError where it must not go there."""
        scheme = newurl.partition(":")[0].lower()
        if scheme not in ("http", "https") or (req.type == "https" and scheme != "https"):
            fp.close()
            wanted = "https" if req.type == "https" else "http or https"
            raise DownloadError(f"{self._name}: redirected to {newurl[:200]}, which is not {wanted}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
