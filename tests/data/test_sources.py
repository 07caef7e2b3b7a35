"""How sets are named on a command line, and what is refused of them."""

from dataclasses import replace
from pathlib import Path

import pytest

from facetrain.config.schema import Config, DataConfig, SourceConfig, TrainConfig
from facetrain.core.errors import InputError, UsageError
from facetrain.data.sources import moved, named, settle_sources, source_of, sources_of


@pytest.mark.parametrize(
    ("text", "root", "share"),
    [
        ("a", "a", None),
        ("a:0.3", "a", 0.3),
        ("a:b/c", "a:b/c", None),
        ("a:b/c:.25", "a:b/c", 0.25),
        (r"C:\faces", r"C:\faces", None),
        (r"C:\faces:1e-1", r"C:\faces", 0.1),
        ("a:1:1", "a:1", 1.0),
        ("a:nan", "a:nan", None),
        (":0.3", ":0.3", None),
        ("sample:0.5", "sample", 0.5),
    ],
)
def test_the_last_colon_before_a_number(text: str, root: str, share: float | None) -> None:
    assert source_of(text) == SourceConfig(root, share)
    if share is not None and share == 0.3:
        assert named(source_of(text)) == text


@pytest.mark.parametrize("end", ["0", "-2", "1.01", "1e9"])
def test_a_share_is_above_0_and_at_most_1(end: str) -> None:
    with pytest.raises(UsageError, match=f"`data` a:{end}: a share must be above 0 and at most 1"):
        source_of(f"a:{end}")


@pytest.mark.parametrize("end", ["abc", "0,3", "30%", ""])
def test_no_share(tmp_path: Path, end: str) -> None:
    with pytest.raises(UsageError, match="is no share") as caught:
        source_of(f"{tmp_path}:{end}")
    assert f"{tmp_path}:0.3" in (caught.value.hint or "")


def labelled(folder: Path) -> Path:
    (folder / "train/images").mkdir(parents=True)
    (folder / "train/images/a.jpg").touch()
    (folder / "train/labelv2.txt").write_text("# a.jpg 9 9\n")
    return folder


def bare(folder: Path) -> Path:
    folder.mkdir()
    (folder / "a.jpg").touch()
    return folder


def config(*roots: Path, teacher: str | None = None) -> Config:
    sources = tuple(SourceConfig(str(root)) for root in roots)
    return Config(data=DataConfig(roots=sources), train=TrainConfig(teacher=teacher))


def test_a_set_without_labels_is_the_teachers(tmp_path: Path) -> None:
    one, two = labelled(tmp_path / "one"), bare(tmp_path / "two")
    settled, notes = settle_sources(config(one, two, teacher="t"))
    assert [source.label_weight for source in settled.data.roots] == [1, 0]
    assert len(notes) == 1 and "the teacher alone" in notes[0] and str(two) in notes[0]
    assert settle_sources(settled) == (settled, ())
    with pytest.raises(InputError, match="cannot find") as caught:
        settle_sources(config(one, two))
    assert "`teacher`" in (caught.value.hint or "")
    with pytest.raises(InputError, match="cannot find"):  # the first validates
        settle_sources(config(two, one, teacher="t"))


def test_a_set_that_is_there_twice(tmp_path: Path) -> None:
    one = labelled(tmp_path / "one")
    (tmp_path / "link").symlink_to(one)
    for other in (one / "..//one", tmp_path / "link"):
        with pytest.raises(InputError, match="the same set as"):
            settle_sources(config(one, other))


def test_moved_sets() -> None:
    several = replace(DataConfig(), roots=(SourceConfig("a"), SourceConfig("b", 0.3, 0.5)))
    wanted = (SourceConfig("x"), SourceConfig("y", 0.3, 0.5))
    assert moved(several, ["x", "y"]).roots == moved(several, ["x", "y:0.3"]).roots == wanted
    for places, words in ((["x"], "2 sets, and 1"), (["x", "y:0.4"], "its share in the run is 0.3")):
        with pytest.raises(UsageError, match=words):
            moved(several, places)
    assert moved(DataConfig(), ["x:3"]).root == "x:3"
    assert sources_of(DataConfig(root="r")) == (SourceConfig("r"),)
    with pytest.raises(UsageError, match="one set, and 2"):
        moved(DataConfig(), ["x", "y"])
