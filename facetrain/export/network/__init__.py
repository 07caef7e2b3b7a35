"""A trained network as plain numbers, which every export reads."""
