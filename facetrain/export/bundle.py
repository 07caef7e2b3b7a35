"""Make the files that facetrain ships of a trained model: `<name>.onnx` to detect with, `<name>.pt` to train from.

    python -m facetrain.export.bundle runs/<name>/best.pt yunet_n

The model card beside them, `<name>.md`, is written by a person; it must name the hashes that this prints.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from facetrain.config.schema import Config, DataConfig
from facetrain.core.files import sha256
from facetrain.detect.bundled import FOLDER
from facetrain.detect.said import said_of
from facetrain.export.network.fold import fold
from facetrain.export.onnx.model import write_onnx
from facetrain.model.weights import load_checkpoint, load_model, save_checkpoint


def write_bundle(checkpoint: Path, name: str, folder: Path = FOLDER) -> list[Path]:
    """Write both files of a checkpoint into `folder`; returns their paths. No place of the maker's is in them."""
    loaded = load_checkpoint(checkpoint)
    weights, graph = folder / f"{name}.pt", folder / f"{name}.onnx"
    save_checkpoint(weights, loaded.state, portable(loaded.config or Config(model=loaded.model)), loaded.info)
    extra = {"checkpoint_sha256": sha256(weights), "precision": "fp32"}
    extra |= said_of(loaded.info)
    write_onnx(fold(load_model(weights)), graph, extra)
    return [weights, graph]


def portable(config: Config) -> Config:
    """A configuration that names no place and no hour: no data folders, no teacher's path, no recorded plan."""
    train = config.train
    if train.teacher is not None:
        train = replace(train, teacher=None, label_weight=train.label_weight or 1.0)
    data = replace(config.data, root=DataConfig.root, roots=(), store="auto")
    return replace(config, data=data, train=replace(train, plan=None))


def main() -> None:
    """Write the files and print their hashes."""
    parser = argparse.ArgumentParser(prog="python -m facetrain.export.bundle", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("name")
    arguments = parser.parse_args()
    for path in write_bundle(arguments.checkpoint, arguments.name):
        print(f"{sha256(path)}  {path.name}")


if __name__ == "__main__":
    main()
