"""Every range and every rule that ties keys together: what is refused, in which words, and what is just inside."""

from dataclasses import replace
from operator import attrgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facetrain.config.check import check_config
from facetrain.config.load import load_config
from facetrain.config.schema import Config, LandmarksConfig, ModelConfig, entries
from facetrain.core.errors import ConfigError

RANGES = {key: field.metadata["range"] for key, field, _ in entries(Config()) if "range" in field.metadata}


def error_of(*overrides):
    with pytest.raises(ConfigError) as caught:
        load_config("yunet_n", overrides)
    return caught.value


def of_model(**changes):
    """The violations of the default configuration with another model."""
    return check_config(replace(Config(), model=replace(ModelConfig(), **changes)))


def wanted_strides(pool_after, maps):
    """The strides by walking through the network, halving as it goes."""
    stride, found = 2, []
    for stage in range(max(maps) + 1):
        if stage in maps:
            found.append(stride)
        if stage in pool_after:
            stride *= 2
    return tuple(found)


def test_the_defaults_break_no_rule():
    assert check_config(Config()) == []


# ranges


def test_the_ranges_are_of_numbers_in_the_schema():
    for key in RANGES:
        attrgetter(key)(Config())


OUTSIDE = [
    ("model.stem", "[3, 0, 16]", "at least 1 and at most 4096", "0"),
    ("model.stages", "[[16, 64], [64, -64], [-64, 64]]", "at least 1 and at most 4096", "-64"),
    ("model.shared_convs", "-1", "at least 0 and at most 64", "-1"),
    ("model.tower_convs", "1000000", "at least 0 and at most 64", "1000000"),
    ("model.head_channels", "0", "at least 1 and at most 4096", "0"),
    ("model.objectness_bias", "1e308", "at least -50 and at most 50", "1e+308"),
    ("data.val", "1", "above 0 and below 1", "1.0"),
    ("data.size", "0", "at least 1 and at most 8192", "0"),
    ("data.size", "-32", "at least 1 and at most 8192", "-32"),
    ("data.crop_scales", "[0.5, 0]", "above 0 and at most 10", "0.0"),
    ("data.crop_scales", "[100]", "above 0 and at most 10", "100.0"),
    ("data.flip", "1.5", "at least 0 and at most 1", "1.5"),
    ("data.flip", "-0.1", "at least 0 and at most 1", "-0.1"),
    ("data.rotate.chance", "1.5", "at least 0 and at most 1", "1.5"),
    ("data.min_face", "-1", "at least 0", "-1.0"),
    ("data.min_visible", "1.5", "at least 0 and at most 1", "1.5"),
    ("data.rotate.degrees", "-15", "at least 0 and at most 180", "-15.0"),
    ("data.rotate.degrees", "181", "at least 0 and at most 180", "181.0"),
    ("data.colour.jitter", "2", "at least 0 and at most 1", "2.0"),
    ("data.colour.grey", "-1", "at least 0 and at most 1", "-1.0"),
    ("data.colour.blur", "1.1", "at least 0 and at most 1", "1.1"),
    ("data.cutout.chance", "-1", "at least 0 and at most 1", "-1.0"),
    ("data.cutout.area", "[0, 0.2]", "above 0 and at most 1", "0.0"),
    ("data.cutout.area", "[0.2, 1.1]", "above 0 and at most 1", "1.1"),
    ("data.memory", "-1", "at least 0", "-1.0"),
    ("data.workers", "0", "at least 1", "0"),
    ("data.max_broken", "5", "at least 0 and at most 1", "5.0"),
    ("data.limit", "0", "at least 1", "0"),
    ("train.epochs", "0", "at least 1", "0"),
    ("train.batch", "0", "at least 1", "0"),
    ("train.norm_group", "0", "at least 1", "0"),
    ("train.lr", "0", "above 0", "0.0"),
    ("train.lr_batch", "0", "at least 1", "0"),
    ("train.momentum", "1", "at least 0 and below 1", "1.0"),
    ("train.momentum", "-0.5", "at least 0 and below 1", "-0.5"),
    ("train.weight_decay", "-1", "at least 0", "-1.0"),
    ("train.milestones", "[0.5, 1]", "above 0 and below 1", "1.0"),
    ("train.milestones", "[0, 0.5]", "above 0 and below 1", "0.0"),
    ("train.milestones", "[400]", "above 0 and below 1", "400.0"),
    ("train.gamma", "0", "above 0 and at most 1", "0.0"),
    ("train.final_lr", "2", "at least 0 and at most 1", "2.0"),
    ("train.warmup_steps", "-1", "at least 0", "-1"),
    ("train.warmup_limit", "1.5", "at least 0 and at most 1", "1.5"),
    ("train.warmup_start", "-1", "at least 0 and at most 1", "-1.0"),
    ("train.clip", "0", "above 0", "0.0"),
    ("train.short_run_clip", "0", "above 0", "0.0"),
    ("train.ema", "0", "above 0 and below 1", "0.0"),
    ("train.ema", "1", "above 0 and below 1", "1.0"),
    ("train.assign.center_radius", "0", "above 0", "0.0"),
    ("train.assign.candidates", "0", "at least 1", "0"),
    ("train.assign.iou_weight", "-1", "at least 0", "-1.0"),
    ("train.loss.cls_weight", "-1", "at least 0", "-1.0"),
    ("train.loss.obj_weight", "-1", "at least 0", "-1.0"),
    ("train.loss.box_weight", "-1", "at least 0", "-1.0"),
    ("train.loss.landmark_weight", "-1", "at least 0", "-1.0"),
    ("train.muon.adamw_lr", "0", "above 0", "0.0"),
    ("train.muon.weight_decay", "-1", "at least 0", "-1.0"),
    ("train.teacher_weight", "-0.5", "at least 0", "-0.5"),
    ("train.teacher_maps", "-0.5", "at least 0", "-0.5"),
    ("train.label_weight", "-1", "at least 0", "-1.0"),
    ("train.patience", "0", "at least 1", "0"),
    ("train.keep_every", "0", "above 0", "0.0"),
    ("train.keep_last", "0", "at least 1", "0"),
    ("train.seed", "-1", "at least 0", "-1"),
    ("eval.every", "0", "above 0", "0.0"),
    ("eval.score", "1.1", "at least 0 and at most 1", "1.1"),
    ("eval.nms", "0", "above 0 and at most 1", "0.0"),
    ("eval.limit", "0", "at least 1", "0"),
]


