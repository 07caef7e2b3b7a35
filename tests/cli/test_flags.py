"""Errors name what the user typed: fields of the core as the flags of the running command, and both of two sources."""

import ast
import re
from pathlib import Path

import pytest
from typer.main import get_command

import facetrain
from facetrain.cli.app import build_app, run_cli
from facetrain.cli.flags import flags_of, in_flags


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("train yunet_n --epochs 3 --set train.epochs=1", "error: --epochs 3 and --set train.epochs=1: two values"),
        ("train yunet_n --data A --set data.root=B", "error: --data A and --set data.root=B: two values"),
        ("train yunet_n --batch 8 --set train={batch: 4}", "error: --batch 8 and --set train={batch: 4}: two values"),
        ("train yunet_n --epochs 0", "error: --epochs 0: train.epochs: "),
        ("train yunet_n --set train.epochs=0", "error: --set train.epochs=0: train.epochs: "),
        (
            "train yunet_n --for 1h --set train.epochs=5",
            "error: --for plans the number of steps itself: --set train.ep",
        ),
        (
            "train yunet_n --data sample --recipe none --name a/b --gpus cpu",
            "error: --name 'a/b': not a name for a run",
        ),
        ("detect --score 2 x.jpg", "error: --score 2: must be from 0 to 1"),
        ("detect --threads 0 x.jpg", "error: --threads 0: must be from 1"),
        ("eval --nms 0", "error: --nms 0: must be above 0"),
        ("eval --size x", "error: --size x: no such rule"),
        ("export-onnx --opset 3", "error: --opset 3: not one"),
        ("export-onnx --max-drop 0.1", "error: --max-drop is for --precision"),
        ("export-cpp --digits 0", "error: --digits 0: must"),
        ("compare a b --fps-size 0", "error: --fps-size 0: not a size"),
    ],
)
def test_flags_are_named_as_they_were_typed(arguments, said, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = arguments.replace("train={batch: 4}", "train={batch:_4}").split()
    assert run_cli([word.replace(":_4", ": 4") for word in words]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert said in err
    assert "`" not in err


def test_fields_and_only_fields_become_flags():
    flags = {"score": "--score", "no_check": "--no-check", "set": "--set", "data.root": "--data"}
    text = "`score` 2, `no_check`, `data.root` x, `data.store=ram`, `train.lr`, `other`, `git lfs pull`"
    said = "--score 2, --no-check, --data x, --set data.store=ram, --set train.lr, `other`, `git lfs pull`"
    assert in_flags(text, flags) == said
    assert in_flags("`score`, `data.store=ram`", {}) == "`score`, `data.store=ram`"


def test_the_core_speaks_of_no_flags():
    """Every text of the code outside cli/, but for docstrings and calls of other programs."""
    commands = list(get_command(build_app()).commands.values())
    commands += [command for group in commands for command in getattr(group, "commands", {}).values()]
    flags = {flag for command in commands for flag in flags_of(command).values()} - {"--help"}
    root = Path(facetrain.__file__).parent
    for path in sorted(root.rglob("*.py")):
        if path.relative_to(root).parts[0] == "cli":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documented = _docstrings(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
                named = flags.intersection(re.findall(r"(?<![\w-])--[a-z][a-z-]+", node.value))
                assert not named, f"{path}:{node.lineno}: {named}"


def _docstrings(tree):
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, kinds)]
    return {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
