"""From YAML text to plain data, and from plain data to typed values. Text in the schema stays text as written."""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Callable
from typing import Any

import yaml

from distill.config.keys import DEPTH, annotation_under, default_of, fields_of, required, schema_under, unknown_key
from distill.config.renamed import refuse_renamed
from distill.runtime.issues import first_line

LONGEST = 4000  # characters of a text; no path is longer
NODES = 10_000  # values that a recipe may hold; an alias counts each time it is used
TRUE, FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
EXPONENT = re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$")  # 1e-3 is a number, though not in YAML 1.1
ODD_NUMBER = re.compile(r"[-+]?(0[0-9_]|[0-9_]+:)")  # 010 and 1:30 have base 8 and 60 in YAML 1.1, which nobody means
PLAIN = {f"tag:yaml.org,2002:{name}": name for name in ("null", "bool", "int", "float", "str", "timestamp", "value")}


class Loader(yaml.SafeLoader):
    """YAML's safe loader, which also reads 1e-3 as a number."""


class Dumper(yaml.SafeDumper):
    """YAML's safe dumper, which writes no aliases, and quotes the text 1e-3."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401
        """True for any data."""
        return True


for resolver in (Loader, Dumper):
    resolver.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+0123456789"))


def from_yaml(text: str, annotation: Any) -> Any:  # noqa: ANN401
    """YAML text as plain data: mappings, lists, text, numbers, true, false and null.

    Args:
        text: a document, or the value of a key.
        annotation: type of the value; if it is text, `007`, `1.10`, `on` and `2024_01_15` stay as written.

    Raises:
        ValueError: it is not YAML, or holds a tag, a key twice, or more values or levels than any recipe has.
    """
    try:
        node = yaml.compose(text, Loader=Loader)
        return None if node is None else _Nodes().plain(node, annotation, depth=0)
    except yaml.MarkedYAMLError as error:
        place = f", line {error.problem_mark.line + 1}" if error.problem_mark and "\n" in text else ""
        raise ValueError(f"it is not YAML{place}: {error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"it is not YAML: {first_line(error)}") from error


class _Nodes:
    """Turns nodes into plain data and counts them, so that nested aliases raise an error instead of filling memory."""

    def __init__(self) -> None:
        self.count = 0
        self.constructor = yaml.constructor.SafeConstructor()

    def plain(self, node: yaml.Node, annotation: Any, *, depth: int) -> Any:  # noqa: ANN401
        """A node as plain data."""
        self.count += 1
        if self.count > NODES or depth > DEPTH:
            raise ValueError(
                f"it has more than {NODES} values or {DEPTH} levels, which no recipe needs; are aliases nested?"
            )
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, annotation, depth=depth)
        if isinstance(node, yaml.SequenceNode):
            inner = required(typing.get_args(annotation)[0]) if typing.get_origin(annotation) is list else Any
            return [self.plain(item, inner, depth=depth + 1) for item in node.value]
        inner = required(typing.get_args(annotation)[0]) if typing.get_origin(annotation) is list else annotation
        return self.scalar(node, inner)

    def mapping(self, node: yaml.MappingNode, annotation: Any, *, depth: int) -> dict[str, Any]:  # noqa: ANN401
        """A mapping; what `<<` merges into it lies beneath its own keys."""
        below: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key_node, value in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise ValueError(f"line {key_node.start_mark.line + 1} has a key that is not text")
            if key_node.tag == "tag:yaml.org,2002:merge":
                merged = self.plain(value, annotation, depth=depth + 1)
                for part in reversed(merged if isinstance(merged, list) else [merged]):
                    below.update(part if isinstance(part, dict) else {})
            elif key_node.value in own:
                raise ValueError(f"line {key_node.start_mark.line + 1} has the key {key_node.value!r} a second time")
            else:
                own[key_node.value] = self.plain(value, annotation_under(annotation, key_node.value), depth=depth + 1)
        return {**below, **own}

    def scalar(self, node: yaml.Node, annotation: Any) -> Any:  # noqa: ANN401
        """Text, a number, true, false or null."""
        kind = PLAIN.get(node.tag)
        if kind is None:
            raise ValueError(f"the tag {node.tag} is not allowed; a recipe holds text, numbers, lists and mappings")
        if kind == "null":
            return None
        if annotation is str or kind in ("str", "timestamp", "value"):
            return node.value
        if kind in ("int", "float") and ODD_NUMBER.match(node.value):
            raise ValueError(f"{node.value[:40]!r} is not a decimal number; put quotes around it if it is text")
        try:
            return getattr(self.constructor, f"construct_yaml_{kind}")(node)
        except (ValueError, OverflowError, KeyError, IndexError) as error:
            raise ValueError(f"{node.value[:40]!r} cannot be read as a number") from error


def build(schema: type, given: Any, prefix: str = "") -> Any:  # noqa: ANN401
    """An instance of a schema, from nested plain data.

    Args:
        schema: a dataclass of fields made by `setting`.
        given: key -> value; None for the defaults.
        prefix: put before its keys in messages, as `stages.semantic.`.

    Raises:
        ValueError: an unknown or renamed key, a wrong type or a value out of range.
    """
    if given is not None and not isinstance(given, dict):
        raise ValueError(f"{prefix.rstrip('.') or 'a recipe'} is {given!r}, but must be a mapping of keys")
    annotations, values = fields_of(schema), {}
    for name, value in (given or {}).items():
        key = f"{prefix}{name}"
        refuse_renamed(key, value)
        if name not in annotations:
            raise ValueError(unknown_key(key, schema, prefix))
        if value is None and schema_under(annotations[name]) != (None, False):
            continue
        values[name] = typed(value, annotations[name], key)
    for field in dataclasses.fields(schema):
        if isinstance(values.get(field.name), dict) and isinstance(default := default_of(field), dict):
            values[field.name] = {**default, **values[field.name]}
    try:
        return schema(**values)
    except ValueError as error:
        if not prefix.startswith("stages."):
            raise
        raise ValueError(str(error).replace("stages.NAME", prefix.rstrip("."))) from error  # it does not know its name


def typed(value: Any, annotation: Any, key: str) -> Any:  # noqa: ANN401
    """A plain value as the type in the schema; a single value becomes a list of one if the schema has a list.

    Raises:
        ValueError: the value does not fit; the message names the key, the type expected and the value received.
    """
    kind = required(annotation)
    if value is None and (kind is not annotation or kind is Any):
        return None
    if dataclasses.is_dataclass(kind):
        return build(typing.cast("type", kind), value, f"{key}.")
    if typing.get_origin(kind) is list:
        if value is None:
            raise ValueError(f"{key} is null, but must be a list; {key}=[] is the empty one")
        items = list(value) if isinstance(value, (list, tuple)) else [value]
        return [typed(item, typing.get_args(kind)[0], key) for item in items]
    if typing.get_origin(kind) is dict:
        return named(value, typing.get_args(kind)[1], key)
    if kind is Any:
        return value
    what, convert = TYPES[kind]
    if isinstance(value, (list, dict)) or value is None or (converted := convert(value)) is None:
        raise ValueError(f"{key} is {'null' if value is None else repr(value)[:100]}, but must be {what}")
    return converted


def named(value: Any, annotation: Any, key: str) -> dict[str, Any]:  # noqa: ANN401
    """A mapping whose names the recipe gives; each value is typed under its name."""
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"{key} is {value!r}, but must be a mapping, as '{key}={{NAME: VALUE, ...}}'")
    given = {str(name): part for name, part in (value or {}).items()}
    for name, part in given.items():
        refuse_renamed(f"{key}.{name}", part)
    absent = [name for name, part in given.items() if part is None and dataclasses.is_dataclass(annotation)]
    return {name: typed(part, annotation, f"{key}.{name}") for name, part in given.items() if name not in absent}


def whole_or_none(value: Any) -> int | None:  # noqa: ANN401
    """A whole number, or text that is one."""
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"[-+]?(0|[1-9][0-9]{0,29})", value) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63 else None


def number_or_none(value: Any) -> float | None:  # noqa: ANN401
    """A finite number, or text that is one."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (ValueError, OverflowError, TypeError):
        return None
    return number if math.isfinite(number) else None


def truth_or_none(value: Any) -> bool | None:  # noqa: ANN401
    """True or false, or a word for it."""
    text = str(value).lower()
    return text in TRUE if text in TRUE + FALSE else None


def text_or_none(value: Any) -> str | None:  # noqa: ANN401
    """Text without line breaks and other control characters, which no key needs and a model card would show."""
    text = str(value)
    return None if len(text) > LONGEST or re.search(r"[\x00-\x1f\x7f\x85\u2028\u2029]", text) else text


TYPES: dict[Any, tuple[str, Callable[[Any], Any]]] = {
    int: ("a whole number", whole_or_none),
    float: ("a finite number", number_or_none),
    bool: ("true or false", truth_or_none),
    str: (f"text of at most {LONGEST} characters, without line breaks or other control characters", text_or_none),
}
