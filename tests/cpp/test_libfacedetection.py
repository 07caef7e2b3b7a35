"""Files for libfacedetection: the library's bytes, its faces by a stand-in for it, and by itself where it is there."""

import hashlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cpp.cpp_models import (
    NO_LANDMARKS,
    TOWERS,
    YUNET_S,
    lively_model,
    make_checkout,
    need_compiler,
    write_checkpoint,
    write_images,
)
from hypothesis import given
from hypothesis import strategies as st

from facetrain.config.load import load_config
from facetrain.config.schema import LandmarksConfig, ModelConfig
from facetrain.core.errors import InputError, UsageError
from facetrain.core.images import read_image
from facetrain.export.cpp.check import CppCheck
from facetrain.export.cpp.compiler import compile_program, run_program
from facetrain.export.cpp.targets import libfacedetection as target
from facetrain.export.cpp.targets.libfacedetection_check import program
from facetrain.export.cpp.targets.libfacedetection_data import _number
from facetrain.export.cpp.targets.options import CppOptions
from facetrain.export.export_cpp import CppRequest, export_cpp
from facetrain.export.network.fold import fold
from facetrain.export.network.folded import FoldedNet
from facetrain.model.weights import load_model
from facetrain.model.yunet import build

pytestmark = pytest.mark.slow

# SHA-256 of what the library's own file (s) and the original exporter's (n) hold, comments left out: bytes from the
# first array to the last, and of the table
SECTIONS = {
    "yunet_s": {
        "arrays": (440_183, "74dfc2cf60e237a4222abe46252c179d7725b5ebd4319a2369d059d3233a90a1"),
        "table": (5_383, "6576241e16fe378bf8a9f5bff39437ee8eecc73cea4ad90e782d88d2120a403d"),
    },
    "yunet_n": {
        "arrays": (615_693, "533db1b75b3e42e4c1ec508c007a97e37e8dc2290223be3e80ce29f47fcbc453"),
        "table": (6_178, "d21b9156544849cd8ce60cd45f3104b9d6e2bcfb023f24a1886108ff6a807671"),
    },
}
WHOLE_YUNET_S = "cf019963f413528540d6de741e72eea4f2f0b572ca85b22dd4baa8fc71b42bb6"
SIMD = {
    "scalar": ("", []),
    "AVX2": ("avx2", ["-D_ENABLE_AVX2", "-mavx2", "-mfma"]),
    "AVX512": ("avx512bw", ["-D_ENABLE_AVX512", "-mavx512bw"]),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return make_checkout(tmp_path / "library")


@pytest.fixture(scope="module")
def library() -> Path:
    name = os.environ.get("FACETRAIN_LIBFACEDETECTION")
    if not name:
        pytest.skip("needs a checkout of libfacedetection, named by the variable FACETRAIN_LIBFACEDETECTION")
    return Path(name)


def released(shared: Path, name: str) -> Path:
    return shared / f"reference/yunet/{name}.pth"


def net_of(config: ModelConfig) -> FoldedNet:
    return fold(build(config, seed=0).eval())


def sections(text: str) -> dict[str, tuple[int, str]]:
    start, table = text.index("float "), text.index("ConvInfoStruct")
    end = text.rindex("};\n\n", 0, table) + 3
    parts = {"arrays": text[start:end].encode(), "table": text[table:].encode()}
    return {name: (len(part), hashlib.sha256(part).hexdigest()) for name, part in parts.items()}


@pytest.mark.parametrize("name", SECTIONS)
def test_arrays_and_table_are_the_librarys_byte_for_byte(shared: Path, name: str) -> None:
    net = fold(load_model(released(shared, name)))
    text = target.files(net, CppOptions(digits=target.DIGITS))["facedetectcnn-data.cpp"]
    assert sections(text) == SECTIONS[name]
    head = text[: text.index("float ")].split("\n")
    assert [line[:2] for line in head[:2]] == ["//", "//"]
    assert head[2:] == ['#include "facedetectcnn.h"', "", ""]
    assert "\r" not in text and text.isascii()
    if name == "yunet_s":
        assert len(text.split("\n")) == 167


@given(st.floats(allow_nan=False, allow_infinity=False, width=32), st.integers(1, 9))
def test_a_number_is_a_float_literal_of_so_many_digits(value: float, digits: int) -> None:
    text = _number(value, digits)
    assert re.fullmatch(r"-?(\d+\.\d*|\d\.?\d*e[+-]\d\d+)f", text)
    assert len(re.sub(r"e.*|\D", "", text).lstrip("0")) <= digits or float(text[:-1]) >= 10**digits
    assert text[0] == "-" if np.signbit(value) else text[0] != "-"
    assert float(text[:-1]) == pytest.approx(value, rel=0.5 * 10 ** (1 - digits), abs=0)
    assert np.float32(_number(value, 9)[:-1]) == np.float32(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.3, "0.3f"), (-0.0694, "-0.0694f"), (0, "0.f"), (-0.0, "-0.f"), (8.6e-6, "8.6e-06f"), (1234, "1.23e+03f")],
)
def test_numbers_are_written_as_c_writes_them(value: float, text: str) -> None:
    assert _number(float(value), 3) == text


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (YUNET_S, None),
        (ModelConfig(shared_convs=0, stages=((16, 16), (16, 48), (48, 48), (48, 48), (48, 48))), None),
        (ModelConfig(shared_convs=0, stages=((16, 16), (16, 24), (24, 24), (24, 24), (24, 24))), 53),  # half a vector
        (load_config("yunet_n").model, 59),
        (TOWERS, 85),
    ],
)
def test_a_forward_file_comes_with_every_other_shape(config: ModelConfig, count: int | None) -> None:
    files = target.files(net_of(config), CppOptions())
    assert set(files) == {"facedetectcnn-data.cpp"} | ({"facedetectcnn-model.cpp"} if count else set())
    if count:
        assert f"static_assert(kLayers == {count}," in files["facedetectcnn-model.cpp"]
        assert f"param_pConvInfo[{count}] = {{" in files["facedetectcnn-data.cpp"]


