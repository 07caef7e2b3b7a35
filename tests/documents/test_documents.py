"""What commands print as JSON, and runs keep, is what facetrain.core.documents says: no field less, none more."""

import json
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from facetrain.cli.app import run_cli
from facetrain.config.schema import Config
from facetrain.core.documents.audit import AppliedDocument, AuditDocument
from facetrain.core.documents.common import EstimateDocument, Header, ProtocolDocument
from facetrain.core.documents.compare import CompareDocument
from facetrain.core.documents.convert import ConvertedDocument
from facetrain.core.documents.detect import DetectDocument, DetectedImage, FailedLine, LinesHead
from facetrain.core.documents.eval import EvalDocument
from facetrain.core.documents.export import CppDocument, OnnxDocument
from facetrain.core.documents.info import ConfigDocument, InfoDocument, ModelInfo
from facetrain.core.documents.init import InitDocument, PrintedDocument, StartsDocument
from facetrain.core.documents.label import LabelledDocument
from facetrain.core.documents.prepare import PreparedDocument
from facetrain.core.documents.train import (
    EnvironmentDocument,
    PlanLine,
    TrainDocument,
    TrainLine,
    ValidationLine,
)
from facetrain.core.documents.weights import WeightsDocument
from facetrain.data.sample_set.make import write_sample
from facetrain.detect.bundled import bundled_weights
from tests.documents.fields import hints, misfits
from tests.documents.page import PAGE, page

LINES = {"train": TrainLine, "val": ValidationLine, "plan": PlanLine}
TINY = """
model: {stem: [3, 4, 8], stages: [[8, 8], [8, 8], [8, 8], [8, 8], [8, 8]], head_channels: 8}
data: {size: 64, store: ram, workers: 1}
train: {epochs: 1, batch: 4, optimizer: adamw, precision: fp32}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn set of a few images, `data`."""
    folder = tmp_path_factory.mktemp("documents")
    write_sample(folder / "data", train=6, val=4)
    return folder


