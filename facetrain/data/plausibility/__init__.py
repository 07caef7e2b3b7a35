"""Whether labels can be what they say: boxes and landmarks that no face has, and the convention they look like."""