@pytest.mark.parametrize(
    ("config", "reasons"),
    [
        (NO_LANDMARKS, ["five landmarks, the model's none", "strides 8, 16, 32", "the model has 2, 4, 8"]),
        (ModelConfig(landmarks=LandmarksConfig(("a", "b"), ())), ["five landmarks, the model's 2"]),
    ],
)
def test_what_the_library_cannot_express_is_refused(config: ModelConfig, reasons: list[str]) -> None:
    with pytest.raises(UsageError) as raised:
        target.files(net_of(config), CppOptions())
    assert all(reason in raised.value.message for reason in reasons)
    assert "standalone" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("name", "digits", "files"),
    [("bundled", None, 2), ("yunet_s", 9, 1), ("towers", 9, 2)],
)
def test_the_stand_in_finds_the_models_faces(
    name: str, digits: int | None, files: int, checkout: Path, images: Path, tmp_path: Path
) -> None:
    need_compiler()
    weights = "yunet_n"
    if name != "bundled":
        weights = str(write_checkpoint(lively_model({"yunet_s": YUNET_S, "towers": TOWERS}[name]), tmp_path / "w.pt"))
    request = CppRequest(weights, "libfacedetection", library=checkout, digits=digits, check=True, images=images)
    result = export_cpp(request)
    assert len(result.files) == files
    assert isinstance(result.check, CppCheck)
    assert result.check.found.faces >= 5
    assert (result.check.found.alone, result.check.found.score, result.check.found.pixels) == (0, 0, 0)
    assert (result.check.digits is None) == (digits == 9)
    if result.check.digits is not None:  # three digits
        assert result.check.digits.pixels < 2
        assert result.check.digits.score < 0.02


def rows_of(
    library_: Path, files: dict[str, str], folder: Path, images: list[Any], flags: tuple[str, ...] = ()
) -> list[list[list[int]]]:
    """What the library finds in each image with these files in place."""
    parts = program(files, CppOptions(), library_)
    assert not isinstance(parts, str)
    folder.mkdir()
    binary = compile_program(need_compiler(), folder, {**parts.files, **files}, parts.sources, (*parts.flags, *flags))
    arguments = ["0", "0"]
    for index, image in enumerate(images):
        (folder / f"{index}.bgr").write_bytes(image.tobytes())
        arguments += [str(image.shape[1]), str(image.shape[0]), f"{index}.bgr"]
    lines = iter(run_program(binary, arguments).splitlines())
    return [[[int(n) for n in next(lines).split()] for _ in range(int(next(lines)))] for _ in images]


def expected_rows(shared: Path) -> tuple[list[Any], list[list[list[int]]]]:
    """Real images, and the library's rows for them, of released yunet_s."""
    known = json.loads((shared / "reference/expected-export.json").read_text())["pictures"]
    images = [read_image(shared / "reference/images" / name) for name in known]
    return images, [entry["library"] for entry in known.values()]


def test_the_stand_in_gives_the_librarys_own_rows(shared: Path, checkout: Path, tmp_path: Path) -> None:
    need_compiler()
    images, rows = expected_rows(shared)
    files = target.files(fold(load_model(released(shared, "yunet_s"))), CppOptions(digits=3))
    assert rows_of(checkout, files, tmp_path / "build", images) == rows
    assert sum(map(len, rows)) == 79