def test_every_range_is_tried():
    assert {key for key, *_ in OUTSIDE} == set(RANGES)


@pytest.mark.parametrize(("key", "value", "words", "seen"), OUTSIDE)
def test_outside_a_range(key, value, words, seen):
    message = str(error_of(f"{key}={value}"))
    assert f"`set` {key}={value}: {key}: must be {words}, not {seen} (the default is " in message


@pytest.mark.parametrize(
    "override",
    [
        "data.flip=0",
        "data.flip=1",
        "data.rotate.degrees=180",
        "data.cutout.area=[0.1, 0.1]",
        "data.cutout.area=[1, 1]",
        "data.workers=null",
        "data.max_broken=0",
        "train.momentum=0",
        "train.momentum=0.999",
        "train.milestones=[]",
        "train.milestones=[0.001, 0.999]",
        "train.gamma=1",
        "train.warmup_steps=0",
        "train.clip=null",
        "train.clip=1e-9",
        "train.ema=null",
        "train.ema=0.9999",
        "eval.nms=1",
        "eval.score=0",
        "model.objectness_bias=-4.6",
        "model.shared_convs=0",
        "data.size=32",
        "train.loss.landmark_weight=0",
    ],
)
def test_just_inside_a_range(override):
    load_config("yunet_n", [override])


# stem and stages


