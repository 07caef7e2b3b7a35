"""Label formats, one file each: FILE, its name in a data set; `recognises`, `read` and `write`."""