def test_a_data_file_of_another_network_ends_the_program(checkout: Path, tmp_path: Path) -> None:
    compiler = need_compiler()
    files = target.files(net_of(load_config("yunet_n").model), CppOptions())
    # the same backbone, but six layers less: the table must not be read beyond its end
    files["facedetectcnn-data.cpp"] = target.files(net_of(ModelConfig(shared_convs=0)), CppOptions())[target.DATA]
    parts = program(files, CppOptions(), checkout)
    assert not isinstance(parts, str)
    binary = compile_program(compiler, tmp_path, {**parts.files, **files}, parts.sources, ("-std=c++11", "-O0"))
    (tmp_path / "a.bgr").write_bytes(bytes(3 * 32 * 32))
    command = [binary, "0", "0", "32", "32", "a.bgr"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "layer 29 has 64 -> 1 channels, not 64 -> 64" in done.stderr


def test_comments_of_the_replaced_file_stay(checkout: Path) -> None:
    src = checkout / "src"
    net = net_of(YUNET_S)
    text = target.files_into(net, CppOptions(), src)["facedetectcnn-data.cpp"]
    assert text.startswith('// one\n// two\n#include "facedetectcnn.h"\n\nfloat backbone__model0_pw_weight[16*32*1*1]')
    assert "\n};\n\n// columns\nConvInfoStruct" not in text
    assert "\n\n// columns\nConvInfoStruct param_pConvInfo[53] = {\n\t{32, 16, false, true, true, " in text
    fresh = target.files(net, CppOptions("other"))
    (src / "facedetectcnn-data.cpp").write_text(fresh["facedetectcnn-data.cpp"])
    again = target.files_into(net, CppOptions("mine"), src)["facedetectcnn-data.cpp"]
    assert again.startswith("// Weights of mine, ")


def test_an_earlier_networks_forward_file_does_not_stay(checkout: Path) -> None:
    src = checkout / "src"
    assert set(target.files_into(net_of(YUNET_S), CppOptions(), src)) == {"facedetectcnn-data.cpp"}
    for name, text in target.files(net_of(TOWERS), CppOptions()).items():
        (src / name).write_text(text)
    again = target.files_into(net_of(YUNET_S), CppOptions(), src)
    assert "static_assert(kLayers == 53," in again["facedetectcnn-model.cpp"]


def test_what_is_no_checkout_is_refused(checkout: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not a checkout of libfacedetection: src/facedetectcnn\.h is not there"):
        target.library_folder(tmp_path)
    header = checkout / "src/facedetectcnn.h"
    header.write_text(header.read_text().replace("FACEDETECTION_RESULT_STRIDE_SHORTS", "OLDER"))
    with pytest.raises(InputError, match="does not know FACEDETECTION_RESULT_STRIDE_SHORTS"):
        target.library_folder(checkout)


@pytest.mark.parametrize("name", ["yunet_s", "yunet_n"])
@pytest.mark.parametrize("simd", SIMD)
def test_the_real_library_finds_the_same(shared: Path, library: Path, tmp_path: Path, name: str, simd: str) -> None:
    need_compiler()
    flag, flags = SIMD[simd]
    if flag and flag not in Path("/proc/cpuinfo").read_text().split():
        pytest.skip(f"this processor has no {simd}")
    images, rows = expected_rows(shared)
    net = fold(load_model(released(shared, name)))
    files = target.files_into(net, CppOptions(digits=3), library / "src")
    found = rows_of(library, files, tmp_path / "three", images, tuple(flags))
    if name == "yunet_s":
        data = files["facedetectcnn-data.cpp"]
        assert hashlib.sha256(data.encode()).hexdigest() == WHOLE_YUNET_S
        assert found == rows
    else:
        assert [len(faces) for faces in found] == [56, 5, 10, 8, 1, 2]


@pytest.mark.parametrize("simd", SIMD)
@pytest.mark.parametrize("name", ["yunet_s", "yunet_n", "towers"])
def test_the_real_librarys_faces_are_the_models(
    shared: Path,
    library: Path,
    tmp_path: Path,
    images: Path,
    name: str,
    simd: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need_compiler()
    flag, flags = SIMD[simd]
    if flag and flag not in Path("/proc/cpuinfo").read_text().split():
        pytest.skip(f"this processor has no {simd}")
    monkeypatch.setenv("CXX", " ".join(["g++", *flags]))
    weights, shown = released(shared, name), shared / "reference/images"
    if name == "towers":
        weights, shown = write_checkpoint(lively_model(TOWERS), tmp_path / "w.pt"), images
    result = export_cpp(
        CppRequest(
            str(weights),
            "libfacedetection",
            output=tmp_path / "out",
            library=library,
            digits=9,
            check=True,
            images=shown,
        )
    )
    assert result.check is not None
    assert result.check.found.faces >= 50
    assert (result.check.found.alone, result.check.found.score, result.check.found.pixels) == (0, 0, 0)
