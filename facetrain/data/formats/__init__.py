"""Label formats, one file each: what `data/layout.Format` describes, and `write`."""
