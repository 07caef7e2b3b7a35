import time
from base64 import b64decode
from contextlib import suppress
from fractions import Fraction
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import ClassVar

import cv2
import numpy as np
import pytest
from clips import full, make_video, video

from facetrain.core.errors import DataError, DownloadError, InputError
from facetrain.core.fetch import Limits, _request
from facetrain.media.addresses import WebImage, file_name, is_address, is_stream, source_at, without_password
from facetrain.media.cut import Cut
from facetrain.media.find import find_sources

IMAGE = cv2.imencode(".png", np.arange(48, dtype=np.uint8).reshape(4, 4, 3))[1].tobytes()


class Handler(BaseHTTPRequestHandler):
    """Gives an image away well and badly, by the path that is asked for."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        way = self.path.strip("/")
        if way in self.redirects:
            self.send_response(302)
            self.send_header("Location", self.redirects[way])
            self.end_headers()
            return
        if way == "silent":
            self.server.over.wait(20)
            return
        if way == "absent":
            self.send_error(404)
            return
        self.send_response(200)
        kinds = {"page": "text/html; charset=utf-8", "damaged": "image/png", "unsaid": None}
        if (kind := kinds.get(way, "image/png")) is not None:
            self.send_header("Content-Type", kind)
        if way in ("ok", "cut", "huge"):
            self.send_header("Content-Length", str({"huge": 1 << 40}.get(way, len(IMAGE))))
        self.end_headers()
        with suppress(OSError):
            if way in ("ok", "unsaid", "secret"):
                self.wfile.write(IMAGE)
            elif way == "cut":
                self.wfile.write(IMAGE[:20])
            elif way == "page":
                self.wfile.write(b"<html>no image</html>")
            elif way == "damaged":
                self.wfile.write(b"\x89PNG nothing")
            while way in ("endless", "drip") and not self.server.over.is_set():
                self.wfile.write(bytes(1 << 16) if way == "endless" else b"x")
                time.sleep(0 if way == "endless" else 0.02)

    redirects: ClassVar = {
        "moved": "/ok",
        "round": "/round",
        "to_file": "file:///etc/passwd",
        "to_ftp": "ftp://127.0.0.1/x",
    }


@pytest.fixture(scope="module")
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None
    server.asked, server.over = [], Event()
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.over.set()
    server.shutdown()


def image_at(server, way, **limits):
    address = f"http://127.0.0.1:{server.server_port}/{way}"
    source = WebImage(address, address, None, Cut(), Limits(**limits))
    [frame] = source.frames(lambda width, height: 1)
    return frame.image.image


@pytest.mark.parametrize("way", ["ok", "unsaid", "moved"])
def test_an_image(server, way):
    assert (image_at(server, way) == np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).all()


@pytest.mark.parametrize(
    ("way", "kind", "wrong"),
    [
        ("absent", DownloadError, "the server answers 404"),
        ("round", DownloadError, "is redirected without end"),
        ("to_file", DownloadError, "file:///etc/passwd. is not allowed"),
        ("to_ftp", DownloadError, "redirected to ftp://127.0.0.1/x, which is not http or https"),
        ("cut", DownloadError, r"was cut off: 20 of \d+ bytes came"),
        ("huge", DownloadError, "1048576 MiB are too many"),
        ("endless", DownloadError, "goes on after 1 MiB"),
        ("drip", DownloadError, r"too slow: \d+ bytes in 0.3 s"),
        ("silent", DownloadError, "no answer for 0.3 s"),
        ("page", DataError, "no image, but text/html"),
        ("damaged", DataError, "not an image, or a damaged one"),
    ],
)
def test_what_comes_badly(server, way, kind, wrong):
    begun = time.monotonic()
    with pytest.raises(kind, match=wrong):
        image_at(server, way, most=1 << 20, wait=0.3, longest=0.3)
    assert time.monotonic() - begun < 10


def test_a_password_is_sent_and_not_shown(server):
    address = f"http://me:se%3Acret@127.0.0.1:{server.server_port}/secret"
    found = find_sources([address])
    [source] = found.sources
    assert source.name == f"http://me:***@127.0.0.1:{server.server_port}/secret"
    assert source.target.name == "secret.png"
    assert len(list(source.frames(lambda width, height: 1))) == 1
    path, header = server.asked[-1]
    assert (path, b64decode(header.removeprefix("Basic "))) == ("/secret", b"me:se:cret")


def test_a_password_does_not_go_where_an_address_is_redirected_to(server):
    address = f"http://me:secret@127.0.0.1:{server.server_port}/moved"
    [source] = find_sources([address]).sources
    assert len(list(source.frames(lambda width, height: 1))) == 1
    (first, header), (second, nothing) = server.asked[-2:]
    assert (first, header is not None, second, nothing) == ("/moved", True, "/ok", None)


def test_no_server_at_all():
    source = WebImage("x", "http://127.0.0.1:9/a.jpg", None, Cut())
    with pytest.raises(DownloadError, match="x: cannot be fetched: Connection refused"):
        next(source.frames(lambda width, height: 1))


@pytest.mark.parametrize(
    ("address", "stream", "name"),
    [
        ("http://h/a/photo.jpg?x=1", False, "photo.jpg"),
        ("https://h", False, "h"),
        ("https://h/..%2f..%2fetc", False, "etc"),
        ("https://h/a%00b%1b.png", False, "a_b_.png"),
        ("https://h/v.MP4", True, "v.MP4"),
        ("https://h/live.m3u8", True, "live.m3u8"),
        ("rtsp://user:pw@camera:554/one", True, "one"),
        ("udp://@239.0.0.1:1234", True, "239.0.0.1"),
        ("rtsp://user:pw@pw@camera/one@two", True, "one_two"),
    ],
)
def test_what_an_address_tells(address, stream, name):
    assert is_address(address)
    assert (is_stream(address), file_name(address)) == (stream, name)
    assert "pw" not in without_password(address)


@pytest.mark.parametrize(
    "address", ["ftp://h/a.jpg", "file:///a.jpg", "http:///a.jpg", "http://h:99999/a", "htp://h/a"]
)
def test_addresses_that_are_not_read(address):
    with pytest.raises(InputError):
        is_stream(address)
    found = find_sources([address])
    assert (found.sources, len(found.failures)) == ([], 1)


def test_no_word_that_is_a_path_is_an_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not is_address("C://photos/a.jpg")
    assert not is_address("photos/a.jpg")


def test_a_list_that_a_stream_is_made_of(tmp_path):
    pytest.importorskip("av", reason="needs PyAV: pip install 'facetrain[video]'")
    make_video(tmp_path / "live.ts", [Fraction(i, 30) for i in range(20)])
    text = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.667,\nlive.ts\n#EXT-X-ENDLIST\n"
    (tmp_path / "live.m3u8").write_text(text)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            source = source_at(f"http://127.0.0.1:{server.server_port}/live.m3u8", Path("live.mp4"), Cut())
            assert len(list(source.frames(full))) == 20
        finally:
            server.shutdown()
    with pytest.raises(DataError, match="not a video, but Apple HTTP Live Streaming"):
        next(iter(video(tmp_path / "live.m3u8").frames(full)))


def test_blanks_and_letters_of_an_address_are_coded():
    request = _request("http://bücher.example:81/ü b.jpg?q=ä b%20c#part")
    assert request.full_url == "http://xn--bcher-kva.example:81/%C3%BC%20b.jpg?q=%C3%A4%20b%20c"
