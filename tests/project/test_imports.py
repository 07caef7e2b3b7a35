"""What an import brings along. Each case has an interpreter of its own, because a module once loaded stays loaded."""

import ast
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path
from pkgutil import iter_modules

import pytest

import facetrain
from facetrain.cli import commands
from facetrain.data import formats

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "torchvision", "cv2", "onnxruntime", "onnx", "numpy", "matplotlib", "jinja2"}
TORCH = {"torch", "torchvision"}
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.glob("facetrain/**/*.py")}
FILES = Path(commands.__path__[0]).rglob("[!_]*.py")
COMMANDS = sorted(
    " ".join(path.relative_to(commands.__path__[0]).with_suffix("").parts).replace("_", "-") for path in FILES
)
FORMATS = sorted(f"facetrain.data.formats.{module.name}" for module in iter_modules(formats.__path__))

# Stands behind the code of a case. A module that is None is one that the case forbade.
TELL = """
import sys
print()
print(*sorted({name.partition(".")[0] for name, module in sys.modules.items() if module is not None}))
"""
# Before the code of a case: makes `import torch` fail as it does where torch is not installed.
NO_TORCH = "import sys; sys.modules['torch'] = sys.modules['torchvision'] = None\n"


def run_python(*arguments):
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def loaded(code, *arguments):
    """Names of the top-level modules that are loaded once the code has run."""
    return set(run_python("-c", code + TELL, *arguments).splitlines()[-1].split())


def test_the_guard_sees_what_is_loaded():
    assert loaded("import numpy.linalg") & HEAVY == {"numpy"}


def test_package_is_light():
    assert not loaded("import facetrain") & HEAVY


@pytest.mark.parametrize("arguments", [[], *(command.split() for command in COMMANDS)], ids=["facetrain", *COMMANDS])
def test_help_is_light(arguments):
    code = "import sys; from facetrain.cli.app import run_cli; assert run_cli(sys.argv[1:]) == 0"
    assert not loaded(code, *arguments, "--help") & HEAVY


def test_every_command_is_seen():
    assert {"detect", "info", "train"} <= set(COMMANDS)


@pytest.mark.parametrize(
    "module",
    [
        "facetrain.detect.detector",
        "facetrain.eval.evaluate",
        "facetrain.compare.compare",
        "facetrain.label.make",
        *FORMATS,
    ],
)
def test_module_leaves_torch_alone(module):
    assert not loaded(f"import {module}") & TORCH


def test_comparing_onnx_files_leaves_torch_alone(tmp_path):
    code = (
        "import sys; from facetrain.cli.app import run_cli; "
        "assert run_cli(['compare', 'yunet_n', '--fps-size', '64', '--threads', '1', '--markdown', sys.argv[1]]) == 0"
    )
    assert not loaded(NO_TORCH + code, str(tmp_path / "table.md")) & TORCH


def test_public_names_without_torch():
    names = loaded(
        NO_TORCH + "from facetrain import FaceDetector, Faces, load_config\n"
        "assert load_config('yunet_n.yaml').model\n"
        "assert len(Faces.none(5)) == 0 and FaceDetector.detect"
    )
    assert not names & TORCH


def test_public_names_resolve():
    assert sorted(facetrain.__all__) == dir(facetrain)
    for name in facetrain.__all__:
        assert getattr(facetrain, name) is not None
    assert callable(facetrain.train_model)
    with pytest.raises(AttributeError, match="'trian_model'"):
        facetrain.trian_model  # noqa: B018


def test_every_room_says_what_it_is_for_and_nothing_else():
    package = Path(facetrain.__file__).parent
    for path in package.rglob("__init__.py"):
        if path.parent != package:
            content = path.read_text(encoding="utf-8")
            assert re.fullmatch(r'"""[^"\n]+\."""\n', content), path


def test_every_folder_with_modules_is_a_package():
    # Without its __init__.py a folder is a namespace package: import-linter and mypy would pass it by.
    package = Path(facetrain.__file__).parent
    folders = {path.parent for path in package.rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def imports_of(path):
    """Modules of the package that one imports when it is loaded, not in functions or for types alone."""
    known = {name.removesuffix(".__init__") for name in MODULES}
    waiting = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("facetrain"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module
        elif isinstance(node, ast.stmt):
            waiting += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]


def test_modules_import_each_other_without_a_circle():
    graph = {name.removesuffix(".__init__"): set(imports_of(path)) - {"facetrain"} for name, path in MODULES.items()}
    assert sum(map(len, graph.values())) > 500
    while leaves := {name for name, below in graph.items() if not below & graph.keys()}:
        graph = {name: below for name, below in graph.items() if name not in leaves}
    assert not graph, f"among these is a circle: {sorted(graph)}"


def test_version():
    assert facetrain.__version__ == importlib.metadata.version("facetrain")
    assert run_python("-m", "facetrain", "--version") == f"facetrain {facetrain.__version__}\n"
