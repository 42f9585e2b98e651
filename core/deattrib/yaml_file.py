"""YAML for settings: what a careful reader expects it to mean, and nothing a stranger's file could do with it.

PyYAML follows YAML 1.1, where `1e-4` is text, `no` is false, `1:30` is 90 and `010` is 8. Settings files here follow
the core schema of YAML 1.2 (section 10.3) instead: `1e-4` is a number, only `true` and `false` are booleans, dates are text.
Refused: tags, keys given twice or that are not text, files over `LARGEST_FILE`, nesting over `DEEPEST`, aliases that
expand to more than `MOST_NODES` values ("billion laughs") or contain themselves. Errors name file:line:column.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml

from deattrib.errors import ConfigError, first_line

LARGEST_FILE = 256 * 1024
"""Bytes; a resolved config has about four thousand."""
MOST_NODES = 50_000
"""Values after every alias is written out."""
DEEPEST = 64
MOST_DIGITS = 1000
"""Of a whole number, in whatever base; Python itself writes out 4300 at most."""

_TAG = "tag:yaml.org,2002:"
_CORE_SCHEMA: tuple[tuple[str, str, str], ...] = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
)
_PATTERNS = tuple((name, re.compile(rf"(?:{pattern})\Z")) for name, pattern, _ in _CORE_SCHEMA)


def load_yaml(path: Path) -> dict[str, Any]:
    """The settings in the file `path`; an empty file has none.

    Raises:
        ConfigError: no such file, not UTF-8, not YAML, or refused (see the module); file:line:column where there is one.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except FileNotFoundError as error:
        raise ConfigError(f"There is no settings file {path}.") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{path} is a folder; give the settings file inside it.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ConfigError(f"Cannot read the settings file {path}: {getattr(error, 'strerror', None) or error}.") from error
    if len(data) > LARGEST_FILE:
        raise ConfigError(f"{path} is larger than {LARGEST_FILE // 1024} KiB, too large for settings. Is it the right file?")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        raise ConfigError(
            f"{path}:{line}:{column}: byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8."
        ) from error
    return parse_yaml(text, source=str(path))


def parse_yaml(text: str, *, source: str) -> dict[str, Any]:
    """The settings in `text`, a YAML mapping; `source` names it in errors. Raises ConfigError as `load_yaml` does."""
    value = parse_value(text, source=source)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{source}: expected settings as 'name: value' lines, got a {type(value).__name__}.")
    return value


def parse_value(text: str, *, source: str) -> Any:
    """Any YAML value under the same rules as a settings file. Raises ConfigError."""
    if len(text) > LARGEST_FILE:
        raise ConfigError(f"{source}: longer than {LARGEST_FILE} characters, too long for settings.")
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _measure(node, source)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_position(error.problem_mark or error.context_mark, source) + _sentence(error)) from error
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, error.position - (before.rfind("\n") + 1) + 1
        raise ConfigError(f"{source}:{line}:{column}: the character U+{_code(error):04X} is not allowed in YAML.") from error
    except RecursionError as error:
        raise ConfigError(f"{source}: nested more than {DEEPEST} deep.") from error
    except (OverflowError, ValueError) as error:  # of PyYAML itself: escapes past U+10FFFF, versions without end
        raise ConfigError(f"{source}: this is not YAML: {first_line(error)}") from error


def resolve_scalar(text: str, *, source: str) -> Any:
    """What `text` means as a plain (unquoted) YAML value: null, a boolean, a number, else the text itself."""
    for name, pattern in _PATTERNS:
        if pattern.match(text):
            return _scalar(name, text, f"{source}: ")
    return text


