"""Public weights, fetched from a server of this test: whole and right, or not there."""

import shutil
import socket
import ssl
import subprocess
from email.message import Message
from io import BytesIO
from pathlib import Path
from urllib.request import Request

import pytest
from weights_server import CONTENT, Server, row, serving

from facetrain.core import download
from facetrain.core.errors import DownloadError, InputError, OutputError, UsageError
from facetrain.detect import public
from facetrain.detect.get_weights import get_weights
from facetrain.detect.public import OTHER_FILES, PUBLIC, recognised

NAME = "tiny_released"
PROXIES = [f"{scheme}_proxy" for scheme in ("http", "https", "all", "no")]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder of fetched weights; no proxy is set."""
    monkeypatch.setenv("FACETRAIN_CACHE", str(tmp_path / "cache"))
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return tmp_path / "cache" / "facetrain" / "weights"


@pytest.fixture
def server(monkeypatch):
    """A server, and a row in the table whose files it has."""
    with serving() as running:
        monkeypatch.setattr(public, "PUBLIC", (*PUBLIC, row(running.source("ok"))))
        yield running


def left(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir()) if cache.exists() else []


def fails(server: Server, manner: str, **settings: float) -> DownloadError:
    with pytest.raises(DownloadError) as caught:
        get_weights(NAME, "onnx", source=server.source(manner), **settings)
    assert caught.value.message.startswith(f"{server.source(manner)}net.onnx: ")
    return caught.value


def test_both_files_come_whole(server, cache):
    told = []
    files = get_weights(NAME, progress=lambda count, name, total: told.append((count, name, total)))
    assert [(one.path, one.fetched) for one in files] == [
        (cache / f"{NAME}.onnx", True),
        (cache / f"{NAME}.pth", True),
    ]
    assert [one.path.read_bytes() for one in files] == list(CONTENT.values())
    assert left(cache) == [f"{NAME}.onnx", f"{NAME}.pth"]
    total = sum(map(len, CONTENT.values()))
    assert sum(count for count, _, _ in told) == total
    assert {name for _, name, _ in told} == set(left(cache))
    assert {whole for _, _, whole in told} == {total}
    assert server.asked == ["GET /ok/net.onnx", "GET /ok/net.pth"]


def test_what_is_there_is_not_fetched_again_and_what_is_damaged_is(server, cache):
    assert [one.fetched for one in get_weights(NAME, "pth")] == [True]
    assert [one.fetched for one in get_weights(NAME)] == [True, False]
    (cache / f"{NAME}.onnx").write_bytes(CONTENT["net.onnx"][:-1] + b"!")
    assert [one.fetched for one in get_weights(NAME)] == [True, False]
    assert (cache / f"{NAME}.onnx").read_bytes() == CONTENT["net.onnx"]
    assert len(server.asked) == 3


def test_an_answer_that_does_not_say_its_length(server, cache):
    get_weights(NAME, source=server.source("unsaid"))
    assert left(cache) == [f"{NAME}.onnx", f"{NAME}.pth"]


@pytest.mark.parametrize(
    ("manner", "said"),
    [
        ("cut", "was cut off: 1000 of 153600 bytes came"),
        ("short", "has 153599 bytes, and should have 153600"),
        ("longer", "has 153601 bytes, and should have 153600"),
        ("endless", "goes on after 153600 bytes"),
        ("wrong", "not the file it should be: SHA-256 "),
        ("elsewhere", "redirected to http://127.0.0.1:9/ok/net.onnx, which is not https"),
        ("to_ftp", "redirected to ftp://127.0.0.1:9/ok/net.onnx, which is not https"),
        ("absent", "the server answers 404 Not Found"),
    ],
)
def test_what_is_wrong_is_said_and_leaves_nothing(server, cache, manner, said):
    assert said in fails(server, manner).message
    assert left(cache) == []


def test_what_was_there_stays_where_the_new_file_does_not_come(server, cache):
    cache.mkdir(parents=True)
    (cache / f"{NAME}.onnx").write_bytes(b"damaged")
    fails(server, "wrong")
    assert left(cache) == [f"{NAME}.onnx"]
    assert (cache / f"{NAME}.onnx").read_bytes() == b"damaged"


def test_one_that_is_silent_or_slow_is_not_waited_for(server, cache):
    assert "no answer for 0.2 s" in fails(server, "silent", wait=0.2).message
    assert "too slow: " in fails(server, "drip", longest=0.2).message
    assert left(cache) == []


def test_without_a_network_the_addresses_and_their_places_are_named(server, cache):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DownloadError, match="cannot be fetched: Connection refused") as caught:
        get_weights(NAME, source=f"http://127.0.0.1:{port}/")
    assert caught.value.exit_code == 1
    for name in CONTENT:
        place = cache / f"{NAME}{Path(name).suffix}"
        assert f"  {server.source('ok')}{name}\n    as {place}" in caught.value.hint


def test_files_put_there_by_hand_will_do(server, cache):
    cache.mkdir(parents=True)
    (cache / f"{NAME}.onnx").write_bytes(CONTENT["net.onnx"])
    assert [one.fetched for one in get_weights(NAME, "onnx")] == [False]
    assert server.asked == []


def test_ctrl_c_leaves_nothing(server, cache):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get_weights(NAME, progress=interrupt)
    assert left(cache) == []


def test_a_cache_that_cannot_be_written(server, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FACETRAIN_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="cannot write here") as caught:
        get_weights(NAME)
    assert "FACETRAIN_CACHE" in caught.value.hint
    assert server.asked == []


def test_a_full_disk_is_not_the_networks_fault(server, cache, monkeypatch):
    opened = Path.open

    def full(path: Path, *arguments: str) -> object:
        if arguments == ("wb",):
            return opened(Path("/dev/full"), *arguments)
        return opened(path, *arguments)

    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OutputError, match="cannot be written"):
        get_weights(NAME)
    assert left(cache) == []


@pytest.mark.parametrize(
    ("name", "error", "message", "hint"),
    [
        ("yunet_n", InputError, "comes along with facetrain", "it is used by this name"),
        ("yunet_n_relased", InputError, "no public weights", "did you mean 'yunet_n_released'?"),
        ("yunet_m_released", InputError, "no public weights", "there are: "),
        ("../x", InputError, "no public weights", "there are: "),
        ("", InputError, "no public weights", "there are: "),
    ],
)
def test_names_that_are_no_public_weights(server, name, error, message, hint):
    with pytest.raises(error, match=message) as caught:
        get_weights(name)
    assert caught.value.hint.startswith(hint) or hint in caught.value.hint
    assert server.asked == []


def test_a_kind_of_file_that_there_is_not(server):
    with pytest.raises(UsageError, match="`only` pt") as caught:
        get_weights(NAME, "pt")
    assert caught.value.hint == "did you mean 'pth'? there are: onnx, pth"


# Proxies and certificates


def test_a_proxy_is_asked_where_the_environment_names_one(server, cache, monkeypatch):
    monkeypatch.setenv("http_proxy", server.source(""))
    get_weights(NAME, "onnx", source="http://weights.example/ok/")
    assert server.asked == ["GET http://weights.example/ok/net.onnx"]
    assert left(cache) == [f"{NAME}.onnx"]
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.server_port}")
    with pytest.raises(DownloadError, match="cannot be fetched: Tunnel connection failed: 403"):
        get_weights("yunet_n_released")
    assert server.asked[-1] == "CONNECT raw.githubusercontent.com:443"


def test_no_proxy_is_asked_for_what_no_proxy_names(server, cache, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    get_weights(NAME)
    assert server.asked == ["GET /ok/net.onnx", "GET /ok/net.pth"]


def test_a_certificate_that_nobody_vouches_for(server, cache, tmp_path):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    with pytest.raises(DownloadError, match="certificate verify failed"):
        get_weights(NAME, source=f"https://localhost:{server.server_port}/ok/")
    assert server.asked == []
    assert left(cache) == []


def test_a_redirect_to_https_is_followed():
    request = Request("https://weights.example/a")
    follow = download._SafeRedirects().redirect_request
    found = follow(request, BytesIO(), 302, "Found", Message(), "https://other.example/b")
    assert found is not None
    assert found.full_url == "https://other.example/b"


# The table


def test_every_row_is_whole_and_by_https():
    names = [row.name for row in PUBLIC]
    assert len(set(names)) == len(names)
    hashes = [file.sha256 for row in PUBLIC for file in row.files] + list(OTHER_FILES)
    assert len(set(hashes)) == len(hashes)
    assert all(len(digest) == 64 and int(digest, 16) for digest in hashes)
    for row_ in PUBLIC:
        assert row_.source.startswith("https://")
        assert row_.source.endswith("/")
        assert sorted(file.suffix for file in row_.files) == [".onnx", ".pth"]
        assert all(0 < file.size < 4 << 20 for file in row_.files)
        assert set(row_.ap) == {"easy", "medium", "hard"}
        assert all(low < value < high for value, low, high in row_.ap.values())
        assert row_.licence
        assert row_.licence_from
    assert {other.name for other in OTHER_FILES.values()} <= set(names)


@pytest.mark.parametrize("size", "ns")
def test_the_released_files_are_recognised(shared, size, tmp_path):
    files = shared / "reference/yunet"
    for form in ("dynamic", "320_320", "640_640"):
        copy = tmp_path / "renamed.bin"
        shutil.copy(files / f"yunet_{size}_{form}.onnx", copy)
        known = recognised(copy)
        assert known is not None
        assert known.name == f"yunet_{size}_released"
        assert f"onnx/yunet_{size}_{form}.onnx" in known.what
        assert ("2023mar" in known.what) is (size == "s" and form == "640_640")
    row_ = public.public_weights(f"yunet_{size}_released")
    assert row_ is not None
    assert (files / f"yunet_{size}_dynamic.onnx").stat().st_size == row_.file(".onnx").size


def test_other_files_are_not_recognised(spots, tmp_path):
    assert recognised(spots) is None
    assert recognised(tmp_path / "absent") is None
