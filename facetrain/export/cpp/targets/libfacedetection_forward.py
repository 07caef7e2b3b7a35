"""The text of a `facedetectcnn-model.cpp` for libfacedetection: its forward pass, for a network of another shape.

The library's own picks 53 layers by their numbers. This one is written anew for a network, from the functions that
the library's header offers.
"""

from collections.abc import Iterator

from facetrain.export.cpp.targets.libfacedetection_data import STEM_INPUTS, library_layers
from facetrain.export.network.folded import FoldedNet
from facetrain.model.library_names import library_name
from facetrain.model.network import units
from facetrain.model.operations import IMAGE, Add, Conv, Network, Operation, Pool, Unit, Upsample

_OUTPUTS = {"cls": "cls", "box": "box", "obj": "obj", "landmarks": "points"}  # kinds -> arrays, in the library's order


def forward_text(net: FoldedNet, title: str) -> str:
    """The file's content. title: first line of its comment, ASCII."""
    names = list(library_layers(net))
    replacements = {
        "@TITLE@": title,
        "@INDEX@": "\n".join(f"    {name}," for name in names),
        "@COUNT@": str(len(names)),
        "@SHAPES@": "\n".join(_shapes(net)),
        "@FORWARD@": "\n".join(f"    {line}".rstrip() for line in _Statements(net.network).lines()),
    }
    text = _TEMPLATE
    for mark, replacement in replacements.items():
        text = text.replace(mark, replacement)
    return text


def foreign_operations(network: Network) -> list[str]:
    """What the library has no function for, in words."""
    found = units(network.operations, network.readers())
    odd = [o for o in found if isinstance(o, Conv) and (o.x != IMAGE or (o.kernel, o.stride) != (3, 2))]
    return [f"it has no {conv.kernel}x{conv.kernel} convolution such as {conv.names[0]}" for conv in odd]


def _shapes(net: FoldedNet) -> Iterator[str]:
    for conv in library_layers(net).values():
        channels = STEM_INPUTS if conv.x == IMAGE else conv.inputs
        yield f"    {{{channels}, {conv.outputs}, {str(conv.depthwise).lower()}}},"


