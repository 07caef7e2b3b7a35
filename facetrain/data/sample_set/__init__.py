"""A set of drawn faces, to try everything without a download."""
