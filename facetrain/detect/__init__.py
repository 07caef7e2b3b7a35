"""From images to faces: weights of any kind, sources, outputs."""
