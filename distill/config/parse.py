"""From `key=value` to a `Recipe`: one grammar for files and the command line, and errors that name the nearest key."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches
from typing import Any

import recipes
from distill.config.files import find_recipe, load_layer
from distill.config.schema import Recipe

# What people type out of habit, and the key it is here.
HABITS = {
    "lr": "optimiser.learning_rate",
    "batch": "optimiser.batch_size",
    "epochs": "stages.NAME.epochs",
    "backbone": "student.options",
    "model": "student.name",
}
DIGITS = ("data.colours",)  # text of digits, which YAML would take for numbers: 000000 for 0, 004000 for octal 2048


def fields_of(schema: type) -> dict[str, Any]:
    """Field name -> annotated type of a dataclass."""
    hints = typing.get_type_hints(schema)
    return {field.name: hints[field.name] for field in dataclasses.fields(schema)}


def schema_under(annotation: Any) -> tuple[type | None, bool]:  # noqa: ANN401
    """The dataclass an annotation leads to, and whether through a mapping of names (`dict[str, StageRecipe]`)."""
    if dataclasses.is_dataclass(annotation):
        return typing.cast("type", annotation), False
    if typing.get_origin(annotation) is dict:
        value = typing.get_args(annotation)[1]
        return (typing.cast("type", value), True) if dataclasses.is_dataclass(value) else (None, False)
    return None, False


def known_keys(schema: type = Recipe, prefix: str = "") -> Iterator[str]:
    """Every settable key, `NAME` standing for what the recipe names: `stages.NAME.epochs`."""
    for name, annotation in fields_of(schema).items():
        nested, named = schema_under(annotation)
        if nested is None:
            yield prefix + name
        else:
            yield from known_keys(nested, f"{prefix}{name}.NAME." if named else f"{prefix}{name}.")


def check_keys(given: Any, schema: type = Recipe, prefix: str = "") -> None:  # noqa: ANN401
    """Refuses keys that no recipe has.

    Raises:
        ValueError: an unknown key, with the nearest known one.
    """
    if not isinstance(given, dict):
        raise ValueError(f"{prefix.rstrip('.')} is {given!r}, but must be a mapping of keys")
    annotations = fields_of(schema)
    for key, value in given.items():
        if key not in annotations:
            raise ValueError(unknown_key(f"{prefix}{key}", schema, prefix))
        nested, named = schema_under(annotations[key])
        if nested is None and typing.get_origin(annotations[key]) is dict and isinstance(value, list):
            raise ValueError(
                f"{prefix}{key} is {value!r}, but must be a mapping, as '{prefix}{key}={{NAME: VALUE, ...}}'"
            )
        if nested is None or value is None:
            continue
        if named and isinstance(value, dict):
            for name, part in value.items():
                check_keys({} if part is None else part, nested, f"{prefix}{key}.{name}.")
        else:
            check_keys(value, nested, f"{prefix}{key}.")


def unknown_key(key: str, schema: type, prefix: str) -> str:
    """The sentence for an unknown key: the nearest key beside it, or anywhere in the recipe under its last name."""
    beside = get_close_matches(key.rsplit(".", 1)[-1], fields_of(schema), n=1)
    everywhere = list(known_keys())
    last = key.rsplit(".", 1)[-1]
    elsewhere = [known for known in everywhere if known.rsplit(".", 1)[-1] == last]
    elsewhere = (
        elsewhere or [HABITS[last]]
        if last in HABITS
        else elsewhere or get_close_matches(key, everywhere, n=1, cutoff=0.75)
    )
    near = elsewhere[0] if elsewhere else f"{prefix}{beside[0]}" if beside else None
    hint = f"did you mean {near!r}?" if near else f"keys there are {', '.join(fields_of(schema))}"
    return f"a recipe has no key {key!r}; {hint}"


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """`["a.b=1", "c=[x,y]"]` as nested plain data, values read as YAML; commas without brackets make a list.

    The items of `DIGITS` stay text.

    Raises:
        ValueError: a word that is no `key=value`.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    merged: Any = OmegaConf.create()
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ValueError(f"expected key=value, got {word!r}")
        if key in DIGITS:
            value = str(re.findall(r"[^\[\]\s,'\"]+", value))
        elif "," in value and not value.startswith(("[", "{", '"', "'")):
            value = f"[{value}]"
        try:
            merged = OmegaConf.merge(merged, OmegaConf.from_dotlist([f"{key}={value}"]))
        except (OmegaConfBaseException, ValueError) as error:
            raise ValueError(f"cannot read {word!r}: {str(error).splitlines()[0]}") from error
    return typing.cast(dict[str, Any], OmegaConf.to_container(merged))


def split_words(words: Sequence[str]) -> dict[str, str]:
    """`["a=1", "b=x,y"]` as key -> value; a value is taken as it stands, commas and all.

    Raises:
        ValueError: a word that is no `key=value`, or a key that is given twice.
    """
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"expected key=value, got {word!r}; put quotes around a value with spaces")
        if key in given:
            raise ValueError(f"{key} is given twice, as {given[key]!r} and as {value!r}; take one of them out")
        given[key] = value
    return given


