"""Layers of nested plain data: one laid over another, the order of stages, and keys that refer to other keys."""

from __future__ import annotations

import dataclasses
import re
from difflib import get_close_matches
from typing import Any

from distill.config.keys import DEPTH, LAYERS, default_at

REFERENCE = re.compile(r"\$\{([\w-]+(?:\.[\w-]+)*)\}")
LONGEST = 2000  # characters of a text once its references are filled in
NEEDED = {"teachers": "adapter", "stages": "losses"}  # required key of a new entry; without it, a name is mistyped


def overlaid(below: dict[str, Any], above: dict[str, Any], *, ordered: bool = True) -> dict[str, Any]:
    """Merges two nested mappings; the upper layer's values win, and its null removes a mapping.

    Args:
        below: the layer beneath.
        above: the layer on top.
        ordered: whether the upper layer's order of stages counts, as in a file; on a command line it does not, and a
            new stage comes last.
    """
    merged = dict(below)
    for key, value in above.items():
        if not isinstance(merged.get(key), dict):
            merged[key] = value
        elif value is None:
            del merged[key]
        elif isinstance(value, dict):
            merged[key] = overlaid(merged[key], value, ordered=ordered)
            if key == "stages" and ordered:
                merged[key] = in_order(merged[key], below=list(below[key]), above=list(value))
        else:
            merged[key] = value
    return merged


def extended(below: dict[str, Any], above: dict[str, Any], *, ordered: bool = True) -> dict[str, Any]:
    """A recipe laid over another (`overlaid`); a stage or teacher that it removes is removed from the arms below too.

    Raises:
        ValueError: the name of a new teacher or stage looks like a typing error (`check_names`).
    """
    check_names(below, above)
    gone = {part: [name for name, entry in mapping_at(above, part).items() if entry is None] for part in NEEDED}
    kept = dict(below)
    for part in (part for part in LAYERS if any(gone.values()) and mapping_at(below, part)):
        kept[part] = {name: _without(changes, gone) for name, changes in mapping_at(below, part).items()}
    return overlaid(kept, above, ordered=ordered)


def _without(changes: Any, gone: dict[str, list[str]]) -> Any:  # noqa: ANN401
    """The changes of an arm, except those to removed teachers and stages."""
    if not isinstance(changes, dict):
        return changes
    left = {
        part: {name: entry for name, entry in mapping_at(changes, part).items() if name not in names}
        for part, names in gone.items()
        if isinstance(changes.get(part), dict)
    }
    return {**changes, **left}


def in_order(stages: dict[str, Any], *, below: list[str], above: list[str]) -> dict[str, Any]:
    """The stages in the upper layer's order if it names all of the lower layer's stages.

    Else each new stage comes before the next one that the lower layer has, or after the one written above it.
    """
    if set(below) <= set(above):
        return {name: stages[name] for name in above if name in stages}
    order = [name for name in below if name in stages]
    for place, name in enumerate(above):
        if name not in below:
            after = next((other for other in above[place + 1 :] if other in order), None)
            before = next((other for other in reversed(above[:place]) if other in order), None)
            at = order.index(after) if after else order.index(before) + 1 if before else len(order)
            order.insert(at, name)
    return {name: stages[name] for name in order}


def placed(stages: dict[str, Any]) -> dict[str, Any]:
    """The stages in the order that their `before` keys ask for, without these keys.

    Raises:
        ValueError: a `before` names an unknown stage, or two contradict each other.
    """
    order, wanted = list(stages), {}
    for name, stage in stages.items():
        if isinstance(stage, dict) and stage.get("before"):
            others = stage["before"] if isinstance(stage["before"], list) else [stage["before"]]
            if missing := [other for other in others if other not in order or other == name]:
                rest = ", ".join(other for other in stages if other != name)
                raise ValueError(f"stages.{name}.before is {missing[0]!r}, but must name another stage, of {rest}")
            wanted[name] = others
    for name, others in wanted.items():
        order.remove(name)
        order.insert(min(order.index(other) for other in others), name)
    for name, others in wanted.items():
        if any(order.index(other) < order.index(name) for other in others):
            raise ValueError(f"stages.{name}.before and the `before` of another stage contradict each other")
    kept = {name: stages[name] for name in order}
    return {
        name: {key: value for key, value in stage.items() if key != "before"} if isinstance(stage, dict) else stage
        for name, stage in kept.items()
    }


