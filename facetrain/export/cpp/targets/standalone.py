"""A self-contained C++17 detector: header, source, weights, an example and how to build it.

The C++ is in the files of `standalone/`, where `@name@` and the like stand for what depends on the model.
"""

from importlib.resources import files as resources

import numpy as np

from facetrain import __version__
from facetrain.core.faces import Floats
from facetrain.core.inert import for_cpp_comment, for_markdown
from facetrain.export.cpp.targets.options import CppOptions
from facetrain.export.cpp.targets.standalone_plan import (
    BAND_PIXELS,
    MOST_CANDIDATES,
    USUAL_SOURCES,
    Layer,
    Plan,
    padded,
    plan,
    working_memory,
)
from facetrain.export.network.folded import FoldedNet, Weights

_TEMPLATES = {
    "{name}.hpp": "detector.hpp",
    "{name}.cpp": "detector.cpp",
    "{name}_flow.hpp": "flow.hpp",
    "{name}_simd.hpp": "simd.hpp",
    "{name}_kernels.hpp": "kernels.hpp",
    "{name}_weights.hpp": "weights.hpp",
    "CMakeLists.txt": "CMakeLists.txt",
    "example.cpp": "example.cpp",
    "README.md": "README.md",
    "{name}_LICENSE.txt": "LICENSE.txt",
}


def files(net: FoldedNet, options: CppOptions) -> dict[str, str]:
    """The folder's files, relative path -> text."""
    values = _values(net, options)
    folder = resources("facetrain.export.cpp.targets") / "standalone"
    written = {}
    for path, template in _TEMPLATES.items():
        text = (folder / template).read_text(encoding="utf-8")
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        written[path.format(name=options.name)] = text
    return written


def _values(net: FoldedNet, options: CppOptions) -> dict[str, str]:
    """What stands for `@key@` in a template."""
    layout = plan(net)
    names = net.config.landmarks.names
    blocks, offsets, size = _weights(layout, options.digits)
    rows = [
        f'    {{"{name}", {unit.pointwise.weight.shape[1]}, {unit.outputs}, {_bool(unit.relu)}, {offset}}},'
        for (name, unit), offset in zip(layout.units.items(), offsets[1:], strict=True)
    ]
    return {
        "name": options.name,
        "NAME": options.name.upper(),
        "version": __version__,
        "landmarks": str(len(names)),
        "landmark_names": f"  // {for_cpp_comment(', '.join(names))}" if names else "",
        "weights": "\n".join(blocks),
        "stem": f'{{"stem", {net.config.stem[0]}, {len(layout.stem.bias)}, {_bool(layout.stem_relu)}, 0}}',
        "units": "\n".join(rows),
        "maps": "\n".join(
            f"    {{{m.channels}, {m.stride}, {m.slot}}},  // {i}: {m.name}" for i, m in enumerate(layout.maps)
        ),
        "steps": "\n".join(
            f"    {{Source::{s.source}, {s.start}, {s.other}, {s.first}, {s.count}, {_bool(s.pool)}, {s.target}}},"
            for s in layout.steps
        ),
        "levels": "\n".join(f"    {{{v.stride}, {v.cls_map}, {v.map}, {v.obj_channel}}}," for v in layout.levels),
        **_further(layout),
        "slots": str(max(m.slot for m in layout.maps) + 1),
        "most_units": str(max(step.count for step in layout.steps)),
        "multiple": str(net.config.strides[-1]),
        "band_pixels": str(BAND_PIXELS),
        "most_candidates": str(MOST_CANDIDATES),
        "memory_320": f"{working_memory(layout, 320, 320, len(names)):,}",
        "memory_640": f"{working_memory(layout, 640, 480, len(names)):,}",
        "weights_bytes": f"{4 * size:,}",
        "face_landmarks": ", landmarks[i].x and .y" if names else "",
        "landmarks_text": f" The landmarks are, in this order: {for_markdown(', '.join(names))}." if names else "",
    }


def _further(layout: Plan) -> dict[str, str]:
    """C++ for steps that the published networks do not have: nothing where there is no such step."""
    sources = dict.fromkeys(step.source for step in layout.steps if step.source not in USUAL_SOURCES)
    bare = any(step.count == 0 for step in layout.steps)
    return {
        "sources": "".join(f", {source}" for source in sources),
        "rows": "".join(
            f" if (step_.source == Source::{source}) {{\n{_ROWS[source]}        }} else" for source in sources
        ),
        "bare": " else if (step.units == 0) {\n            source_ = maps[step.to];\n        }" if bare else "",
    }


_ROWS = {
    "sum_same": """\
            const float *const one = from[y], *const other = maps_[step_.enlarged][y];
            float* const sum = source_[y];
            for (std::ptrdiff_t i = 0; i < std::ptrdiff_t(width_) * channels; ++i) sum[i] = one[i] + other[i];
""",
    "sum_pooled": """\
            const Rows fine = maps_[step_.enlarged];
            const float* const one = from[y];
            float* const sum = source_[y];
            kernels.pool(fine[2 * y], fine[2 * y + 1], 2 * width_, channels, sum);
            for (std::ptrdiff_t i = 0; i < std::ptrdiff_t(width_) * channels; ++i) sum[i] += one[i];
""",
}


def _weights(layout: Plan, digits: int) -> tuple[list[str], list[int], int]:
    """Texts of all layers' weights, the stem's and then the units', where each starts in the array, and its size."""
    parts = {"stem, 3x3": _dense(layout.stem)} | {name: _unit(unit) for name, unit in layout.units.items()}
    texts, offsets, offset = [], [], 0
    for name, values in parts.items():
        offsets.append(offset)
        offset += values.size
        texts.append(f"    // {name}\n" + _lines(values, digits))
    return texts, offsets, offset


def _unit(unit: Layer) -> Floats:
    """Pointwise, then for each block of 16 channels the nine taps and the bias of the depthwise."""
    depthwise = unit.depthwise
    channels = len(depthwise.bias)
    taps: Floats = np.zeros((10, padded(channels)), np.float32)
    taps[:9, :channels] = depthwise.weight.reshape(channels, 9).T
    taps[9, :channels] = depthwise.bias
    blocks = taps.reshape(10, -1, 16).transpose(1, 0, 2)
    return np.concatenate([_dense(unit.pointwise), blocks.ravel()])


def _dense(layer: Weights) -> Floats:
    """(inputs + 1, padded outputs): inputs by row, column and colour for a 3x3, the bias last."""
    outputs = len(layer.bias)
    weight = layer.weight.transpose(2, 3, 1, 0).reshape(-1, outputs)
    values: Floats = np.zeros((len(weight) + 1, padded(outputs)), np.float32)
    values[:-1, :outputs] = weight
    values[-1, :outputs] = layer.bias
    return values.ravel()


def _lines(values: Floats, digits: int) -> str:
    texts = [_number(value, digits) for value in values.tolist()]
    return "\n".join("    " + " ".join(f"{text}," for text in texts[i : i + 16]) for i in range(0, len(texts), 16))


def _number(value: float, digits: int) -> str:
    text = format(value, f".{digits}g")
    return f"{text}f" if any(mark in text for mark in ".e") else f"{text}.f"


def _bool(value: bool) -> str:
    return "true" if value else "false"
