"""Read by PyInstaller. Modules that are found by their folder are imported by nobody that it could see."""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules

datas = collect_data_files("facetrain")
hiddenimports = [
    name
    for room in ("cli", "core", "config", "data.formats", "detect", "media")
    for name in collect_submodules(f"facetrain.{room}")
]
# A program that needs them says so by importing them: what detects by ONNX files alone stays small.
excludedimports = ["torch", "torchvision", "matplotlib", "onnx", "IPython"]
