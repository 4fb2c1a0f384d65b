"""What must hold before the first step: a recipe that fits the student, weights to start from, caches to learn from."""

from __future__ import annotations

import torch

import cache
import students
from distill.distiller import check_strides
from distill.evaluate import init_arguments
from distill.job import Job
from distill.recipe import Recipe

EXAMPLE_WEIGHTS = {"sam": "facebook/sam-vit-base", "timm": "timm/tf_efficientnet_b0.in1k"}


def check(job: Job) -> None:
    """What can be known of a job before any teacher looks at an image: cheap mistakes are told before costly work.

    Raises:
        ValueError: the student cannot be made, or does not fit what the recipe asks of it.
    """
    recipe, processes = job.recipe, job.accelerator.num_processes
    for name, teacher in recipe.teachers.items() if recipe.imitates else ():
        if teacher.weights is None and teacher.cache is None:
            raise ValueError(
                f"teachers.{name}.weights is not given; give a file, a folder or a hub id, for example "
                f"teachers.{name}.weights={EXAMPLE_WEIGHTS.get(teacher.adapter, 'FILE')}, or teachers.{name}.cache=DIR"
            )
    if recipe.optimiser.batch_size % processes:
        raise ValueError(
            f"optimiser.batch_size is {recipe.optimiser.batch_size}, but must be a multiple of the {processes} "
            "processes"
        )
    student = create_student(recipe)
    check_strides(recipe, student)
    if recipe.publish.encoder and type(student).export_encoder is students.Student.export_encoder:
        raise ValueError(f"publish.encoder is true, but student {recipe.student.name} has no encoder to publish alone")


def create_student(recipe: Recipe) -> students.Student:
    """The student to train: fresh from the seed, or from a published one (`student.init`).

    Raises:
        ValueError: the published student is of another shape than the recipe asks for.
    """
    torch.manual_seed(recipe.seed)
    student = students.create(recipe.student.name, **init_arguments(recipe))
    if recipe.student.init is None:
        return student
    own = student.state_dict()
    weights = students.load(recipe.student.init).state_dict()
    kept = {name: tensor for name, tensor in weights.items() if name in own and tensor.shape == own[name].shape}
    rebuilt = sorted(set(own) - set(kept))
    if any(not name.startswith("head.") for name in rebuilt):
        raise ValueError(
            f"student.init={recipe.student.init} does not fit student {recipe.student.name} of width "
            f"{recipe.student.width}: {len(rebuilt)} tensors differ, the first is {rebuilt[0]}; give the name and the "
            "width it was trained with"
        )
    student.load_state_dict(kept, strict=False)
    return student


def open_caches(job: Job) -> dict[str, cache.Cache]:
    """The caches that the recipe's stages learn from, each checked to hold every training image in every view drawn.

    Raises:
        FileNotFoundError: a cache is missing or incomplete.
        ValueError: a cache was fitted on images that this job validates or tests on.
    """
    opened: dict[str, cache.Cache] = {}
    held_out = {sample.key for part in (job.splits.val, *job.splits.test.values()) for sample in part}
    for name, path in job.caches.items() if job.recipe.imitates else ():
        cure = "give another cache" if job.recipe.teachers[name].cache else "run do=extract first"
        if not cache.exists(path):
            raise FileNotFoundError(f"no features of teacher {name!r} at {path}; {cure}")
        opened[name] = cache.open(path)
        wanted = [(sample.key, view) for sample in job.splits.train for view in job.recipe.augment.views]
        if missing := sum(record not in opened[name] for record in wanted):
            raise FileNotFoundError(
                f"{path} lacks {missing} of {len(wanted)} records (images times views) of teacher {name!r}; {cure}"
            )
        if leaked := len(held_out.intersection(opened[name].calibration)):
            raise ValueError(
                f"{path} was fitted on {leaked} images that are validation or test here; {cure}, or another split"
            )
    return opened
