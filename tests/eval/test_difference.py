"""Two detectors on the same images: what can be told, corrected for how much is looked at, and in what words."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import facetrain
from facetrain.cli.app import run_cli
from facetrain.core.errors import UsageError
from facetrain.core.faces import Faces, LabelledImage
from facetrain.core.images import write_image
from facetrain.data.formats import labelv2
from facetrain.eval.benchmark import Benchmark
from facetrain.eval.difference import (
    Difference,
    about,
    brackets,
    check_same_protocol,
    difference_of,
    holm,
    told,
    verdict,
)
from facetrain.eval.evaluate import Evaluation, Source, evaluate_model, evaluate_on
from facetrain.eval.intervals import Estimate, Resampling, Sums, sum_estimates
from facetrain.eval.labelled import labelled_benchmark
from facetrain.eval.prediction_files import write_predictions
from facetrain.eval.protocol import EvalProtocol
from facetrain.export.precision.measure import _far_end

FACE = (20, 20, 60, 60)


def shares(hits: np.ndarray, resampling: Resampling) -> Estimate:
    return sum_estimates([Sums("recall", hits.astype(float), np.ones(len(hits)), share=True)], resampling)["recall"]


def two(only_a: int, only_b: int, both: int, neither: int) -> Difference:
    """Recall of two detectors that find one face an image or not."""
    a = np.array([1] * only_a + [0] * only_b + [1] * both + [0] * neither)
    b = np.array([0] * only_a + [1] * only_b + [1] * both + [0] * neither)
    resampling = Resampling([""] * len(a))
    return difference_of(shares(a, resampling), shares(b, resampling), resampling)


def test_the_difference_of_pairs_is_the_textbook_s() -> None:
    """Two shares of the same 400 images: only those that one found and the other missed say anything."""
    found = two(10, 30, 300, 60)
    deviation = ((40 / 400 - 0.05**2) / 400) ** 0.5
    assert found.value == pytest.approx(0.05)
    assert [found.low, found.high] == pytest.approx([0.05 - 1.98 * deviation, 0.05 + 1.98 * deviation], abs=0.002)
    assert found.p == pytest.approx(0.0014, abs=0.001)
    assert (found.told, found.images, found.draws, found.seed) == (True, 400, 2000, 0)
    assert found.needed == pytest.approx(400 * (2.8 * deviation / 0.05) ** 2, rel=0.05)
    assert two(30, 10, 300, 60).value == pytest.approx(-0.05)
    # far more images in which both agree change the difference, and not whether it can be told
    assert two(10, 30, 3000, 600).p == pytest.approx(found.p, abs=0.001)


def test_what_is_too_close_says_how_many_images_would_do() -> None:
    close = two(18, 22, 300, 60)
    assert close.told is False
    assert close.low is not None
    assert close.high is not None
    assert close.low < 0 < close.high
    assert verdict(close, "b", "a").startswith("b and a cannot be told apart on 400 images: +.0100 [-.0")
    assert verdict(close, "b", "a").endswith("; about 8,300 would do")
    assert told(close) == "cannot be told apart; about 8,300 images would do"
    assert verdict(two(10, 30, 300, 60), "b", "a").startswith("b is better than a by .0500 [.01")
    assert verdict(two(30, 10, 300, 60), "b", "a").startswith("b is worse than a by .0500 [.01")


def test_the_same_detector_twice() -> None:
    same = two(0, 0, 300, 100)
    assert (same.value, same.p, same.told, same.needed) == (0, 1, False, None)
    assert verdict(same, "b", "a") == "b and a are the same on all 400 images"
    assert told(same) == "the same on all images"


def test_as_much_won_as_lost_is_not_the_same() -> None:
    level = two(20, 20, 300, 60)
    assert (level.value, level.told, level.same, level.needed) == (0, False, False, None)
    assert verdict(level, "b", "a").startswith("b and a cannot be told apart on 400 images: +.0000 [-.0")


def test_too_few_images_have_no_verdict() -> None:
    few = two(1, 2, 5, 2)
    assert (few.low, few.p, few.told) == (None, None, None)
    assert "no interval: 10 images are too few" in verdict(few, "b", "a")
    assert json.loads(json.dumps(few.as_dict()))["why"].startswith("10 images")
    none = replace(Resampling([""] * 100), draws=0)
    hits = np.array([1, 0] * 50)
    bare = Estimate(0.5, None, None, 0, 0, "none", "no draws were asked for")
    assert difference_of(bare, bare, none).why == "no draws were asked for"
    assert difference_of(shares(hits, Resampling([""] * 100)), bare, none).told is None


@pytest.mark.parametrize(("images", "why"), [(1, "one image says nothing of others"), (19, "19 images are too few")])
def test_too_few_images_on_which_both_are_equal_say_so(images: int, why: str) -> None:
    few = holm({0: two(0, 0, images - 1, 1)})[0]
    assert (few.value, few.low, few.told, few.same) == (0, None, None, False)
    assert verdict(few, "b", "a").startswith(f"b +.0000 against a; no interval: {why}")
    assert told(few).startswith(f"no interval: {why}")
    assert few.as_dict()["why"].startswith(why)
    assert _far_end({"all": few}) is None  # one that is known is wanted
    assert two(0, 0, 19, 1).same
    assert _far_end({"all": two(0, 0, 19, 1)}) == 0


def known(p: float | None) -> Difference:
    return Difference(0.1, 0.0, 0.2, p, p, 400, 2000, 0, "x")


def test_holm_by_hand() -> None:
    adjusted = holm({"a": known(0.01), "b": known(0.04), "c": known(0.03), "d": known(None)})
    # .01 * 3, .03 * 2, and .04 * 1 is no less than the one before
    assert [adjusted[key].adjusted for key in "abc"] == pytest.approx([0.03, 0.06, 0.06])
    assert [adjusted[key].told for key in "abcd"] == [True, False, False, None]
    assert list(adjusted) == list("abcd")


def test_what_cannot_be_told_always_asks_for_more_images() -> None:
    """Also where many are looked at together, and one alone would do with fewer."""
    clear = two(10, 30, 300, 60)
    assert clear.told
    assert clear.needed is not None
    assert clear.needed < 400
    among = holm({0: clear, **{n: known(0.9) for n in range(1, 60)}})[0]
    assert not among.told
    assert among.needed is not None
    assert among.needed > 400


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_never_lowers_and_keeps_the_order(values: list[float]) -> None:
    adjusted = [d.adjusted or 0 for d in holm(dict(enumerate(map(known, values)))).values()]
    assert all(p <= a <= 1 for p, a in zip(values, adjusted, strict=True))
    order = np.argsort(values, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0) if values else True
    assert sum(a < 0.05 for a in adjusted) == 0 or min(values) * len(values) < 0.05


def test_numbers_in_words() -> None:
    assert [about(n) for n in (7, 99, 104, 1949, 123_456)] == ["7", "99", "100", "1,900", "120,000"]
    assert brackets(0.8274, 0.887, 3) == "[.827, .887]"
    assert brackets(-0.0012, 1.0, 4, sign=True) == "[-.0012, +1.0000]"
    assert brackets(10.25, 10.5, 2) == "[10.25, 10.50]"
    assert brackets(None, 1.0, 3) == ""


def test_protocols_that_differ_are_named() -> None:
    one, other = EvalProtocol().as_dict(), EvalProtocol(size="vga", nms=0.3).as_dict()
    check_same_protocol(one, one)
    with pytest.raises(UsageError, match=r"size original and vga; nms 0\.45 and 0\.3"):
        check_same_protocol(one, other)
    check_same_protocol(one, {**one, "size": "fixed 640x640"})  # the file's nature, not the protocol's
    check_same_protocol(one, {"source": "prediction files"})  # says nothing of itself
    with pytest.raises(UsageError, match="size original and vga"):
        check_same_protocol(one, {"source": "prediction files", "size": "vga"})


def labels(count: int) -> list[LabelledImage]:
    boxes, points = np.array([FACE], np.float32), np.zeros((1, 5, 3), np.float32)
    return [LabelledImage(Path(f"{n}.png"), f"{n}.png", None, boxes, points, np.zeros(1, bool)) for n in range(count)]


def measured(benchmark: Benchmark, seed: int, found: float, **settings: Any) -> Evaluation:
    """A detector that finds this share of the faces, from files."""
    rng = np.random.default_rng(seed)
    hit = Faces(np.array([FACE], np.float32), np.array([0.9], np.float32), np.zeros((1, 0, 2), np.float32))
    faces = [hit if rng.random() < found else Faces.none() for _ in benchmark.images]
    scores = benchmark.score(faces)
    resampling = benchmark.resampling(**settings)
    details = scores.details(resampling=resampling)
    return Evaluation(scores, {"size": "original"}, {}, resampling, scores.intervals(resampling), details)


def test_difference_is_public_and_refuses_what_cannot_be_compared() -> None:
    assert facetrain.difference is facetrain.eval.difference.difference  # type: ignore[attr-defined]
    benchmark = labelled_benchmark(labels(200))
    a, b = measured(benchmark, 0, 0.5), measured(benchmark, 1, 0.8)
    found = facetrain.difference(a, b)
    assert found["all"].told is True
    assert found["all"].value == pytest.approx(b.ap["all"] - a.ap["all"])  # type: ignore[operator]
    assert found["recall"].value == pytest.approx(b.details.recall - a.details.recall)  # type: ignore[operator]
    assert facetrain.difference(b, a)["all"].value == -found["all"].value
    with pytest.raises(UsageError, match=r"only in the first: 150\.png, 151\.png, 152\.png and 47 more"):
        facetrain.difference(a, measured(labelled_benchmark(labels(150)), 0, 0.5))
    moved = [replace(image, boxes=image.boxes + 1) for image in labels(200)]
    with pytest.raises(UsageError, match=r"0\.png: other labels"):
        facetrain.difference(a, measured(labelled_benchmark(moved), 0, 0.5))
    with pytest.raises(UsageError, match="in another order"):
        facetrain.difference(a, measured(labelled_benchmark(labels(200)[::-1]), 0, 0.5))
    with pytest.raises(UsageError, match="size original and vga"):
        facetrain.difference(a, replace(b, protocol={"size": "vga"}))
    with pytest.raises(UsageError, match=r"2,000 with seed 0, 500 with seed 0"):
        facetrain.difference(a, measured(benchmark, 1, 0.8, draws=500))
    few = facetrain.difference(measured(benchmark, 0, 0.5, draws=0), measured(benchmark, 1, 0.8, draws=0))
    assert few["all"].why == "no draws were asked for"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty images of one face each, and the result files of three detectors: half, most, and most again."""
    root = tmp_path_factory.mktemp("place")
    folder = root / "data" / "val"
    images = []
    for number in range(60):
        path = folder / "images" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, np.full((80, 80, 3), number, np.uint8))
        boxes, points = np.array([FACE], np.float32), np.zeros((1, 5, 3), np.float32)
        images.append(LabelledImage(path, path.name, (80, 80), boxes, points, np.zeros(1, bool)))
    labelv2.write(folder / "labelv2.txt", images)
    rng = np.random.default_rng(0)
    one, nothing = Faces(np.array([FACE], np.float64), np.array([0.9]), np.zeros((1, 0, 2))), Faces.none()
    for name, share in (("half", 0.5), ("most", 0.9), ("again", 0.9)):
        found = [one if rng.random() < share else nothing for _ in images]
        rules = {"size": "original", "nms": 0.45} if name != "again" else {"size": "vga"}
        write_predictions(root / name, [str(n) for n in range(60)], found, rules)
    return root


