"""What this installation consists of and can do: the content of `facetrain info`."""

import importlib.metadata
import platform

import numpy as np

from facetrain import __version__
from facetrain.core.documents.info import BundledWeights, Gpu, InfoDocument, InstallationProblem
from facetrain.core.errors import FacetrainError
from facetrain.core.files import sha256
from facetrain.core.images import decode_image, opencv
from facetrain.core.machine import available_cores, cpu_has_bf16, cpu_name, free_memory
from facetrain.detect.bundled import FOLDER, bundled_names

# One of each row must be there; the first is what to install.
_PACKAGES = {
    "torch": ("torch",),
    "torchvision": ("torchvision",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml"),
    "onnx": ("onnx",),
    "opencv": (
        "opencv-python",
        "opencv-python-headless",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    ),
    "numpy": ("numpy",),
    "pillow": ("pillow",),
    "matplotlib": ("matplotlib",),
    "jinja2": ("Jinja2",),
    "typer": ("typer",),
    "rich": ("rich",),
    "yaml": ("PyYAML",),
    "defusedxml": ("defusedxml",),
}
_CODECS = {"JPEG": ".jpg", "PNG": ".png", "WebP": ".webp", "TIFF": ".tif", "AVIF": ".avif"}


def describe_environment() -> InfoDocument:
    """Versions, devices, codecs, bundled weights and problems with their remedies, ready for JSON."""
    wheels = {name: _installed(choices) for name, choices in _PACKAGES.items()}
    problems = [_missing(name, choices[0]) for name, choices in _PACKAGES.items() if not wheels[name]]
    if len(wheels["opencv"]) > 1:
        extra = " ".join(name for name, _ in wheels["opencv"])
        hint = f"pip uninstall -y {extra} && pip install {wheels['opencv'][0][0]}"
        problems.append({"what": f"these overwrite each other: {extra}", "hint": hint})
    gpus = _gpus(problems) if wheels["torch"] else None
    providers = _providers(problems) if wheels["onnxruntime"] else []
    codecs, video = _codecs(problems) if wheels["opencv"] else ({}, None)
    weights = [_bundled(name) for name in bundled_names()]
    if not weights:
        problems.append({"what": "no bundled weights", "hint": "pip install --force-reinstall facetrain"})
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: found[0][1] if found else None for name, found in wheels.items()},
        },
        "wheels": {name: [wheel for wheel, _ in wheels[name]] for name in ("opencv", "onnxruntime")},
        "platform": platform.platform(),
        "devices": {
            "cpu": cpu_name(),
            "cores": available_cores(),
            "bf16": cpu_has_bf16(),
            "free_memory_mb": free_memory() >> 20,
            "gpus": gpus,
            "onnxruntime": providers,
        },
        "codecs": codecs,
        "video": video,
        "weights": weights,
        "problems": problems,
    }


def environment_text(found: InfoDocument) -> str:
    """The same as plain text for a bug report."""
    devices = found["devices"]
    lines = [f"facetrain    {__version__}"]
    for name, version in found["versions"].items():
        wheels = ", ".join(found["wheels"].get(name, ()))
        lines.append(f"{name:<12} {version or 'missing'}{f' ({wheels})' if wheels not in ('', name) else ''}")
    bf16 = "with bf16" if devices["bf16"] else "no bf16"
    memory = f"{devices['free_memory_mb'] / 1024:.1f} GiB free"
    gpus = "unknown (no torch)" if devices["gpus"] is None else ", ".join(map(_gpu_text, devices["gpus"])) or "none"
    readable = [name for name, works in found["codecs"].items() if works]
    weights = [f"{w['name']} ({w['bytes']} bytes, sha256 {w['sha256'][:12]})" for w in found["weights"]]
    lines += [
        "",
        f"platform     {found['platform']}",
        f"cpu          {devices['cpu']}, {devices['cores']} cores, {bf16}, {memory}",
        f"gpu          {gpus}",
        f"providers    {', '.join(devices['onnxruntime']) or 'none'}",
        f"images       {', '.join(readable) or 'none'}",
        f"video        {'ffmpeg' if found['video'] else 'no ffmpeg'}",
        f"weights      {', '.join(weights) or 'none'}",
        "",
    ]
    if not found["problems"]:
        lines.append("nothing is missing")
    for problem in found["problems"]:
        lines.append(f"problem      {problem['what']}")
        lines.append(f"    try      {problem['hint']}")
    return "\n".join(lines)


def _installed(choices: tuple[str, ...]) -> list[tuple[str, str]]:
    """(name, version) of those distributions that are installed."""
    found = []
    for name in choices:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _missing(name: str, install: str) -> InstallationProblem:
    return {"what": f"{name} is not installed", "hint": f"pip install {install}"}


def _gpus(problems: list[InstallationProblem]) -> list[Gpu]:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library of the wheel does not load
        hint = "pip install --force-reinstall torch torchvision"
        problems.append({"what": f"torch does not load: {_first_line(error)}", "hint": hint})
        return []
    gpus: list[Gpu] = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        card = torch.cuda.get_device_properties(index)
        gpus.append(
            {
                "device": f"cuda:{index}",
                "name": card.name,
                "memory_mb": card.total_memory >> 20,
                "capability": f"{card.major}.{card.minor}",
            }
        )
    if torch.backends.mps.is_available():
        gpus.append({"device": "mps", "name": "Apple GPU", "memory_mb": None, "capability": None})
    return gpus


def _gpu_text(gpu: Gpu) -> str:
    details = f", {gpu['memory_mb']} MB, compute {gpu['capability']}" if gpu["memory_mb"] else ""
    return f"{gpu['device']} {gpu['name']}{details}"


def _providers(problems: list[InstallationProblem]) -> list[str]:
    try:
        import onnxruntime
    except (ImportError, OSError) as error:
        hint = "pip install --force-reinstall onnxruntime"
        problems.append({"what": f"onnxruntime does not load: {_first_line(error)}", "hint": hint})
        return []
    return list(onnxruntime.get_available_providers())


def _codecs(problems: list[InstallationProblem]) -> tuple[dict[str, bool], bool | None]:
    """Which formats survive writing and reading, and whether ffmpeg is built in."""
    try:
        cv2 = opencv()
    except FacetrainError as error:
        problems.append({"what": error.message, "hint": error.hint or ""})
        return {}, None
    codecs = {}
    for name, suffix in _CODECS.items():
        try:
            done, content = cv2.imencode(suffix, np.zeros((16, 16, 3), np.uint8))
            codecs[name] = bool(done) and decode_image(content.tobytes(), name).shape == (16, 16, 3)
        except (cv2.error, FacetrainError):
            codecs[name] = False
    backends = cv2.videoio_registry.getBackends()
    return codecs, cv2.CAP_FFMPEG in backends


def _bundled(name: str) -> BundledWeights:
    path = FOLDER / f"{name}.onnx"
    return {"name": name, "bytes": path.stat().st_size, "sha256": sha256(path)}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
