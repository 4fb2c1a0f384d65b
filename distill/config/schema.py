"""What a run does, as data: the schema of a recipe.

A recipe is a YAML file read into these frozen dataclasses (`distill.config.parse` reads it), so that names, types and
ranges are checked before anything is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from distill.config.field import require, require_choice, require_choices, setting
from distill.config.registry import BAND_OF, FEATURE_LOSSES, MASK_LOSSES, TASK_DECODER
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
VERBS = ("extract", "train", "evaluate", "publish")


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
        require(
            32 <= self.image_size <= 4096,
            f"image_size is {self.image_size}, but must lie between 32 and 4096",
        )
        require((self.workers or 0) >= 0, f"workers is {self.workers}, but must not be negative")
        require(self.seed >= 0, f"seed is {self.seed}, but must not be negative")
        require_choices("do", self.do, VERBS)
        require_choice("precision", self.precision, ("fp32", "bf16", "fp16"))
        require(
            any(stage.runs for stage in self.stages.values()),
            "stages has no stage with at least one epoch or step",
        )
        require(
            bool(self.teachers) or not self.imitates,
            "stages imitate a teacher, but teachers is empty; name one, or drop the imitate terms",
        )
        for name, teacher in self.consulted.items():
            require(
                self.data.name == "builtin" or teacher.weights != "builtin" or teacher.cache is not None,
                f"teachers.{name}.weights=builtin knows generated frames only, but data.name is {self.data.name}; "
                f"give real weights, for example teachers.{name}.weights=facebook/sam-vit-base",
            )
            missing = [view for view in self.augment.views if view not in self.views_of(name)]
            require(
                not missing,
                f"augment.views draws {', '.join(missing)}, but teachers.{name}.views does not show it to the "
                f"teacher; add it there, or take it from augment.views",
            )

        for term in FEATURE_LOSSES:
            band = BAND_OF[term]
            require(
                term not in self.terms or bool(getattr(self.imitate, band)),
                f"stages weigh {term}, but imitate.{band} names no stride; name one, or set "
                f"stages.NAME.losses.{term}=0",
            )
        self._check_task_teachers()
        self._check_heard()

    def _check_heard(self) -> None:
        """Somebody must be heard: a teacher of positive weight, and another one where teachers are dropped."""
        if not self.imitates:
            return
        heard = {name: teacher for name, teacher in self.consulted.items() if teacher.weight > 0}
        terms = [term for term in FEATURE_LOSSES if term in self.terms]
        require(
            any(teacher.adapter != "task" for teacher in heard.values()) or not terms,
            f"stages weigh {', '.join(terms)}, but no teacher with features has a positive weight; "
            "give one teachers.NAME.weight=1, or drop the terms",
        )
        dropped = [name for name, teacher in heard.items() if teacher.drop > 0]
        require(
            len(heard) > 1 or not dropped,
            f"teachers.{''.join(dropped)}.drop is above 0, but no other teacher is heard, and one of them always is; "
            "name another one, or set it to 0",
        )

    def _check_task_teachers(self) -> None:
        """A task teacher reads another teacher's cache; soft masks come from a task teacher and are of one class."""
        for name, teacher in self.teachers.items():
            if teacher.adapter == "task" and teacher.cache is None:
                sources = [other for other, entry in self.teachers.items() if entry.adapter != "task"]
                require(
                    teacher.of in sources,
                    f"teachers.{name}.of is {teacher.of!r}, but must name the teacher of this recipe whose features it "
                    f"reads: {', '.join(sources) or 'there is none'}",
                )
        read = [t.of for t in self.teachers.values() if t.of] + (list(self.consulted) if self.reads_features else [])
        for name in read:
            require(
                name not in self.teachers or self.teachers[name].prompts is None,
                f"teachers.{name}.prompts is set, but a task decoder reads features and no masks; leave it out",
            )
        if self.reads_features:
            require(
                len(self.consulted) == 1 and not self.imitates,
                f"student.name={TASK_DECODER} reads the features of one teacher and imitates none, but teachers "
                f"names {', '.join(self.consulted) or 'none'}",
            )
            own: dict[str, Any] = {"student.init": self.student.init, "student.encoder": self.student.encoder}
            own["publish.encoder"] = self.publish.encoder or None
            for key, value in own.items():
                require(
                    value is None, f"{key} is {value}, but student.name={TASK_DECODER} has no such thing; leave it out"
                )
        if MASK_LOSSES.keys() & self.terms:
            require(
                any(teacher.has_mask and teacher.weight > 0 for teacher in self.teachers.values()),
                "stages weigh imitate_mask, but no teacher has adapter: task (or network), nor prompts; train one with "
                "recipe=adapt_teacher and add it as teachers.NAME={adapter: task, of: ..., weights: DIR}, or ask SAM "
                "with teachers.NAME.prompts=boxes",
            )
            require(
                self.student.classes == 1,
                f"imitate_mask knows one foreground class, but student.classes is {self.student.classes}",
            )

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
            and (name in read or (name in given and (features or (masks and entry.has_mask))))
        } | tasks