def test_the_stem_takes_images():
    error = error_of("model.stem=[1, 16, 16]")
    assert error.message.endswith("model.stem: images have 3 channels, not 1")
    assert error.hint == "write [3, 16, 16]"


def test_the_first_stage_follows_the_stem():
    error = error_of("model.stem=[3, 16, 8]")
    assert error.message.endswith("model.stages: stage 1 takes 16 channels, but the stem gives 8")
    assert error.hint == "write stage 1 as [8, 64], or change what the stem gives"


def test_each_stage_follows_the_one_before():
    error = error_of("model.stages=[[16, 64], [64, 32], [64, 64], [64, 64], [64, 64]]")
    assert error.message.endswith("model.stages: stage 3 takes 64 channels, but stage 2 gives 32")
    assert error.hint == "write stage 3 as [32, 64], or change what stage 2 gives"


def test_there_must_be_a_stage():
    assert "model.stages: must have at least one stage" in str(error_of("model.stages=[]"))


# pools, maps, strides


@pytest.mark.parametrize(
    ("changes", "text", "hint"),
    [
        (
            {"pool_after": (0, 3, 2, 4)},
            "model.pool_after: must be ascending without repeats, not [0, 3, 2, 4]",
            "[0, 2, 3, 4]",
        ),
        (
            {"pool_after": (0, 2, 2, 3)},
            "model.pool_after: must be ascending without repeats, not [0, 2, 2, 3]",
            "[0, 2, 3]",
        ),
        ({"pool_after": (-1, 0, 2, 3)}, "model.pool_after: there is no stage -1", "0 (the stem) to 5"),
        ({"pool_after": (0, 2, 3, 6)}, "model.pool_after: there is no stage 6", "0 (the stem) to 5"),
        ({"maps": ()}, "model.maps: the neck needs at least one map", "stages from 1 to 5"),
        ({"maps": (4, 3, 5)}, "model.maps: must be ascending without repeats, not [4, 3, 5]", "[3, 4, 5]"),
        ({"maps": (3, 5, 5)}, "model.maps: must be ascending without repeats, not [3, 5, 5]", "[3, 5]"),
        ({"maps": (0, 3, 5)}, "model.maps: there is no stage 0", "stages are 1 to 5"),
        ({"maps": (3, 4, 6)}, "model.maps: there is no stage 6", "stages are 1 to 5"),
        (
            {"maps": (3, 4), "strides": (8, 16)},
            "model.maps: nothing uses stage 5, after the last map (4)",
            "add 5 to model.maps",
        ),
        (
            {"maps": (3,), "strides": (8,)},
            "model.maps: nothing uses stage 4 and 5, after the last map (3)",
            "model.stages",
        ),
        (
            {"stages": ((16, 64), (64, 64), (64, 32), (32, 64), (64, 64))},
            "model.maps: the neck adds the maps [3, 4, 5], but their stages give [32, 64, 64] channels",
            "equal",
        ),
        (
            {"pool_after": (0, 2, 3)},
            "model.maps: the neck needs exactly one pool between neighbouring maps, but stages 4 and 5 have 0 "
            "(strides 16 and 16)",
            "add 4 to model.pool_after",
        ),
        (
            {"maps": (3, 5), "strides": (8, 32)},
            "model.maps: the neck needs exactly one pool between neighbouring maps, but stages 3 and 5 have 2 "
            "(strides 8 and 32)",
            "in model.pool_after, keep only one of 3 or 4",
        ),
        (
            {"strides": (4, 8, 16)},
            "model.strides: [4, 8, 16], but stem and pools give the maps [3, 4, 5] the strides [8, 16, 32]",
            "write strides: [8, 16, 32], or change model.pool_after or model.maps",
        ),
        ({"strides": (8, 16)}, "model.strides: [8, 16], but stem and pools give", "[8, 16, 32]"),
        ({"strides": ()}, "model.strides: [], but stem and pools give", "[8, 16, 32]"),
        ({"strides": (8, 16, 48)}, "model.strides: [8, 16, 48], but stem and pools give", "[8, 16, 32]"),
        ({"pool_after": (2, 3, 4)}, "the maps [3, 4, 5] the strides [4, 8, 16]", "[4, 8, 16]"),
    ],
)
def test_pools_maps_and_strides(changes, text, hint):
    (violation,) = of_model(**changes)
    assert text in violation.text
    assert hint in violation.hint


