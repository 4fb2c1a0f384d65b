"""What a run does, as data: the schema of a recipe.

A recipe is a YAML file read into these frozen dataclasses (`distill.config.parse` reads it), so that names, types and
ranges are checked before anything is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from distill.config.field import setting
from distill.config.registry import FEATURE_LOSSES, MASK_LOSSES, STEPS, TASK_DECODER
from distill.config.schema_checks import CHECKS
from distill.config.schema_inputs import CacheRecipe, DataRecipe, TeacherRecipe
from distill.config.schema_training import (
    AugmentRecipe,
    EvaluateRecipe,
    ImitateRecipe,
    OptimiserRecipe,
    PublishRecipe,
    StageRecipe,
    StudentRecipe,
)

__all__ = [
    "VERBS",
    "AugmentRecipe",
    "CacheRecipe",
    "DataRecipe",
    "EvaluateRecipe",
    "ImitateRecipe",
    "OptimiserRecipe",
    "PublishRecipe",
    "Recipe",
    "StageRecipe",
    "StudentRecipe",
    "TeacherRecipe",
]

SIDE_STEP = 32  # pixels: the coarsest stride of any student
VERBS = STEPS


@dataclass(frozen=True)
class Recipe:
    """A whole run; the field names are the keys of `key=value`."""

    name: str = setting("recipe", "names the run's folder")
    image_size: int = setting(128, "side of the square the student sees, in pixels")
    seed: int = setting(0, "of weights, data order and augmentation")
    home: str = setting("artifacts", "where caches and runs are kept")
    do: list[str] = setting(list(VERBS), "verbs: extract, train, evaluate, publish")
    precision: str = setting("fp32", "of the network's arithmetic: fp32, or mixed with bf16 or fp16")
    workers: int | None = setting(
        None,
        "processes that load training images; 0: the main process does; null: so on a CPU, and beside a GPU all cores "
        "but one, up to 12",
    )
    trackers: list[str] = setting([], "Accelerate's trackers: tensorboard, wandb, ...")
    data: DataRecipe = field(default_factory=DataRecipe)
    teachers: dict[str, TeacherRecipe] = field(default_factory=dict)
    cache: CacheRecipe = field(default_factory=CacheRecipe)
    student: StudentRecipe = field(default_factory=StudentRecipe)
    imitate: ImitateRecipe = field(default_factory=ImitateRecipe)
    augment: AugmentRecipe = field(default_factory=AugmentRecipe)
    optimiser: OptimiserRecipe = field(default_factory=OptimiserRecipe)
    stages: dict[str, StageRecipe] = field(default_factory=dict)
    evaluate: EvaluateRecipe = field(default_factory=EvaluateRecipe)
    publish: PublishRecipe = field(default_factory=PublishRecipe)
    arms: dict[str, Any] = setting({}, "compare: name -> overrides; the first arm is the control")
    sweep: dict[str, Any] = setting(
        {}, "compare: name -> overrides that every arm tries with the first seed; its best validation Dice decides"
    )

    def __post_init__(self) -> None:
        for check in CHECKS:
            check(self)

    @property
    def terms(self) -> set[str]:
        """The loss terms that any stage that runs weighs."""
        stages = [stage for stage in self.stages.values() if stage.runs]
        return {term for stage in stages for term, weight in stage.losses.items() if weight > 0}

    @property
    def sides(self) -> tuple[int, ...]:
        """The sides of the squares that training sees, in pixels: whole cells of 32, as PraNet rounds them."""
        return tuple(
            self.image_size if factor == 1 else max(1, round(self.image_size * factor / SIDE_STEP)) * SIDE_STEP
            for factor in self.augment.sizes
        )

    @property
    def imitates(self) -> bool:
        """Whether any stage that runs needs a teacher."""
        return any(stage.imitates for stage in self.stages.values() if stage.runs)

    @property
    def reads_features(self) -> bool:
        """Whether the student reads a teacher's cached maps instead of images: a task teacher's decoder."""
        return self.student.name == TASK_DECODER

    def views_of(self, name: str) -> list[str]:
        """The views that a teacher's cache holds; a task teacher's are those of the cache that it reads."""
        source = self.teachers.get(self.teachers[name].of or "")
        return (source or self.teachers[name]).views

    @property
    def consulted(self) -> dict[str, TeacherRecipe]:
        """The teachers whose caches are needed: those that a term imitates, or that a task decoder reads.

        One of weight 0 is not imitated; it may still be read.
        A task teacher's masks are made from the cache of the teacher that it is `of`, which therefore comes first.
        """
        features = self.reads_features or bool(FEATURE_LOSSES.keys() & self.terms)
        masks = bool(MASK_LOSSES.keys() & self.terms)
        given = {name: entry for name, entry in self.teachers.items() if entry.weight > 0 or self.reads_features}
        tasks = {name: entry for name, entry in given.items() if entry.adapter == "task" and masks}
        read = {entry.of for entry in tasks.values() if entry.cache is None}
        return {
            name: entry
            for name, entry in self.teachers.items()
            if entry.adapter != "task"
            and (name in read or (name in given and (features or (masks and entry.says_masks))))
        } | tasks
