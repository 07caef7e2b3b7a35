"""How weights are updated, how fast, and for how long."""
