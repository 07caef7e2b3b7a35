"""The standalone C++ detector finds what FaceDetector finds, whatever it is compiled for and whatever it is given."""

import itertools
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from cpp.cpp_models import NO_LANDMARKS, TOWERS, drawn_image, lively_model, write_checkpoint
from cpp.standalone_builds import HERE, Builds, Order, assert_equal, compile_files, need, run

from facetrain.core.faces import Image
from facetrain.core.images import read_image, write_image
from facetrain.detect.bundled import FOLDER
from facetrain.detect.detector import FaceDetector
from facetrain.export.cpp.targets.options import CppOptions
from facetrain.export.cpp.targets.standalone import files
from facetrain.export.cpp.targets.standalone_plan import plan, working_memory
from facetrain.export.network.fold import fold
from facetrain.export.onnx.model import write_onnx
from facetrain.model.weights import load_model

pytestmark = pytest.mark.slow

FACES, TWO_THREADS = HERE / "faces.cpp", HERE / "two_threads.cpp"
BUNDLED = FOLDER / "yunet_n.pt"
MODELS = {"towers": TOWERS, "no landmarks": NO_LANDMARKS}
LOW = 0.03  # a score at which all models find faces, and near which none lies
SIZES = ((1, 1), (33, 7), (7, 33), (64, 32), (100, 75), (333, 247))  # width, height
PADDINGS = (None, 0, 5, 1, 64, 3)  # bytes behind each row; None: a stride of 0
NO_LIBRARIES = ("-O2", "-fno-exceptions", "-fno-rtti")


@dataclass(frozen=True)
class Model:
    """A checkpoint and its ONNX file, which FaceDetector reads faster."""

    checkpoint: Path
    onnx: Path

    def detector(self, order: Order) -> FaceDetector:
        return _detector(self.onnx, order.score, order.iou)


@cache
def _detector(path: Path, score: float, iou: float) -> FaceDetector:
    return FaceDetector(path, score=score, nms=iou, threads=1)


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Builds:
    return Builds(tmp_path_factory.mktemp("builds"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    folder = tmp_path_factory.mktemp("models")
    found = {"yunet_n": Model(BUNDLED, BUNDLED.with_suffix(".onnx"))}
    for name, config in MODELS.items():
        checkpoint = write_checkpoint(lively_model(config), folder / f"{name}.pt")
        found[name] = Model(checkpoint, folder / f"{name}.onnx")
        write_onnx(fold(load_model(checkpoint)), found[name].onnx)
    return found


def noise(width: int, height: int) -> Image:
    return np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def small_orders(score: float) -> list[Order]:
    """Images of every odd size, with and without bytes between the rows."""
    image = drawn_image()
    crops = [image[50 : 50 + height, 40 : 40 + width] for width, height in SIZES]
    return [Order(np.ascontiguousarray(crop), score, padding=pad) for crop, pad in zip(crops, PADDINGS, strict=True)]


def check(model: Model, program: Path, orders: list[Order], folder: Path, **how: object) -> int:
    """Compare a program with FaceDetector; returns how many faces there were."""
    found = run(program, orders, folder, **how)
    for rows, order in zip(found.rows, orders, strict=True):
        assert_equal(rows, model.detector(order).detect(order.image))
    return sum(map(len, found.rows))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yunet_n", *MODELS])
def test_faces_equal_the_detectors(name: str, builds: Builds, models: dict[str, Model], tmp_path: Path) -> None:
    program = builds.program(models[name].checkpoint, FACES)
    orders = [Order(drawn_image(), LOW), Order(drawn_image(), LOW / 2, 0.2), *small_orders(LOW)]
    assert check(models[name], program, orders, tmp_path) > 10


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["yunet_n", "yunet_s"])
def test_released_weights_on_real_images(variant: str, builds: Builds, shared: Path, tmp_path: Path) -> None:
    weights = shared / f"reference/yunet/{variant}.pth"
    model = Model(weights, weights.with_name(f"{variant}_dynamic.onnx"))
    real = sorted((shared / "reference/images").glob("*.jpg"))
    real += sorted((shared / "widerface/WIDER_val/images").glob("*/*.jpg"))[::20][:20]
    assert len(real) == 26
    orders = [Order(read_image(path), score) for path, score in zip(real, itertools.cycle((0.3, 0.02)), strict=False)]
    assert check(model, builds.program(weights, FACES), orders, tmp_path) > 250


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("-O2", "-DFACETRAIN_NO_AVX512"), {"AVX2", "vectors of four", "NEON"}),
        (("-O2", "-DFACETRAIN_NO_AVX512", "-DFACETRAIN_NO_AVX2"), {"vectors of four", "NEON"}),
        (("-O2", "-DFACETRAIN_PLAIN"), {"plain"}),
    ],
)
@pytest.mark.parametrize("name", ["yunet_n", "towers"])
def test_every_instruction_set_finds_the_same(
    name: str, flags: tuple[str, ...], expected: set[str], builds: Builds, models: dict[str, Model], tmp_path: Path
) -> None:
    program = builds.program(models[name].checkpoint, FACES, flags)
    orders = small_orders(LOW)
    assert check(models[name], program, orders, tmp_path) > 3
    assert run(program, [], tmp_path).instruction_set in expected


