"""What a shell completes, how that is installed, and that nothing heavy is imported for it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES = [
    ("det", ["detect"]),
    ("data con", ["convert"]),
    ("detect --fam", ["--family"]),
    ("detect --family yunet", ["yunet", "yunet_2021"]),
    ("detect --weights yunet_s", ["yunet_s", "yunet_s_released"]),
    ("detect --save cro", ["crops="]),
    ("compare yunet_n yunet_s_r", ["yunet_s_released"]),
    ("eval --format coc", ["coco"]),
    ("data convert set --as vo", ["voc"]),
    ("data convert set --images li", ["link"]),
    ("train yunet_", ["yunet_n", "yunet_s"]),
    ("train yunet_n --recipe dis", ["distil"]),
    ("train yunet_n --teacher yunet_n_r", ["yunet_n_released"]),
    ("init qui", ["quick"]),
    ("info yunet_n_r", ["yunet_n_released"]),
    ("export-onnx --precision fp1", ["fp16"]),
    ("export-cpp --target st", ["standalone"]),
    ("data audit set --split v", ["val"]),
    ("weights get yunet_n_r", ["yunet_n_released"]),
    ("eval --device cu", ["cuda"]),
    ("train yunet_n --data no/such/", []),  # the shell goes on with files
]


def environment(home, **more):
    path = f"{home}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "HOME": str(home), "PATH": path, "PYTHONPATH": str(ROOT), **more}


@pytest.fixture
def home(tmp_path):
    """A home folder, with the command `facetrain` of this checkout."""
    program = tmp_path / "facetrain"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m facetrain "$@"\n')
    program.chmod(0o755)
    return tmp_path


def test_names_are_completed(home):
    """All in one process, which ends with what is heavy and was imported."""
    program = f"""
import os, sys
from facetrain.cli.app import run_cli
for line in {[line for line, _ in CASES]!r}:
    os.environ["_FACETRAIN_COMPLETE"] = "complete_bash"
    os.environ["COMP_WORDS"] = "facetrain " + line
    os.environ["COMP_CWORD"] = str(len(line.split()))
    try:
        run_cli([])
    except SystemExit as leaving:
        assert leaving.code == 0, line
    print("--")
print([name for name in ("torch", "cv2", "numpy", "onnxruntime", "onnx", "yaml") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(home), capture_output=True, text=True, check=True
    )
    *answers, heavy = done.stdout.split("--\n")
    assert heavy == "[]\n"
    assert [answer.split() for answer in answers] == [names for _, names in CASES]


@pytest.mark.parametrize(
    ("shell", "more", "said"),
    [
        ("zsh", {}, "scrfd"),
        ("fish", {"_TYPER_COMPLETE_FISH_ACTION": "get-args"}, "scrfd"),
    ],
)
def test_other_shells_are_answered(home, shell, more, said):
    asked = {"_FACETRAIN_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": "facetrain detect --family sc", **more}
    done = subprocess.run(
        [sys.executable, "-m", "facetrain"], env=environment(home, **asked), capture_output=True, text=True, check=False
    )
    assert said in done.stdout


@pytest.mark.parametrize(
    ("shell", "file"),
    [
        ("bash", ".bash_completions/facetrain.sh"),
        ("zsh", ".zfunc/_facetrain"),
        ("fish", ".config/fish/completions/facetrain.fish"),
    ],
)
def test_completion_is_installed_for_the_shell_that_asks(home, shell, file):
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    line = "facetrain --install-completion; echo $?"
    done = subprocess.run([shell, "-c", line], env=environment(home), capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "0"
    assert "facetrain" in (home / file).read_text()
    shown = subprocess.run(
        [shell, "-c", "facetrain --show-completion; true"],
        env=environment(home),
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() in (home / file).read_text()


def test_bash_completes_with_what_was_installed(home):
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    script = """
facetrain --install-completion > /dev/null
source ~/.bash_completions/facetrain.sh
COMP_WORDS=(facetrain detect --family yunet_) COMP_CWORD=3
_facetrain_completion facetrain
echo "${COMPREPLY[@]}"
complete -p facetrain
"""
    done = subprocess.run(["bash", "-c", script], env=environment(home), capture_output=True, text=True, check=True)
    completed, registered = done.stdout.splitlines()
    assert completed == "yunet_2021"
    assert "-o default" in registered  # where no name fits, files are completed