def run(capsys: pytest.CaptureFixture[str], place: Path, *arguments: str) -> tuple[int, str, str]:
    names = [str(place / part) if (place / part).exists() else part for part in arguments]
    code = run_cli(["eval", "--data", str(place / "data"), *names])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def test_against_result_files(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report"
    code, out, _ = run(capsys, place, "--predictions", "most", "--against", "half", "--report", str(report))
    assert code == 0
    assert "in brackets: 95 % intervals from 2,000 draws of the 60 images" in out
    assert "\nagainst half:\nall: most is better than half by ." in out
    assert "recall: 0.7667 against 0.4667, +0.3000 [+0." in out
    assert max(map(len, out.splitlines())) <= 80
    page = (report / "index.html").read_text()
    assert "Against half" in page
    assert "all: most is better than half by ." in page
    code, out, _ = run(capsys, place, "--predictions", "most", "--against", "half", "--json")
    document = json.loads(out)
    assert code == 0
    found = document["against"]["differences"]["all"]
    assert (document["against"]["own"], document["against"]["other"]) == ("most", "half")
    assert found["own"] == document["all"]
    assert found["estimate"] == pytest.approx(found["own"] - found["other"])
    assert set(found) >= {"estimate", "low", "high", "draws", "seed", "method", "told_apart", "images_needed"}
    assert set(document["intervals"]["all"]) == {"estimate", "low", "high", "draws", "seed", "method"}
    assert document["details"]["intervals"]["recall"]["estimate"] == document["details"]["recall"]
    again = json.loads(run(capsys, place, "--predictions", "most", "--against", "half", "--json")[1])
    assert (again["against"], again["intervals"]) == (document["against"], document["intervals"])


def test_against_itself_other_protocols_and_other_images(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "are the same on all 60 images" in run(capsys, place, "--predictions", "most", "--against", "most")[1]
    code, out, err = run(capsys, place, "--predictions", "most", "--against", "again")
    assert (code, out) == (2, "")
    assert "measured by different protocols: size original and vga" in err
    code, _, err = run(capsys, place, "--size", "vga", "--against", "most")
    assert code == 2
    assert "size vga and original" in err
    assert "%" not in err  # before anything was measured
    (tmp_path / "part").mkdir()
    for number in range(10):
        (tmp_path / "part" / f"{number}.txt").write_text(f"{number}\n0\n")
    code, _, err = run(capsys, place, "--predictions", "most", "--against", str(tmp_path / "part"))
    assert code == 2
    assert "--against" in err
    assert "no file for 50 of 60, such as 10, 11, 12" in err
    code, out, _ = run(capsys, place, "--predictions", "most", "--against", "half", "--draws", "0")
    assert code == 0
    assert "[" not in out
    for nothing in ("", " "):
        assert run_cli(["eval", "--data", str(place / "data"), "--against", nothing]) == 2
        assert "error: --against is empty" in capsys.readouterr().err


def test_what_the_two_do_not_share_is_said(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(other: str) -> tuple[str, str, dict[str, Any]]:
        report = tmp_path / f"report_{Path(other).name}"
        code, out, _ = run(capsys, place, "--predictions", "most", "--against", other, "--report", str(report))
        assert code == 0
        assert max(map(len, out.splitlines())) <= 80
        document = json.loads(run(capsys, place, "--predictions", "most", "--against", other, "--json")[1])
        page = " ".join((report / "index.html").read_text().split())
        return " ".join(out.split()), page, document["against"]["protocol"]

    for name, protocol in (("fixed", {"size": "fixed 320x240", "nms": 0.45}), ("unknown", None)):
        write_predictions(tmp_path / name, [str(n) for n in range(60)], [Faces.none()] * 60, protocol)
    out, page, protocol = said(str(tmp_path / "fixed"))
    assert "for both shown otherwise: size original and fixed 320x240 " in out
    assert "shown otherwise: size original and fixed 320x240" in page
    assert protocol["size"] == "fixed 320x240"
    out, page, protocol = said(str(tmp_path / "unknown"))
    for text in (out, page):
        assert "unknown: how images were shown is not known, no protocol.json beside its files says it" in text
    assert protocol == {"source": "prediction files", "images": 60}
    out, page, protocol = said("half")
    assert "otherwise" not in out + page
    assert "is not known" not in out + page
    assert protocol["size"] == "original"


@pytest.mark.parametrize("content", [b"[1]", b"{", b'{"size": {"a": 1}}', b'{"size": "' + b"x" * 200 + b'"}', b"\xff"])
def test_a_damaged_protocol_is_one_line(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "protocol.json").write_bytes(content)
    (tmp_path / "files" / "0.txt").write_text("0\n0\n")
    code, out, err = run(capsys, place, "--predictions", str(tmp_path / "files"))
    assert (code, out) == (1, "")
    assert "protocol.json: not the protocol of result files" in err


def test_files_keep_the_protocol_they_came_by(place: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    protocol = EvalProtocol(size="96")
    first = evaluate_model(Source("yunet_s"), place / "data", protocol, save_predictions=saved, draws=0)
    again = evaluate_on(first.scores.benchmark, Source(None, saved), EvalProtocol(), draws=0)
    assert (again.protocol["size"], again.protocol["source"]) == ("96", "prediction files")
    assert again.ap == first.ap
    with pytest.raises(UsageError, match="size 96 and original"):
        facetrain.difference(again, evaluate_on(first.scores.benchmark, Source("yunet_s"), EvalProtocol(), draws=0))


def test_one_image_and_no_faces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, lines in (("one", "# 0.png 80 80\n20 20 60 60\n"), ("none", "# 0.png 80 80\n")):
        folder = tmp_path / name / "val"
        (folder / "images").mkdir(parents=True)
        write_image(folder / "images" / "0.png", np.zeros((80, 80, 3), np.uint8))
        (folder / "labelv2.txt").write_text(lines)
    results = tmp_path / "found"
    write_predictions(results, ["0"], [Faces(np.array([FACE], np.float64), np.array([0.9]), np.zeros((1, 0, 2)))])
    data = ["--predictions", str(results), "--data"]
    assert run_cli(["eval", *data, str(tmp_path / "one")]) == 0
    assert "all: no interval: one image says nothing of others" in capsys.readouterr().out
    assert run_cli(["eval", *data, str(tmp_path / "one"), "--against", str(results)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "all: found +.0000 against found (again); no interval: one image says nothing of others" in out
    assert "the same on all" not in out
    assert run_cli(["eval", *data, str(tmp_path / "none"), "--against", str(results)]) == 0
    assert "all: no AP: none of its faces is among the images" in capsys.readouterr().out
