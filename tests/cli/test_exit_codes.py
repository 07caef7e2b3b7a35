"""The exit codes of examples/detect.md, walked; and wrong calls are refused before anything heavy is imported."""

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from cli.commands_there import COMMANDS

from facetrain.cli.app import run_cli

PAGE = Path(__file__).parents[2] / "examples/detect.md"

# What a call does, its arguments, its exit code. Folder: in/a.png, in/broken.png, good/a.png, set (labelled), file.
CALLS = [
    ("everything done", "detect good", 0),
    ("everything done", "detect good --json", 0),
    ("everything done", "eval --data set", 0),
    ("everything done", "info yunet_n", 0),
    ("everything done", "info --json", 0),
    ("everything done", "init yunet_n --print", 0),
    ("everything done", "init --list --json", 0),
    ("everything done", "weights", 0),
    ("everything done", "data check set", 0),
    ("everything done", "data convert set --to converted --as coco", 0),
    ("everything done", "data label good --to labelled", 0),
    ("everything done", "data audit set", 0),
    ("help", "--help", 0),
    ("help", "data --help", 0),
    ("help", "data", 0),
    *(("help", f"{command} --help", 0) for command in COMMANDS),
    *(("a wrong option", f"{command} --no-such-option", 2) for command in COMMANDS),
    ("one image of several damaged", "detect in", 1),
    ("one image of several damaged", "detect in --json", 1),
    ("one path of several missing", "detect good absent.png", 1),
    ("a damaged file", "detect in/broken.png", 1),
    ("a damaged file", "detect good --weights broken.pt", 1),
    ("a damaged file", "info broken.onnx", 1),
    ("a damaged file", "eval --data set --weights broken.onnx", 1),
    ("a damaged file", "eval --data damaged", 1),
    ("a damaged file", "train yunet_n --data set --weights broken.pt", 1),
    ("a damaged file", "export-onnx --weights broken.pt", 1),
    ("a damaged file", "export-cpp --weights broken.pt", 1),
    ("a damaged file", "compare broken.onnx", 1),
    ("a damaged file", "compare yunet_n --image in/broken.png --output sheet.png", 1),
    ("a damaged file", "init --data damaged --output damaged.yaml", 1),
    ("a damaged file", "data check damaged", 1),
    ("a damaged file", "data convert damaged --to undamaged", 1),
    ("a damaged file", "data audit damaged", 1),
    ("one image of several damaged", "data label in --to labels_of_some", 1),
    ("one model of several missing", "compare yunet_n absent.onnx", 1),
    ("a wrong path", "detect absent.png", 2),
    ("a wrong path", "detect good --weights absent.onnx", 2),
    ("a wrong path", "eval --data absent", 2),
    ("a wrong path", "eval --data set --weights absent.pt", 2),
    ("a wrong path", "train yunet_n --data absent", 2),
    ("a wrong path", "train absent.yaml", 2),
    ("a wrong path", "train yunet_n --data set --weights absent.pt", 2),
    ("a wrong path", "train --resume absent", 2),
    ("a wrong path", "export-onnx --weights absent.pt", 2),
    ("a wrong path", "export-onnx --check-images absent", 2),
    ("a wrong path", "export-cpp --weights absent.pt", 2),
    ("a wrong path", "export-cpp --check-images absent", 2),
    ("a wrong path", "compare absent.onnx", 2),
    ("a wrong path", "info absent.onnx", 2),
    ("a wrong path", "compare yunet_n --image absent.png --output sheet.png", 2),
    ("a wrong path", "compare yunet_n --widerface --data absent", 2),
    ("a wrong path", "eval --data set --against absent.pt", 2),
    ("a wrong path", "eval --data set --predictions absent", 2),
    ("a wrong path", "init --data absent", 2),
    ("a wrong path", "export-onnx --precision int8 --calibrate absent", 2),
    ("a wrong path", "data check absent", 2),
    ("a wrong path", "data convert absent --to new", 2),
    ("a wrong path", "data label absent --to new", 2),
    ("a wrong path", "data audit absent", 2),
    ("a wrong path", "data audit set --apply absent.csv --to new", 2),
    ("a wrong path", "data prepare widerface --from absent --to new", 2),
    ("a wrong option", "detect", 2),
    ("a wrong option", "detect good --score 2", 2),
    ("a wrong option", "detect good --score a", 2),
    ("a wrong option", "detect good --no-such-option", 2),
    ("a wrong option", "detect good --no-draw --output o", 2),
    ("a wrong option", "eval --data set --scales x", 2),
    ("a wrong option", "train yunet_n --set train.lr=a", 2),
    ("a wrong option", "train yunet_n --epochs 0", 2),
    ("a wrong option", "train yunet_n --data set --name a/b", 2),
    ("a wrong option", "train yunet_n --for 0", 2),
    ("a wrong option", "export-onnx --opset 5", 2),
    ("a wrong option", "export-onnx --precision int8", 2),
    ("a wrong option", "export-onnx --no-nms", 2),
    ("a wrong option", "export-cpp --digits 0", 2),
    ("a wrong option", "export-cpp --target x", 2),
    ("a wrong option", "export-cpp --name class", 2),
    ("a wrong option", "compare yunet_n --fps-size a", 2),
    ("a wrong option", "no-such-command", 2),
    ("a wrong option", "data no-such-command", 2),
    ("a wrong option", "compare", 2),
    ("a wrong option", "train", 2),
    ("a wrong option", "info --yaml", 2),
    ("a wrong option", "info yunet_n --size a", 2),
    ("a wrong option", "init no_such_preset", 2),
    ("a wrong option", "init quick --print --output o.yaml", 2),
    ("a wrong option", "weights put", 2),
    ("a wrong option", "weights get", 2),
    ("a wrong option", "weights get no_such_weights", 2),
    ("a wrong option", "weights --only onnx", 2),
    ("a wrong option", "data check", 2),
    ("a wrong option", "data check set --format x", 2),
    ("a wrong option", "data convert set", 2),
    ("a wrong option", "data convert set --to new --as x", 2),
    ("a wrong option", "data convert set --to new --images x", 2),
    ("a wrong option", "data label good", 2),
    ("a wrong option", "data label good --to new --score 2", 2),
    ("a wrong option", "data audit set --split x", 2),
    ("a wrong option", "data audit set --off 0", 2),
    ("a wrong option", "data prepare", 2),
    ("a wrong option", "data prepare x --from good", 2),
    ("an output that cannot be written", "detect good --output file", 2),
    ("an output that cannot be written", "detect good --output file/deeper", 2),
    ("an output that cannot be written", "eval --data set --report file", 2),
    ("an output that cannot be written", "eval --data set --save-predictions file/x", 2),
    ("an output that cannot be written", "train yunet_n --data set --runs file", 2),
    ("an output that cannot be written", "export-onnx --output file/x.onnx", 2),
    ("an output that cannot be written", "export-onnx --output good", 2),
    ("an output that cannot be written", "export-cpp --output file", 2),
    ("an output that cannot be written", "compare yunet_n --markdown file/x.md", 2),
    ("an output that cannot be written", "init yunet_n --output file/x.yaml", 2),
    ("an output that cannot be written", "data check set --report file", 2),
    ("an output that cannot be written", "data convert set --to file", 2),
    ("an output that cannot be written", "data label good --to file", 2),
    ("an output that cannot be written", "data audit set --report file", 2),
    ("an output that cannot be written", "data prepare widerface --from good --to file", 2),
]
# These take torch, or onnxruntime's look at a file, to be seen.
HEAVY = ("broken.onnx", "absent.onnx", "train --resume")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("calls")
    image = np.full((64, 96, 3), 90, np.uint8)
    for path in ("in/a.png", "good/a.png", "set/val/images/a.png", "set/train/images/a.png"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / path), image)
    for split in ("train", "val"):
        (root / "damaged" / split / "images").mkdir(parents=True)
        (root / "damaged" / split / "labelv2.txt").write_text("# a.png 96 64\n10 10 40\n")
        (root / "set" / split / "labelv2.txt").write_text("# a.png 96 64\n10 10 40 50\n")
    for name in ("in/broken.png", "broken.pt", "broken.onnx", "file"):
        (root / name).write_bytes(b"nothing that can be read")
    return root


