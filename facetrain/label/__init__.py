"""Labels that detectors give to images, and labels that they question."""
