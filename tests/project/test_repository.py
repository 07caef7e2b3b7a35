"""What the repository holds, and that its documents name what is there."""

import ast
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import facetrain
from facetrain.config.load import preset_names

ROOT = Path(__file__).parents[2]
TOP_LEVEL = {"facetrain", "tests", "examples", "pyproject.toml", "CHANGELOG.md", "README.md", "LICENSE"}
MAX_BYTES = 1_500_000
MAX_LINES = 420  # a module is read in one sitting
TEST_COMMAND = "pip install -e '.[dev]' && python -m pytest"


@pytest.fixture(scope="module")
def tracked():
    """The files under version control, relative to the root."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("needs a git checkout and git")
    # safe.directory: git refuses a checkout that belongs to another user, as it does where tests run in a container
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def readme():
    return (ROOT / "README.md").read_text(encoding="utf-8")


def test_top_level(tracked):
    top = {name.partition("/")[0] for name in tracked}
    assert {name for name in top - TOP_LEVEL if not name.startswith(".")} == set()


def test_no_file_is_large(tracked):
    assert [name for name in tracked if (ROOT / name).stat().st_size > MAX_BYTES] == []


def test_modules_are_short():
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in (ROOT / "facetrain").rglob("*.py")
    }
    assert lengths
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}


def test_nothing_is_left_to_do(tracked):
    mark = re.compile(rb"\b(TO" rb"DO|FIX" rb"ME)\b")  # in parts, so that this line is not found
    contents = {name: (ROOT / name).read_bytes() for name in tracked}
    assert [name for name, content in contents.items() if b"\0" not in content and mark.search(content)] == []


def test_test_modules_have_names_of_their_own():
    # pytest imports test modules by their bare name: the second of two `test_load.py` would not be collected
    names = sorted(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name in set(names) if names.count(name) > 1] == []


def test_readme_names_presets_that_exist(readme):
    named = set(re.findall(r"(?<![\w/.-])(yunet_\w+)\.yaml\b", readme))
    assert "yunet_n" in named
    assert named <= set(preset_names())


def test_no_function_is_longer_than_a_page():
    """At most 60 lines below a function's signature and docstring: what is longer is several ideas."""
    long = []
    for path in (ROOT / "facetrain").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[1] if ast.get_docstring(node) is not None and len(node.body) > 1 else node.body[0]
                if node.end_lineno - first.lineno + 1 > 60:
                    long.append(f"{path.relative_to(ROOT)}: {node.name}")
    assert long == []


def test_results_have_types():
    """`dict[str, Any]` stands where a foreign document is read or made, and where a library asks for it."""
    foreign = (
        "config/",
        "data/formats/",
        "data/label_json.py",
        "data/writing.py",
        "data/yolo_yaml.py",
        "model/weights.py",
    )
    library = ("cli/commands/train.py", "detect/onnx_detector.py", "detect/outputs/json.py", "detect/resume.py")
    library += ("media/animation_writer.py", "media/ffmpeg.py", "core/exif.py")  # options of Pillow and FFmpeg
    library += ("train/optim/muon.py", "train/run/checkpoint.py")
    package = ROOT / "facetrain"
    found = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "dict[str, Any]" in path.read_text(encoding="utf-8")
    ]
    assert [name for name in found if not name.startswith((*foreign, *library))] == []


def test_ground_truth_is_called_so(tracked):
    texts = [name for name in tracked if name.startswith(("facetrain/", "examples/", "tests/benchmarks/", ".github/"))]
    texts = [name for name in texts if name.endswith((".py", ".md"))]
    found = [
        f"{name}: {line}"
        for name in texts
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
        if re.search(r"(?<!ground[ -])\btruth\b", line, re.IGNORECASE)
    ]
    assert found == []


def test_readme_names_examples_that_exist(readme):
    named = set(re.findall(r"(?<![\w/.-])examples/[\w./-]*\w", readme))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_changelog_has_this_version_and_at_most_the_next_one_before_it():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (.+)$|^## \[(\d+\.\d+\.\d+)\]$", text, re.MULTILINE)
    versions = [one or other for one, _, other in headings]
    assert len(versions) == text.count("\n## ")
    assert facetrain.__version__ in versions[:2]
    if versions[0] != facetrain.__version__:
        assert headings[0][1] == "not yet released"
    ordered = [tuple(map(int, version.split("."))) for version in versions]
    assert ordered == sorted(set(ordered), reverse=True)


def test_ci_runs_the_readme_test_command(readme):
    if not (ROOT / ".ci/run").is_file():
        pytest.skip("needs .ci/run, which an sdist does not have")
    assert TEST_COMMAND in readme
    # In two lines there, with what a bare machine lacks in between.
    lines = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    at = [lines.index(part) for part in TEST_COMMAND.split(" && ")]
    assert at == sorted(at)
    assert lines[1:].index("set -euo pipefail")  # the first of them that fails is the script's result
    for step in (".ci/lint", "python -m pytest -m slow", "pip install -e '.[dev]' -c .ci/lowest.txt"):
        assert any(line.startswith(step) for line in lines)


def test_the_lowest_versions_are_those_of_the_package():
    if not (ROOT / ".ci/lowest.txt").is_file():
        pytest.skip("needs .ci, which an sdist does not have")
    pins = dict(re.findall(r"^([\w.-]+)==([\w.]+)$", (ROOT / ".ci/lowest.txt").read_text(), re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lowest = dict(requirement.split(">=") for requirement in project["dependencies"])
    assert pins.keys() == lowest.keys()
    assert {name for name in pins if not f"{pins[name]}.".startswith(f"{lowest[name]}.")} == set()


def test_the_licences_of_all_that_facetrain_needs_are_told():
    text = (ROOT / "examples/licences.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+) \| (.+) \|$", text.partition("## What facetrain needs")[2], re.MULTILINE)
    told = {name.lower() for names, _ in rows for name in names.split(", ")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {requirement.split(">=")[0] for requirement in project["dependencies"]} - told == set()


def test_the_map_names_every_room_and_no_other():
    map_of_the_house = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `([\w/]+)/` \|", map_of_the_house, re.MULTILINE))
    package = ROOT / "facetrain"
    rooms = {path.parent.relative_to(package).as_posix() for path in package.rglob("__init__.py")} - {"."}
    assert named == rooms
    for path in re.findall(
        r"`((?:core|config|data|model|detect|eval|train|export|compare|cli)/[\w/]+)`", map_of_the_house
    ):
        assert (package / path).is_dir() or (package / f"{path}.py").is_file(), path
    for path in re.findall(r"`(tests/[\w/.]+)`", map_of_the_house):
        assert (ROOT / path).exists(), path


def test_workflows_run_what_a_contributor_runs():
    ci, release = (yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text()) for name in ("ci", "release"))
    linux = [step.get("run") for step in ci["jobs"]["linux"]["steps"]]
    assert ".ci/run" in linux
    for job in (*ci["jobs"].values(), *release["jobs"].values()):
        for step in job["steps"]:
            assert len(step.keys() & {"run", "uses"}) == 1, step
            for path in re.findall(r"\btests/\w+", step.get("run", "")):
                assert (ROOT / path).is_dir(), path
    assert release["jobs"]["publish"]["permissions"] == {"id-token": "write"}


def test_issue_templates_and_hooks_are_readable():
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        assert {"name", "description", "body"} <= yaml.safe_load(path.read_text()).keys()
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    for hook in hooks:
        assert hook["entry"].partition(" ")[0] in ("python", ".ci/lint")