@pytest.mark.parametrize(("what", "call", "code"), CALLS, ids=[call for _, call, _ in CALLS])
def test_exit_codes(folder, monkeypatch, capfd, what, call, code):
    monkeypatch.chdir(folder)
    assert run_cli(call.split()) == code
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    assert ("error" in err) == (code != 0)
    if code == 2:
        assert out == ""
    if "--json" in call:
        assert json.loads(out)


def test_the_page_has_the_same_table():
    rows = re.findall(r"^\| ([^|]+) \| ([0-9]+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {(what, int(code)) for what, code in rows} >= {(what, code) for what, _, code in CALLS}


def test_wrong_calls_are_refused_before_torch_is_imported(folder):
    calls = [call for _, call, code in CALLS if code == 2 and not any(word in call for word in HEAVY)]
    program = (
        "import sys, json\nfrom facetrain.cli.app import run_cli\n"
        "for call in json.loads(sys.argv[1]):\n"
        "    assert run_cli(call.split()) == 2, call\n"
        "    heavy = {'torch', 'onnxruntime', 'onnx', 'matplotlib'} & sys.modules.keys()\n"
        "    assert not heavy, (call, heavy)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(calls)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("call", "broken", "said"),
    [
        ("export-onnx -o x.onnx", "facetrain.export.export_onnx.check_onnx", "interrupted: nothing was written"),
        ("export-cpp -o x", "facetrain.export.export_cpp._check", "interrupted: nothing was written"),
        ("eval --data set", "facetrain.eval.pipeline.read_image", "interrupted: nothing was measured"),
    ],
)
def test_ctrl_c_says_what_was_done(folder, monkeypatch, capfd, call, broken, said):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.chdir(folder)
    monkeypatch.setattr(broken, interrupt)
    assert run_cli(call.split()) == 130
    out, err = capfd.readouterr()
    assert out == ""
    assert said in err
    assert not (folder / "x").exists()
    assert not (folder / "x.onnx").exists()
