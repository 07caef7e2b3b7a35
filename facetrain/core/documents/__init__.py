"""What stands in the JSON that commands print and runs keep: each field once, with its type and its meaning."""
