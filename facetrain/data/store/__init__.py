"""Decoded images of a training set, and square crops of them, wherever their pixels are kept."""
