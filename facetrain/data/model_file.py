"""A model file for a set of images: a preset with its comments, and what the labels show filled in."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from facetrain.config.landmark_names import landmarks_of, mirror_pairs
from facetrain.config.load import config_to_yaml, load_config, preset_text
from facetrain.config.schema import Config, LandmarksConfig
from facetrain.core.inert import is_name
from facetrain.data.face_sizes import fitting_scales, relative_sizes
from facetrain.data.label_file import LabelFile
from facetrain.data.layout import Reading, load_split


@dataclass(frozen=True)
class ModelFile:
    """The text, and what is in it.

    faces: labelled ones that count
    notes: what was filled in and why, a sentence each
    """

    text: str
    config: Config
    images: int
    faces: int
    notes: tuple[str, ...]


def model_file(preset: str, data: str | None, reading: Reading = Reading()) -> ModelFile:  # noqa: B008 (frozen)
    """The model file of a preset for the training part of a set, `sample` being the drawn one; data: None for no set.

    Raises InputError for a preset or labels that are not there, DataError for labels that cannot be read.
    """
    text, config = preset_text(preset), load_config(preset)
    if data is None:
        return ModelFile(text, config, 0, 0, ())
    own = replace(config.data, root=data, format=reading.format, classes=reading.classes, trust_labels=reading.trust)
    config = replace(config, data=own)
    head = [line for line in text.splitlines() if line.startswith("#")]
    if data == "sample" and not Path(data).is_dir():
        return ModelFile(_text(head, config), config, 0, 0, ("`sample`: the drawn set, for which the preset is right",))
    labels = load_split(Path(data), "train", None, reading)
    sizes = relative_sizes(labels.images)
    landmarks, about_points = _landmarks(labels)
    scales = fitting_scales(sizes, own.size, own.crop_scales)
    notes = [labels.said(), about_points]
    if len(sizes):
        low, middle, high = (f"{float(share):.1%}" for share in np.quantile(sizes, (0.1, 0.5, 0.9)))
        kept = "published" if scales == own.crop_scales else "fitted"
        spread = ", ".join(f"{scale:g}" for scale in scales)
        notes.append(
            f"faces: half of them below {middle} of the image's shorter side, eight in ten from {low} to {high}; "
            f"{kept} crop scales: {spread}"
        )
    filled = replace(
        config,
        data=replace(own, crop_scales=scales),
        model=replace(config.model, landmarks=landmarks),
    )
    return ModelFile(
        _text(head, filled),
        filled,
        len(labels.images),
        labels.statistics.faces - labels.statistics.ignored,
        tuple(notes),
    )


def _landmarks(labels: LabelFile) -> tuple[LandmarksConfig, str]:
    """The points that the labels have, and a sentence about them."""
    count = labels.statistics.with_landmarks
    if not count or not labels.points:
        return LandmarksConfig((), ()), "landmarks: none, as no face has any"
    names = labels.points
    if len(set(names)) < len(names) or not all(map(is_name, names)):
        names = landmarks_of(len(names)).names
    pairs = mirror_pairs(names)
    said = f"landmarks: {', '.join(names)} of {count:,} faces"
    if not pairs and len(names) > 1:
        said += "; write pairs of left and right into model.landmarks.mirror, or set data.flip: 0"
    return LandmarksConfig(names, pairs), said


def _text(head: list[str], config: Config) -> str:
    return "\n".join([*head, "", config_to_yaml(config)])
