"""Every block of README.md and of the pages in examples/ is run, or says why not; and how many are not is counted."""

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import (
    LANGUAGES,
    ROOT,
    Block,
    blocks,
    commands,
    copy_examples,
    options_of,
    page_name,
    page_paths,
    run,
    without_quotes,
)
from stand_ins import write_run, write_stand_ins

from facetrain.cli import commands as commands_folder
from facetrain.cli.app import run_cli
from facetrain.core.images import read_image, write_image
from facetrain.data.sample_set.make import draw_image

# Blocks that are not run, by page. A new block is run: this number is raised only with a reason on the page.
NOT_RUN = {
    "examples/own_images.md": 1,
    "README.md": 4,
    "examples/coming_from_the_original.md": 1,
    "examples/compare.md": 1,
    "examples/cpp.md": 2,
    "examples/detect.md": 1,
    "examples/distil.md": 1,
    "examples/label_images.md": 1,
    "examples/licences.md": 1,
    "examples/many_machines.md": 5,
    "examples/onnx.md": 1,
    "examples/train_widerface.md": 4,
}
MOST_LINES = {"README.md": 150, "examples/json.md": 1000}  # json.md is written by a program
SLOW = ("slow", "shorter")  # marks of blocks that are run by the slow tests
PAGES = page_paths()
names = pytest.mark.parametrize("path", PAGES, ids=page_name)


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what pages name, to be copied for each page."""
    folder = tmp_path_factory.mktemp("stand-ins") / "work"
    folder.mkdir()
    write_stand_ins(folder)
    write_run(folder)
    copy_examples(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cache folder for all pages, so that what is drawn or compiled there is made once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACETRAIN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def run_page(path: Path, wanted: set[str], stand_ins: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = home / "page"
    shutil.copytree(stand_ins, folder, symlinks=True)
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks(path):
        if block.language != "text" and block.mark in wanted:
            run(block, folder, monkeypatch, names)


@names
def test_quick_blocks_run(path: Path, stand_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page(path, {""}, stand_ins, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in PAGES if any(b.mark in SLOW for b in blocks(p))], ids=page_name)
def test_all_blocks_run(path: Path, stand_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page(path, {"", *SLOW}, stand_ins, tmp_path, monkeypatch)


def test_what_is_not_run_is_counted() -> None:
    found = Counter(block.page for path in PAGES for block in blocks(path) if block.mark == "not run")
    assert dict(found) == NOT_RUN


@names
def test_blocks_say_their_language(path: Path) -> None:
    for block in blocks(path):
        assert block.language in LANGUAGES, block
        if block.language == "text":
            assert not re.search(r"^\s*(\$ |facetrain |python |pip )", block.text, re.MULTILINE), block
        assert block.mark != "reference" or block.page == "examples/coming_from_the_original.md", block


def test_the_readme_shows_every_subcommand() -> None:
    folder = Path(commands_folder.__path__[0])
    files = [path.relative_to(folder).with_suffix("") for path in folder.rglob("[!_]*.py")]
    assert Path("data/audit") in files
    shown = "\n".join(block.text for block in blocks(ROOT / "README.md") if block.language == "sh")
    names = [" ".join(path.parts).replace("_", "-") for path in files]
    assert [name for name in names if not re.search(rf"(?m)(^|&& )facetrain {name}($|\s)", shown)] == []


@names
def test_pages_are_read_in_one_sitting(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MOST_LINES.get(page_name(path), 200)
    assert [line for line in lines if line.startswith("|") and len(line) > 120] == []


@names
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    headings = {_anchor(line) for line in text.splitlines() if line.startswith("#")}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        place, _, anchor = target.partition("#")
        if not place:
            assert anchor in headings, target
        elif not place.startswith("http") and (ROOT / ".git").exists():  # an sdist lacks .github
            assert (path.parent / place).exists(), target


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lstrip("# ").lower()).replace(" ", "-")


@names
def test_options_exist(path: Path) -> None:
    """Each command of each block, run or not, has the options that it is given."""
    for block in blocks(path):
        if block.language == "sh":
            for line in commands(block.text):
                for name, options in re.findall(r"(?:^|[ &|])facetrain ([a-z][\w-]*)([^|&]*)", without_quotes(line)):
                    for option in re.findall(r" (--?[a-z][\w-]*)", options):
                        assert option in options_of(name, *options.split()), f"{block}: facetrain {name} {option}"


def test_the_picture_is_the_drawn_image_that_it_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ROOT / ".github/detected.jpg"
    if not path.exists():
        pytest.skip("needs .github, which an sdist does not have")
    assert path.stat().st_size < 100_000
    monkeypatch.chdir(tmp_path)
    write_image(Path("drawn.jpg"), draw_image(0, 1, 29)[0])
    assert run_cli(["detect", "drawn.jpg"]) == 0
    shown, drawn = (read_image(p).astype(int) for p in (path, Path("detections/drawn.jpg")))
    assert shown.shape == drawn.shape
    assert np.abs(shown - drawn).mean() < 4  # JPEG twice


def test_a_block_is_read_with_its_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A\n\n<!-- slow: long -->\n```sh\nfacetrain info\n```\n\n```text\nb\n```\n")
    monkeypatch.setattr("pages.ROOT", tmp_path)
    first, second = blocks(page)
    assert first == Block("page.md", 4, "sh", "facetrain info\n", "slow", "long")
    assert (second.language, second.mark) == ("text", "")


def test_a_block_is_run_with_shorter_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = Block("page.md", 1, "python", "found = '10m, as it stands'\n", "shorter", "10m, 8s")
    names: dict[str, Any] = {}
    run(block, tmp_path, monkeypatch, names)
    assert names["found"] == "8s, as it stands"
    with pytest.raises(AssertionError, match="2h is not there"):
        run(replace(block, why="2h, 8s"), tmp_path, monkeypatch)


def test_a_block_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    for text in ("facetrain detect absent.jpg\n", "true | false\n", "echo a\nfalse\necho b\n"):
        with pytest.raises(AssertionError, match=r"page\.md:1"):
            run(Block("page.md", 1, "sh", text, "", ""), folder, monkeypatch)
    assert os.environ["FACETRAIN_CACHE"]
