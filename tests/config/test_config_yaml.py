"""YAML's traps: values that other readers change silently, and files that are no configuration."""

import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from facetrain.config.load import load_config
from facetrain.config.yaml_source import plain_value, read_yaml
from facetrain.core.errors import ConfigError


@pytest.fixture
def load(tmp_path):
    def load(text):
        path = tmp_path / "my.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_config(path)

    return load


@pytest.fixture
def error_of(load, tmp_path):
    """The error for a text, with the folder left out of its message."""

    def error_of(text):
        with pytest.raises(ConfigError) as caught:
            load(text)
        caught.value.message = caught.value.message.replace(f"{tmp_path / 'my.yaml'}", "my.yaml")
        return caught.value

    return error_of


# numbers


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("1e-3", 0.001),
        ("1E-3", 0.001),
        ("1.e-3", 0.001),
        (".001", 0.001),
        ("+1.0e-3", 0.001),
        ("1", 1.0),
        ("0.1", 0.1),
        ("5.", 5.0),
    ],
)
def test_numbers_where_a_float_is_wanted(load, word, value):
    lr = load(f"train: {{lr: {word}}}").train.lr
    assert lr == value
    assert type(lr) is float


@pytest.mark.parametrize("word", ["010", "-010", "1_000", "1:30", "0x10", "0o17", "0b1", "1,5", "50%", "00.5"])
@pytest.mark.parametrize("key", ["lr", "epochs"])
def test_numbers_that_readers_disagree_on_are_refused(error_of, key, word):
    error = error_of(f"train:\n  {key}: {word}")
    assert f"my.yaml:2:3: train.{key}: must be a " in error.message
    assert f'not "{word}"' in error.message
    assert error.hint == "write decimal digits, without leading zeros, _ , : % or 0x"


@pytest.mark.parametrize(
    ("value", "seen", "hint"),
    [
        ("3.0", "3.0", "write 3"),
        ("3.5", "3.5", None),
        ("1e3", "1000.0", "write 1000"),
        ("true", "true", None),
        ("'3'", '"3"', "write it without quotes"),
        ("null", "null", None),
        ("~", "null", None),
        ("", "null", None),
        ("many", '"many"', None),
        ("[3]", "[3]", None),
    ],
)
def test_what_is_no_whole_number(error_of, value, seen, hint):
    error = error_of(f"train:\n  epochs: {value}")
    assert error.message == f"my.yaml:2:3: train.epochs: must be a whole number, not {seen}"
    assert error.hint == hint


@pytest.mark.parametrize("value", [".nan", ".NaN", ".inf", "-.inf", "+.INF", "1e999", "-1e999", "9" * 350])
def test_numbers_that_are_not_finite(error_of, value):
    assert "my.yaml:1:9: train.lr: must be a finite number, not " in error_of(f"train: {{lr: {value}}}").message


@pytest.mark.parametrize("value", ["9" * 19, "9" * 350, "9" * 100_000])
def test_huge_integers(error_of, value):
    error = error_of(f"train:\n  seed: {value}")
    assert error.message.startswith("my.yaml:2:3: train.seed: ")
    assert len(error.message) < 150


def test_the_largest_integer(load):
    assert load(f"train: {{seed: {2**63 - 1}}}").train.seed == 2**63 - 1


def test_true_is_no_number(error_of):
    assert "train.lr: must be a number, not true" in error_of("train: {lr: true}").message


# words


@pytest.mark.parametrize("word", ["no", "yes", "on", "off", "y", "N", "010", "1:30", "2024-01-01", "=", "<<"])
def test_words_that_yaml_1_1_changes_stay_text(load, word):
    assert load(f"data: {{root: {word}}}").data.root == word


def test_landmarks_called_no_and_on(load):
    config = load("model:\n  landmarks:\n    names: [no, on, 'true']\n    mirror: [[no, on]]\n")
    assert config.model.landmarks.names == ("no", "on", "true")
    assert config.model.landmarks.mirror == (("no", "on"),)


@pytest.mark.parametrize("word", ["2024", "1.5", "true", "null", "~", ""])
def test_numbers_and_booleans_are_no_text(error_of, load, word):
    error = error_of(f"data:\n  root: {word}")
    assert "my.yaml:2:3: data.root: must be text, not " in error.message
    assert "in quotes" in error.hint
    if word:
        assert load(f"data: {{root: '{word}'}}").data.root == word


@pytest.mark.parametrize(
    ("word", "hint"), [("yes", "write true"), ("On", "write true"), ("no", "write false"), ("OFF", "write false")]
)
def test_yes_and_no_where_a_boolean_is_wanted(error_of, word, hint):
    error = error_of(f"data: {{reproduce: {word}}}")
    assert error.message == f'my.yaml:1:8: data.reproduce: must be true or false, not "{word}"'
    assert error.hint == hint


