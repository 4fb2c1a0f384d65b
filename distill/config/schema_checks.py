"""What must hold between the parts of a recipe: each check raises ValueError with a sentence, before anything is loaded."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from distill.config.field import require, require_choice, require_choices
from distill.config.registry import BAND_OF, FEATURE_LOSSES, MASK_LOSSES, STEPS, TASK_DECODER

if TYPE_CHECKING:
    from distill.config.schema import Recipe

NAME = re.compile(r"\w(?:[\w .+()-]{0,98}[\w.+()-])?")


def check_names(recipe: Recipe) -> None:
    """Names become folders, columns and titles: letters, digits and a few signs."""
    given = {"name": [recipe.name], "teachers": list(recipe.teachers), "stages": list(recipe.stages)}
    for key, names in {**given, "arms": list(recipe.arms), "sweep": list(recipe.sweep)}.items():
        for name in names:
            require(
                NAME.fullmatch(name) is not None,
                f"{'name is' if key == 'name' else f'{key} names'} {name[:120]!r}, but must be at most 100 letters, "
                "digits, spaces and . _ + - ( ), and begin with a letter or digit",
            )


def check_ranges(recipe: Recipe) -> None:
    """The keys at the top, each for itself."""
    require(32 <= recipe.image_size <= 4096, f"image_size is {recipe.image_size}, but must lie between 32 and 4096")
    require((recipe.workers or 0) >= 0, f"workers is {recipe.workers}, but must not be negative")
    require(recipe.seed >= 0, f"seed is {recipe.seed}, but must not be negative")
    require_choices("do", recipe.do, STEPS)
    require_choice("precision", recipe.precision, ("fp32", "bf16", "fp16"))


def check_stages(recipe: Recipe) -> None:
    """There is something to train, and a teacher where one is imitated."""
    require(
        any(stage.runs for stage in recipe.stages.values()), "stages has no stage with at least one epoch or step"
    )
    require(
        bool(recipe.teachers) or not recipe.imitates,
        "stages imitate a teacher, but teachers is empty; name one, or drop the imitate terms",
    )


def check_weights(recipe: Recipe) -> None:
    """The built-in teacher knows generated frames only."""
    for name, teacher in recipe.consulted.items():
        require(
            recipe.data.name == "builtin" or teacher.weights != "builtin" or teacher.cache is not None,
            f"teachers.{name}.weights=builtin knows generated frames only, but data.name is {recipe.data.name}; "
            f"give real weights, for example teachers.{name}.weights=facebook/sam-vit-base",
        )


def check_views(recipe: Recipe) -> None:
    """Every flip that training draws is in every cache."""
    for name in recipe.consulted:
        missing = [view for view in recipe.augment.views if view not in recipe.views_of(name)]
        require(
            not missing,
            f"augment.views draws {', '.join(missing)}, but teachers.{name}.views does not show it to the "
            f"teacher; add it there, or take it from augment.views",
        )


def check_strides(recipe: Recipe) -> None:
    """Every term of features has a stride at which it imitates."""
    for term in FEATURE_LOSSES:
        band = BAND_OF[term]
        require(
            term not in recipe.terms or bool(getattr(recipe.imitate, band)),
            f"stages weigh {term}, but imitate.{band} names no stride; name one, or set stages.NAME.losses.{term}=0",
        )


def check_sources(recipe: Recipe) -> None:
    """A task teacher reads the features of another teacher of the recipe."""
    sources = [name for name, entry in recipe.teachers.items() if entry.adapter != "task"]
    for name, teacher in recipe.teachers.items():
        require(
            teacher.adapter != "task" or teacher.cache is not None or teacher.of in sources,
            f"teachers.{name}.of is {teacher.of!r}, but must name the teacher of this recipe whose features it "
            f"reads: {', '.join(sources) or 'there is none'}",
        )


def check_prompts(recipe: Recipe) -> None:
    """What a task decoder reads holds no soft masks."""
    read = [teacher.of for teacher in recipe.teachers.values() if teacher.of]
    for name in read + (list(recipe.consulted) if recipe.reads_features else []):
        require(
            name not in recipe.teachers or recipe.teachers[name].prompts is None,
            f"teachers.{name}.prompts is set, but a task decoder reads features and no masks; leave it out",
        )


def check_task_decoder(recipe: Recipe) -> None:
    """A student that is a task decoder reads one teacher, imitates none, and has no encoder."""
    if not recipe.reads_features:
        return
    require(
        len(recipe.consulted) == 1 and not recipe.imitates,
        f"student.name={TASK_DECODER} reads the features of one teacher and imitates none, but teachers "
        f"names {', '.join(recipe.consulted) or 'none'}",
    )
    own: dict[str, Any] = {"student.init": recipe.student.init, "student.encoder": recipe.student.encoder}
    for key, value in {**own, "publish.encoder": recipe.publish.encoder or None}.items():
        require(value is None, f"{key} is {value}, but student.name={TASK_DECODER} has no such thing; leave it out")


def check_soft_masks(recipe: Recipe) -> None:
    """Soft masks are imitated where a teacher has them, and are of one class."""
    if not MASK_LOSSES.keys() & recipe.terms:
        return
    require(
        any(teacher.says_masks and teacher.weight > 0 for teacher in recipe.teachers.values()),
        "stages weigh imitate_mask, but no teacher has adapter: task (or network), nor prompts; train one with "
        "recipe=adapt_teacher and add it as teachers.NAME={adapter: task, of: ..., weights: DIR}, or ask SAM "
        "with teachers.NAME.prompts=boxes",
    )
    require(
        recipe.student.classes == 1,
        f"imitate_mask knows one foreground class, but student.classes is {recipe.student.classes}",
    )


def check_teacher_weights(recipe: Recipe) -> None:
    """Where anything is imitated, a teacher has a positive weight, and another one where teachers are dropped."""
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
        f"teachers.{''.join(dropped)}.drop is above 0, but no other teacher is heard, and one of them always is; "
        "name another one, or set it to 0",
    )


CHECKS: tuple[Callable[[Recipe], None], ...] = (
    check_names,
    check_ranges,
    check_stages,
    check_weights,
    check_views,
    check_strides,
    check_sources,
    check_prompts,
    check_task_decoder,
    check_soft_masks,
    check_teacher_weights,
)
