"""A run's configuration: its keys, how YAML becomes them, and what is refused."""
