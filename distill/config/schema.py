"""The schema of a recipe.

`distill.config.parse` reads the YAML file of a recipe into these frozen dataclasses. Names, types and ranges are thus
checked before anything is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from distill.config.field import require, require_choice, require_choices, setting
from distill.config.registry import BAND_OF, FEATURE_LOSSES, MASK_LOSSES, MASK_TEACHERS, STEPS, TASK_DECODER
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
NAME = re.compile(
    r"\w(?:[\w .+()-]{0,98}[\w.+()-])?"
)  # of a run, teacher, stage, arm: it becomes a folder, a column, a title


@dataclass(frozen=True)
class Recipe:
    """The settings of a whole run; field names are the keys of `key=value`."""

    name: str = setting("recipe", "first part of the name of the run's folder")
    image_size: int = setting(128, "side of the square that the student sees, in pixels")
    seed: int = setting(0, "random seed of weights, data order and augmentation")
    home: str = setting("artifacts", "folder of caches and runs")
    do: list[str] = setting(list(STEPS), "steps to do: extract, train, evaluate, publish")
    precision: str = setting("fp32", "student's arithmetic: fp32, or mixed with bf16 (fp32 if emulated) or fp16")
    workers: int | None = setting(
        None,
        "processes that load training images; 0: the main process loads them; empty: 0 on a CPU; beside a GPU, all "
        "cores but one, at most 12",
    )
    trackers: list[str] = setting([], "experiment trackers of Accelerate: tensorboard, wandb, ...")
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
        {}, "compare: name -> overrides that every arm tries with the first seed; validation decides (evaluate.select)"
    )

    def __post_init__(self) -> None:
        for check in CHECKS:
            check(self)

    @property
    def terms(self) -> set[str]:
        """The loss terms with a positive weight in any stage that runs."""
        return {term for stage in self.stages.values() if stage.runs for term in stage.terms}

    @property
    def sides(self) -> tuple[int, ...]:
        """The sides of the squares that training sees, in pixels, rounded to multiples of 32 as by PraNet."""
        return tuple(
            self.image_size if factor == 1 else max(1, round(self.image_size * factor / SIDE_STEP)) * SIDE_STEP
            for factor in self.augment.sizes
        )

    @property
    def mask_terms(self) -> list[str]:
        """The terms on soft masks with a positive weight in any stage."""
        return [term for term in MASK_LOSSES if term in self.terms]

    @property
    def imitated(self) -> list[tuple[str, int]]:
        """Band and stride of each student level that any stage compares with a teacher's features."""
        bands = dict.fromkeys(BAND_OF[term] for term in FEATURE_LOSSES if term in self.terms)
        return [(band, stride) for band in bands for stride in getattr(self.imitate, band)]

    @property
    def imitates(self) -> bool:
        """Whether any stage that runs needs a teacher."""
        return any(stage.imitates for stage in self.stages.values() if stage.runs)

    @property
    def takes_unlabelled(self) -> bool:
        """Whether any stage that runs learns from images without masks."""
        return any(stage.takes_unlabelled for stage in self.stages.values() if stage.runs)

    @property
    def reads_features(self) -> bool:
        """Whether the student reads a teacher's cached maps instead of images: a task teacher's decoder."""
        return self.student.name == TASK_DECODER

    def views_of(self, name: str) -> list[str]:
        """The views in a teacher's cache; those of a task teacher are the views in the cache that it reads."""
        source = self.teachers.get(self.teachers[name].of or "")
        return (source or self.teachers[name]).views

    def view_read(self, name: str, view: str) -> str:
        """The view to read from a teacher's cache when training draws `view`; identity if that view is mirrored."""
        return view if view in self.views_of(name) else "identity"

    @property
    def consulted(self) -> dict[str, TeacherRecipe]:
        """The teachers whose caches are needed: those that a term imitates, or that a task decoder reads.

        A teacher of weight 0 is not imitated, but may still be read.
        A task teacher's masks are made from the cache of its source teacher (`of`), which therefore comes first.
        """
        features = self.reads_features or bool(FEATURE_LOSSES.keys() & self.terms)
        masks = bool(self.mask_terms)
        given = {name: entry for name, entry in self.teachers.items() if entry.weight > 0 or self.reads_features}
        tasks = {name: entry for name, entry in given.items() if entry.adapter == "task" and masks}
        read = {entry.of for entry in tasks.values() if entry.cache is None}
        return {
            name: entry
            for name, entry in self.teachers.items()
            if entry.adapter != "task"
            and (name in read or (name in given and (features or (masks and entry.has_mask))))
        } | tasks