def own_words(words: Sequence[str], known: Collection[str], *, usage: str, needs: Sequence[str] = ()) -> dict[str, str]:
    """The words of a command with `known` keys of its own, of which it `needs` some; its name begins `usage`.

    Raises:
        ValueError: as `split_words`; also an unknown key, or one that is missing.
    """
    from distill.runtime.issues import nearest  # its package loads numpy and Pillow, which a recipe does without

    given, short = split_words(words), usage.partition("\n")[0]
    name = " ".join(short.split()[:2])
    for key in given:
        if key not in known:
            raise ValueError(f"{name} has no key {key!r}; choose from {', '.join(known)}{nearest(key, known)}")
    for key in needs:
        if not given.get(key):
            raise ValueError(f"{name} needs {key}=, as in {short}")
    return given


def number(key: str, value: str) -> float:
    """The value of a command's own key as a number.

    Raises:
        ValueError: it is none.
    """
    try:
        return float(value)
    except ValueError as error:
        raise ValueError(f"{key} is {value!r}, but must be a number") from error


def truth(key: str, value: str) -> bool:
    """The value of a command's own key as true or false.

    Raises:
        ValueError: it is neither.
    """
    if value.lower() not in ("true", "false"):
        raise ValueError(f"{key} is {value!r}, but must be true or false")
    return value.lower() == "true"


def build_recipe(*layers: dict[str, Any]) -> Recipe:
    """A checked recipe from layers of nested plain data, later ones winning.

    Raises:
        ValueError: an unknown key, a wrong type or a value out of range.
    """
    return typing.cast(Recipe, build(Recipe, *layers))


def build(schema: type, *layers: dict[str, Any]) -> Any:  # noqa: ANN401
    """An instance of a schema of settings from layers of nested plain data; errors as above."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    config = OmegaConf.structured(schema)
    OmegaConf.set_readonly(config, False)
    for layer in layers:
        check_keys(layer, schema)
        try:
            config = OmegaConf.merge(config, writable(OmegaConf.create(one_to_list(layer, schema))))
        except OmegaConfBaseException as error:
            raise ValueError(wrong_type(error)) from error
    return OmegaConf.to_object(config)


def writable(config: Any) -> Any:  # noqa: ANN401
    """The configuration with its read-only flag cleared, since the schema's dataclasses are frozen."""
    from omegaconf import OmegaConf

    OmegaConf.set_readonly(config, False)
    return config


def one_to_list(layer: dict[str, Any], schema: type = Recipe) -> dict[str, Any]:
    """A single value where a list is expected becomes a list of one: `do=train`, `augment.views=identity`."""
    fixed = dict(layer)
    for key, value in layer.items():
        annotation = fields_of(schema)[key]
        nested, named = schema_under(annotation)
        if typing.get_origin(annotation) is list and value is not None and not isinstance(value, list):
            fixed[key] = [value]
        elif nested and named and isinstance(value, dict):
            fixed[key] = {name: one_to_list(part or {}, nested) for name, part in value.items()}
        elif nested and isinstance(value, dict):
            fixed[key] = one_to_list(value, nested)
    return fixed


def wrong_type(error: Exception) -> str:
    """The sentence for a value of the wrong type."""
    key = getattr(error, "full_key", None)
    first = str(error).splitlines()[0]
    if key and "to string" in first and ("ListConfig" in first or "DictConfig" in first):
        return f"{key} has a comma or a colon in it and was read as several values; quote it twice: '{key}=\"VALUE\"'"
    return f"{key}: {first}" if key else first


def read_recipe(words: Sequence[str]) -> Recipe:
    """The recipe of a command line: `recipe=NAME_OR_FILE` and overrides.

    Raises:
        ValueError: no recipe is named, or something in it is wrong.
        FileNotFoundError: the recipe does not exist.
    """
    overrides = parse_overrides(words)
    name = overrides.pop("recipe", None)
    if not isinstance(name, str):
        raise ValueError(f"name a recipe with recipe=NAME; choose from {', '.join(recipes.names())}")
    layer = load_layer(find_recipe(name))
    check_names(layer, overrides)
    recipe = build_recipe(layer, overrides)
    for arm, changes in recipe.arms.items():
        try:
            check_names(layer, changes or {})
            build_recipe(layer, overrides, {"arms": {}}, changes or {})
        except ValueError as error:  # noqa: PERF203 - a handful of arms
            raise ValueError(f"arm {arm!r}: {error}") from error
    return recipe


def check_names(layer: dict[str, Any], overrides: dict[str, Any]) -> None:
    """Refuses a name of a teacher, stage or arm that is new, but so near to one of the recipe that it is a slip.

    Raises:
        ValueError: such a name.
    """
    for part in ("teachers", "stages", "arms"):
        known, given = (list(source.get(part) or {}) for source in (layer, overrides))
        for name in (name for name in given if name not in known):
            if near := get_close_matches(name, known, n=1, cutoff=0.75):
                raise ValueError(f"the recipe has no {part}.{name}; did you mean '{part}.{near[0]}'?")


def dump_recipe(recipe: Recipe) -> str:
    """The full recipe as YAML; reading it gives the same recipe again."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(dataclasses.asdict(recipe)))
