"""From a YAML file, a preset, a recipe and `--set key=value` to one checked, resolved Config; and back to text."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import Field, asdict, is_dataclass, replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from facetrain.config.check import check_config
from facetrain.config.problems import Problem, raise_problems, shorten, show
from facetrain.config.schema import Config, entries
from facetrain.config.typed import choices, lay
from facetrain.config.yaml_source import Source, plain_document, plain_value, read_yaml
from facetrain.core.errors import ConfigError, InputError
from facetrain.core.suggest import choices_hint, nearest, nearest_path

_LARGEST_FILE = 256 * 1024  # bytes; ours have 7,000, and PyYAML takes seconds for a megabyte
_COMMENTS_AT = 29  # column


def load_config(
    source: str | Path,
    overrides: Sequence[str] = (),
    recipe: str | None = None,
    fields: Mapping[str, Any] | None = None,
) -> Config:
    """Read and check a configuration.

    source:    a YAML file, or the name of a preset with or without `.yaml`; a file of that name goes first
    overrides: `key.path=value`, the value as in YAML, such as `train.lr=1e-3`; a later one wins
    recipe:    the name of a bundled recipe, a partial file between the source and the overrides
    fields:    plain values by their dotted key, which no override may set as well

    Raises InputError where there is no such file, preset or recipe, and ConfigError listing everything that is wrong.
    """
    problems: list[Problem] = []
    name, text = _read_source(source)
    layers = [_read_layer(text, name, problems)]
    if recipe is not None:
        layers.append(_read_layer(_bundled("recipe", recipe), f"recipes/{_bare(recipe)}.yaml", problems))
    given = {key: _field(key, value) for key, value in (fields or {}).items()}
    layers.extend(given.values())
    for override in overrides:
        layers.append(layer := _read_override(override, problems))
        for key, field in given.items():
            if layer is not None and _holds(layer.document, key):
                both = f"{field.name} and {layer.name}"
                problems.append(Problem(both, "two values for one setting", "leave one of them out"))
    return _resolve([layer for layer in layers if layer], problems, name)


def config_name(source: str | Path) -> str:
    """The name of a configuration for the names of its runs: `yunet_n` for `presets/yunet_n.yaml`."""
    return _bare(Path(source).name)


def preset_names() -> list[str]:
    """The bundled model files."""
    return _names("preset")


def recipe_names() -> list[str]:
    """The bundled recipes."""
    return _names("recipe")


def preset_text(name: str) -> str:
    """The YAML text of a preset, to be copied and changed. Raises InputError for an unknown name."""
    return _bundled("preset", name)


def recipe_text(name: str) -> str:
    """The YAML text of a recipe. Raises InputError for an unknown name."""
    return _bundled("recipe", name)


def config_to_dict(config: Config) -> dict[str, Any]:
    """The configuration as plain values: dictionaries, lists, numbers, text, None."""
    document: dict[str, Any] = json.loads(json.dumps(asdict(config)))  # which makes lists of tuples
    return document


def config_from_dict(document: Mapping[str, Any], where: str) -> Config:
    """Check what `config_to_dict` gave, as it is kept in checkpoints. Keys left out have their defaults.

    Raises ConfigError whose messages begin with `where`.
    """
    problems: list[Problem] = []
    return _resolve([plain_document(document, where, problems)], problems, where)


def config_to_yaml(config: Config) -> str:
    """The complete configuration as a YAML file with the schema's comments. `load_config` turns it into an equal one.

    Sections are in blocks, and so are lists of lists; other lists are on one line.
    """
    lines: list[str] = []
    for dotted, key, value in entries(config):
        indent = "  " * dotted.count(".")
        nested = isinstance(value, tuple) and any(isinstance(item, tuple) or is_dataclass(item) for item in value)
        below = value if nested else ()
        if is_dataclass(value):
            text, comment = "", (type(value).__doc__ or "").partition("\n")[0]
            lines += [] if indent else [""]
        else:
            text, comment = "" if below else f" {_flow(value)}", _comment(key)
        line = f"{indent}{key.name}:{text}"
        lines.append(f"{line:<{_COMMENTS_AT - 2}}  # {comment}" if comment else line)
        lines += [f"{indent}  - {_flow(item)}" for item in below]
    return "\n".join([*lines[1:], ""])


def _comment(key: Field[Any]) -> str:
    return ": ".join(part for part in (" | ".join(choices(key)), key.metadata.get("comment")) if part)


class _Dumper(yaml.SafeDumper):
    """Quotes wherever any reader might see no text."""


def _represent_text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    # SafeDumper quotes what YAML 1.1 would not read as text. Here 1e-3 is a number too; and line breaks and other
    # invisible characters are only safe as escapes.
    plain = isinstance(plain_value(value), str) and value.isprintable()
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')


_Dumper.add_representer(str, _represent_text)


def _flow(value: Any) -> str:
    """A value on one line; of a section what is not as by default, and its first key."""
    if is_dataclass(value):
        every = enumerate(entries(value))
        value = {name: own for number, (name, key, own) in every if own != key.default or number == 0}
    text: str = yaml.dump([value], Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=1 << 20)
    return text[1:-2]


def _resolve(layers: Sequence[Source], problems: list[Problem], where: str) -> Config:
    """Lay the layers over the defaults in turn, check the result, and raise all that is wrong."""
    config = Config()
    places: dict[str, tuple[int, str]] = {}  # dotted key -> (layer, place) that set it last
    for number, layer in enumerate(layers):
        config, set_here = lay(layer, config, problems)
        places |= {key: (number, place) for key, place in set_here.items()}
    if not config.model.landmarks.names:  # then `names: []` alone is enough to switch landmarks off
        landmarks = replace(config.model.landmarks, mirror=())
        config = replace(config, model=replace(config.model, landmarks=landmarks))
    all_read = not problems
    for violation in check_config(config):
        # Where a value could not be read, a rule that ties it to others would complain about the default in its place.
        if all_read or not violation.others:
            # Of keys that do not fit together, the one set last is the one to look at.
            set_at = [places[key] for key in (violation.key, *violation.others) if key in places]
            place = max(set_at, key=lambda at: at[0])[1] if set_at else where
            problems.append(Problem(place, violation.text, violation.hint))
    raise_problems(problems)
    return config


def _read_layer(text: str, name: str, problems: list[Problem]) -> Source | None:
    layer = read_yaml(text, name, problems)
    if layer is not None and layer.document in (None, {}):
        problems.append(Problem(name, "the file is empty", "start from a copy of a preset, such as yunet_n.yaml"))
        return None
    return layer


def _field(key: str, value: Any) -> Source:
    return Source(
        _nested(key.split("."), value), f"`{key}` {shorten(value) if isinstance(value, str) else show(value)}"
    )


def _read_override(override: str, problems: list[Problem]) -> Source | None:
    place = f"`set` {shorten(override)}"
    path, equals, text = override.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not equals or not all(keys):
        problems.append(Problem(place, "must be key=value", "for example `train.lr=0.01`"))
        return None
    read = read_yaml(text.strip(), place, problems, in_file=False)
    return read and Source(_nested(keys, read.document), place)


def _nested(keys: Sequence[str], value: Any) -> Any:
    for key in reversed(keys):
        value = {key: value}
    return value


def _holds(document: Any, key: str) -> bool:
    """Whether a document has a value of a dotted key."""
    for part in key.split("."):
        if not isinstance(document, dict) or part not in document:
            return False
        document = document[part]
    return True


def _read_source(source: str | Path) -> tuple[str, str]:
    """The source's name in messages, and its text."""
    path, name = Path(source), _bare(str(source))
    try:
        exists, folder = path.exists(), path.is_dir()
    except PermissionError:  # of a folder above; opening it says so
        exists, folder = True, False
    except (OSError, ValueError):  # a name too long, or one with a NUL: no file has it
        exists, folder = False, False
    if exists and not folder:
        return str(source), _read_file(path)
    if name in preset_names():
        return f"{name}.yaml", preset_text(name)
    listed = f"presets: {', '.join(preset_names())}"
    if folder:
        raise InputError(f"{source}: a folder, not a YAML file", listed)
    meant = nearest_path(path) if path.suffix else None
    close = str(meant) if meant else nearest(_bare(path.name).lower(), preset_names())
    listed = f"{listed}; or give the path of a YAML file"
    raise InputError(
        f"{shorten(str(source))}: no such file, and no preset of this name",
        f"did you mean '{close}'? {listed}" if close else listed,
    )


def _read_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}", "check its permissions") from error
    if len(content) > _LARGEST_FILE:
        raise ConfigError(f"{path}: larger than {_LARGEST_FILE} bytes", "is this a configuration?")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        seen = show(content[error.start])
        raise ConfigError(f"{path}:{line}: not UTF-8 text (byte {seen})", "save the file as UTF-8") from error


def _bundled(kind: str, name: str) -> str:
    """The text of a preset or a recipe."""
    if _bare(name) not in _names(kind):
        raise InputError(f"{name}: no such {kind}", choices_hint(_bare(name), _names(kind)))
    return (_folder(kind) / f"{_bare(name)}.yaml").read_text(encoding="utf-8")


def _names(kind: str) -> list[str]:
    return sorted(_bare(file.name) for file in _folder(kind).iterdir() if file.name.endswith(".yaml"))


def _folder(kind: str) -> Traversable:
    return files("facetrain.config") / f"{kind}s"


def _bare(name: str) -> str:
    """A name without .yaml or .yml."""
    return re.sub(r"\.ya?ml\Z", "", name, flags=re.IGNORECASE)
