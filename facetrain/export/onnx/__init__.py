"""ONNX files: how they are asked for, written and checked."""