class _Statements:
    """The network as C++ statements. A map is a variable, or an expression where it is read once at the next step."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.readers = network.readers()
        self.parts = _parts(network)
        self.texts: dict[str, str] = {}  # map -> what it is called
        self.held: dict[str, str] = {}  # variable -> the map in it
        self.waiting = {name: len(found) for name, found in self.readers.items()}
        self.kinds = {name: key for key, name in network.outputs.items()}

    def lines(self) -> Iterator[str]:
        """All of them, a blank line between the parts and the levels."""
        part = "backbone"
        outputs: dict[str, str] = {}
        for operation in units(self.network.operations, self.readers):
            name = operation.gives[0]
            here = self._section(name)
            if here != part and not self._inlined(operation):
                part = here
                yield ""
            if name in self.kinds:
                kind, stride = self.kinds[name]
                level = self.network.strides.index(stride)
                outputs[kind] = f"{_OUTPUTS[kind]}[{level}] = {self._expression(operation)};"
                if len(outputs) == len(_OUTPUTS):
                    yield from (outputs.pop(kind) for kind in _OUTPUTS)
            else:
                yield from self._statements(operation)
            for read in operation.reads:
                self.waiting[read] -= 1

    def _section(self, name: str) -> str:
        part = self.parts[name]
        return part if part != "head" else f"head {self.network.maps[name].stride}"

    def _statements(self, operation: Operation | Unit) -> Iterator[str]:
        name = operation.gives[0]
        text = self._expression(operation)
        if self._inlined(operation):
            self.texts[name] = text
            return
        variable = self._variable(name, operation)
        new = "" if variable in self.held else "Blob "
        self.held[variable] = name
        self.texts[name] = variable
        if isinstance(operation, Conv):
            new = ""
            yield "Blob x = setDataFrom3x3S2P1to1x1S1P0FromImage(bgr, width, height, 3, step);"
        yield f"{new}{variable} = {text};"

    def _inlined(self, operation: Operation | Unit) -> bool:
        behind = self.readers[operation.gives[0]]
        if len(behind) != 1:
            return False
        if isinstance(operation, Add):
            return isinstance(behind[0], Conv)
        return isinstance(operation, Upsample | Pool) and isinstance(behind[0], Add)

    def _expression(self, operation: Operation | Unit) -> str:
        x = [self.texts.get(name, "x") for name in operation.reads]
        match operation:
            case Unit(pointwise, depthwise):
                call = "unit" if depthwise.relu else "output"
                return f"{call}(layers, {x[0]}, {library_name(pointwise.names[0])})"
            case Conv():
                return f"convolution(x, layers[{library_name(operation.names[0])}])"
            case Pool():
                return f"maxpooling2x2S2({x[0]})"
            case Upsample():
                return f"upsampleX2({x[0]})"
            case Add():
                return f"elementAdd({x[1]}, {x[0]})"
        raise TypeError(f"{type(operation).__name__} has no statement")

    def _variable(self, name: str, operation: Operation | Unit) -> str:
        """The usual one, unless the map in it is still needed."""
        usual = self._usual(name)
        for number in range(len(self.held) + 2):
            variable = f"{usual}_{number}" if number else usual
            holds = self.held.get(variable)
            if holds is None or self.waiting[holds] - operation.reads.count(holds) <= 0:
                return variable
        raise AssertionError("there is always a new one")

    def _usual(self, name: str) -> str:
        stride = self.network.maps[name].stride
        if self.parts[name] == "backbone":
            left = any(self.parts[reader.gives[0]] != "backbone" for reader in self.readers[name])
            return f"map{stride}" if left else "x"
        kinds = {".cls_tower.": "cls", ".box_tower.": "box"}
        return f"{next((kind for word, kind in kinds.items() if word in name), 'map')}{stride}"


def _parts(network: Network) -> dict[str, str]:
    """The part of each map: a convolution's own, else that of what reads it, or of what it reads."""
    parts: dict[str, str] = {}
    for operation in network.operations:
        own = operation.part if isinstance(operation, Conv) else parts[operation.reads[0]]
        parts |= dict.fromkeys(operation.gives, own)
    readers = network.readers()
    for operation in reversed(network.operations):
        if isinstance(operation, Add | Upsample):
            behind = [parts[reader.gives[0]] for reader in readers[operation.y]]
            parts[operation.y] = behind[0] if behind else parts[operation.y]
    return parts


