"""What the help of all commands has in common, in one place: a word for each value, none for a flag, and examples.

Typer's releases differ in how they print a type (`<bool>` stands beside every flag in some of them) and in which lines
of an epilogue they join. With words of facetrain's own, and examples behind Typer's part, all print the same.
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

from typer.core import TyperCommand, TyperGroup
from typer.models import OptionInfo, ParameterInfo

from facetrain.cli.completion import COMPLETIONS

# What stands behind an option that has no `metavar` of its own. The same word means the same in all commands.
WORDS = {
    **dict.fromkeys(("--weights", "--teacher"), "WEIGHTS"),
    **dict.fromkeys(("--size", "--fps-size"), "SIZE"),
    **dict.fromkeys(("--data", "--output", "--report", "--to", "--from", "--runs", "--ground-truth"), "DIR"),
    **dict.fromkeys(("--predictions", "--save-predictions", "--calibrate", "--check-images"), "DIR"),
    **dict.fromkeys(("--image", "--plot", "--markdown", "--apply"), "FILE"),
    **dict.fromkeys(("--classes", "--order", "--scales"), "A,B"),
    **dict.fromkeys(("--min-face", "--crop-size", "--align"), "PIXELS"),
    **dict.fromkeys(("--val", "--margin", "--feather"), "SHARE"),
    **{"--family": "FAMILY", "--format": "FORMAT", "--device": "DEVICE", "--gpus": "DEVICES", "--recipe": "RECIPE"},
    **{"--precision": "KIND", "--target": "KIND", "--shape": "KIND", "--images": "HOW", "--name": "NAME"},
    **{"--boxes": "KIND", "--landmarks": "KIND", "--split": "PART", "--hold": "SECONDS", "--max-time": "TIME"},
}
_WORDS_OF_TYPES: Mapping[type, str] = {int: "N", float: "NUMBER", Path: "PATH", str: "TEXT"}

if TYPE_CHECKING:
    _Base = TyperCommand
else:
    _Base = object


class _Helpful(_Base):
    """Help with flags that show no type, and with examples at its end."""

    def __init__(self, *given: Any, epilog: str | None = None, **settings: Any) -> None:
        super().__init__(*given, **settings)
        self._examples = epilog  # kept from Typer, which would join its lines

    def get_params(self, ctx: Any) -> Any:
        params: Any = super().get_params(ctx)
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
            elif param.param_type_name == "argument" and param.metavar:
                param.display_type_rich = _no_type  # what newer releases put beside the word, such as `<list[str]>`
            if param.default is None and param.show_default is True:
                param.show_default = False  # older ones would say `[default: None]`
        return params

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        if self._examples:
            formatter.write(_shown(self._examples))


class Command(_Helpful, TyperCommand):
    """A subcommand."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Arguments as most programs write them: `WORD`, `[WORD]` where it may be missing, `WORD...` for several."""
        words = [param for param in self.params if param.param_type_name == "argument"]
        named = [param.metavar or str(param.name).upper() for param in words]
        return ["[OPTIONS]"] + [
            (name if param.required else f"[{name}]") + ("..." if param.nargs != 1 else "")
            for name, param in zip(named, words, strict=True)
        ]


class Group(_Helpful, TyperGroup):
    """Subcommands under one name."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """As always; a group's name alone shows its help and ends with 0, in some releases with 2."""
        if not args and self.no_args_is_help and not ctx.resilient_parsing:
            print(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As always; a name that is not there gets the nearest one, which releases before 0.20 do not say."""
        try:
            return super().resolve_command(ctx, args)
        except Exception as error:
            message = getattr(error, "message", None)
            if isinstance(message, str) and "Did you mean" not in message:
                near = get_close_matches(args[0], list(self.commands))
                error.message = f"{message.rstrip('.')}. Did you mean {near[0]!r}?" if near else message  # type: ignore[attr-defined]
            raise


def dressed(run: Callable[..., Any]) -> Callable[..., Any]:
    """A command's function, with words for its values and completion of names where it says nothing else itself."""
    for name, hint in get_type_hints(run, include_extras=True).items():
        for about in get_args(hint)[1:] if get_origin(hint) is Annotated else ():
            if isinstance(about, ParameterInfo):
                flag = _flag(name, about) if isinstance(about, OptionInfo) else ""
                if about.metavar is None:
                    about.metavar = WORDS.get(flag) or _word(get_args(hint)[0])
                if about.autocompletion is None:
                    about.autocompletion = COMPLETIONS.get(flag) or COMPLETIONS.get(about.metavar or "")
    return run


def _flag(name: str, about: OptionInfo) -> str:
    """An option's long name."""
    declared = (about.default, *(about.param_decls or ()))  # in Annotated the first comes as the default
    long = (text.partition("/")[0] for text in declared if isinstance(text, str) and text.startswith("--"))
    return next(long, f"--{name.replace('_', '-')}")


def _word(kind: Any) -> str | None:
    """The word for a type, also of one that may be missing or stand several times; None for a flag."""
    inner = [part for part in get_args(kind) if part is not type(None)]
    return _word(inner[0]) if inner else _WORDS_OF_TYPES.get(kind)


def _no_type(ctx: Any) -> None:
    """What stands for an argument's type."""


def _shown(examples: str) -> str:
    lines = "\n".join(f"   {line}".rstrip() for line in examples.strip().splitlines())
    return f"\n Examples:\n{lines}\n"
