"""One file for each thing that is made of found faces: what `detect/save.Format` describes."""