def check_names(below: dict[str, Any], above: dict[str, Any]) -> None:
    """Refuses mistyped names: a new teacher or stage without its required key, or the removal of an unknown one.

    The same holds for arms and settings of a sweep; one without changes is written `{}`.

    Raises:
        ValueError: such a name; the message gives the nearest name in the lower layer.
    """
    for part in (*NEEDED, *LAYERS):
        known, given = (mapping_at(layer, part) for layer in (below, above))
        needed = NEEDED.get(part)
        for name in (name for name in given if known and name not in known):
            slip = needed and isinstance(given[name], dict) and not given[name].get(needed)
            if slip or given[name] is None:
                near = get_close_matches(name, known, n=1, cutoff=0.5)
                hint = f"did you mean '{part}.{near[0]}'?" if near else f"it has {', '.join(known)}."
                more = f" A new one needs {part}.{name}.{needed}" if slip else ""
                gone = "" if slip else " to remove"
                raise ValueError(f"the recipe has no {part}.{name}{gone}; {hint}{more}")


def mapping_at(layer: dict[str, Any], key: str) -> dict[str, Any]:
    """The mapping under a key; empty where there is none."""
    value = layer.get(key)
    return value if isinstance(value, dict) else {}


def resolved(recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe with each `${key}` replaced by the value of that key, which may itself refer to keys.

    Raises:
        ValueError: `${...}` holds anything else, such as a resolver, an unknown key, or a key that refers to itself.
    """
    return {key: _resolve(value, key, recipe, chain=()) for key, value in recipe.items()}


def _resolve(value: Any, key: str, recipe: dict[str, Any], *, chain: tuple[str, ...]) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {name: _resolve(part, f"{key}.{name}", recipe, chain=chain) for name, part in value.items()}
    if isinstance(value, list):
        return [_resolve(part, key, recipe, chain=chain) for part in value]
    if not isinstance(value, str) or "${" not in value:
        return value
    if "${" in REFERENCE.sub("", value):
        raise ValueError(
            f"{key} is {value[:100]!r}, but ${{...}} may only hold a key of the recipe, as ${{image_size}}"
        )
    if match := REFERENCE.fullmatch(value):
        return _value_of(match[1], key, recipe, chain=chain)
    text = REFERENCE.sub(lambda match: _text_of(match[1], key, recipe, chain=chain), value)
    if len(text) > LONGEST:
        raise ValueError(f"{key} has {len(text)} characters once ${{...}} is filled in, but may have {LONGEST}")
    return text


def _text_of(name: str, key: str, recipe: dict[str, Any], *, chain: tuple[str, ...]) -> str:
    """The value of a key that a text refers to, as text."""
    value = _value_of(name, key, recipe, chain=chain)
    if value is None:
        raise ValueError(f"{key} refers to {name}, which is not set")
    return str(value)


def _value_of(name: str, key: str, recipe: dict[str, Any], *, chain: tuple[str, ...]) -> Any:  # noqa: ANN401
    """The value of a key that another key refers to: the recipe's, or the default."""
    if name in chain or len(chain) > DEPTH:
        raise ValueError(f"{key} refers to {name}, which refers to itself")
    value: Any = recipe
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    try:
        value = default_at(name) if value is None else value
    except KeyError as error:
        raise ValueError(f"{key} refers to {name}, but a recipe has no such key") from error
    if isinstance(value, dict) or dataclasses.is_dataclass(value):
        raise ValueError(f"{key} refers to {name}, which is a mapping of keys, not a value")
    return _resolve(value, name, recipe, chain=(*chain, name))
