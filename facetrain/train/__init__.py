"""A training run: assignment, losses, steps, epochs, and how it starts, goes on and ends."""
