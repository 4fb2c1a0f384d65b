"""The recipes that make teachers (`teachers.NAME.recipe`): what they inherit, and a check against circles."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from distill.config.files import find_recipe, load_layer
from distill.config.layers import extended, mapping_at
from distill.config.parse import build_recipe
from distill.config.registry import STEPS
from distill.config.schema import Recipe, TeacherRecipe

WITH_ENCODER = ("timm", "sam")  # adapters that take the encoder of the trained student

Step = tuple[str, str]  # from a recipe to its teacher's recipe: its file, and the changes to it


def recipes_of_teachers(recipe: Recipe, *, above: tuple[Step, ...] = ()) -> dict[str, tuple[Recipe, ...]]:
    """Consulted teacher -> the recipes that make it, one for each seed of an ensemble.

    Home and data are those of `recipe`, without images that no term would read; `teachers.NAME.overrides` are applied
    last. The recipes of the teachers' own teachers are checked too.

    Args:
        recipe: the recipe whose teachers are made.
        above: the steps that led to it.

    Raises:
        FileNotFoundError: there is no such recipe.
        ValueError: a recipe needs itself as a teacher, or the changes do not fit it.
    """
    made: dict[str, tuple[Recipe, ...]] = {}
    for name, entry in recipe.consulted.items():
        if entry.recipe is None or entry.cache is not None:
            continue
        step = (str(find_recipe(entry.recipe).resolve()), json.dumps([entry.overrides, entry.seeds], sort_keys=True))
        if step in above:
            raise ValueError(
                f"teachers.{name}.recipe={entry.recipe} makes itself a teacher, so its training would never begin; "
                "name another recipe, or change its teachers by overrides"
            )
        try:
            made[name] = recipes_of_teacher(recipe, entry)
        except ValueError as error:
            raise ValueError(f"teachers.{name}.recipe={entry.recipe}: {error}") from error
        for one in made[name]:
            recipes_of_teachers(one, above=(*above, step))
    return made


def recipes_of_teacher(recipe: Recipe, entry: TeacherRecipe) -> tuple[Recipe, ...]:
    """The recipes that make one teacher; errors as in `build_recipe`."""
    layer = load_layer(find_recipe(str(entry.recipe)))
    inherited: dict[str, Any] = {
        "home": recipe.home,
        "do": list(STEPS),
        "data": asdict(recipe.data),
        "publish": {"hub": None, "zoo": None, **({"encoder": True} if entry.adapter in WITH_ENCODER else {})},
    }
    if entry.adapter == "task":
        inherited |= source_of_task(recipe, entry, layer)
    layer = extended(extended(layer, inherited), entry.overrides, ordered=False)
    made = build_recipe(layer)
    if not made.takes_unlabelled:  # it learns from masks alone, so images without masks change nothing
        layer = extended(layer, {"data": {"unlabelled": None}})
    return tuple(build_recipe(layer, {"seed": seed}) for seed in entry.seeds) or (build_recipe(layer),)


def source_of_task(recipe: Recipe, entry: TeacherRecipe, layer: dict[str, Any]) -> dict[str, Any]:
    """The changes that make a task teacher's recipe read the cache that its masks are made from."""
    source = recipe.teachers[str(entry.of)]
    return {
        "teachers": {**dict.fromkeys(mapping_at(layer, "teachers")), str(entry.of): asdict(source)},
        "cache": asdict(recipe.cache),
        "augment": {"views": source.views},
    }
