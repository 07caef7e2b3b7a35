"""The subcommands that there are, and what they take."""

from pathlib import Path

from typer.main import get_command

from facetrain.cli import commands
from facetrain.cli.app import build_app

ROOT = Path(commands.__path__[0])
# a subcommand of a group has two words
COMMANDS = sorted(
    " ".join(path.relative_to(ROOT).with_suffix("").parts).replace("_", "-") for path in ROOT.rglob("[!_]*.py")
)
GROUPS = sorted(path.parent.name.replace("_", "-") for path in ROOT.glob("*/__init__.py"))


def parameters_of(command):
    """The parameters of a subcommand, as Typer has made them."""
    found = get_command(build_app())
    for word in command.split():
        found = found.commands[word]
    return found.params
