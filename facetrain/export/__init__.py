"""From a checkpoint to ONNX and C++, each checked against the network it came from."""
