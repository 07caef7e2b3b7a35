"""Results that are worth keeping: small JSON files in the user's cache folder, each named by what it depends on."""

import hashlib
import json
import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import facetrain
from facetrain.core.errors import OutputError
from facetrain.core.files import user_cache, write_json
from facetrain.core.machine import library_versions

log = logging.getLogger(__name__)

# Folders whose code decides what is detected and how it is measured; model only where torch does the work.
_CODE = ("core", "detect", "eval")
_TORCH_CODE = (*_CODE, "model")


def read_result(key: Mapping[str, Any]) -> Any:
    """What was kept under this key; None where nothing was, or what lies there is damaged or of another key."""
    try:
        document = json.loads(_path(key).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document.get("result") if isinstance(document, dict) and document.get("key") == key else None


def write_result(key: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Keep a result. Where the folder cannot be written it is not kept, and the log says so."""
    path = _path(key)
    try:
        write_json(path, {"key": key, "result": result})
    except OutputError as error:
        log.warning("not kept for the next time: %s", error.message)


def source_hash(*, with_torch: bool) -> str:
    """Fingerprint of the code and the libraries that a result comes from."""
    versions = library_versions(("onnxruntime", "numpy", "opencv", *(("torch",) if with_torch else ())))
    return hashlib.sha256(f"{_code_hash(_TORCH_CODE if with_torch else _CODE)} {versions}".encode()).hexdigest()


@cache
def _code_hash(folders: tuple[str, ...]) -> str:
    root = Path(facetrain.__file__).parent
    state = hashlib.sha256()
    for path in sorted(path for folder in folders for path in (root / folder).rglob("*.py")):
        state.update(f"{path.relative_to(root).as_posix()}\0".encode())
        state.update(path.read_bytes())
    return state.hexdigest()


def _path(key: Mapping[str, Any]) -> Path:
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return user_cache() / "facetrain" / "compare" / f"{name[:40]}.json"
