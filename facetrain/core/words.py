"""Words for numbers."""


def count(number: int, noun: str) -> str:
    """`1 face`, `2,000 faces`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
