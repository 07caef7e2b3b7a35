"""Names that choose an entry of a table, such as a loss: they are asked for where the table stands, and load nothing.

The tables lie in rooms above this one, beside torch; a configuration is checked without either.
"""

import ast
import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec


def names_at(place: str) -> tuple[str, ...]:
    """The keys of the table at `place`, in its order.

    Of a module that is loaded they are read as they are now, of any other from its source, which is not run.
    """
    module, _, table = place.partition(":")
    entries = getattr(sys.modules.get(module), table, None)  # None, too, while another thread still loads the module
    if entries is None:
        entries = _written(module, table)
    return tuple(getattr(import_module(module), table) if entries is None else entries)


@cache
def _written(module: str, table: str) -> tuple[str, ...] | None:
    """The keys of a dict as a module's source has it; None where it is no literal with plain keys, or has no source."""
    spec = find_spec(module)
    get_source = getattr(spec and spec.loader, "get_source", None)
    for statement in ast.parse((get_source and get_source(module)) or "").body:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=ast.Dict(keys=keys))
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.Dict(keys=keys))
            ) if name == table:
                plain = [key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
                return tuple(plain) if len(plain) == len(keys) else None
    return None
