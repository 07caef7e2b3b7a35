"""A server on this machine that gives files away well and badly, by the first folder of the path that is asked for."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from urllib.parse import urlsplit

from facetrain.detect.public import PublicFile, PublicWeights

# larger than one piece of a download
CONTENT = {"net.onnx": bytes(range(256)) * 600, "net.pth": b"PK" + bytes(99_998)}


class Server(ThreadingHTTPServer):
    """asked: the requests so far, `GET /ok/net.onnx`; over: set when the test is."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.over = Event()
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, *_: object) -> None:
        """The other side may leave at any time."""

    def source(self, manner: str) -> str:
        """The address below which files come in a manner: ok, cut, longer, endless, wrong, …"""
        return f"http://127.0.0.1:{self.server_port}/{manner}/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_CONNECT(self) -> None:
        self.server.asked.append(f"CONNECT {self.path}")
        self.send_error(403)

    def do_GET(self) -> None:
        self.server.asked.append(f"GET {self.path}")
        _, manner, *_, name = urlsplit(self.path).path.split("/")
        content = CONTENT[name]
        if manner in ("elsewhere", "to_ftp"):
            self.send_response(302)
            self.send_header("Location", f"{'http' if manner == 'elsewhere' else 'ftp'}://127.0.0.1:9/ok/{name}")
            self.end_headers()
            return
        if manner == "absent":
            self.send_error(404)
            return
        if manner == "silent":
            self.server.over.wait(20)
            return
        if manner == "wrong":
            content = content[:-1] + b"!"
        told = {"endless": None, "unsaid": None, "short": len(content) - 1, "longer": len(content) + 1}
        length = told.get(manner, len(content))
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        with suppress(OSError):  # the other side may have heard enough
            self.send_in(manner, content)

    def send_in(self, manner: str, content: bytes) -> None:
        if manner == "cut":
            self.wfile.write(content[:1000])
        elif manner == "endless":
            while not self.server.over.is_set():
                self.wfile.write(content)
        elif manner == "drip":
            for byte in content:
                self.wfile.write(bytes([byte]))
                time.sleep(0.02)
                if self.server.over.is_set():
                    return
        else:
            self.wfile.write(content)


@contextmanager
def serving() -> Iterator[Server]:
    """A server while the block lasts."""
    with Server() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


def row(source: str, name: str = "tiny_released") -> PublicWeights:
    """A row of the table whose files are CONTENT."""
    files = [PublicFile(path, len(data), hashlib.sha256(data).hexdigest()) for path, data in CONTENT.items()]
    ap = {"easy": (0.5, 0.4, 0.6), "medium": (0.4, 0.3, 0.5), "hard": (0.3, 0.2, 0.4)}
    return PublicWeights(name, "a network of this test", source, "MIT", "its page", tuple(files), ap)
