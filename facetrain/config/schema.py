"""Everything that a model file can say, as frozen dataclasses. Defaults are the published YuNet-n and its recipe.

A key is said once, by its line here: type, default, comment, range, names. What reads, checks and writes YAML takes all
from there; `check` has only the rules that tie keys together. Types are plain: bool, int, float, str, None, Literal of
words, tuples of these, and the dataclasses below, whose docstring is their comment.
"""

from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields, is_dataclass
from typing import Any, Literal


def key(
    default: Any, comment: str = "", within: str | None = None, *, names: str | None = None, may_change: bool = False
) -> Any:
    """A field of the schema. Words of a Literal and names are told in YAML before the comment.

    within:     the interval of the number, of every one in a list, such as `(0, 1]`, which leaves 0 out; null is fine
    names:      the table whose keys it may hold, such as `facetrain.train.losses:BOX_LOSSES`
    may_change: whether a run that goes on takes it over from its edited config.yaml
    """
    said = {"comment": comment, "range": within, "names": names, "may_change": may_change}
    return field(default=default, metadata={name: value for name, value in said.items() if value})


def entries(section: Any, start: str = "") -> Iterator[tuple[str, Field[Any], Any]]:
    """All below a section in turn: dotted key, field, value. Sections are among them, each before its keys."""
    for each in fields(section):
        dotted, value = f"{start}{each.name}", getattr(section, each.name)
        yield dotted, each, value
        if is_dataclass(value):
            yield from entries(value, f"{dotted}.")


@dataclass(frozen=True)
class LandmarksConfig:
    """The points of a face."""

    names: tuple[str, ...] = key(
        ("right_eye", "left_eye", "nose", "right_mouth", "left_mouth"), "the person's own right and left; [] for none"
    )
    mirror: tuple[tuple[str, str], ...] = key(
        (("right_eye", "left_eye"), ("right_mouth", "left_mouth")), "exchanged when an image is flipped"
    )


@dataclass(frozen=True)
class ModelConfig:
    """The network: stem and stages, a neck, a head per level."""

    stem: tuple[int, int, int] = key(
        (3, 16, 16), "channels: image, after the first 3x3 (stride 2), after the stem's unit", "[1, 4096]"
    )
    stages: tuple[tuple[int, int], ...] = key(
        ((16, 64), (64, 64), (64, 64), (64, 64), (64, 64)), "[in, out] channels of stages; two blocks each", "[1, 4096]"
    )
    pool_after: tuple[int, ...] = key((0, 2, 3, 4), "a 2x2 max pool follows these stages (0 is the stem)")
    maps: tuple[int, ...] = key((3, 4, 5), "stages whose result, before its pool, goes to the neck; of equal channels")
    strides: tuple[int, ...] = key((8, 16, 32), "what stem and pools make of these maps; checked")
    block: str = key(
        "separable", "of all units behind the stem; residual adds its input", names="facetrain.model.blocks:BLOCKS"
    )
    neck: str = key(
        "top_down",
        "how maps learn of each other; both_ways: also from fine to coarse",
        names="facetrain.model.neck:NECKS",
    )
    shared_convs: int = key(1, "units per level before the outputs split (0: none)", "[0, 64]")
    tower_convs: int = key(0, "further units for cls, and for box + objectness + landmarks", "[0, 64]")
    head_channels: int = key(64, "width of shared and tower units", "[1, 4096]")
    objectness_bias: float = key(0.02, "-4.6 starts with scores near 1 %: a short run gets going sooner", "[-50, 50]")
    landmarks: LandmarksConfig = LandmarksConfig()


@dataclass(frozen=True)
class RotateConfig:
    """Crops turned around their centre while training, off by default."""

    chance: float = key(0.0, "of a crop turned around its centre", "[0, 1]")
    degrees: float = key(15.0, "the angle is drawn evenly from ± degrees", "[0, 180]")
    right_angles: bool = key(False, "true: by 90, 180 or 270 degrees instead, without resampling")


@dataclass(frozen=True)
class ColourConfig:
    """Colour changes while training, off by default as in the published recipe."""

    jitter: float = key(0.0, "brightness, contrast, saturation x (1 ± jitter)", "[0, 1]")
    grey: float = key(0.0, "chance of a grey image", "[0, 1]")
    blur: float = key(0.0, "chance of a Gaussian blur", "[0, 1]")


