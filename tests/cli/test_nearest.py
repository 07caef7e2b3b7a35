"""A slip of the fingers gets the nearest name: in an option, a subcommand, a value that is a name, a file."""

import cv2
import numpy as np
import pytest
from cli.commands_there import COMMANDS, GROUPS, parameters_of

from facetrain.cli.app import run_cli
from facetrain.core.suggest import nearest_path, path_hint

CALLS = [
    ("detect pictures --weights yunett_n", "yunet_n"),
    ("detect pictures --weights modles/a.onnx", "models/a.onnx"),
    ("detect pictures --weights models/photo.onx", "models/photo.onnx"),
    ("detect pictures --family yunte", "yunet"),
    ("detect pictures --size orginal", "original"),
    ("detect pictures --size vgaa", "vga"),
    ("detect pictures --device cdua", "cuda"),
    ("detect pictures --save crop=x", "crops"),
    ("detect picures", "pictures"),
    ("detect picures/party.png", "pictures/party.png"),
    ("detect pictures/parti.png", "pictures/party.png"),
    ("train yunet_nn", "yunet_n"),
    ("train modle.yaml", "model.yaml"),
    ("train yunet_n --data fases", "faces"),
    ("train yunet_n --data faces --recipe quik", "quick"),
    ("train yunet_n --data faces --recipe noen", "none"),
    ("train yunet_n --data faces --gpus cpuu", "cpu"),
    ("train yunet_n --data faces --teacher yunett_n", "yunet_n"),
    ("train yunet_n --data faces --format cocoo", "coco"),
    ("train yunet_n --data faces --set train.epoch=3", "train.epochs"),
    ("train yunet_n --data faces --set train.optimizer=sdg", "sgd"),
    ("train --resume mien", "mine"),
    ("eval --data fases", "faces"),
    ("eval --data faces/vall", "faces/val"),
    ("eval --data faces --against yunett_n", "yunet_n"),
    ("eval --data faces --predictions resluts", "results"),
    ("eval --widerface --data fases", "faces"),
    ("eval --widerface --data faces --ground-truth fases", "faces"),
    ("compare yunet_n --family scrdf", "scrfd"),
    ("compare yunet_n --image pictures/parti.png -o s.png", "pictures/party.png"),
    ("info yunett_n", "yunet_n"),
    ("init yunet_nn", "yunet_n"),
    ("init quik --print", "quick"),
    ("init --data fases", "faces"),
    ("weights gett", "get"),
    ("weights get yunet_n_realesed", "yunet_n_released"),
    ("weights get yunet_n_released --only onx", "onnx"),
    ("export-onnx --weights yunett_n", "yunet_n"),
    ("export-onnx --precision fp61", "fp16"),
    ("export-onnx --precision int8 --calibrate picures", "pictures"),
    ("export-onnx --precision fp16 --data fases", "faces"),
    ("export-onnx --check-images picures", "pictures"),
    ("export-onnx --size dynamik", "dynamic"),
    ("export-onnx --batch dynamik", "dynamic"),
    ("export-onnx -o modles/x.onnx", "models"),
    ("export-cpp --target standalon", "standalone"),
    ("export-cpp --check-images picures", "pictures"),
    ("data check fases", "faces"),
    ("data check faces --config yunet_nn", "yunet_n"),
    ("data convert fases --to x", "faces"),
    ("data convert faces --to x --as cocoo", "coco"),
    ("data convert faces --to x --images lnk", "link"),
    ("data convert faces --to x --boxes xyhw", "xywh"),
    ("data convert faces --to x --landmarks yxx", "yx"),
    ("data label picures --to x", "pictures"),
    ("data label pictures --to x --device cdua", "cuda"),
    ("data audit fases", "faces"),
    ("data audit faces --split vall", "val"),
    ("data audit faces --apply findigs.csv --to y", "findings.csv"),
    ("data prepare widrface --from x", "widerface"),
    ("data prepare widerface --from picures", "pictures"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("slips")
    for path in ("pictures/party.png", "faces/val/images/a.png", "faces/train/images/a.png"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / path), np.full((64, 96, 3), 90, np.uint8))
    for part in ("train", "val"):
        (root / f"faces/{part}/labelv2.txt").write_text("# a.png 96 64\n10 10 40 50\n")
    for path in ("models/a.onnx", "models/photo.onnx", "model.yaml", "findings.csv", "runs/mine/last.pt", "results/a"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")
    return root


@pytest.mark.parametrize(("call", "meant"), CALLS, ids=[call for call, _ in CALLS])
def test_values_get_the_nearest(folder, monkeypatch, capsys, call, meant):
    monkeypatch.chdir(folder)
    assert run_cli(call.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"did you mean '{meant}'?" in err


@pytest.mark.parametrize("command", COMMANDS)
def test_options_get_the_nearest(capsys, command):
    for parameter in parameters_of(command):
        for option in (*parameter.opts, *parameter.secondary_opts):
            if option.startswith("--") and len(option) > 6:
                slip = option[:-2] + option[-1] + option[-2] + "q"
                assert run_cli([*command.split(), slip]) == 2
                assert option in capsys.readouterr().err


@pytest.mark.parametrize("command", [*COMMANDS, *GROUPS])
def test_subcommands_get_the_nearest(capsys, command):
    *above, name = command.split()
    assert run_cli([*above, name[:-1] + "q"]) == 2
    assert f"Did you mean '{name}'" in capsys.readouterr().err


def test_the_first_part_that_is_not_there_is_mended(tmp_path):
    (tmp_path / "pictures/summer").mkdir(parents=True)
    assert nearest_path(tmp_path / "pictuers/summer") == tmp_path / "pictures/summer"
    assert nearest_path(tmp_path / "pictuers/winter") == tmp_path / "pictures"
    assert nearest_path(tmp_path / "elsewhere/winter") is None
    assert path_hint(tmp_path / "elsewhere", "make it") == "make it"
    assert path_hint(tmp_path / "elsewhere") is None


def test_an_output_taken_for_an_option_and_an_image_for_weights(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    for call, meant in {
        "detect pictures --blur covered": "--save blur=PATH",
        "detect pictures --jsonl=faces.jsonl": "--save jsonl=PATH",
        "info pictures/party.png": "facetrain detect pictures/party.png",
    }.items():
        assert run_cli(call.split()) == 2
        assert f"hint: {meant}\n" in capsys.readouterr().err