def test_a_missing_pool_names_every_place_for_it():
    (violation,) = of_model(pool_after=(0, 2), maps=(3, 5), strides=(8, 16))
    assert violation.hint == "add 3 or 4 to model.pool_after"


@pytest.mark.parametrize(
    "changes",
    [
        {"maps": (5,), "strides": (32,)},
        {"pool_after": (), "maps": (5,), "strides": (2,)},
        {"pool_after": (0, 1, 2, 3, 4), "maps": (2, 3, 4, 5), "strides": (8, 16, 32, 64)},
        {"stages": ((16, 64),), "pool_after": (0,), "maps": (1,), "strides": (4,)},
        {"pool_after": (2, 3, 4), "strides": (4, 8, 16)},
    ],
)
def test_other_shapes_that_fit(changes):
    assert of_model(**changes) == []


@given(
    st.lists(st.integers(-1, 5), max_size=6).map(tuple),
    st.lists(st.integers(-1, 5), max_size=4).map(tuple),
    st.lists(st.sampled_from([2, 4, 8, 16, 32, 64]), max_size=4).map(tuple),
    st.integers(0, 4),
)
def test_what_passes_is_a_network_that_the_neck_can_join(pool_after, maps, strides, stages):
    chained = ((16, 64),) * (stages > 0) + ((64, 64),) * max(0, stages - 1)
    violations = of_model(pool_after=pool_after, maps=maps, strides=strides, stages=chained)
    right = (
        sorted(set(pool_after)) == list(pool_after)
        and sorted(set(maps)) == list(maps)
        and all(0 <= stage <= stages for stage in pool_after)
        and all(1 <= stage <= stages for stage in maps)
        and stages in maps
        and wanted_strides(pool_after, maps) == strides
        and strides == tuple(strides[0] * 2**level for level in range(len(strides)))
        and 640 % strides[-1] == 0
    )
    assert (violations == []) == right
    for violation in violations:
        assert violation.hint
        assert violation.text.startswith(f"{violation.key}: ")


# data


@pytest.mark.parametrize(
    ("size", "hint"), [(100, "the nearest are 96 or 128"), (641, "the nearest are 640 or 672"), (20, "write 32")]
)
def test_the_size_is_a_multiple_of_the_largest_stride(size, hint):
    error = error_of(f"data.size={size}")
    assert error.message.endswith(f"data.size: {size} is not a multiple of the largest stride, 32")
    assert error.hint == hint


def test_the_largest_stride_is_the_models():
    wide = ["model.pool_after=[0, 1, 2, 3, 4]", "model.strides=[16, 32, 64]"]
    load_config("yunet_n", [*wide, "data.size=640"])
    assert "largest stride, 64" in error_of(*wide, "data.size=96").message


def test_areas_of_a_cutout_ascend():
    error = error_of("data.cutout.area=[0.2, 0.05]")
    assert error.message.endswith("data.cutout.area: the smallest share, 0.2, is above the largest, 0.05")
    assert error.hint == "write [0.05, 0.2]"


def test_crop_scales_must_not_be_empty():
    assert "data.crop_scales: must have at least one scale" in error_of("data.crop_scales=[]").message


@pytest.mark.parametrize("root", ['""', '" "'])
def test_the_root_must_not_be_empty(root):
    assert "data.root: is empty" in error_of(f"data.root={root}").message


# train


@pytest.mark.parametrize("values", ["[0.8, 0.5]", "[0.5, 0.5]"])
def test_milestones_ascend(values):
    error = error_of(f"train.milestones={values}")
    assert error.message.endswith(f"train.milestones: must be ascending without repeats, not {values}")


# landmarks


