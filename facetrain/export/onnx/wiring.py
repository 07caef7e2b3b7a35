"""The list of operations as nodes of an ONNX graph, and how such a file keeps weights and maps."""

from facetrain.export.network.folded import FoldedNet, Weights
from facetrain.export.onnx.graph import Graph
from facetrain.model.operations import IMAGE, Add, Conv, Operation, Pool, Split, Upsample


class Storage:
    """How weights and maps are kept: here as float32. A lower precision overrides what it does otherwise."""

    def begin(self, graph: Graph, image: str) -> str:
        """The tensor that the first operation reads, of the file's input."""
        return image

    def weights(self, graph: Graph, conv: Conv, values: Weights) -> list[str]:
        """Tensors of a convolution's weight and bias."""
        return [graph.weight(values.weight), graph.weight(values.bias)]

    def read(self, operation: Operation, name: str, tensor: str) -> str:
        """The tensor that an operation takes for the map `name`, which was made as `tensor`."""
        return tensor

    def keep(self, graph: Graph, name: str, tensor: str) -> str:
        """Called when a map has been made; returns the tensor that stands for it from now on."""
        return tensor


def wire(graph: Graph, net: FoldedNet, storage: Storage) -> dict[str, str]:
    """Add all operations; returns the tensor of every map, (batch, channels, h, w)."""
    tensors = {IMAGE: storage.begin(graph, "input")}
    for operation in net.network.operations:
        x = [storage.read(operation, name, tensors[name]) for name in operation.reads]
        match operation:
            case Conv():
                made = [graph.conv(x[0], operation, storage.weights(graph, operation, net.weights[operation.y]))]
            case Pool():
                made = [graph.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])]
            case Upsample():
                made = [graph.enlarge(x[0])]
            case Add():
                made = [graph.add("Add", x)]
            case Split():
                made = graph.split(x[0], operation.sizes)
        for name, tensor in zip(operation.gives, made, strict=True):
            tensors[name] = storage.keep(graph, name, tensor)
    return tensors
