"""Where a configuration comes from, which layer wins, and what the messages say."""

import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import yaml
from write_presets import FOLDER, written

from facetrain.config import load
from facetrain.config.load import config_name, load_config, preset_names, preset_text, recipe_names
from facetrain.config.schema import Config
from facetrain.core.errors import ConfigError, InputError


def leaves(config, prefix=""):
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", value


@pytest.fixture
def write(tmp_path):
    def write(text, name="my.yaml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture
def recipes(tmp_path, monkeypatch):
    """Puts recipe files of the test's own in place of the bundled ones."""
    folder = tmp_path / "resources"
    (folder / "recipes").mkdir(parents=True)
    bundled = load._folder
    monkeypatch.setattr(load, "_folder", lambda kind: folder / "recipes" if kind == "recipe" else bundled(kind))
    return folder / "recipes"


def fails(source, *overrides, error=ConfigError, **kwargs):
    with pytest.raises(error) as caught:
        load_config(source, overrides, **kwargs)
    return caught.value


# presets and recipes


def test_yunet_n_is_exactly_the_defaults():
    assert load_config("yunet_n") == Config()


@pytest.mark.parametrize("preset", preset_names())
def test_presets_show_every_key(preset):
    def shown(document, start=""):
        for key, value in document.items():
            yield from shown(value, f"{start}{key}.") if isinstance(value, dict) else [f"{start}{key}"]

    keys = list(shown(yaml.safe_load(preset_text(preset))))
    assert sorted(keys) == sorted(key for key, _ in leaves(Config()))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_presets_are_written_from_the_schema(path):
    """If not: `python tests/config/write_presets.py`."""
    assert path.read_text(encoding="utf-8") == written(path)


def test_yunet_s_differs_in_exactly_the_published_keys():
    n, s = dict(leaves(load_config("yunet_n"))), dict(leaves(load_config("yunet_s")))
    assert {key: s[key] for key in s if s[key] != n[key]} == {
        "model.stages": ((16, 32), (32, 64), (64, 64), (64, 64), (64, 64)),
        "model.shared_convs": 0,
        "data.crop_scales": (0.3, 0.45, 0.6, 0.8, 1.0),
    }


@pytest.mark.parametrize("preset", preset_names())
@pytest.mark.parametrize("recipe", [None, *recipe_names()])
def test_every_preset_loads_with_every_recipe(preset, recipe):
    load_config(preset, ["train.teacher=yunet_n"] if recipe == "distil" else [], recipe)


def test_a_recipe_that_needs_a_teacher_says_so():
    with pytest.raises(ConfigError, match=r"label_weight: 0 with no train\.teacher leaves") as caught:
        load_config("yunet_n", recipe="distil")
    assert "recipes/distil.yaml" in caught.value.message
    assert "train.teacher" in str(caught.value)


def test_preset_names_and_spellings():
    assert {"yunet_n", "yunet_s"} <= set(preset_names())
    assert load_config("yunet_s") == load_config("yunet_s.yaml") == load_config("yunet_s.yml")
    assert preset_text("yunet_s") == preset_text("yunet_s.yaml")
    assert preset_text("yunet_s").startswith("# YuNet-s")


def test_unknown_preset_text():
    with pytest.raises(InputError, match="no such preset") as caught:
        preset_text("yunt_n")
    assert "did you mean 'yunet_n'?" in caught.value.hint


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("yunet_n", "yunet_n"),
        ("yunet_n.yaml", "yunet_n"),
        ("some/folder/mine.yml", "mine"),
        ("my.v2.yaml", "my.v2"),
        ("my.v2", "my.v2"),
        ("A.YAML", "A"),
    ],
)
def test_config_name(source, name):
    assert config_name(source) == name


# sources


def test_a_file_goes_before_the_preset_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "yunet_n").mkdir()  # a folder does not: nobody calls a model file so
    assert load_config("yunet_n").train.epochs == 640
    (tmp_path / "yunet_n.yaml").write_text("train: {epochs: 3}")
    assert load_config("yunet_n.yaml").train.epochs == 3
    assert load_config("yunet_n").train.epochs == 640


def test_missing_keys_have_their_defaults(write):
    config = load_config(write("train:\n  epochs: 7\n"))
    assert config.train.epochs == 7
    assert config.train.lr == Config().train.lr
    assert config.model == Config().model


@pytest.mark.parametrize("source", ["yunet-n", "yunt_n.yaml", "nowhere/yunet_n.yaml", "YUNET_N"])
def test_unknown_source_lists_presets_and_suggests(source):
    error = fails(source, error=InputError)
    assert source in error.message
    assert "did you mean 'yunet_n'?" in error.hint
    assert "presets: yunet_n, yunet_s" in error.hint


@pytest.mark.parametrize("source", ["zzz", "x" * 5000, "a\0b"])
def test_unknown_source_without_a_near_preset(source):
    error = fails(source, error=InputError)
    assert "presets: yunet_n, yunet_s" in error.hint
    assert "did you mean" not in error.hint
    assert len(error.message) < 200


