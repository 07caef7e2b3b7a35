"""Lines of the command to be typed, for hints that name another subcommand than the one that is running."""

from shlex import quote


def command_line(words: str, *arguments: object, **options: str | bool) -> str:
    """`facetrain`, the subcommand's words, arguments and options by their names; True for a flag without a value."""
    parts = ["facetrain", words, *(quote(str(argument)) for argument in arguments)]
    for name, value in options.items():
        parts.append("--" + name.replace("_", "-"))
        if value is not True:
            parts.append(quote(str(value)))
    return " ".join(parts)
