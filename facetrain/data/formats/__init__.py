"""Label files and the layouts of folders."""