@pytest.mark.parametrize("source", ["", "."])
def test_a_folder_is_refused(source):
    assert "folder" in fails(source, error=InputError).message


@pytest.mark.parametrize("function", ["open", "exists"])  # the file itself, or a folder above it
def test_an_unreadable_file(write, monkeypatch, function):
    path = write("train: {}")

    def refuse(self, *args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, function, refuse)
    error = fails(path, error=InputError)
    assert error.message == f"{path}: cannot be read: Permission denied"
    assert error.hint == "check its permissions"


def test_no_torch_and_no_numpy_is_imported():
    code = (
        "import sys, facetrain.config.load as l; l.load_config('yunet_n'); print({'torch', 'numpy'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


# layers


def test_overrides_win_over_the_recipe_over_the_file_over_the_defaults(write, recipes):
    (recipes / "short.yaml").write_text("train:\n  epochs: 2\n  lr: 0.2\n")
    path = write("train:\n  epochs: 1\n  lr: 0.1\n  batch: 8\n  assign: {candidates: 5}\n")
    config = load_config(path, ["train.epochs=3"], recipe="short")
    assert (config.train.epochs, config.train.lr, config.train.batch) == (3, 0.2, 8)
    assert config.train.assign.candidates == 5
    assert config.train.assign.center_radius == 2.5
    assert load_config(path, recipe="short.yaml").train.epochs == 2
    assert load_config(path).train.epochs == 1


def test_the_last_of_two_overrides_wins():
    assert load_config("yunet_n", ["train.seed=1", "train.seed=2"]).train.seed == 2


def test_overrides_of_every_kind_of_value():
    config = load_config(
        "yunet_n",
        [
            "train.lr=1e-3",
            "model.landmarks.names=[]",
            "data.crop_scales=[0.5, 1]",
            "data.root=C:\\faces and more",
            "data.reproduce=true",
            "train.optimizer = adamw",
            "train.ema=0.999",
            "data.workers=4",
            "train.clip=",
            "train.assign={candidates: 3, iou_weight: 2}",
            "model.stages=[[16, 8], [8, 64], [64,64], [64,64], [64,64]]",
        ],
    )
    assert config.train.lr == 0.001
    assert config.model.landmarks.names == ()
    assert config.data.crop_scales == (0.5, 1.0)
    assert config.data.root == "C:\\faces and more"
    assert config.data.reproduce is True
    assert config.train.optimizer == "adamw"
    assert config.train.ema == 0.999
    assert config.data.workers == 4
    assert config.train.clip is None
    assert (config.train.assign.candidates, config.train.assign.iou_weight) == (3, 2.0)
    assert config.train.assign.center_radius == 2.5
    assert config.model.stages[0] == (16, 8)
    assert all(type(scale) is float for scale in config.data.crop_scales)


def test_no_names_switch_the_mirror_pairs_off_with_them():
    assert load_config("yunet_n", ["model.landmarks.names=[]"]).model.landmarks.mirror == ()


def test_unknown_recipe(recipes):
    (recipes / "short.yaml").write_text("train: {epochs: 2}")
    (recipes / "README.md").write_text("no recipe")
    assert recipe_names() == ["short"]
    error = fails("yunet_n", recipe="shrot", error=InputError)
    assert error.message == "shrot: no such recipe"
    assert error.hint == "did you mean 'short'? there are: short"


def test_a_mistake_in_a_recipe_names_the_recipe(recipes):
    (recipes / "short.yaml").write_text("train:\n  epochs: 0\n")
    assert fails("yunet_n", recipe="short").message.startswith("recipes/short.yaml:2:3: train.epochs:")


def test_a_mistake_in_the_file_is_not_hidden_by_an_override(write):
    path = write("train:\n  lr: fast\n")
    assert "fast" in fails(path, "train.lr=0.1").message


@pytest.mark.parametrize("override", ["train.lr", "=3", ".lr=1", "train..lr=1", "train.=1", ""])
def test_overrides_need_key_and_value(override):
    error = fails("yunet_n", override)
    assert error.message == f"`set` {override}: must be key=value"
    assert error.hint == "for example `train.lr=0.01`"


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        ("train.lr=fast", 'train.lr: must be a number, not "fast"', None),
        ("train.lr=-1", "train.lr: must be above 0, not -1.0", "the default is 0.01"),
        ("train.lr=.nan", "train.lr: must be a finite number, not NaN", None),
        ("train.lr.x=1", 'train.lr: must be a number, not {"x": 1}', None),
        ("train=3", "train: must be a section with keys, not 3", None),
        ("train=", "train: must be a section with keys, not null", "leave the section out to keep its defaults"),
        ("train.epoch=3", "unknown key 'train.epoch'", "did you mean 'train.epochs'?"),
        ("lr=3", "unknown key 'lr'", "did you mean 'train.lr'?"),
        ("train.epochs=[1", "not valid YAML: ", "quotes"),
        ("data.root=a #b", "a # after a space starts a comment", "put the value in quotes"),
        ("train.clip=#5", "a # after a space starts a comment", "put the value in quotes"),
        ("train={lr: 1, lr: 2}", "the key 'lr' stands here a second time", "keep one of the two"),
        ("train=!!python/name:os.system", "tags (!!python/name:os.system) are not allowed", "!"),
    ],
)
def test_messages_call_the_place_by_its_override(override, message, hint):
    error = fails("yunet_n", override)
    assert error.message.startswith(f"`set` {override}: ")
    assert message in error.message
    assert hint in error.hint if hint else error.hint is None