def test_clang_finds_the_same(builds: Builds, models: dict[str, Model], tmp_path: Path) -> None:
    program = builds.program(BUNDLED, FACES, compiler="clang++")
    assert check(models["yunet_n"], program, small_orders(LOW), tmp_path) > 3


def test_arm_finds_the_same(builds: Builds, models: dict[str, Model], tmp_path: Path) -> None:
    emulator = need("qemu-aarch64")
    program = builds.program(BUNDLED, FACES, ("-O2", "-static"), "aarch64-linux-gnu-g++")
    assert check(models["yunet_n"], program, small_orders(LOW), tmp_path, emulator=(emulator,)) > 3
    assert run(program, [], tmp_path, emulator=(emulator,)).instruction_set == "NEON"


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_threads_change_nothing(threads: int, builds: Builds, models: dict[str, Model], tmp_path: Path) -> None:
    for model in models.values():
        program = builds.program(model.checkpoint, FACES)
        orders = [Order(drawn_image(), LOW), *small_orders(LOW)]
        alone, together = (run(program, orders, tmp_path, threads=count) for count in (1, threads))
        for one, other in zip(alone.rows, together.rows, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_address_and_undefined_sanitizers_find_nothing(
    builds: Builds, models: dict[str, Model], tmp_path: Path
) -> None:
    flags = ("-O1", "-DFACETRAIN_NO_AVX2", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    program = builds.program(models["towers"].checkpoint, FACES, flags)
    orders = [*small_orders(LOW), Order(noise(100, 70), 0.0)]
    for threads in (1, 2):
        assert len(run(program, orders, tmp_path, largest=(1, 1), threads=threads).rows[-1]) > 5


def test_the_thread_sanitizer_finds_nothing(builds: Builds, models: dict[str, Model]) -> None:
    flags = ("-O1", "-fsanitize=thread")
    program = builds.program(models["towers"].checkpoint, TWO_THREADS, flags)
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]
    assert "equal" in done.stdout


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
@pytest.mark.parametrize("more", [(), ("-O1", "-DFACETRAIN_PLAIN"), ("-O3", "-march=native", "-std=c++20")])
def test_compiles_without_warnings_and_stays_small(
    compiler: str, more: tuple[str, ...], builds: Builds, tmp_path: Path
) -> None:
    source, output = builds.export(BUNDLED), tmp_path / "facetrain.o"
    compile_files([source / "facetrain.cpp"], source, output, (*NO_LIBRARIES, *more, "-c"), compiler)
    assert output.stat().st_size < 450_000


def test_nothing_is_allocated_after_construction(builds: Builds, models: dict[str, Model], tmp_path: Path) -> None:
    for model in models.values():
        program = builds.program(model.checkpoint, FACES)
        small = [Order(noise(width, height), 0.0, 1.0) for width, height in ((96, 64), (64, 96), (1, 1), (160, 160))]
        for threads in (1, 2):
            found = run(program, small, tmp_path, largest=(160, 160), threads=threads)
            assert found.allocations == [0] * len(small)
            assert sum(map(len, found.rows)) > 100
        narrower = [Order(noise(width, 64), 0.0) for width in range(544, 0, -32)]
        assert not any(run(program, narrower, tmp_path, largest=(544, 64)).allocations)
        larger = run(
            program, [*small, Order(noise(300, 200)), *small, Order(noise(300, 200))], tmp_path, largest=(9, 9)
        )
        assert larger.allocations[4] > 0
        assert larger.allocations[5:] == [0] * 5


def test_the_best_of_very_many_candidates_are_kept(builds: Builds, models: dict[str, Model], tmp_path: Path) -> None:
    order = Order(noise(900, 500), 0.0, 1.0)
    found = run(builds.program(BUNDLED, FACES), [order], tmp_path).rows[0]
    faces = models["yunet_n"].detector(order).detect(order.image)
    assert len(found) == len(faces) == 5000
    np.testing.assert_allclose(found[:, 0], faces.scores, atol=1e-6)


def test_memory_is_what_the_readme_says(builds: Builds, models: dict[str, Model], tmp_path: Path) -> None:
    for name, model in models.items():
        net = fold(load_model(model.checkpoint))
        program = builds.program(model.checkpoint, FACES)
        for size in ((320, 320), (640, 480), (1, 1), (333, 77)):
            points = len(net.config.landmarks.names)
            assert run(program, [], tmp_path, largest=size).memory == working_memory(plan(net), *size, points), name
    readme = (builds.export(BUNDLED) / "README.md").read_text(encoding="utf-8")
    said = re.search(r"([\d,]+) bytes at 320×320", readme)
    assert said is not None
    memory = run(builds.program(BUNDLED, FACES), [], tmp_path, largest=(320, 320)).memory
    assert int(said[1].replace(",", "")) == memory < 3_000_000


def test_the_example_reads_both_kinds_of_files(builds: Builds, models: dict[str, Model], tmp_path: Path) -> None:
    image = drawn_image()
    height, width = image.shape[:2]
    write_image(tmp_path / "image.ppm", image)
    (tmp_path / "image.bgr").write_bytes(image.tobytes())
    program = builds.program(BUNDLED, builds.export(BUNDLED) / "example.cpp")
    faces = models["yunet_n"].detector(Order(image)).detect(image)
    raw = [str(tmp_path / "image.bgr"), str(width), str(height), "0.3"]
    for arguments in ([str(tmp_path / "image.ppm"), "0.3"], raw):
        lines = subprocess.run([program, *arguments], capture_output=True, text=True, check=True).stdout.splitlines()
        assert len(lines) == len(faces) + 1 > 1
        score, *box = map(float, re.findall(r"-?[\d.]+", lines[0])[:5])
        assert abs(score - faces.scores[0]) < 1e-3
        np.testing.assert_allclose(box, faces.boxes[0], atol=0.11)
        assert re.search(r", [\d]+ bytes of working memory$", lines[-1])
    for arguments, code in (([], 2), ([str(tmp_path / "none.ppm")], 2), ([*raw[:2], "9999"], 1)):
        assert subprocess.run([program, *arguments], capture_output=True, check=False).returncode == code


def test_cmake_builds_library_and_example(builds: Builds, tmp_path: Path) -> None:
    cmake = need("cmake")
    need("c++")
    source = str(builds.export(BUNDLED))
    for arguments in (["-S", source, "-B", str(tmp_path)], ["--build", str(tmp_path)]):
        done = subprocess.run([cmake, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "example").is_file()


def test_fewer_digits_make_shorter_text(builds: Builds) -> None:
    net = fold(load_model(BUNDLED))
    short, whole = (files(net, CppOptions("other", digits))["other_weights.hpp"] for digits in (3, 9))
    assert len(short) < 0.8 * len(whole)
    assert not re.search(r"@\w+@", "".join(files(net, CppOptions("other")).values()))
