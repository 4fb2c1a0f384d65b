"""The student to train: fresh from the seed, with a pretrained encoder, or from a published one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

import cache
import students
from distill.config.schema import Recipe
from distill.distillation.targets import plan_inputs
from students.task_decoder import TaskDecoder


def student_arguments(recipe: Recipe) -> dict[str, Any]:
    """The arguments of the student's class that a recipe gives."""
    return {"width": recipe.student.width, "classes": recipe.student.classes, **recipe.student.options}


def build_student(recipe: Recipe, caches: Mapping[str, cache.Cache]) -> Any:  # noqa: ANN401
    """A network of the recipe's kind with random weights: a student, or a task decoder that fits its teacher's maps.

    Raises:
        ValueError: its class does not accept the recipe's arguments.
    """
    if recipe.reads_features:
        inputs = plan_inputs(recipe, caches)
        return TaskDecoder(
            channels=tuple(target.channels for target in inputs),
            grids=tuple(target.grid for target in inputs),
            **student_arguments(recipe),
        )
    return students.create(recipe.student.name, **student_arguments(recipe))


def create_student(recipe: Recipe, caches: Mapping[str, cache.Cache] | None = None) -> Any:  # noqa: ANN401
    """The student to train: fresh from the seed, with a pretrained backbone, or from a published one.

    Raises:
        ValueError: the published student (`student.init`) has another shape than the recipe asks for, or another head
            although `student.init_share` mixes its weights in; or the student has no backbone for `student.encoder`.
    """
    torch.manual_seed(recipe.seed)
    student = build_student(recipe, caches or {})
    if recipe.student.encoder is not None:
        student.load_encoder(recipe.student.encoder)
    if recipe.student.init is None:
        return student
    own = student.state_dict()
    weights = students.load(recipe.student.init, trust=recipe.student.name).state_dict()
    kept = {name: tensor for name, tensor in weights.items() if name in own and tensor.shape == own[name].shape}
    rebuilt = sorted(set(own) - set(kept))
    if any(not name.startswith("head.") for name in rebuilt):
        raise ValueError(
            f"student.init={recipe.student.init} does not fit student {recipe.student.name} of width "
            f"{recipe.student.width}: {len(rebuilt)} tensors differ, the first is {rebuilt[0]}; give the name and "
            "width with which it was trained"
        )
    if rebuilt and recipe.student.init_share:
        raise ValueError(
            f"student.init_share is {recipe.student.init_share}, but the head is not that of student.init="
            f"{recipe.student.init}: it has other classes; set student.init_share=0"
        )
    student.load_state_dict(kept, strict=False)
    return student
