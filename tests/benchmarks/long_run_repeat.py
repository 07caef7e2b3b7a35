"""From a line of recipes.jsonl to the command that repeats its stage, bit for bit on the same kind of machine."""

import json
import shlex
from pathlib import Path
from typing import Any

from long_run_plan import further, reference


def command_of(recipes: Path, number: int) -> str:
    """The command of a line, counted from 1; what it starts from stands beside it.

    Raises SystemExit for a line that is no finished stage, or one of before what it needs was written down.
    """
    lines = recipes.read_text(encoding="utf-8").splitlines()
    if not 1 <= number <= len(lines):
        raise SystemExit(f"{recipes.name} has lines 1 to {len(lines)}")
    line: dict[str, Any] = json.loads(lines[number - 1])
    if line["kind"] != "long run" or "plan" not in line:
        raise SystemExit(f"{recipes.name}:{number}: not a finished stage whose plan was written down")
    settings = dict(line["settings"])
    teacher, sets = settings.pop("teacher"), [settings.pop("data"), *settings.pop("more", [])]
    words = ["facetrain", "train", line["network"], "--recipe", "distil", "--teacher", str(reference() / teacher)]
    words += [word for name in sets for word in ("--data", str(further(name)))]
    words += ["--seed", str(line["seed"]), "--workers", "1", "--gpus", "cpu", "--threads", "1"]
    plan = json.dumps(line["plan"], separators=(",", ":"))
    fixed = {"data.store": "mapped", "eval.every": 0.25} | settings | {"train.plan": plan}
    words += [word for key, value in fixed.items() for word in ("--set", f"{key}={value}")]
    start = line["start"]
    about = [
        f"# at commit {line['commit']}, from {'drawn weights' if start is None else 'weights of SHA-256 ' + start}"
    ]
    if start is not None:
        words += ["--weights", "WEIGHTS"]
    return "\n".join([*about, shlex.join(words)])
