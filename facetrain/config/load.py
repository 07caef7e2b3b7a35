"""From a YAML file, a preset, a recipe and `--set key=value` to one checked, resolved Config; and back to text."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from facetrain.config.check import check_config
from facetrain.config.problems import Problem, raise_problems, shorten, show
from facetrain.config.schema import Config
from facetrain.config.typed import Layer
from facetrain.config.yaml_source import Node, Scalar, node_of, plain_value, read_yaml
from facetrain.core.errors import ConfigError, InputError
from facetrain.core.suggest import choices_hint, nearest

_SUFFIXES = (".yaml", ".yml")
_LARGEST_FILE = 256 * 1024  # bytes; ours have 4,000, and PyYAML takes seconds for a megabyte


def load_config(
    source: str | Path,
    overrides: Sequence[str] = (),
    recipe: str | None = None,
    fields: Mapping[str, Scalar] | None = None,
) -> Config:
    """Read and check a configuration.

    source:    a YAML file, or the name of a preset with or without `.yaml`; a file of that name goes first
    overrides: `key.path=value`, the value as in YAML, such as `train.lr=1e-3`; a later one wins
    recipe:    the name of a bundled recipe, a partial file between the source and the overrides
    fields:    values by their dotted key, which no override may set as well

    Raises InputError where there is no such file, preset or recipe, and ConfigError listing everything that is wrong.
    """
    problems: list[Problem] = []
    name, text = _read_source(source)
    layers = [_read_layer(text, name, problems)]
    if recipe is not None:
        layers.append(_read_layer(_read_recipe(recipe), f"recipes/{_bare(recipe)}.yaml", problems))
    layers.extend(_field(key, value) for key, value in (fields or {}).items())
    for override in overrides:
        node = _read_override(override, problems)
        layers.append(node)
        for key, value in (fields or {}).items():
            if node is not None and _sets(node, key):
                both = f"{_field(key, value).place} and {node.place}"
                problems.append(Problem(both, "two values for one setting", "leave one of them out"))
    return _resolve([layer for layer in layers if layer], problems, name)


def config_name(source: str | Path) -> str:
    """The name of a configuration for the names of its runs: `yunet_n` for `presets/yunet_n.yaml`."""
    return _bare(Path(source).name)


def preset_names() -> list[str]:
    """The bundled model files."""
    return _names("presets")


def recipe_names() -> list[str]:
    """The bundled recipes."""
    return _names("recipes")


def preset_text(name: str) -> str:
    """The YAML text of a preset, to be copied and changed. Raises InputError for an unknown name."""
    if _bare(name) not in preset_names():
        raise InputError(f"{name}: no such preset", choices_hint(_bare(name), preset_names()))
    return (_folder("presets") / f"{_bare(name)}.yaml").read_text(encoding="utf-8")


def config_to_dict(config: Config) -> dict[str, Any]:
    """The configuration as plain values: dictionaries, lists, numbers, text, None."""
    document: dict[str, Any] = _plain(asdict(config))
    return document


def config_from_dict(document: Mapping[str, Any], where: str) -> Config:
    """Check what `config_to_dict` gave, as it is kept in checkpoints. Keys left out have their defaults.

    Raises ConfigError whose messages begin with `where`.
    """
    problems: list[Problem] = []
    return _resolve([node_of(document, where, problems)], problems, where)


def config_to_yaml(config: Config) -> str:
    """The complete configuration as a YAML file that `load_config` turns into an equal Config."""
    return yaml.dump(
        config_to_dict(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1 << 20, encoding=None
    )


class _Dumper(yaml.SafeDumper):
    """Sections in blocks, lists of plain values on one line, and quotes wherever any reader might see no text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_list(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.Node:
    flow = not any(isinstance(item, list) for item in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=flow)


def _represent_text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    # SafeDumper quotes what YAML 1.1 would not read as text. Here 1e-3 is a number too; and line breaks and other
    # invisible characters are only safe as escapes.
    plain = isinstance(plain_value(value), str) and value.isprintable()
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')


_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(str, _represent_text)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _resolve(layers: Sequence[Node], problems: list[Problem], where: str) -> Config:
    """Lay the layers over the defaults in turn, check the result, and raise all that is wrong."""
    config = Config()
    places: dict[str, tuple[int, str]] = {}  # dotted key -> (layer, place) that set it last
    for number, node in enumerate(layers):
        layer = Layer()
        config = layer.lay(node, config)
        problems.extend(layer.problems)
        places |= {key: (number, place) for key, place in layer.places.items()}
    if not config.model.landmarks.names:  # then `names: []` alone is enough to switch landmarks off
        landmarks = replace(config.model.landmarks, mirror=())
        config = replace(config, model=replace(config.model, landmarks=landmarks))
    all_read = not problems
    for violation in check_config(config):
        # Where a value could not be read, a rule that ties it to others would complain about the default in its place.
        if all_read or len(violation.keys) == 1:
            # Of keys that do not fit together, the one set last is the one to look at.
            set_at = [places[key] for key in violation.keys if key in places]
            place = max(set_at, key=lambda at: at[0])[1] if set_at else where
            problems.append(Problem(place, violation.text, violation.hint))
    raise_problems(problems)
    return config


def _read_layer(text: str, name: str, problems: list[Problem]) -> Node | None:
    node = read_yaml(text, name, problems)
    if node is not None and node.value in (None, {}):
        problems.append(Problem(name, "the file is empty", "start from a copy of a preset, such as yunet_n.yaml"))
        return None
    return node


def _field(key: str, value: Scalar) -> Node:
    place = f"`{key}` {shorten(value) if isinstance(value, str) else show(value)}"
    node = Node(value, place)
    for part in reversed(key.split(".")):
        node = Node({part: node}, place)
    return node


def _sets(node: Node, key: str) -> bool:
    """Whether a layer holds the value of a dotted key."""
    for part in key.split("."):
        if not isinstance(node.value, dict) or part not in node.value:
            return False
        node = node.value[part]
    return True


def _read_override(override: str, problems: list[Problem]) -> Node | None:
    place = f"`set` {shorten(override)}"
    path, equals, text = override.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not equals or not all(keys):
        problems.append(Problem(place, "must be key=value", "for example `train.lr=0.01`"))
        return None
    node = read_yaml(text.strip(), place, problems, positions=False)
    if node is None:
        return None
    for key in reversed(keys):
        node = Node({key: node}, place)
    return node


def _read_source(source: str | Path) -> tuple[str, str]:
    """The source's name in messages, and its text."""
    path = Path(source)
    try:
        exists, folder = path.exists(), path.is_dir()
    except PermissionError:  # of a folder above; opening it says so
        exists, folder = True, False
    except (OSError, ValueError):  # a name too long, or one with a NUL: no file has it
        exists, folder = False, False
    if exists and not folder:
        return str(source), _read_file(path)
    if _bare(str(source)) in preset_names():
        return f"{_bare(str(source))}.yaml", preset_text(str(source))
    if folder:
        raise InputError(f"{source}: a folder, not a YAML file", f"presets: {', '.join(preset_names())}")
    close = nearest(_bare(path.name).lower(), preset_names())
    listed = f"presets: {', '.join(preset_names())}; or give the path of a YAML file"
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


def _read_recipe(name: str) -> str:
    if _bare(name) not in recipe_names():
        raise InputError(f"{name}: no such recipe", choices_hint(_bare(name), recipe_names()))
    return (_folder("recipes") / f"{_bare(name)}.yaml").read_text(encoding="utf-8")


def _folder(kind: str) -> Traversable:
    return files("facetrain.config") / kind


def _names(kind: str) -> list[str]:
    folder = _folder(kind)
    return (
        sorted(_bare(file.name) for file in folder.iterdir() if file.name.endswith(".yaml")) if folder.is_dir() else []
    )


def _bare(name: str) -> str:
    for suffix in _SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name
