"""A measurement as a page: the curves and the images that went worst."""