def dump_yaml(settings: Mapping[str, Any]) -> str:
    """Settings as YAML that `parse_yaml` reads back to the same values, keys in their order.

    Text that any YAML version could take for something else is quoted.

    Raises:
        ConfigError: a value is not plain (dict, list, text, number, boolean, None); use `model_dump(mode="json")`.
    """
    try:
        text: str = yaml.dump(dict(settings), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    except yaml.representer.RepresenterError as error:
        raise ConfigError(
            f"Settings can only hold plain values, not a {type(error.args[-1]).__name__}: {error.args[-1]!r}."
        ) from error
    return text


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the tables of YAML 1.2 and a strict mapping."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]  # the stubs say "instance"
    yaml_constructors: ClassVar[dict[Any, Any]] = {}


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper: text that YAML 1.1 or 1.2 would read as something else gets quotes, aliases are written out."""

    # A resolver that PyYAML shares between classes must be copied before it is added to.
    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        key: list(value) for key, value in yaml.SafeDumper.yaml_implicit_resolvers.items()
    }

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.Node:
    # Left to itself PyYAML writes U+0085 and its like into single quotes, where they are read back as a space.
    style = None if text.replace("\n", "").isprintable() else '"'
    return dumper.represent_scalar(_TAG + "str", text, style=style)


def _construct_scalar(loader: _Loader, node: yaml.Node) -> Any:
    name = node.tag.removeprefix(_TAG)
    if not isinstance(node, yaml.ScalarNode) or (name != "str" and not dict(_PATTERNS)[name].match(node.value)):
        raise yaml.constructor.ConstructorError(None, None, f"this is not what its tag !!{name} says", node.start_mark)
    try:
        return _scalar(name, node.value, "")
    except ConfigError as error:
        raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from error


def _construct_sequence(loader: _Loader, node: yaml.Node) -> list[Any]:
    if not isinstance(node, yaml.SequenceNode):
        raise yaml.constructor.ConstructorError(None, None, "this is not a list", node.start_mark)
    return [loader.construct_object(item, deep=True) for item in node.value]


def _construct_mapping(loader: _Loader, node: yaml.Node) -> dict[str, Any]:
    if not isinstance(node, yaml.MappingNode):
        raise yaml.constructor.ConstructorError(None, None, "this is not a mapping", node.start_mark)
    result: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _TAG + "str":
            shown = repr(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "this key"
            raise yaml.constructor.ConstructorError(
                None, None, f"names of settings are text, {shown} is not; put it in quotes", key_node.start_mark
            )
        key = key_node.value
        if key == "<<" and key_node.style is None:
            raise yaml.constructor.ConstructorError(None, None, "merge keys ('<<') are not supported", key_node.start_mark)
        if key in result:
            raise yaml.constructor.ConstructorError(
                None, None, f"the setting {key!r} is given twice, first in line {lines[key]}", key_node.start_mark
            )
        lines[key] = key_node.start_mark.line + 1
        result[key] = loader.construct_object(value_node, deep=True)
    return result


def _construct_unknown(loader: _Loader, node: yaml.Node) -> Any:
    tag = node.tag.replace(_TAG, "!!")
    raise yaml.constructor.ConstructorError(None, None, f"the tag {tag!r} is not allowed in settings", node.start_mark)


def _scalar(name: str, text: str, position: str) -> Any:
    if name == "str":
        return text
    if name == "null":
        return None
    if name == "bool":
        return text.lower() == "true"
    plain = text.replace("_", "")
    if name == "float":
        return float(plain.lower().replace(".inf", "inf").replace(".nan", "nan"))
    base = {"0o": 8, "0x": 16}.get(plain[:2], 10)
    if len(plain) > MOST_DIGITS:
        raise ConfigError(f"{position}a number of {len(plain)} digits is too long")
    return int(plain, base)


def _measure(root: yaml.Node, source: str) -> None:
    """Refuses what would explode or never end, before anything is built from it."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node, depth: int) -> int:
        if isinstance(node, yaml.ScalarNode):
            return 1
        if id(node) in open_nodes:
            raise ConfigError(_position(node.start_mark, source) + "this value contains itself.")
        if depth > DEEPEST:
            raise ConfigError(_position(node.start_mark, source) + f"nested more than {DEEPEST} deep.")
        if id(node) not in sizes:
            open_nodes.add(id(node))
            children = [child for pair in node.value for child in pair] if isinstance(node, yaml.MappingNode) else node.value
            sizes[id(node)] = 1 + sum(size(child, depth + 1) for child in children)
            open_nodes.remove(id(node))
            if sizes[id(node)] > MOST_NODES:
                raise ConfigError(
                    _position(node.start_mark, source) + f"more than {MOST_NODES} values once its aliases are written out."
                )
        return sizes[id(node)]

    size(root, 0)


def _position(mark: yaml.Mark | None, source: str) -> str:
    return f"{source}: " if mark is None else f"{source}:{mark.line + 1}:{mark.column + 1}: "


def _sentence(error: yaml.MarkedYAMLError) -> str:
    return " ".join(part for part in (error.context and error.context + ":", error.problem) if part) + "."


def _code(error: yaml.reader.ReaderError) -> int:
    return error.character if isinstance(error.character, int) else ord(error.character)


for _name, _pattern, _first in _CORE_SCHEMA:
    for _class in (_Loader, _Dumper):
        _starts = [character if character != "\0" else "" for character in _first]
        _class.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), _starts)
    _Loader.add_constructor(_TAG + _name, _construct_scalar)
_Dumper.add_representer(str, _represent_text)
_Loader.add_constructor(_TAG + "str", _construct_scalar)
_Loader.add_constructor(_TAG + "seq", _construct_sequence)
_Loader.add_constructor(_TAG + "map", _construct_mapping)
_Loader.add_constructor(None, _construct_unknown)
