"""Opening a run: its data, the runs that make its teachers, and the names of its caches and folder."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from distill.config.schema import Recipe, TeacherRecipe
from distill.config.teacher_recipes import WITH_ENCODER, recipes_of_teachers
from distill.data.prompts import record_key
from distill.data.sample import Splits
from distill.data.sample_table import in_reach
from distill.data.sources.open_data import open_data
from distill.runs.accelerator import start_accelerator
from distill.runs.barrier import agree
from distill.runs.paths import name_caches, run_folder
from distill.runs.run import Run

if TYPE_CHECKING:
    from accelerate import Accelerator


def open_run(recipe: Recipe, *, accelerator: Accelerator | None = None, splits: Splits | None = None) -> Run:
    """Opens the data, unless splits are given, and names the folders, for the runs that make teachers too.

    If a recipe makes a teacher, the run's recipe names its weights, whether or not they exist yet.
    """
    if not isinstance(recipe, Recipe):
        raise TypeError(f"expected a Recipe, as distill.read_recipe([...]) returns, but got {type(recipe).__name__}")
    accelerator = accelerator or start_accelerator(recipe)
    home = Path(recipe.home).expanduser()
    splits = splits or open_splits(recipe, accelerator, home=home)
    content = splits.digest
    fitted = splits.calibration(recipe.cache.calibration)
    records = {name: [record_key(entry, sample) for sample in fitted] for name, entry in recipe.consulted.items()}
    makers = recipes_of_teachers(recipe)
    made = open_teachers(recipe, makers, splits, accelerator)
    filled = {
        name: replace(recipe.teachers[name], weights=weights_of(recipe.teachers[name], made[name])) for name in made
    }
    recipe = replace(recipe, teachers={**recipe.teachers, **filled})
    digests = {name: ",".join(one.digest for one in runs) for name, runs in made.items()}
    caches = name_caches(recipe, records, home=home, made=digests)
    folder = run_folder(recipe, content, caches, home=home)
    return Run(recipe, splits, {name: entry.path for name, entry in caches.items()}, folder, accelerator, made)


def open_splits(recipe: Recipe, accelerator: Accelerator, *, home: Path) -> Splits:
    """The data of a recipe: the first process opens it; the others use its sample file, or open the data afterwards."""

    def opened() -> Splits:
        return open_data(recipe.data, home=home, classes=recipe.student.classes)

    if accelerator.num_processes == 1:
        return opened()
    own = opened() if accelerator.is_main_process else None  # the others then find its file index
    if own:
        _ = own.digest  # handed on with the splits
    handed = agree(accelerator, lambda: own if own and in_reach(own) else None)
    return own or (handed if handed and in_reach(handed) else opened())


def open_teachers(
    recipe: Recipe, makers: Mapping[str, tuple[Recipe, ...]], splits: Splits, accelerator: Accelerator
) -> dict[str, tuple[Run, ...]]:
    """Teacher -> the runs that make it; trained runs if there are any, whatever the name of their recipe.

    Args:
        recipe: the recipe with the teachers.
        makers: teacher -> the recipes of the runs that make it.
        splits: the splits of `recipe`, also used for recipes with the same data.
        accelerator: the processes.
    """
    made: dict[str, tuple[Run, ...]] = {}
    for name, recipes in makers.items():
        same = recipes[0].data == recipe.data and recipes[0].student.classes == recipe.student.classes
        opened = (open_run(one, accelerator=accelerator, splits=splits if same else None) for one in recipes)
        made[name] = tuple(map(finished_twin, opened))
    return made


def weights_of(teacher: TeacherRecipe, made: tuple[Run, ...]) -> str:
    """The weights that the runs of a teacher's recipe publish, as `teachers.NAME.weights` names them."""
    if teacher.adapter in WITH_ENCODER:
        encoder = made[0].published / "encoder"
        return str(encoder / "encoder.safetensors" if teacher.adapter == "timm" else encoder)
    return ",".join(str(one.published) for one in made)


def finished_twin(run: Run) -> Run:
    """The run or, if it is not trained yet, a trained one that differs only in the name of its recipe.

    Studies share their controls this way.
    """
    if run.trained.is_file():
        return run
    rest = run.folder.name.removeprefix(run.recipe.name)  # -STUDENT-DIGEST
    for folder in sorted(run.folder.parent.glob(f"*{glob.escape(rest)}")):
        twin = replace(run, recipe=replace(run.recipe, name=folder.name.removesuffix(rest)), folder=folder)
        if twin.trained.is_file():
            return twin
    return run
