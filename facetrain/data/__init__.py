"""From labelled images to the batches of an epoch."""
