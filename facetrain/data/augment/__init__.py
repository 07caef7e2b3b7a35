"""One file for each augmentation, called as its key in the section `data` of a configuration."""
