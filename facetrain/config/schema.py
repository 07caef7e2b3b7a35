"""Everything that a model file can say, as frozen dataclasses. Defaults are the published YuNet-n and its recipe.

A field's comment gives its unit and its allowed values; `check_config` holds the rules that tie fields together.
Types are plain: bool, int, float, str, None, tuples of these, and the dataclasses below. What is `named` is a key of
the table at that place, and numbers lie `within` an interval.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from facetrain.config.names import named


def within(interval: str, default: Any) -> Any:
    """A field whose numbers lie in an interval such as `(0, 1]`, which leaves 0 out.

    A null is always fine; of a list, every item must lie inside.
    """
    return field(default=default, metadata={"range": interval})


@dataclass(frozen=True)
class LandmarksConfig:
    """The points of a face. Names are the person's own left and right; no names: no landmark branch."""

    names: tuple[str, ...] = ("right_eye", "left_eye", "nose", "right_mouth", "left_mouth")
    mirror: tuple[tuple[str, str], ...] = (("right_eye", "left_eye"), ("right_mouth", "left_mouth"))


@dataclass(frozen=True)
class ModelConfig:
    """The network: stem and stages, a neck, a head per level."""

    # channels: image, after the 3x3, after the stem's unit
    stem: tuple[int, int, int] = within("[1, 4096]", (3, 16, 16))
    # (in, out) of stages 1, 2, …
    stages: tuple[tuple[int, int], ...] = within("[1, 4096]", ((16, 64), (64, 64), (64, 64), (64, 64), (64, 64)))
    pool_after: tuple[int, ...] = (0, 2, 3, 4)  # stages followed by a 2x2 max pool; 0 is the stem
    maps: tuple[int, ...] = (3, 4, 5)  # stages whose result (before its pool) goes to the neck
    strides: tuple[int, ...] = (8, 16, 32)  # strides of these maps; consecutive powers of two
    block: str = named("facetrain.model.blocks:BLOCKS", "separable")  # of stages, neck, shared and tower units
    neck: str = named("facetrain.model.neck:NECKS", "top_down")  # how the maps learn of each other
    shared_convs: int = within("[0, 64]", 1)  # units per level before the outputs split
    tower_convs: int = within("[0, 64]", 0)  # further units for cls, and for box + obj + landmarks
    head_channels: int = within("[1, 4096]", 64)  # width of shared and tower units
    # initial bias of the objectness output; 0.02 as published, -4.6 starts near 1 %
    objectness_bias: float = within("[-50, 50]", 0.02)
    landmarks: LandmarksConfig = field(default_factory=LandmarksConfig)


@dataclass(frozen=True)
class RotateConfig:
    """Crops turned around their centre while training, off by default."""

    chance: float = within("[0, 1]", 0.0)  # of a turned crop, 0 … 1
    degrees: float = within("[0, 180]", 15.0)  # the angle is drawn evenly from ± degrees; 0 … 180
    right_angles: bool = False  # turned by 90, 180 or 270 degrees instead, without resampling


@dataclass(frozen=True)
class ColourConfig:
    """Colour changes while training, off by default as in the published recipe. Chances are 0 … 1."""

    # brightness, contrast and saturation change by a factor in [1 - jitter, 1 + jitter]; 0 … 1
    jitter: float = within("[0, 1]", 0.0)
    grey: float = within("[0, 1]", 0.0)  # chance of a grey image
    blur: float = within("[0, 1]", 0.0)  # chance of a Gaussian blur


@dataclass(frozen=True)
class CutoutConfig:
    """A rectangle erased from crops while training, off by default."""

    chance: float = within("[0, 1]", 0.0)  # of a crop with an erased rectangle, 0 … 1
    # smallest and largest share of the crop that is erased; above 0, at most 1
    area: tuple[float, float] = within("(0, 1]", (0.02, 0.2))


@dataclass(frozen=True)
class DataConfig:
    """Where images come from and how they become square training crops."""

    root: str = "data/widerface"  # folder in the WIDER FACE layout, or `sample`
    size: int = within("[1, 8192]", 640)  # side of the training crops in pixels, a multiple of the largest stride
    # side of the crop / shorter side of the image
    crop_scales: tuple[float, ...] = within("(0, 10]", (0.5, 0.7, 0.9, 1.1, 1.3, 1.5))
    # Augmentations, each a file in data/augment/, in the order they are applied.
    flip: float = within("[0, 1]", 0.5)  # chance of a mirrored crop
    rotate: RotateConfig = field(default_factory=RotateConfig)
    colour: ColourConfig = field(default_factory=ColourConfig)
    cutout: CutoutConfig = field(default_factory=CutoutConfig)
    reproduce: bool = (
        False  # the original's crops and weights where they are defects (exclusive offsets, kept border landmarks, …)
    )
    store: Literal["auto", "device", "ram", "mapped", "disk"] = (
        "auto"  # where decoded images are kept; mapped: one file in the cache folder, shared by all runs
    )
    # GB that images may take, of the GPU's memory or of RAM; null: 60 % of what is free
    memory: float | None = within("[0, inf)", None)
    workers: int | None = within("[1, inf)", None)  # threads that decode and crop; null: one per processor
    max_broken: float = within("[0, 1]", 0.01)  # share of unreadable images past which the run fails
    limit: int | None = within("[1, inf)", None)  # use only so many training images