@pytest.fixture
def document(capsys: pytest.CaptureFixture[str], place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """What a command prints, held against its description."""
    monkeypatch.chdir(place)

    def run(described: type, *arguments: str, code: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        assert run_cli([*arguments, "--json"]) == code
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        header = {name: found.pop(name) for name in hints(Header)}
        assert misfits(header, Header) == misfits(found, described) == []
        return found

    return run


def test_detect(document: Callable[..., Any]) -> None:
    Path("broken.jpg").write_bytes(b"no image")
    found = document(DetectDocument, "detect", "data/WIDER_val", "broken.jpg", code=1)
    assert sum(len(image["faces"]) for image in found["images"]) > 4
    assert len(found["errors"]) == 1


def test_lines_of_detect(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    Path("broken.jpg").write_bytes(b"no image")
    assert run_cli(["detect", "data/WIDER_val", "broken.jpg", "--save", "jsonl=faces.jsonl"]) == 1
    head, *images, failed = map(json.loads, Path("faces.jsonl").read_text().splitlines())
    assert misfits(head, LinesHead) == misfits(failed, FailedLine) == []
    assert [misfits(image, DetectedImage) for image in images] == [[]] * 4


def test_eval_and_its_protocol(document: Callable[..., Any]) -> None:
    found = document(EvalDocument, "eval", "--data", "data", "--save-predictions", "found", "--against", "yunet_s")
    assert found["details"]["operating_point"] is not None
    assert found["against"]["differences"]
    assert misfits(json.loads(Path("found/protocol.json").read_text()), ProtocolDocument) == []
    document(EvalDocument, "eval", "--data", "data", "--predictions", "found", "--draws", "0")


def test_compare(document: Callable[..., Any]) -> None:
    image = str(next(Path("data/WIDER_val").rglob("*.jpg")))
    models = [str(bundled_weights("yunet_n")), str(bundled_weights("yunet_s", ".pt")), "none.onnx"]
    found = document(CompareDocument, "compare", *models, "--image", image, "--output", "sheet.png", code=1)
    assert found["agreement"]
    assert [row["failed"] for row in found["models"]] == [False, False, True]


def test_prepare(document: Callable[..., Any]) -> None:
    found = document(PreparedDocument, "data", "prepare", "widerface", "--from", "data", "--to", "built", "--partial")
    assert found["complete"]
    assert found["parts"]["train"]["faces"]
    Path("empty/WIDER_val").mkdir(parents=True)
    shutil.copytree("data/WIDER_val/images", "empty/WIDER_val/images")
    line = ["data", "prepare", "widerface", "--from", "empty", "--to", "half", "--partial"]
    assert document(PreparedDocument, *line, code=1)["parts"]["val"]["labels_from"] is None


def test_convert(document: Callable[..., Any]) -> None:
    found = document(ConvertedDocument, "data", "convert", "data", "--to", "yolo", "--as", "yolo")
    assert [part["part"] for part in found["parts"]] == ["train", "val"]
    assert found["parts"][0]["faces"]


def test_label(document: Callable[..., Any]) -> None:
    found = document(LabelledDocument, "data", "label", "data/WIDER_val/images", "--to", "labelled")
    assert found["faces"] > 3
    assert found["looked"] == found["images"] == 4


def test_audit(document: Callable[..., Any]) -> None:
    line = ["data", "audit", "data", "--weights", "yunet_s", "--score", "0.3"]
    found = document(AuditDocument, *line, "--report", "doubts")
    assert found["images"] == 6
    applied = document(AppliedDocument, *line, "--apply", "doubts/findings.csv", "--to", "corrected")
    assert applied["decisions"] == 0
    assert applied["faces"]


def test_info(document: Callable[..., Any]) -> None:
    document(InfoDocument, "info")
    for source in ("yunet_n.yaml", str(bundled_weights("yunet_s", ".pt")), str(bundled_weights("yunet_s"))):
        document(ModelInfo, "info", source)
    for source in ("yunet_n", str(bundled_weights("yunet_s", ".pt"))):
        found = document(ConfigDocument, "info", source, "--yaml")
        assert list(found["config"]) == [section.name for section in fields(Config)]


def test_a_run_and_its_files(document: Callable[..., Any]) -> None:
    Path("tiny.yaml").write_text(TINY)
    found = document(TrainDocument, "train", "tiny.yaml", "--data", "data", "--gpus", "cpu")
    run = Path(found["run"])
    assert misfits(json.loads((run / "environment.json").read_text()), EnvironmentDocument) == []
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {line["kind"] for line in lines} == {"train", "val"}
    assert [misfits(line, LINES[line["kind"]]) for line in lines] == [[]] * len(lines)


def test_weights(document: Callable[..., Any]) -> None:
    assert document(WeightsDocument, "weights")["weights"]


@pytest.mark.slow
def test_exports(document: Callable[..., Any], place: Path) -> None:
    document(OnnxDocument, "export-onnx", "--output", "plain.onnx")
    lower = ["--precision", "int8", "--calibrate", "data/WIDER_train", "--data", "data", "--size", "64"]
    assert document(OnnxDocument, "export-onnx", *lower, "--output", "lower.onnx")["comparison"]["ap"]
    check = "--check" if shutil.which("c++") else "--no-check"
    document(CppDocument, "export-cpp", check)
    document(CppDocument, "export-cpp", "--target", "libfacedetection", "--no-check")


def test_the_page_is_what_the_documents_say() -> None:
    """`python -m tests.documents.page` writes it anew."""
    assert PAGE.read_text(encoding="utf-8") == page()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"estimate": "1"}, "$.estimate: '1' is no float"),
        ({"estimate": True}, "$.estimate: True is no float"),
        ({"more": 1}, "$.more: not described"),
        ({"draws": 1.5}, "$.draws: 1.5 is no int"),
        ({"low": []}, "$.low: [] is no float"),
    ],
)
def test_a_value_that_is_not_described_is_found(change: dict[str, Any], said: str) -> None:
    good = {"estimate": 1, "low": None, "high": 0.5, "draws": 3, "seed": 0, "method": "t"}
    assert misfits(good, EstimateDocument) == misfits(good | {"why": ""}, EstimateDocument) == []
    assert misfits(good | change, EstimateDocument) == [said]
    del good["high"]
    assert misfits(good, EstimateDocument) == ["$.high: missing"]


def test_init(document: Callable[..., Any]) -> None:
    assert document(InitDocument, "init", "--data", "data", "-o", "own.yaml")["mirror"]
    assert document(StartsDocument, "init", "--list")["starts"]
    for name in ("yunet_s", "quick"):
        assert document(PrintedDocument, "init", name, "--print")["text"]
