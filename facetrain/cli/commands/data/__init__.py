"""Check, convert, label and prepare data sets."""