_TEMPLATE = """\
// @TITLE@
// It replaces src/facedetectcnn-model.cpp, whose forward pass is made for 53 other layers, and belongs to the
// facedetectcnn-data.cpp that was written with it.

#include "facedetectcnn.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

using Blob = CDataBlob<float>;  // (rows, cols, channels); a pixel's channels are padded to the vector width
using Layers = std::vector<Filters<float>>;

// The layers as the data file has them: _pw is a 1x1 convolution, _dw the 3x3 depthwise one that follows it.
enum Layer {
@INDEX@
    kLayers
};
static_assert(kLayers == @COUNT@, "the data file that was written with this one has @COUNT@ layers");

struct Shape {
    int channels;
    int filters;
    bool depthwise;
};

// What the data file must hold: its table is in another file, and no linker compares the two.
constexpr Shape kShapes[] = {
@SHAPES@
};
static_assert(sizeof(kShapes) / sizeof(kShapes[0]) == kLayers, "one shape for each layer");

constexpr int kLevels = 3;  // strides 8, 16, 32

}  // namespace

extern ConvInfoStruct param_pConvInfo[kLayers];

namespace {

Layers load_layers()
{
    Layers layers(kLayers);
    for (int i = 0; i < kLayers; i++) {
        const ConvInfoStruct& info = param_pConvInfo[i];
        const Shape& shape = kShapes[i];
        if (info.channels != shape.channels || info.num_filters != shape.filters ||
            info.is_depthwise != shape.depthwise || info.is_pointwise == shape.depthwise) {
            std::fprintf(stderr, "facedetectcnn-data.cpp holds another network than facedetectcnn-model.cpp: "
                         "layer %d has %d -> %d channels, not %d -> %d\\n",
                         i, info.channels, info.num_filters, shape.channels, shape.filters);
            std::exit(1);
        }
        Filters<float>& layer = layers[i];
        layer.channels = info.channels;
        layer.num_filters = info.num_filters;
        layer.is_depthwise = info.is_depthwise;
        layer.is_pointwise = info.is_pointwise;
        layer.with_relu = info.with_relu;
        // Where channels do not fill a vector, the padding takes part in the sums: it must be zero on both sides.
        const int kernels = info.is_depthwise ? 9 : info.num_filters;
        layer.weights.create(1, kernels, info.channels);
        layer.weights.setZero();
        for (int k = 0; k < kernels; k++) {
            std::memcpy(layer.weights.ptr(0, k), info.pWeights + k * info.channels, info.channels * sizeof(float));
        }
        layer.biases.create(1, 1, info.num_filters);
        layer.biases.setZero();
        std::memcpy(layer.biases.ptr(0, 0), info.pBiases, info.num_filters * sizeof(float));
    }
    return layers;
}

// A 1x1 convolution and the depthwise one behind it, with ReLU.
Blob unit(const Layers& layers, const Blob& x, Layer first)
{
    return convolutionDP(x, layers[first], layers[first + 1]);
}

// The same without ReLU.
Blob output(const Layers& layers, const Blob& x, Layer first)
{
    return convolutionDP(x, layers[first], layers[first + 1], false);
}

Blob joined(const Blob (&levels)[kLevels])
{
    return concat3(blob2vector(levels[0]), blob2vector(levels[1]), blob2vector(levels[2]));
}

}  // namespace

std::vector<FaceRect> objectdetect_cnn(const unsigned char* bgr, int width, int height, int step)
{
    static const Layers layers = load_layers();  // once, also where two threads come first
    Blob cls[kLevels], box[kLevels], obj[kLevels], points[kLevels];

@FORWARD@

    for (int i = 0; i < kLevels; i++) {
        const int stride = 8 << i;
        const Blob priors = meshgrid(box[i].cols, box[i].rows, stride);
        bbox_decode(box[i], priors, stride);
        kps_decode(points[i], priors, stride);
    }
    Blob scores = joined(cls), objectness = joined(obj);
    sigmoid(scores);
    sigmoid(objectness);
    // overlap and score thresholds, candidates before and faces after suppression: the library's own
    return detection_output(scores, joined(box), joined(points), objectness, 0.45f, 0.2f, 1000, 512);
}

// Writes the number of faces as an int and 16 shorts per face: score in hundredths, x, y, width, height, ten landmark
// numbers, one unused. Returns result_buffer, or a null pointer without one.
int* facedetect_cnn(unsigned char* result_buffer, unsigned char* bgr, int width, int height, int step)
{
    if (result_buffer == nullptr) {
        std::fprintf(stderr, "facedetect_cnn: no buffer for the result\\n");
        return nullptr;
    }
    int count = 0;
    if (bgr != nullptr && width > 0 && height > 0) {
        const std::vector<FaceRect> faces = objectdetect_cnn(bgr, width, height, step);
        for (const FaceRect& face : faces) {
            if (count == FACEDETECTION_RESULT_MAX_FACES) {
                break;
            }
            short row[FACEDETECTION_RESULT_STRIDE_SHORTS] = {
                static_cast<short>(face.score * 100), static_cast<short>(face.x), static_cast<short>(face.y),
                static_cast<short>(face.w), static_cast<short>(face.h)};
            for (int k = 0; k < 10; k++) {
                row[5 + k] = static_cast<short>(face.lm[k]);
            }
            std::memcpy(result_buffer + sizeof(int) + count * sizeof(row), row, sizeof(row));
            count++;
        }
    }
    std::memcpy(result_buffer, &count, sizeof(count));
    return reinterpret_cast<int*>(result_buffer);
}
"""