def check_names(recipe: Recipe) -> None:
    """Requires names of letters, digits and a few signs: they become folders, columns and titles."""
    given = {"name": [recipe.name], "teachers": list(recipe.teachers), "stages": list(recipe.stages)}
    for key, names in {**given, "arms": list(recipe.arms), "sweep": list(recipe.sweep)}.items():
        for name in names:
            require(
                NAME.fullmatch(name) is not None,
                f"{'name is' if key == 'name' else f'{key} names'} {name[:120]!r}, but must be at most 100 letters, "
                "digits, spaces and . _ + - ( ), and begin with a letter or digit",
            )
    for key in ("teachers", "stages"):
        for name in given[key]:
            require("." not in name, f"{key} names {name!r}, but a dot separates the parts of a key")


def check_ranges(recipe: Recipe) -> None:
    """Checks each top-level key on its own."""
    require(32 <= recipe.image_size <= 4096, f"image_size is {recipe.image_size}, but must lie between 32 and 4096")
    require((recipe.workers or 0) >= 0, f"workers is {recipe.workers}, but must not be negative")
    require(recipe.seed >= 0, f"seed is {recipe.seed}, but must not be negative")
    require_choices("do", recipe.do, tuple(STEPS))
    require_choice("precision", recipe.precision, ("fp32", "bf16", "fp16"))


def check_stages(recipe: Recipe) -> None:
    """Requires something to train, and a teacher if one is imitated."""
    require(any(stage.runs for stage in recipe.stages.values()), "stages has no stage with at least one epoch or step")
    require(
        bool(recipe.teachers) or not recipe.imitates,
        "stages imitate a teacher, but teachers is empty; name one, or drop the imitate_* terms",
    )
    require(
        recipe.augment.erase <= 0.25 or not recipe.imitates,
        f"augment.erase is {recipe.augment.erase}, but stages imitate a teacher, which has not seen the covered "
        "images, nor as many others with a patch; set at most 0.25, so that half of the images have their teacher",
    )


def check_averages(recipe: Recipe) -> None:
    """Requires a moving average for mean_teacher, and no imitation in stages that mix images."""
    stages = {name: stage for name, stage in recipe.stages.items() if stage.runs and stage.averages}
    require(
        not stages or recipe.optimiser.ema > 0,
        "stages weigh mean_teacher, whose teacher is the student's moving average, but optimiser.ema is 0; set "
        "optimiser.ema=0.99",
    )
    require(
        not (stages and recipe.reads_features),
        f"stages weigh mean_teacher, but student.name={TASK_DECODER} reads a teacher's features, not images",
    )
    mixed = recipe.augment.cutmix > 0
    require(
        bool(stages) or not mixed,
        f"augment.cutmix is {recipe.augment.cutmix}, but no stage weighs mean_teacher, for which it mixes images",
    )
    for name, stage in stages.items():
        require(
            not (mixed and stage.imitates),
            f"augment.cutmix mixes images, but stages.{name} also imitates a teacher, which saw each image alone; set "
            "augment.cutmix=0, or imitate in another stage",
        )


def check_builtin_teacher(recipe: Recipe) -> None:
    """Requires generated frames for the built-in teacher."""
    for name, teacher in recipe.consulted.items():
        require(
            recipe.data.name == "builtin" or teacher.weights != "builtin" or teacher.cache is not None,
            f"teachers.{name}.weights=builtin is for generated frames only, but data.name is {recipe.data.name}; "
            f"give real weights, for example teachers.{name}.weights=facebook/sam-vit-base",
        )


def check_views(recipe: Recipe) -> None:
    """Requires each flip that training draws to be in every cache, or to be made by mirroring."""
    for name in (name for name, entry in recipe.consulted.items() if not entry.mirror):
        missing = [view for view in recipe.augment.views if view not in recipe.views_of(name)]
        require(
            not missing,
            f"augment.views draws {', '.join(missing)}, but teachers.{name}.views does not hold it; "
            f"add it there, remove it from augment.views, or set teachers.{name}.mirror=true",
        )


def check_strides(recipe: Recipe) -> None:
    """Requires a stride for each term on features."""
    for term in FEATURE_LOSSES:
        band = BAND_OF[term]
        require(
            term not in recipe.terms or bool(getattr(recipe.imitate, band)),
            f"stages weigh {term}, but imitate.{band} names no stride; name one, or set stages.NAME.losses.{term}=0",
        )


