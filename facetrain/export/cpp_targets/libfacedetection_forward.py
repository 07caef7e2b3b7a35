"""The text of a `facedetectcnn-model.cpp` for libfacedetection: its forward pass, for a network of another shape.

The library's own picks 53 layers by their numbers. This one is written anew for a network, from the functions that
the library's header offers.
"""

from facetrain.export.cpp_targets.libfacedetection_data import STEM_INPUTS
from facetrain.export.folded import FoldedNet, FoldedUnit
from facetrain.export.layers import named_layers

_HEAD = "bbox_head__multi_level"


def forward_text(net: FoldedNet, title: str) -> str:
    """The file's content. title: first line of its comment, ASCII."""
    names = list(named_layers(net))
    replacements = {
        "@TITLE@": title,
        "@INDEX@": "\n".join(f"    {name}," for name in names),
        "@COUNT@": str(len(names)),
        "@SHAPES@": "\n".join(_shapes(net)),
        "@FORWARD@": "\n".join(f"    {line}".rstrip() for line in [*_backbone(net), "", *_neck(net), *_heads(net)]),
    }
    text = _TEMPLATE
    for mark, replacement in replacements.items():
        text = text.replace(mark, replacement)
    return text


def _shapes(net: FoldedNet) -> list[str]:
    lines = []
    for name, layer in named_layers(net).items():
        filters, channels = layer.weight.shape[:2]
        depthwise = name.endswith("_dw")
        channels = STEM_INPUTS if layer is net.stem else filters if depthwise else channels
        lines.append(f"    {{{channels}, {filters}, {str(depthwise).lower()}}},")
    return lines


def _backbone(net: FoldedNet) -> list[str]:
    """Statements from the picture to the maps; `map8` is the one of stride 8."""
    config = net.config
    lines = [
        "Blob x = setDataFrom3x3S2P1to1x1S1P0FromImage(bgr, width, height, 3, step);",
        "x = convolution(x, layers[backbone__model0_pw]);",
    ]
    strides = dict(zip(config.maps, config.strides, strict=True))
    at = "x"
    stages: list[list[FoldedUnit]] = [[net.stem_unit], *net.stages]
    for index, stage in enumerate(stages):
        names = (
            ["backbone__model0_dp_pw"]
            if index == 0
            else [f"backbone__model{index}_dp{j}_pw" for j in range(1, len(stage) + 1)]
        )
        for position, name in enumerate(names, 1):
            kept = index in strides and position == len(names)
            result = f"Blob map{strides[index]}" if kept else "x"
            lines.append(f"{result} = unit(layers, {at}, {name});")
            at = result.removeprefix("Blob ")
        if index in config.pool_after and index < max(config.maps):
            lines.append(f"x = maxpooling2x2S2({at});")
            at = "x"
    return lines


def _neck(net: FoldedNet) -> list[str]:
    """Statements from coarse to fine, each map joined with the one above it."""
    strides = net.config.strides
    lines = []
    for i in reversed(range(len(strides))):
        name = f"map{strides[i]}"
        source = name if i == len(strides) - 1 else f"elementAdd(upsampleX2(map{strides[i + 1]}), {name})"
        lines.append(f"{name} = unit(layers, {source}, neck__lateral_convs__{i}_pw);")
    return lines


def _heads(net: FoldedNet) -> list[str]:
    """Statements that give each level its four raw outputs."""
    lines = []
    for i, (stride, level) in enumerate(zip(net.config.strides, net.levels, strict=True)):
        lines.append("")
        shared, for_cls, for_box = f"map{stride}", f"map{stride}", f"map{stride}"
        for k in range(len(level.shared)):
            lines.append(f"{shared} = unit(layers, {shared}, {_HEAD}_share_convs__{i}__{k}_pw);")
        for k in range(len(level.cls_tower)):
            lines.append(_tower("cls", stride, for_cls, f"{_HEAD}_cls_convs__{i}__{k}_pw"))
            for_cls = f"cls{stride}"
        for k in range(len(level.box_tower)):
            lines.append(_tower("box", stride, for_box, f"{_HEAD}_reg_convs__{i}__{k}_pw"))
            for_box = f"box{stride}"
        lines += [
            f"cls[{i}] = output(layers, {for_cls}, {_HEAD}_cls__{i}_pw);",
            f"box[{i}] = output(layers, {for_box}, {_HEAD}_bbox__{i}_pw);",
            f"obj[{i}] = output(layers, {for_box}, {_HEAD}_obj__{i}_pw);",
            f"points[{i}] = output(layers, {for_box}, {_HEAD}_kps__{i}_pw);",
        ]
    return lines


def _tower(kind: str, stride: int, source: str, layer: str) -> str:
    result = f"{kind}{stride}"
    return f"{'' if source == result else 'Blob '}{result} = unit(layers, {source}, {layer});"


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