@pytest.mark.parametrize(("word", "hint"), [("1", None), ("'true'", "write it without quotes"), ("maybe", None)])
def test_other_values_where_a_boolean_is_wanted(error_of, word, hint):
    assert error_of(f"data: {{reproduce: {word}}}").hint == hint


@pytest.mark.parametrize(("word", "value"), [("true", True), ("False", False), ("TRUE", True)])
def test_booleans(load, word, value):
    assert load(f"data: {{reproduce: {word}}}").data.reproduce is value


def test_choices(load, error_of):
    assert load("train: {precision: bf16}").train.precision == "bf16"
    error = error_of("train: {precision: BF16}")
    assert error.message == 'my.yaml:1:9: train.precision: must be one of auto, fp32, bf16, not "BF16"'
    assert error.hint == "did you mean 'bf16'?"
    assert error_of("train: {precision: false}").hint is None


@pytest.mark.parametrize("word", ["null", "~", "", "Null", "NULL"])
def test_null_where_it_is_allowed(load, word):
    assert load(f"train:\n  clip: {word}\n").train.clip is None


def test_none_is_not_null(error_of):
    error = error_of("train: {clip: None}")
    assert error.message.endswith('train.clip: must be a number or null, not "None"')
    assert error.hint == "write null"


# lists


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("train: {milestones: 0.5}", "train.milestones: must be a list of numbers, not 0.5", "write [0.5]"),
        (
            "train: {milestones: }",
            "train.milestones: must be a list of numbers, not null",
            "write [] for an empty list",
        ),
        ("model: {stem: [3, 16]}", "model.stem: must be a list of 3 whole numbers, not [3, 16]", None),
        ("model: {stem: 3}", "model.stem: must be a list of 3 whole numbers, not 3", None),
        ("model: {stages: 3}", "model.stages: must be a list of lists of 2 whole numbers, not 3", "write [3]"),
        ("model: {stages: [3]}", "item 1 of model.stages: must be a list of 2 whole numbers, not 3", None),
        (
            "model: {stages: [[3, 4], [4, 5.0]]}",
            "item 2 of item 2 of model.stages: must be a whole number, not 5.0",
            "write 5",
        ),
        (
            "model: {landmarks: {mirror: [[a]]}}",
            'item 1 of model.landmarks.mirror: must be a list of 2 texts, not ["a"]',
            None,
        ),
        ("train: {milestones: {a: 1}}", 'train.milestones: must be a list of numbers, not {"a": 1}', None),
    ],
)
def test_lists(error_of, text, message, hint):
    error = error_of(text)
    assert error.message.endswith(message)
    assert error.hint == hint


def test_items_have_their_own_line(error_of):
    assert error_of("model:\n  stages:\n    - [16, 64]\n    - [64, x]\n").message.startswith(
        "my.yaml:4:12: item 2 of item 2"
    )


# structure


def test_a_key_that_stands_twice(error_of):
    error = error_of("train:\n  lr: 0.1\n  epochs: 3\n  lr: 0.2\n")
    assert error.message == "my.yaml:4:3: the key 'lr' stands here a second time; the first is in line 2"
    assert error.hint == "keep one of the two"
    assert "line 1" in error_of("train: {lr: 1}\ndata: {}\ntrain: {lr: 1}").message


def test_tabs_name_line_and_column(error_of):
    error = error_of("train:\n\tlr: 0.1\n")
    assert error.message.startswith("my.yaml:2:1: not valid YAML: ")
    assert error.hint == "indent with spaces, not with tabs"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("train:\n  lr: [1, 2\ndata: {}\n", "my.yaml:3:"),
        ("train:\n  lr: 'x\n", "my.yaml:3:"),
        ("train:\n  lr: 1\n epochs: 2\n", "my.yaml:3:2: "),
        ("train:\n  lr: a: b\n", "my.yaml:2:8: "),
        ("train: *nothing\n", "my.yaml:1:8: "),
        ("train: {}\n---\ndata: {}\n", "my.yaml:2:1: "),
        ("%YAML 3.0\n---\ntrain: {}\n", "my.yaml:1:1: "),
        ("train: {}\n\n  \x07", "my.yaml:3:3: "),
        ("data: {root: '\ud7ff\x00'}", "my.yaml:1:16: "),
        ('data: {root: "\\UFFFFFFFF"}', "my.yaml: "),
    ],
)
def test_syntax_errors_name_their_place(error_of, text, place):
    error = error_of(text)
    assert error.message.startswith(place)
    assert "not valid YAML" in error.message


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system [touch owned]",
        "train: !!python/object/new:os.system [touch owned]",
        "train: {lr: !!python/name:os.system }",
        "train: {lr: !own 3}",
        "train: {lr: !!float 3}",
        "train: {lr: ! 3}",
        "!!python/name:os.system : 1",
    ],
)
def test_tags_are_refused(error_of, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "are not allowed" in error_of(text).message
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "null", "{}", "\ufeff"])
def test_an_empty_file_is_not_all_defaults(error_of, text):
    error = error_of(text)
    assert error.message == "my.yaml: the file is empty"
    assert "yunet_n" in error.hint