def check_sources(recipe: Recipe) -> None:
    """Requires that a task teacher reads the features of another teacher of the recipe."""
    sources = [name for name, entry in recipe.teachers.items() if entry.adapter != "task"]
    for name, teacher in recipe.teachers.items():
        require(
            teacher.adapter != "task" or teacher.cache is not None or teacher.of in sources,
            f"teachers.{name}.of is {teacher.of!r}, but must name the teacher of this recipe whose features it "
            f"reads: {', '.join(sources) or 'there is none'}",
        )


def check_prompts(recipe: Recipe) -> None:
    """Refuses prompts for a teacher whose features a task decoder reads."""
    read = [teacher.of for teacher in recipe.teachers.values() if teacher.of]
    for name in read + (list(recipe.consulted) if recipe.reads_features else []):
        require(
            name not in recipe.teachers or recipe.teachers[name].prompts is None,
            f"teachers.{name}.prompts is set, but a task decoder reads features, not masks; leave it out",
        )


def check_task_decoder(recipe: Recipe) -> None:
    """Requires that a task decoder reads one teacher, imitates none, and is given no encoder."""
    if not recipe.reads_features:
        return
    require(
        len(recipe.consulted) == 1 and not recipe.imitates,
        f"student.name={TASK_DECODER} reads the features of one teacher and imitates none, but teachers "
        f"names {', '.join(recipe.consulted) or 'none'}",
    )
    own: dict[str, Any] = {"student.init": recipe.student.init, "student.encoder": recipe.student.encoder}
    for key, value in {
        **own,
        "publish.encoder": recipe.publish.encoder or None,
        "publish.zoo": recipe.publish.zoo,
        "augment.erase": recipe.augment.erase or None,
    }.items():
        require(value is None, f"{key} is {value}, but student.name={TASK_DECODER} does not support it; leave it out")


def check_soft_masks(recipe: Recipe) -> None:
    """Requires a teacher with soft masks if they are imitated, with as many classes as the student has."""
    terms = " and ".join(recipe.mask_terms)
    if not terms:
        return
    require(
        any(teacher.has_mask and teacher.weight > 0 for teacher in recipe.teachers.values()),
        f"stages weigh {terms}, but no teacher gives soft masks (adapter {', '.join(MASK_TEACHERS)}, or prompts); "
        "train one with recipe=adapt_teacher and add it as teachers.NAME={adapter: task, of: ..., weights: DIR}, or "
        "prompt SAM with teachers.NAME.prompts=boxes",
    )
    masked = {name: teacher for name, teacher in recipe.teachers.items() if teacher.has_mask and teacher.weight > 0}
    single = [name for name, teacher in masked.items() if teacher.adapter != "student" or teacher.classes != ["all"]]
    require(
        recipe.student.classes == 1 or not single,
        f"{terms} needs soft masks of {recipe.student.classes} classes (student.classes), but teachers."
        f"{', '.join(single)} gives one foreground class; take a published student with as many classes, as "
        "teachers.NAME={adapter: student, weights: DIR, classes: [all]}",
    )


def check_weighted_teachers(recipe: Recipe) -> None:
    """Requires a teacher of positive weight if anything is imitated, and a second one if teachers are dropped."""
    if not recipe.imitates:
        return
    weighted = {name: teacher for name, teacher in recipe.consulted.items() if teacher.weight > 0}
    terms = [term for term in FEATURE_LOSSES if term in recipe.terms]
    require(
        any(teacher.adapter != "task" for teacher in weighted.values()) or not terms,
        f"stages weigh {', '.join(terms)}, but no teacher with features has a positive weight; "
        "give one teachers.NAME.weight=1, or drop the terms",
    )
    dropped = [name for name, teacher in weighted.items() if teacher.drop > 0]
    require(
        len(weighted) > 1 or not dropped,
        f"teachers.{''.join(dropped)}.drop is above 0, but no other teacher has a positive weight, and at "
        "least one must stay; name another one, or set drop to 0",
    )
    require(
        not (recipe.imitate.fuse and dropped),
        f"imitate.fuse is {recipe.imitate.fuse}, but a fused map needs every teacher: set "
        f"{', '.join(f'teachers.{name}.drop=0' for name in dropped)}, or imitate.fuse=0",
    )


CHECKS: tuple[Callable[[Recipe], None], ...] = (
    check_names,
    check_ranges,
    check_stages,
    check_averages,
    check_builtin_teacher,
    check_views,
    check_strides,
    check_sources,
    check_prompts,
    check_task_decoder,
    check_soft_masks,
    check_weighted_teachers,
)