@dataclass(frozen=True)
class CutoutConfig:
    """A rectangle erased from crops while training, off by default."""

    chance: float = key(0.0, "of a crop with a rectangle erased", "[0, 1]")
    area: tuple[float, float] = key((0.02, 0.2), "smallest and largest share of the crop that is erased", "(0, 1]")


@dataclass(frozen=True)
class SourceConfig:
    """One of several sets of images that are trained on together."""

    root: str = key("", "as data.root", may_change=True)
    share: float | None = key(None, "of the samples; null: its images once an epoch, as those of others", "(0, 1]")
    label_weight: float = key(1.0, "of its labels' loss terms; 0: they are not read, a teacher alone", "[0, inf)")
    format: str | None = key(None, "label format; null: that of data.format")
    classes: tuple[str, ...] = key((), "classes that are faces; []: those of data.classes")


@dataclass(frozen=True)
class DataConfig:
    """Where images come from and how they become square training crops."""

    root: str = key("data/widerface", "a folder of images and labels, a label file, or `sample`", may_change=True)
    roots: tuple[SourceConfig, ...] = key(
        (), "in place of root several: {root, share, label_weight, format, classes}; the first validates"
    )
    val: float | None = key(None, "share of a set without a val part that validates, by names; null: none", "(0, 1)")
    format: str | None = key(None, "label format, such as coco or yolo; null: the one that is recognised")
    classes: tuple[str, ...] = key((), "classes that are faces; []: the only one, or the one that is called a face")
    trust_labels: bool = key(False, "true: labels that cannot be right are taken as they are")
    size: int = key(640, "side of the square training crops, pixels; a multiple of the largest stride", "[1, 8192]")
    crop_scales: tuple[float, ...] = key(
        (0.5, 0.7, 0.9, 1.1, 1.3, 1.5), "crop side / shorter side of the image", "(0, 10]"
    )
    min_face: float = key(0.0, "a face whose shorter side has fewer pixels in the crop is ignored", "[0, inf)")
    min_visible: float = key(0.0, "a face of which a smaller share lies in the crop is ignored", "[0, 1]")
    hidden_landmarks: bool = key(True, "false: points that labels call hidden are not learnt")
    # Augmentations, each a file in data/augment/, in the order they are applied.
    flip: float = key(0.5, "chance of a mirrored crop", "[0, 1]")
    rotate: RotateConfig = RotateConfig()
    colour: ColourConfig = ColourConfig()
    cutout: CutoutConfig = CutoutConfig()
    reproduce: bool = key(False, "true: crops and landmark weights exactly as the original trainer's, defects too")
    store: Literal["auto", "device", "ram", "mapped", "disk"] = key(
        "auto", "where decoded images are kept; mapped: a shared file", may_change=True
    )
    memory: float | None = key(
        None, "GB that images may take on the GPU or in RAM; null: 60 % of what is free", "[0, inf)", may_change=True
    )
    workers: int | None = key(
        None, "threads that decode and crop; null: one per processor", "[1, inf)", may_change=True
    )
    max_broken: float = key(0.01, "share of unreadable images past which the run fails", "[0, 1]")
    limit: int | None = key(None, "use only so many training images", "[1, inf)")


@dataclass(frozen=True)
class AssignConfig:
    """Which priors learn which face."""

    name: str = key("simota", names="facetrain.train.assign:ASSIGNERS")
    center_radius: float = key(2.5, "strides", "(0, inf)")
    candidates: int = key(10, "best IoUs summed to choose how many priors a face gets", "[1, inf)")
    iou_weight: float = key(3.0, "of what overlap costs; of -ln(IoU) for simota", "[0, inf)")


@dataclass(frozen=True)
class LossConfig:
    """The function for boxes, and the weights of the four terms."""

    box: str = key("eiou", names="facetrain.train.losses:BOX_LOSSES")
    cls_weight: float = key(1.0, "of the face's score", "[0, inf)")
    obj_weight: float = key(1.0, "of objectness", "[0, inf)")
    box_weight: float = key(5.0, "of boxes", "[0, inf)")
    landmark_weight: float = key(0.1, "of landmarks", "[0, inf)")
    ignored: Literal["mask", "background"] = key(
        "mask", "ignored faces are left out, or are background as in the original"
    )


@dataclass(frozen=True)
class MuonConfig:
    """What Muon needs besides lr, the rate of its matrices, and weight_decay, that of the rest."""

    adamw_lr: float = key(0.004, "rate of all that is no matrix, scaled with the batch as lr is", "(0, inf)")
    weight_decay: float = key(0.01, "of the matrices, in units of the rate", "[0, inf)")