@pytest.mark.parametrize(("text", "seen"), [("- a\n- b", '["a", "b"]'), ("words", '"words"'), ("3", "3"), ("[]", "[]")])
def test_the_top_must_be_a_section(error_of, text, seen):
    assert error_of(text).message == f"my.yaml:1:1: must hold sections with keys, not {seen}"


def test_an_empty_section(error_of):
    error = error_of("train:\n  epochs: 3\n  loss:\n")
    assert error.message == "my.yaml:3:3: train.loss: must be a section with keys, not null"
    assert error.hint == "leave the section out to keep its defaults"


@pytest.mark.parametrize("text", ["? [a, b]\n: 1\n", "train: {[1]: 2}", "? {a: b}\n: 1\n"])
def test_keys_are_words(error_of, text):
    assert "a key must be a word" in error_of(text).message


def test_bom_and_crlf_are_fine(load, error_of):
    text = "train:\n  lr: 0.5\n  epochs: 3\n"
    assert load(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()) == load(text)
    assert error_of(b"\xef\xbb\xbftrain:\r\n  epoch: 3\r\n").message.startswith("my.yaml:2:3: unknown key")


@pytest.mark.parametrize(
    "content", ["data: {root: x}\n# Gr\u00f6\u00dfe".encode("latin-1"), "a: \u00fc".encode("utf-16")]
)
def test_files_that_are_not_utf_8(error_of, content):
    error = error_of(content)
    assert "not UTF-8 text" in error.message
    assert error.hint == "save the file as UTF-8"


def test_the_line_of_the_first_wrong_byte(error_of):
    assert error_of(b"data: {}\n# \xff\n").message == "my.yaml:2: not UTF-8 text (byte 255)"


def test_half_a_surrogate_pair(error_of):
    assert "data.root: " in error_of('data: {root: "\\ud800"}').message


def test_unicode_is_fine(load):
    assert load("data: {root: /bilder/größe/顔/😀}").data.root == "/bilder/größe/顔/😀"


# size


def test_anchors_and_aliases(load):
    config = load("train:\n  lr: &a 0.5\n  gamma: *a\nmodel:\n  stages: [[16, 64], &s [64, 64], *s, *s, *s]\n")
    assert config.train.gamma == 0.5
    assert config.model.stages[2:] == ((64, 64),) * 3


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(
            f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "train: &a [*a]",
        "train: &a {b: *a}",
        "train: &a {b: *a, c: *a, d: *a}",
        "train: &a [*a, *a, *a, *a]",
        "[" * 20_000,
        "{a: " * 20_000,
        "- " * 20_000,
        "x: [" + "1, " * 10_001 + "]",
        "# " + "x" * 300_000,
    ],
    ids=[
        "laughs",
        "loop",
        "section loop",
        "wide section loop",
        "wide loop",
        "deep",
        "deep flow",
        "deep block",
        "wide",
        "big",
    ],
)
def test_hostile_files_end_quickly(error_of, text):
    start = time.process_time()
    error = error_of(text)
    assert time.process_time() - start < 3
    assert len(error.message) < 3000


# the rules for plain words against an independent reader of the same rules


@given(st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False)))
def test_every_python_number_is_read_back(number):
    value = plain_value(repr(number))
    assert value == number
    assert type(value) is type(number)


@given(st.text("0123456789+-.eE_:xo", max_size=8))
def test_a_word_is_a_number_only_where_yaml_1_1_and_python_agree(word):
    value = plain_value(word)
    if isinstance(value, int | float):
        assert value == float(word)
        theirs = yaml.safe_load(word)  # PyYAML takes 1e3 for text; what it takes for a number must be the same one
        assert theirs == value if isinstance(theirs, int | float) else theirs == word


@settings(max_examples=150)
@given(st.text(st.sampled_from("ab:-?[]{}&*!|>'\"%@` \n\t#,.~0\\u\u2028\ufeff\x85"), max_size=30))
def test_any_text_gives_a_tree_or_a_problem(text):
    problems = []
    assert read_yaml(text, "x", problems) is not None or problems
