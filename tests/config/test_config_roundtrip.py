"""Config to text or plain values and back gives an equal Config, whatever valid values it holds."""

import json
import re
from dataclasses import fields, is_dataclass, replace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from facetrain.config.load import config_from_dict, config_to_dict, config_to_yaml, load_config, preset_names
from facetrain.config.schema import Config, LandmarksConfig
from facetrain.core.errors import ConfigError
from facetrain.core.inert import is_name


def text_reads_back(config, folder):
    path = folder / "config.yaml"
    path.write_text(config_to_yaml(config), encoding="utf-8")
    assert load_config(path) == config


def without_comments(text):
    return re.sub(r" +#.*", "", text)


def same_types(a, b):
    if is_dataclass(a):
        return all(same_types(getattr(a, field.name), getattr(b, field.name)) for field in fields(a))
    if isinstance(a, tuple):
        return isinstance(b, tuple) and all(same_types(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b)


fractions = st.floats(0, 1)
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(str.strip)
TRICKY = [
    *["no", "on", "true", "null", "~", "1e-3", "010", "1_000", "1:30", "0x1f", "3", ".nan", "2024-01-01", "=", "<<"],
    *["-", "?", ":", "a:", "a: b", "a #b", "#", "*x", "&x", "!x", "'", '"', "[", "{}", "%", "@", "`", "|", ">", "---"],
    *[" x", "x ", "x\t", "a\nb", "\\", "\x00", "\x1b[0m", "\x85", "\u2028 ", "\ufeff", "\ufffe", "é", "😀", "y" * 300],
    "a b " * 60,
]
texts = words | st.sampled_from(TRICKY).filter(str.strip)
# of landmarks: plain names, but YAML has its own ideas of some of them
PLAIN = [word for word in TRICKY if is_name(word)]
names = st.lists(words.filter(is_name) | st.sampled_from(PLAIN), unique=True, max_size=6)


@st.composite
def configs(draw):
    """Configurations with random values in every kind of field."""
    base = load_config(draw(st.sampled_from(preset_names())))
    points = tuple(draw(names))
    pairs = tuple(zip(points[::2], points[1::2], strict=False))
    model = replace(
        base.model,
        objectness_bias=draw(st.floats(-50, 50)),
        shared_convs=draw(st.integers(0, 9)),
        landmarks=replace(base.model.landmarks, names=points, mirror=pairs),
    )
    colour = replace(base.data.colour, jitter=draw(fractions), grey=draw(fractions))
    data = replace(
        base.data,
        root=draw(texts),
        size=32 * draw(st.integers(1, 99)),
        crop_scales=tuple(draw(st.lists(st.floats(1e-300, 10), min_size=1, max_size=9))),
        colour=colour,
        reproduce=draw(st.booleans()),
        store=draw(st.sampled_from(["auto", "device", "ram", "disk"])),
        workers=draw(st.none() | st.integers(1, 99)),
    )
    train = replace(
        base.train,
        lr=draw(st.floats(0, 1e300, exclude_min=True)),
        optimizer=draw(st.sampled_from(["sgd", "adamw"])),
        milestones=tuple(sorted(draw(st.sets(st.floats(0, 1, exclude_min=True, exclude_max=True), max_size=4)))),
        ema=draw(st.none() | st.floats(0, 1, exclude_min=True, exclude_max=True)),
        teacher=draw(st.none() | texts),
        seed=draw(st.integers(0, 2**63 - 1)),
        loss=replace(base.train.loss, box=draw(st.sampled_from(["eiou", "diou", "iou"]))),
    )
    return replace(base, model=model, data=data, train=train)


@settings(max_examples=25, deadline=None)
@given(configs())
def test_random_configs_read_back_equal(tmp_path_factory, config):
    text_reads_back(config, tmp_path_factory.getbasetemp())
    again = config_from_dict(config_to_dict(config), "x")
    assert again == config
    assert same_types(again, config)


@pytest.mark.parametrize("preset", preset_names())
def test_presets_read_back_equal(preset, tmp_path):
    text_reads_back(load_config(preset), tmp_path)


@settings(max_examples=15, deadline=None)
@given(configs())
def test_plain_yaml_readers_see_the_same_words(config):
    """Other programs may read config.yaml with the rules of YAML 1.1."""
    assert yaml.safe_load(config_to_yaml(config)) == config_to_dict(config)


def test_tricky_words_read_back_equal(tmp_path):
    assert len(PLAIN) > 12
    config = replace(Config(), model=replace(Config().model, landmarks=LandmarksConfig(tuple(PLAIN), ())))
    for word in TRICKY:
        if word.strip():
            config = replace(config, data=replace(config.data, root=word), train=replace(config.train, teacher=word))
            text_reads_back(config, tmp_path)
            assert yaml.safe_load(config_to_yaml(config)) == config_to_dict(config)


def test_the_text_is_complete_in_the_order_of_the_schema_and_in_blocks():
    text = without_comments(config_to_yaml(Config()))
    assert text.startswith("model:\n  stem: [3, 16, 16]\n  stages:\n    - [16, 64]\n")
    assert "    names: [right_eye, left_eye, nose, right_mouth, left_mouth]\n" in text
    assert "{" not in text
    assert list(yaml.safe_load(text)) == [field.name for field in fields(Config)]
    assert text == without_comments(config_to_yaml(load_config("yunet_n")))


def test_every_line_has_its_comment():
    lines = config_to_yaml(Config()).splitlines()
    assert [line for line in lines if line and not line.lstrip().startswith("- ") and "  # " not in line] == []
    for line in (
        "train:                       # The optimisation recipe. Fractions are of the whole run: a shorter one keeps",
        "  lr: 0.01                   # at a batch of lr_batch, scaled in proportion",
        "  optimizer: sgd             # sgd | adamw | muon",
        "    ignored: mask            # mask | background: ignored faces are left out, or",
    ):
        assert [shown for shown in lines if shown.startswith(line)], line


def test_words_that_read_as_something_else_are_quoted():
    text = config_to_yaml(
        load_config("yunet_n", ["data.root='1e-3'", "model.landmarks={names: ['no', '10', x], mirror: []}"])
    )
    assert 'root: "1e-3"\n' in without_comments(text)
    assert "names: ['no', \"10\", x]\n" in without_comments(text)


def test_plain_values_are_json():
    document = config_to_dict(Config())
    assert json.loads(json.dumps(document)) == document
    assert document["model"]["stages"][0] == [16, 64]
    assert document["train"]["clip"] is None


# documents from elsewhere


def test_a_document_without_some_keys_has_their_defaults():
    assert config_from_dict({}, "last.pt") == Config()
    assert config_from_dict({"train": {"epochs": 3}}, "last.pt").train.epochs == 3
    assert config_from_dict({"model": {"maps": (3, 4, 5)}}, "last.pt") == Config()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"train": {"epoch": 3}}, "last.pt: unknown key 'train.epoch'"),
        ({"train": {"epochs": "3"}}, 'last.pt: train.epochs: must be a whole number, not "3"'),
        ({"train": {"epochs": 3.0}}, "last.pt: train.epochs: must be a whole number, not 3.0"),
        ({"train": {"epochs": True}}, "last.pt: train.epochs: must be a whole number, not true"),
        ({"train": {"lr": "0.1"}}, 'last.pt: train.lr: must be a number, not "0.1"'),
        ({"train": {"lr": float("nan")}}, "last.pt: train.lr: must be a finite number, not NaN"),
        ({"train": {"lr": 10**400}}, "last.pt: train.lr: must be a finite number, not 1000"),
        ({"train": {"lr": 10**9999}}, "last.pt: train.lr: must be a finite number, not a huge number"),
        ({"train": {"clip": 0}}, "last.pt: train.clip: must be above 0, not 0.0"),
        ({"data": {"root": "\ud800"}}, 'last.pt: data.root: "\\ud800" is not valid Unicode'),
        ({"data": {"size": 33}}, "last.pt: data.size: 33 is not a multiple"),
        ({"data": {1: 2}}, "last.pt: a key must be text, not a value of type int"),
        ({"train": []}, "last.pt: train: must be a section with keys, not []"),
        (None, "last.pt: must hold sections with keys, not null"),
        ([], "last.pt: must hold sections with keys, not []"),
    ],
)
def test_documents_are_checked_as_strictly(document, message):
    with pytest.raises(ConfigError) as caught:
        config_from_dict(document, "last.pt")
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize("value", [{1, 2}, b"x", object(), 1j])
def test_values_that_are_not_plain(value):
    with pytest.raises(ConfigError, match=rf"last.pt: a value of type {type(value).__name__} has no place"):
        config_from_dict({"train": {"clip": value}}, "last.pt")


def test_a_document_that_holds_itself():
    document = {}
    document["train"] = document
    with pytest.raises(ConfigError):
        config_from_dict(document, "last.pt")
    document["train"] = [document] * 50
    with pytest.raises(ConfigError):
        config_from_dict(document, "last.pt")


keys = st.sampled_from(
    ["model", "data", "train", "stem", "stages", "maps", "strides", "landmarks", "names", "lr", "root", "x"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 70) | st.floats() | st.sampled_from(["sgd", "no", "1", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=80)
@given(st.dictionaries(keys, values, max_size=4))
def test_any_document_is_a_config_or_a_config_error(document):
    try:
        config = config_from_dict(document, "x")
    except ConfigError as error:
        assert error.message.startswith("x: ")
    else:
        assert config_from_dict(config_to_dict(config), "x") == config