@pytest.mark.parametrize(
    ("names", "mirror", "text", "hint"),
    [
        (("a", "b", "a"), (), "model.landmarks.names: 'a' stands there 2 times", "rename"),
        (("a", ""), (), "model.landmarks.names: a name is empty", "name every point"),
        (("a", " "), (), "model.landmarks.names: a name is empty", "name every point"),
        (
            ("left", "right"),
            (("left", "rigth"),),
            "model.landmarks.mirror: there is no landmark 'rigth'",
            "mean 'right'?",
        ),
        (("a", "b"), (("a", "a"),), "model.landmarks.mirror: 'a' stands there 2 times", "one partner"),
        (("a", "b", "c"), (("a", "b"), ("b", "c")), "model.landmarks.mirror: 'b' stands there 2 times", "one partner"),
        ((), (("a", "b"),), "model.landmarks.mirror: there is no landmark 'a', 'b'", "[] for no pairs"),
    ],
)
def test_landmarks(names, mirror, text, hint):
    violation = of_model(landmarks=LandmarksConfig(names, mirror))[0]
    assert violation.text == text
    assert hint in violation.hint


@pytest.mark.parametrize(
    "landmarks",
    [
        LandmarksConfig((), ()),
        LandmarksConfig(("nose",), ()),
        LandmarksConfig(("a", "b", "c", "d", "e"), (("a", "e"), ("d", "b"))),
        LandmarksConfig(tuple(f"p{n}" for n in range(98)), tuple((f"p{n}", f"p{97 - n}") for n in range(49))),
    ],
)
def test_any_number_of_landmarks(landmarks):
    assert of_model(landmarks=landmarks) == []


def with_value(config, key, value):
    first, _, rest = key.partition(".")
    return replace(config, **{first: with_value(getattr(config, first), rest, value) if rest else value})


single = [key for key in sorted(RANGES) if not isinstance(attrgetter(key)(Config()), tuple)]


@given(st.sampled_from(single), st.floats(allow_nan=False, allow_infinity=False) | st.integers(-3, 3))
def test_a_range_is_broken_exactly_outside_of_it(key, value):
    interval = RANGES[key]
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    inside = low < value < high or (value == low and interval[0] == "[") or (value == high and interval[-1] == "]")
    violations = check_config(with_value(Config(), key, value))
    assert any(violation.text.startswith(f"{key}: must be ") for violation in violations) == (not inside)


@pytest.mark.parametrize(
    ("roots", "words"),
    [
        ("[{root: a, share: 0}]", "share of set 1 (a) must be above 0 and at most 1, not 0.0"),
        ("[{root: a}, {root: b, share: -0.5}]", "share of set 2 (b) must be above 0"),
        ("[{root: a}, {root: b, label_weight: -1}]", "label_weight of set 2 (b) must be at least 0"),
        ("[{root: a, share: 0.3}]", "the shares are 0.3 together, not 1"),
        ("[{root: a, share: 0.3}, {root: b, share: 0.3}]", "the shares are 0.6 together, not 1"),
        ("[{root: a}, {root: b, share: 1}]", "leaves nothing for the sets without one"),
        ("[{share: 0.3}, {root: b}]", "set 1 has no root"),
        ("[{root: a}, {root: b, label_weight: 0}]", "with no teacher leaves nothing to learn"),
        (
            "[a, b]",
            "item 1 of data.roots: must be a section with root, share, label_weight, format, classes, "
            'not "a" (write {root: a})',
        ),
        ("[{root: a, weight: 2}]", "unknown key 'item 1 of data.roots.weight'"),
        ("[{root: a, share: many}]", "item 1 of data.roots.share: must be a number or null"),
    ],
)
def test_sets_that_cannot_be(roots, words):
    assert words in str(error_of(f"data.roots={roots}"))


def test_a_part_for_validation_wants_labels():
    assert "data.val: wants labels" in str(error_of("data.val=0.1", "train.label_weight=0", "train.teacher=t"))
