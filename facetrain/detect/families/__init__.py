"""One file for each family of detectors: how its ONNX file is recognised and decoded."""