def test_a_hash_inside_a_word_or_quotes_is_no_comment():
    assert load_config("yunet_n", ["data.root=a#b"]).data.root == "a#b"
    assert load_config("yunet_n", ['data.root="a #b"']).data.root == "a #b"


def test_a_long_override_is_cut_in_messages():
    assert len(fails("yunet_n", f"train.epoch{'s' * 9999}=3").message) < 200


def test_an_override_that_is_not_unicode():
    assert "\\udcff" in fails("yunet_n", "data.root=\udcff").message


# several problems


def test_all_problems_are_reported_together(write):
    path = write("train:\n  epoch: 3\n  lr: fast\n  ema: 2\nmodel:\n  lr: 1\n")
    error = fails(path, "eval.nms=0")
    assert error.message.splitlines() == [
        f"{path}:2:3: unknown key 'train.epoch' (did you mean 'train.epochs'?)",
        f'{path}:3:3: train.lr: must be a number, not "fast"',
        f"{path}:6:3: unknown key 'model.lr' (did you mean 'train.lr'?)",
        f"{path}:4:3: train.ema: must be above 0 and below 1, not 2.0 (the default is null)",
        "`set` eval.nms=0: eval.nms: must be above 0 and at most 1, not 0.0 (the default is 0.45)",
    ]
    assert error.hint is None


def test_at_most_twenty_problems_are_listed(write):
    path = write("train:\n" + "".join(f"  key{n}: {n}\n" for n in range(50)))
    lines = fails(path).message.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "… and 30 more"


def test_an_unread_value_does_not_set_off_the_rules_that_tie_it_to_others(write):
    # Three pools instead of four would be right with these strides, but the pools cannot be read.
    path = write(
        "model:\n  pool_after: [0, 2, x]\n  maps: [2, 3]\n  strides: [4, 8]\n  stages: [[16, 64], [64, 64], [64, 64]]\n"
    )
    error = fails(path)
    assert error.message == f'{path}:2:22: item 3 of model.pool_after: must be a whole number, not "x"'


def test_of_keys_that_do_not_fit_the_one_set_last_is_named(write):
    path = write("data:\n  size: 96\n")
    assert load_config(path).data.size == 96
    error = fails(path, "data.size=100")
    assert error.message == "`set` data.size=100: data.size: 100 is not a multiple of the largest stride, 32"
    error = fails("yunet_n", "model.pool_after=[0, 2, 3]")
    assert error.message.startswith("`set` model.pool_after=[0, 2, 3]: model.maps: the neck needs")


# unknown keys


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("train: {epoch: 1}", "train.epoch", "did you mean 'train.epochs'?"),
        ("train: {LR: 1}", "train.LR", "did you mean 'train.lr'?"),
        ("model: {lr: 1}", "model.lr", "did you mean 'train.lr'?"),
        ("model: {names: []}", "model.names", "did you mean 'model.landmarks.names'?"),
        ("train: {limit: 1}", "train.limit", "did you mean 'data.limit' or 'eval.limit'?"),
        ("train: {box_wieght: 1}", "train.box_wieght", "did you mean 'train.loss.box_weight'?"),
        ("loss: {box: iou}", "loss", "did you mean 'train.loss'?"),
        ("trian: {lr: 1}", "trian", "did you mean 'train'?"),
        ("train.lr: 1", "train.lr", "sections are nested: write 'lr' below 'train'"),
        ("model: {train.lr: 1}", "model.train.lr", "sections are nested: write 'lr' below 'train'"),
        ("qqqqqq: 1", "qqqqqq", "there are: model, data, train, eval"),
        ("1: 2", "1", "there are: model, data, train, eval"),
        ("yes: 2", "yes", "there are: model, data, train, eval"),
        ("base: &b {}\ntrain: {<<: *b}", "base", None),
    ],
)
def test_unknown_keys(write, text, key, hint):
    error = fails(write(text))
    assert "my.yaml:1:" in error.message
    assert f"unknown key '{key}'" in error.message
    if hint:
        assert error.hint == hint
    else:
        assert "unknown key 'train.<<'" in error.message
