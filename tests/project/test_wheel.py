"""What is shipped: the built files' contents, their metadata, licences, and the main job from the installed wheel.

Nothing is downloaded: the wheel goes into a fresh environment that borrows its dependencies from the running one.
"""

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from email import message_from_bytes
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import facetrain
from facetrain.core.images import SUFFIXES, write_image
from facetrain.data.sample_set.make import draw_image

ROOT = Path(__file__).parents[2]
MAX_WHEEL = 1_900_000  # bytes: a million of weights, and the code
DIST_INFO = f"facetrain-{facetrain.__version__}.dist-info"
# Beside what stands in the repository: hatchling adds both.
SDIST_EXTRA = {"PKG-INFO", ".gitignore"}
SDIST_PARTS = {"facetrain", "tests", "examples", "CHANGELOG.md", "README.md", "LICENSE", "pyproject.toml"}
# Of the licences that a BSD one goes with, those that any dependency has had; as SPDX and classifiers write them.
PERMISSIVE = re.compile(
    r"\b(MIT(-CMU)?|HPND|Historical Permission Notice|0?BSD|ISC|Apache|PSF|Python Software Foundation|Zlib|Unlicense)\b"
)

DETECT = """
import json, sys
from facetrain.cli.app import run_cli
code = run_cli(["detect", *sys.argv[1:]])
import facetrain
print(json.dumps({"code": code, "home": facetrain.__file__, "modules": sorted(sys.modules)}), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with the sdist and with the wheel made from it."""
    for module in ("build", "hatchling"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install -e '.[dev]'")
    folder = tmp_path_factory.mktemp("dist")
    # Without isolation: an environment of its own would have to download the build backend.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def wheel_files(wheel):
    """{name: content} of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


@pytest.fixture(scope="module")
def sdist_files(built):
    """{name inside the top folder: content} of the sdist."""
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        return {
            member.name.partition("/")[2]: archive.extractfile(member).read()
            for member in archive.getmembers()
            if member.isfile()
        }


@pytest.fixture(scope="module")
def metadata(wheel_files):
    return message_from_bytes(wheel_files[f"{DIST_INFO}/METADATA"])


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Scripts folder of a fresh environment with nothing but the wheel, and its site-packages."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, with_pip=False)
    places = dict.fromkeys(("base", "platbase"), home)
    scripts, packages = (Path(sysconfig.get_path(name, "venv", vars=places)) for name in ("scripts", "purelib"))
    pip = [sys.executable, "-m", "pip", "--python", home, "--disable-pip-version-check", "--quiet"]
    run(*pip, "install", "--no-index", "--no-deps", wheel, cwd=home)
    # A folder named in a .pth file comes after the environment's own, and the .pth files inside it do not count: an
    # editable installation of facetrain over there stays out of sight.
    borrowed = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (packages / "borrowed.pth").write_text("".join(f"{folder}\n" for folder in borrowed), encoding="utf-8")
    return scripts, packages


def run(*command, cwd):
    """Run a program outside of the checkout and of whatever Python variables lead there."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done


def detect(installed, image, folder):
    """Run `facetrain detect` of the installed wheel. Returns its JSON document."""
    scripts, packages = installed
    done = run(scripts / "python", "-c", DETECT, image, "--json", "--output", folder / "drawn", cwd=folder)
    *said, last = done.stderr.splitlines()
    report = json.loads(last)
    assert report["code"] == 0, said
    assert Path(report["home"]).parent == packages / "facetrain"
    assert "onnxruntime" in report["modules"]
    assert "torch" not in report["modules"]
    return json.loads(done.stdout)


def test_wheel_has_the_whole_package(wheel_files):
    package = ROOT / "facetrain"
    source = {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    for path in (ROOT / "examples").iterdir():
        if path.suffix in (".py", ".yaml"):
            source[f"facetrain/examples/{path.name}"] = path.read_bytes()
    shipped = {name: content for name, content in wheel_files.items() if not name.startswith(f"{DIST_INFO}/")}
    assert sorted(shipped) == sorted(source)
    assert [name for name in source if shipped[name] != source[name]] == []


def test_wheel_has_what_is_no_python(wheel_files):
    names = set(wheel_files)
    assert {"facetrain/py.typed", "facetrain/eval/report/page.html"} <= names
    assert {f"facetrain/config/presets/{name}.yaml" for name in ("yunet_n", "yunet_s")} <= names
    assert {f"facetrain/config/recipes/{name}.yaml" for name in ("quick", "sample")} <= names
    assert wheel_files[f"{DIST_INFO}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()


def test_bundled_weights_are_complete(wheel_files):
    folder = "facetrain/detect/weights/"
    names = {name.removeprefix(folder) for name in wheel_files if name.startswith(folder)}
    assert {"yunet_n.onnx", "yunet_n.pt", "yunet_n.md"} <= names
    for model in {Path(name).stem for name in names}:  # of each: to detect with, to train from, to read
        assert {f"{model}.onnx", f"{model}.pt", f"{model}.md"} <= names
    weights = {name for name in wheel_files if name.endswith((".onnx", ".pt", ".pth"))}
    assert weights == {folder + name for name in names if not name.endswith(".md")}


def test_wheel_is_small(wheel):
    assert wheel.stat().st_size < MAX_WHEEL


def test_twine_has_nothing_to_say(built):
    if find_spec("twine") is None:
        pytest.skip("twine is not installed: pip install -e '.[dev]'")
    done = run(sys.executable, "-m", "twine", "--no-color", "check", "--strict", *built.iterdir(), cwd=built)
    assert done.stdout.count("PASSED") == 2, done.stdout


def test_sdist_is_what_is_or_could_be_under_version_control(sdist_files):
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("needs a git checkout and git")
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = [name for name in run(*command, cwd=ROOT).stdout.split("\0") if (ROOT / name).is_file()]
    wanted = {
        name
        for name in listed
        if name.partition("/")[0] in SDIST_PARTS and not name.startswith("tests/benchmarks/long_run/")
    }
    assert set(sdist_files) - SDIST_EXTRA == wanted


def test_nothing_tells_where_it_was_built(built, wheel_files, sdist_files):
    places = {str(place).encode() for place in (ROOT, Path.home(), built, Path(sys.prefix)) if len(place.parts) > 2}
    assert places
    for files in (wheel_files, sdist_files):
        assert [name for name, content in files.items() if any(place in content for place in places)] == []


def test_nothing_foreign_is_shipped(wheel_files, sdist_files):
    # Images for tests are drawn (facetrain.data.sample_set.make): then none of doubtful origin can slip in.
    for files in (wheel_files, sdist_files):
        assert [name for name in files if name.lower().endswith(SUFFIXES)] == []
        assert [name for name in files if "WIDER_" in name or "shared/" in name] == []
    assert {name.partition("/")[0] for name in wheel_files} == {"facetrain", DIST_INFO}


def test_no_reference_file_is_shipped(wheel_files, sdist_files, shared):
    folders = (shared / "reference" / name for name in ("yunet", "compare", "images"))
    foreign = {digest(path.read_bytes()) for folder in folders for path in folder.rglob("*") if path.is_file()}
    assert foreign
    for files in (wheel_files, sdist_files):
        assert [name for name, content in files.items() if digest(content) in foreign] == []


def test_sdist_can_be_tested(sdist_files):
    assert {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "tests/conftest.py"} <= set(sdist_files)
    assert "tests/project/test_wheel.py" in sdist_files
    assert "tests/benchmarks/long_run.py" in sdist_files
    assert not [name for name in sdist_files if name.startswith("tests/benchmarks/long_run/")]
    assert any(name.startswith("examples/") for name in sdist_files)


def test_metadata(metadata, wheel_files):
    assert metadata["Name"] == "facetrain"
    assert metadata["Version"] == facetrain.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert "facetrain = facetrain.cli.app:main" in wheel_files[f"{DIST_INFO}/entry_points.txt"].decode().splitlines()
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload(decode=True).decode().strip() == (ROOT / "README.md").read_text("utf-8").strip()


def test_requirements_are_not_pinned(metadata):
    requirements = [Requirement(text) for text in metadata.get_all("Requires-Dist")]
    assert requirements
    for requirement in requirements:
        # neither exact nor capped: both keep the next release of a dependency from users who need it
        assert {part.operator for part in requirement.specifier} <= {">=", "!="}, requirement


def test_metadata_names_every_dependency(metadata):
    with (ROOT / "pyproject.toml").open("rb") as file:
        declared = tomllib.load(file)["project"]["dependencies"]
    plain = [text for text in metadata.get_all("Requires-Dist") if "extra ==" not in text]
    assert {Requirement(text) for text in plain} == {Requirement(text) for text in declared}


def test_licences_of_all_dependencies_go_with_bsd(metadata):
    """By what the installed packages say of themselves, which is not all that is in them: opencv-python says Apache 2.0
    (MIT in older ones), and its wheels hold FFmpeg and Qt under the LGPL, as libraries that a user can exchange.
    """
    licences = {name: licence(name) for name in dependencies(metadata.get_all("Requires-Dist"))}
    assert {"numpy", "torch", "jinja2"} <= set(licences)
    assert not {"scipy", "pytest", "twine"} & set(licences)
    # what GCC puts into every program may go everywhere
    plain = {name: re.sub(r"GPL-3\.0-\S+ WITH GCC-exception-3\.1", "", text) for name, text in licences.items()}
    assert {name: text for name, text in plain.items() if re.search("GPL|Affero|GNU", text, re.IGNORECASE)} == {}
    # NVIDIA's own libraries come with torch for Linux; they are used and never passed on
    others = {name: text for name, text in plain.items() if not name.startswith(("nvidia-", "cuda-"))}
    assert {name: text for name, text in others.items() if not PERMISSIVE.search(text)} == {}


def test_version_of_the_installed_wheel(installed, tmp_path):
    scripts, _ = installed
    assert run(scripts / "facetrain", "--version", cwd=tmp_path).stdout == f"facetrain {facetrain.__version__}\n"


def test_detect_of_the_installed_wheel(installed, tmp_path):
    image, _ = draw_image(0, 0, 0)
    write_image(tmp_path / "drawn.png", image)
    document = detect(installed, tmp_path / "drawn.png", tmp_path)
    assert document["errors"] == []
    assert len(document["images"]) == 1
    assert len(list((tmp_path / "drawn").rglob("*.png"))) == 1


def test_detect_of_the_installed_wheel_finds_a_family(installed, shared, tmp_path):
    document = detect(installed, shared / "reference/images/family.jpg", tmp_path)
    # five faces; one may be missed, since the bundled weights are retrained now and then
    assert len(document["images"][0]["faces"]) >= 4


@pytest.mark.slow
def test_the_main_job_from_the_installed_wheel(installed, tmp_path, monkeypatch):
    """The README's first command, and what its user does next."""
    monkeypatch.setenv("FACETRAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # all cores, unlike the other tests
    program = installed[0] / "facetrain"
    trained = json.loads(run(program, "train", "yunet_n.yaml", "--data", "sample", "--json", cwd=tmp_path).stdout)
    assert trained["ap"] >= 0.90
    best = tmp_path / "runs" / "yunet_n-1" / "best.pt"
    run(program, "eval", "--weights", best, "--data", "sample", "--report", "report", cwd=tmp_path)
    assert "<h2>Precision and recall</h2>" in (tmp_path / "report" / "index.html").read_text("utf-8")
    exported = run(program, "export-onnx", "--weights", best, "--output", "own.onnx", "--json", cwd=tmp_path)
    examples = Path(json.loads(exported.stdout)["examples"])
    assert examples.is_relative_to(installed[1])
    assert {path.suffix for path in examples.iterdir() if path.is_file()} == {".py", ".yaml"}
    image, _ = draw_image(0, 0, 0)
    write_image(tmp_path / "drawn.png", image)
    found = run(program, "detect", "drawn.png", "--weights", "own.onnx", "--json", cwd=tmp_path)
    assert json.loads(found.stdout)["images"][0]["faces"]


def digest(content):
    return hashlib.sha256(content).hexdigest()


def dependencies(requirements):
    """Names of all installed packages that the requirements bring along, without the extras of facetrain."""
    found, waiting = set(), [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        extras = requirement.extras or {""}
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            further = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # opencv-python may be there as opencv-python-headless
        if name not in found:
            found.add(name)
            for text in further:
                inner = Requirement(text)
                if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
                    inner.marker = None
                    waiting.append(inner)
    return found


def licence(name):
    """What a package's metadata says of its licence, in few words."""
    about = importlib.metadata.metadata(name)
    texts = [about.get("License-Expression") or ""]
    texts += [text for text in about.get_all("Classifier") or [] if text.startswith("License ::")]
    # Some put whole licence texts here; that of the GPL, which comes with libgfortran, speaks of the AGPL as well.
    if "\n" not in (about.get("License") or ""):
        texts.append(about.get("License") or "")
    return "; ".join(text for text in texts if text)
