"""The model files that come along."""
