"""ONNX files of lower precision, and what they lose."""