@dataclass(frozen=True)
class TrainConfig:
    """The optimisation recipe. Fractions are of the whole run: a shorter one keeps its shape."""

    epochs: int = key(640, "passes over the images", "[1, inf)", may_change=True)
    batch: int = key(32, "images of one step, over all devices", "[1, inf)")
    optimizer: str = key("sgd", names="facetrain.train.optim.optimizers:OPTIMIZERS")
    lr: float = key(0.01, "at a batch of lr_batch, scaled in proportion", "(0, inf)")
    lr_batch: int = key(32, "the batch that lr is meant for", "[1, inf)")
    momentum: float = key(0.9, "SGD's momentum; AdamW's first beta", "[0, 1)")
    weight_decay: float = key(
        5e-4, "on every parameter, biases and batch norm too; muon: on all but its matrices", "[0, inf)"
    )
    muon: MuonConfig = MuonConfig()
    schedule: str = key("steps", names="facetrain.train.optim.schedules:SCHEDULES")
    milestones: tuple[float, ...] = key((0.625, 0.85), "steps only: fractions of the epochs", "(0, 1)")
    gamma: float = key(0.1, "steps only: rate x gamma at each milestone", "(0, 1]")
    final_lr: float = key(0.01, "cosine only: last rate / first rate", "[0, 1]")
    warmup_steps: int = key(1500, "in which the rate rises", "[0, inf)")
    warmup_limit: float = key(0.1, "… but at most this share of the run", "[0, 1]")
    warmup_start: float = key(0.001, "first rate / full rate", "[0, 1]")
    clip: float | None = key(None, "largest gradient norm; null: no clipping", "(0, inf)")
    short_run_clip: float | None = key(
        10.0, "the same in runs too short for the whole warm-up, where the published rate diverges", "(0, inf)"
    )
    ema: float | None = key(None, "decay of averaged weights, such as 0.999; null: none", "(0, 1)")
    precision: Literal["auto", "fp32", "bf16"] = key("auto", "auto is bf16 where the hardware has it")
    compile: Literal["auto", "on", "off"] = key(
        "auto", "torch.compile and CUDA graphs; auto: on a GPU, in long runs", may_change=True
    )
    fused: Literal["auto", "on", "off"] = key(
        "auto", "facetrain's own kernels; auto: on a CPU with a C++ compiler, in long runs"
    )
    norm_group: int | None = key(
        None, "crops that a batch norm sees together on a CPU; null: half of the batch, 8 to 16", "[1, inf)"
    )
    assign: AssignConfig = AssignConfig()
    loss: LossConfig = LossConfig()
    teacher: str | None = key(None, "a checkpoint, a run or a name that teaches every prior", may_change=True)
    teacher_weight: float = key(1.0, "of the teacher's loss terms", "[0, inf)")
    teacher_maps: float = key(0.0, "of how much maps inside differ from the teacher's, where it has such", "[0, inf)")
    label_weight: float = key(1.0, "of the labels' loss terms; 0: images are enough, labels are not read", "[0, inf)")
    plan: tuple[tuple[int, int], ...] | None = key(
        None, "[[step, total], …]: what was planned by the clock; repeats such a run without one"
    )
    patience: int | None = key(
        None,
        "end after so many validations in a row without a better AP, its schedule unfinished; null: never",
        "[1, inf)",
        may_change=True,
    )
    keep_every: float | None = key(
        None, "keep numbered weights every so many epochs; below 1: shares of the run", "(0, inf)", may_change=True
    )
    keep_last: int | None = key(None, "of these only the newest; null: all", "[1, inf)", may_change=True)
    seed: int = key(0, "of weights, crops and order", "[0, inf)")


@dataclass(frozen=True)
class EvalConfig:
    """Validation while training."""

    every: float = key(
        10.0, "epochs between validations; below 1: shares of the run; its end always", "(0, inf)", may_change=True
    )
    score: float = key(0.02, "detections below are left out", "[0, 1]", may_change=True)
    nms: float = key(0.45, "IoU above which the weaker of two detections goes", "(0, 1]", may_change=True)
    limit: int | None = key(None, "use only so many validation images", "[1, inf)", may_change=True)


@dataclass(frozen=True)
class Config:
    """A complete, resolved configuration."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()
