"""A labelled set looked over: what is in it, what cannot be right, and both as a page."""