@dataclass(frozen=True)
class AssignConfig:
    """Which priors learn which face. Defaults: the published YuNet recipe."""

    name: str = named("facetrain.train.assign:ASSIGNERS", "simota")
    center_radius: float = within("(0, inf)", 2.5)  # strides
    candidates: int = within("[1, inf)", 10)  # best IoUs summed to choose k
    iou_weight: float = within("[0, inf)", 3.0)  # weight of what overlap costs; of -ln(IoU) for simota


@dataclass(frozen=True)
class LossConfig:
    """Weights of the four loss terms and the function for boxes."""

    box: str = named("facetrain.train.losses:BOX_LOSSES", "eiou")
    cls_weight: float = within("[0, inf)", 1.0)
    obj_weight: float = within("[0, inf)", 1.0)
    box_weight: float = within("[0, inf)", 5.0)
    landmark_weight: float = within("[0, inf)", 0.1)
    ignored: Literal["mask", "background"] = (
        "mask"  # priors on ignored boxes: no objectness loss, or background as in the original
    )


@dataclass(frozen=True)
class MuonConfig:
    """What Muon needs besides `train.lr`, the rate of its matrices, and `train.weight_decay`, that of the rest."""

    # rate of the parameters that are no matrices, scaled with the batch as lr is
    adamw_lr: float = within("(0, inf)", 0.004)
    weight_decay: float = within("[0, inf)", 0.01)  # of the matrices, in units of the rate


@dataclass(frozen=True)
class TrainConfig:
    """The optimisation recipe. Fractions are of the whole run, so that a shorter run keeps its shape."""

    epochs: int = within("[1, inf)", 640)
    batch: int = within("[1, inf)", 32)  # images of one step, over all devices
    optimizer: str = named("facetrain.train.optim.optimizers:OPTIMIZERS", "sgd")
    lr: float = within("(0, inf)", 0.01)  # at a batch of lr_batch; scaled in proportion
    lr_batch: int = within("[1, inf)", 32)
    momentum: float = within("[0, 1)", 0.9)  # SGD's momentum; AdamW's first beta
    weight_decay: float = within("[0, inf)", 5e-4)  # on every parameter
    muon: MuonConfig = field(default_factory=MuonConfig)
    schedule: str = named("facetrain.train.optim.schedules:SCHEDULES", "steps")
    # of the epochs: rate x gamma at their start (steps)
    milestones: tuple[float, ...] = within("(0, 1)", (0.625, 0.85))
    gamma: float = within("(0, 1]", 0.1)
    final_lr: float = within("[0, 1]", 0.01)  # last rate / first rate (cosine)
    warmup_steps: int = within("[0, inf)", 1500)
    warmup_limit: float = within("[0, 1]", 0.1)  # warm-up takes at most this share of the run
    warmup_start: float = within("[0, 1]", 0.001)  # first rate / full rate
    clip: float | None = within("(0, inf)", None)  # largest gradient norm; null: no clipping
    # the same where warmup_limit cuts the warm-up: there the published rate diverges
    short_run_clip: float | None = within("(0, inf)", 10.0)
    ema: float | None = within("(0, 1)", None)  # decay of the averaged weights; null: none
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"  # torch.compile and CUDA graphs; auto: on a GPU, if the run is long
    fused: Literal["auto", "on", "off"] = (
        "auto"  # facetrain's own kernels for the network; auto: on a CPU with a C++ compiler, if the run is long
    )
    assign: AssignConfig = field(default_factory=AssignConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    teacher: str | None = None  # a checkpoint, a run or a name whose network teaches every prior; null: none
    teacher_weight: float = within("[0, inf)", 1.0)  # of the teacher's loss terms
    # of the labels' loss terms; 0: images are enough, labels are not read
    label_weight: float = within("[0, inf)", 1.0)
    plan: tuple[tuple[int, int], ...] | None = (
        None  # [step, total]: from this step on the run is to end after `total` steps; what --for has planned
    )
    # keep numbered weights every so many epochs; below 1: shares of the run
    keep_every: float | None = within("(0, inf)", None)
    keep_last: int | None = within("[1, inf)", None)  # of these only the newest; null: all
    seed: int = within("[0, inf)", 0)


@dataclass(frozen=True)
class EvalConfig:
    """Validation while training."""

    # epochs between validations; below 1: shares of the run; its end is always validated
    every: float = within("(0, inf)", 10.0)
    score: float = within("[0, 1]", 0.02)  # detections below are left out
    nms: float = within("(0, 1]", 0.45)  # IoU above which the weaker of two detections goes
    limit: int | None = within("[1, inf)", None)  # use only so many validation images


@dataclass(frozen=True)
class Config:
    """A complete, resolved configuration."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
