"""`facetrain weights`: the list, and what fetching says."""

import json
import socket

import pytest
from weights_server import CONTENT, row, serving

from facetrain.cli.app import run_cli
from facetrain.core.documents.common import Header
from facetrain.core.documents.weights import FetchedDocument
from facetrain.detect import public
from facetrain.detect.bundled import FOLDER, bundled_ap, bundled_names
from facetrain.detect.public import OTHER_FILES, PUBLIC
from tests.documents.fields import hints, misfits

NAME = "tiny_released"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FACETRAIN_CACHE", str(tmp_path))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "facetrain" / "weights"


@pytest.fixture
def table(monkeypatch):
    """Let the list have these rows and no others."""

    def rows(*given):
        monkeypatch.setattr(public, "PUBLIC", given)

    return rows


def listed(capsys, *arguments):
    assert run_cli(["weights", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_the_list_names_all_and_fits_a_narrow_terminal(capsys, cache):
    out = listed(capsys)
    for name in [*bundled_names(), *(row_.name for row_ in PUBLIC)]:
        assert out.count(f"\n{name} ") == 2  # what it is, and how good
    assert "yunet_s  " in out
    assert ".799 [.745, .842]" in out
    assert "OpenCV zoo's face_detection_yunet_2023mar.onnx holds yunet_s_released" in out
    assert "facetrain weights get yunet_n_released" in out
    lines = [line for line in out.splitlines() if str(cache) not in line]
    assert max(map(len, lines)) <= 80


def test_the_list_as_json(capsys, cache):
    document = json.loads(listed(capsys, "--json"))
    assert list(document) == ["schema", "facetrain", "weights", "cache", "other_files"]
    assert document["cache"] == str(cache)
    rows = {entry["name"]: entry for entry in document["weights"]}
    assert [rows[name]["kind"] for name in ("yunet_n", "yunet_n_released")] == ["bundled", "public"]
    assert {entry["sha256"] for entry in document["other_files"]} == set(OTHER_FILES)
    released = rows["yunet_s_released"]
    assert released["licence"] == "Apache-2.0"
    assert released["ap"]["hard"] == {"estimate": 0.751, "low": 0.686, "high": 0.801}
    assert [file["state"] for file in released["files"]] == ["absent", "absent"]
    assert released["files"][1]["address"] == (
        "https://raw.githubusercontent.com/ShiqiYu/libfacedetection.train/"
        "0047ac24afb1a50a0c6105001c89d1b5b805dbf1/weights/yunet_s.pth"
    )


def test_a_new_row_is_in_the_list_and_can_be_fetched(capsys, cache, table):
    with serving() as server:
        table(*PUBLIC, row(server.source("ok")))
        assert f"\n{NAME}" in listed(capsys)
        assert ".300 [.200, .400]" in listed(capsys)
        assert run_cli(["weights", "get", NAME]) == 0
        out, _ = capsys.readouterr()
        assert f"{cache / NAME}.onnx: {len(CONTENT['net.onnx']):,} bytes, fetched" in out
        assert "licence: MIT (its page)" in out
        assert "in the cache\n" in listed(capsys)
        assert run_cli(["weights", "get", NAME, "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        header = {name: document.pop(name) for name in hints(Header)}
        assert misfits(header, Header) == misfits(document, FetchedDocument) == []
        assert list(document) == list(hints(FetchedDocument))
        assert [file["fetched"] for file in document["files"]] == [False, False]
        assert document["files"][0]["address"] == f"{server.source('ok')}net.onnx"


def test_where_files_are_is_told(capsys, cache, table):
    table(row("https://weights.example/"))
    assert "not fetched" in listed(capsys)
    cache.mkdir(parents=True)
    (cache / f"{NAME}.pth").write_bytes(CONTENT["net.pth"])
    assert "in the cache (.pth alone)" in listed(capsys)
    (cache / f"{NAME}.onnx").write_bytes(b"x")
    assert "in the cache (.pth alone); damaged: .onnx" in listed(capsys)


def test_what_does_not_come_is_an_error_and_a_way_out(capsys, cache, table):
    with serving() as server:
        table(row(server.source("wrong")))
        assert run_cli(["weights", "get", NAME, "--only", "pth"]) == 1
        out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {server.source('wrong')}net.pth: not the file it should be")
    assert f"    as {cache / NAME}.pth" in err
    assert "net.onnx" not in err
    assert list(cache.iterdir()) == []


def test_ctrl_c_says_that_nothing_was_kept(capsys, cache, table, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(socket, "create_connection", interrupt)
    table(row("http://127.0.0.1:9/"))
    assert run_cli(["weights", "get", NAME]) == 130
    out, err = capsys.readouterr()
    assert (out, err) == ("", "interrupted: what has not come whole was not kept\n")
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gte", "yunet_n_released"], "gte: nothing that `facetrain weights` does"),
        (["get"], "no NAME given"),
        (["get", "yunet_n"], "yunet_n: comes along with facetrain"),
        (["get", "yunet_s_relased"], "did you mean 'yunet_s_released'?"),
        (["get", "yunet_n_released", "--only", "pt"], "--only pt: yunet_n_released has no such file"),
        (["--only", "onnx"], "--only is for"),
    ],
)
def test_wrong_usage(capsys, monkeypatch, arguments, said):
    monkeypatch.setattr(socket, "create_connection", lambda *_: pytest.fail("asks the network"))
    assert run_cli(["weights", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


def test_aps_of_bundled_weights_are_those_of_their_cards():
    for name in bundled_names():
        card = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
        found = bundled_ap(name)
        assert list(found) == ["easy", "medium", "hard"]
        cells = " | ".join(f"{v:.3f} [{f'{low:.3f}'[1:]}, {f'{high:.3f}'[1:]}]" for v, low, high in found.values())
        assert f"| these weights | {cells} |" in card
    assert bundled_ap("absent") == {}


@pytest.mark.parametrize("size", "ns")
def test_aps_of_released_weights_are_those_of_the_cards(size):
    released = public.public_weights(f"yunet_{size}_released")
    card = (FOLDER / f"yunet_{size}.md").read_text(encoding="utf-8")
    cells = " | ".join(f"{v:.3f} [{f'{low:.3f}'[1:]}, {f'{high:.3f}'[1:]}]" for v, low, high in released.ap.values())
    assert f"| released by the YuNet authors (640 epochs, all images) | {cells} |" in card
