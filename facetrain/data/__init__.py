"""From labelled pictures to the batches of an epoch."""
