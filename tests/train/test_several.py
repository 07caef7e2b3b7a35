"""Runs on several sets at once, and on a set that is divided by names: what is said, resumed, refused."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from train_runs import MODEL, Recorder, assert_same_run, ctrl_c_at, draw_set, several, tiny_config, train

from facetrain.config.load import load_config
from facetrain.config.schema import Config
from facetrain.core.errors import DataError, InputError, UsageError
from facetrain.core.run_dir import RunDir
from facetrain.eval.evaluate import evaluate_model
from facetrain.model.safe_file import read_tensors
from facetrain.model.weights import save_checkpoint, tensor_bytes
from facetrain.model.yunet import build
from facetrain.train.loop import train_model


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACETRAIN_CACHE", str(tmp_path / "cache"))


def test_shares_and_weights(two: list[Path], tmp_path: Path) -> None:
    events = Recorder()
    config = several(two, {}, {"share": 0.6, "label_weight": 0.5}, epochs=2)
    run = train(config, tmp_path / "runs", name="whole", events=events)
    state = read_tensors(run.last)["state"]
    assert (state["step"], state["images"]) == (2 * 7, 16)  # an epoch has 10 + 15 samples
    said = "\n".join(events.notes)
    assert f"source: {two[0]}: 10 images, 10 samples an epoch (40.0% of them, each once)" in said
    assert f"source: {two[1]}: 6 images, 15 samples an epoch (60.0% of them, each 2.5 times on average), labels" in said
    assert f"1 image is both in {two[0]} and in {two[1]}, such as" in said
    assert "format labelv2" in said and "format csv" in said
    assert "validation: 3 of 3 labelled images" in said  # of the first
    assert load_config(run.config).data.roots == config.data.roots

    for step in (3, 6, 12):  # an epoch has 7 steps, and as many images without shares have 4
        other = train(config, tmp_path / "runs", name=f"stopped-{step}", events=ctrl_c_at(step))
        train_model(resume=other)
        assert_same_run(run, other)


def test_a_run_with_shares_by_an_earlier_version_goes_on(two: list[Path], tmp_path: Path) -> None:
    """Its state says how many images there are, not how many samples an epoch has."""
    config = several(two, {}, {"share": 0.6}, epochs=2)
    run = train(config, tmp_path / "runs", name="r", events=ctrl_c_at(6))
    document = dict(read_tensors(run.last))
    document["state"] = {name: value for name, value in document["state"].items() if name != "samples"}
    run.last.write_bytes(tensor_bytes(document))
    assert train_model(resume=run).step == 2 * 7


def test_sets_that_moved(two: list[Path], tmp_path: Path) -> None:
    run = train(several(two, {}, {"share": 0.5}, epochs=2), tmp_path / "runs", name="r", events=ctrl_c_at(1))
    moved = [shutil.move(root, tmp_path / f"moved-{root.name}") for root in two]
    with pytest.raises(InputError, match="no longer there") as caught:
        train_model(resume=run)
    assert "all of them, in their order" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="2 sets, and 1"):
        train_model(resume=run, data=str(moved[0]))
    with pytest.raises(DataError, match="not what the run began with"):
        train_model(resume=run, data=[str(root) for root in reversed(moved)])
    config = load_config(run.config)
    result = train_model(resume=run, data=[str(moved[0]), f"{moved[1]}:0.5"])
    assert result.step == result.total_steps
    roots = load_config(run.config).data.roots
    assert [source.root for source in roots] == [str(root) for root in moved]
    assert [source.share for source in roots] == [source.share for source in config.data.roots]


def test_a_share_cannot_change_while_a_run_goes_on(two: list[Path], tmp_path: Path) -> None:
    run = train(several(two, {}, {"share": 0.5}, epochs=2), tmp_path / "runs", name="r", events=ctrl_c_at(1))
    text = run.config.read_text()
    run.config.write_text(text.replace("share: 0.5", "share: 0.25"))
    with pytest.raises(UsageError, match=r"data\.roots, set 2, share: 0\.5 in the run, 0\.25 in the file"):
        train_model(resume=run)
    shutil.move(two[1], tmp_path / "elsewhere")
    run.config.write_text(text.replace(str(two[1]), str(tmp_path / "elsewhere")))
    assert train_model(resume=run).step > 1


def drawn_teacher(folder: Path) -> Path:
    path = folder / "teacher.pt"
    save_checkpoint(path, build(MODEL, 3).state_dict(), Config(model=MODEL), {})
    return path


def test_a_set_without_labels(two: list[Path], tmp_path: Path) -> None:
    (two[1] / "train/labels.csv").unlink()
    config = several(two, {}, {"share": 0.5}, epochs=2)
    with pytest.raises(InputError, match="cannot find") as caught:
        train_model(config, runs=tmp_path / "runs")
    assert "`teacher`" in (caught.value.hint or "")

    taught = replace(config, train=replace(config.train, teacher=str(drawn_teacher(tmp_path))))
    events = Recorder()
    run = train(taught, tmp_path / "runs", name="r", events=events)
    said = "\n".join(events.notes)
    assert f"{two[1]}: no labels" in said
    assert "in 6 images without labels; training windows" in said
    assert "source:" in said and "on average), no labels" in said
    assert [source.label_weight for source in load_config(run.config).data.roots] == [1, 0]
    other = train(taught, tmp_path / "runs", name="stopped", events=ctrl_c_at(2))
    train_model(resume=other)
    assert_same_run(run, other)


def test_a_part_for_validation(tmp_path: Path) -> None:
    root = draw_set(tmp_path / "set", train=40, val=0)
    config = tiny_config(root, epochs=1)
    config = replace(config, data=replace(config.data, val=0.2))
    events = Recorder()
    run = train(config, tmp_path / "runs", name="r", events=events)
    checkpoint = read_tensors(run.last)
    [line] = [note for note in events.notes if "are kept for it, chosen by their names" in note]
    held = int(line.split()[1])
    assert 0 < held < 20
    assert checkpoint["state"]["images"] == 40 - held
    assert any(f"on {held} images" in note for note in events.notes)  # the validation itself
    assert not any("training images too" in note for note in events.notes)
    told: list[str] = []
    later = evaluate_model(str(run.last), root, val=0.2, tell=told.append)  # the same images, afterwards
    assert len(later.images) == held and line in told
    assert later.ap["all"] == pytest.approx(checkpoint["state"]["best_ap"], abs=1e-6)
    assert later.in_training is None
    plain = Recorder()
    train_model(tiny_config(root, epochs=1), runs=tmp_path / "runs", events=plain, dry_run=True)
    assert any("no validation" in note for note in plain.notes)


def test_a_set_that_has_a_part_for_validation_is_not_divided(tmp_path: Path) -> None:
    config = tiny_config(draw_set(tmp_path / "set"))
    with pytest.raises(InputError, match="has a validation part") as caught:
        train_model(replace(config, data=replace(config.data, val=0.2)), runs=tmp_path / "runs")
    with pytest.raises(InputError, match=r"`val` 0\.2: .*/set has a validation part"):
        evaluate_model("yunet_n", tmp_path / "set", val=0.2)
    assert "labelv2.txt" in caught.value.message
    few = tiny_config(draw_set(tmp_path / "few", train=3, val=0))
    with pytest.raises(DataError, match="none would be left"):
        train_model(replace(few, data=replace(few.data, val=0.001)), runs=tmp_path / "runs")


def test_a_set_none_of_whose_images_can_be_used(two: list[Path], tmp_path: Path) -> None:
    shutil.rmtree(two[1] / "train/images/drawn")
    (two[1] / "train/images/drawn").mkdir()
    config = several(two, {}, {"share": 0.5})
    config = replace(config, data=replace(config.data, max_broken=1.0))
    with pytest.raises(DataError, match="no image of this set can be used"):
        train_model(config, runs=tmp_path / "runs", dry_run=True)


def test_run_dir_is_not_left_behind(two: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the same set as"):
        train_model(several([two[0], two[0]], {}, {}), runs=tmp_path / "runs")
    assert not RunDir(tmp_path / "runs").path.exists()
