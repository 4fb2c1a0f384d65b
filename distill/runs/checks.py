"""Checks before the first step: that the recipe fits the student, the processes and the weights to start from."""

from __future__ import annotations

import torch

import students
from distill.config.schema import SIDE_STEP, Recipe
from distill.metrics.names import FIGURES, OVERLAPS
from distill.runs.build import create_student
from distill.runs.leakage import check_leakage, check_published_teachers, check_teachers
from distill.runs.run import Run
from distill.runs.teacher_runs import missing_teachers
from students import Student
from students.contract import check_contract

EXAMPLE_WEIGHTS = {
    "sam": "facebook/sam-vit-base",
    "fpn": "facebook/sam2.1-hiera-tiny",
    "sam2": "facebook/sam2.1-hiera-tiny",
    "dinov2": "facebook/dinov2-base",
    "transformers": "facebook/dinov3-vitb16-pretrain-lvd1689m",
    "mask2former": "facebook/mask2former-swin-small-coco-panoptic",
    "oneformer": "shi-labs/oneformer_coco_swin_large",
    "timm": "timm/tf_efficientnet_b0.in1k (not measured; for the measured weights type "
    "`distill weights do=fetch name=tracer-te0-efficientnet-b0`)",
}


def check(run: Run) -> None:
    """Refuses a run that cannot succeed, before any costly work.

    Raises:
        ValueError: the student cannot be made, or does not fit the recipe.
    """
    recipe = run.recipe
    check_teacher_weights(recipe)
    check_selection(recipe)
    check_shares(run)
    check_unlabelled(run)
    check_leakage(recipe, run.splits)
    check_teachers(run)
    check_published_teachers(run)
    if not recipe.reads_features:
        check_student(recipe)
    for _, one in missing_teachers(run):  # the others were checked before they were trained
        check(one)


def check_student(recipe: Recipe) -> None:
    """Raises ValueError if the student cannot be made, or does not fit the image size and the strides."""
    student = create_student(recipe)
    if recipe.student.name not in students.STUDENTS:
        check_contract(student, image_size=recipe.image_size)
    check_student_strides(recipe, student)
    check_sides(recipe, student)


def check_teacher_weights(recipe: Recipe) -> None:
    """Raises ValueError for a teacher with neither weights nor a cache."""
    for name, teacher in recipe.consulted.items():
        if teacher.weights is None and teacher.cache is None:
            if teacher.adapter == "task":
                raise ValueError(
                    f"teachers.{name}.weights is not given; recipe=adapt_teacher trains a task teacher and publishes "
                    f"it; then set teachers.{name}.weights=DIR"
                )
            raise ValueError(
                f"teachers.{name}.weights is not given; give a file, a folder or a hub id, for example "
                f"teachers.{name}.weights={EXAMPLE_WEIGHTS.get(teacher.adapter, 'FILE')}, or teachers.{name}.cache=DIR"
            )


def check_selection(recipe: Recipe) -> None:
    """Raises ValueError if `evaluate.select` is not a metric of validation."""
    known = FIGURES if recipe.student.classes == 1 else OVERLAPS
    if recipe.evaluate.select not in known:
        raise ValueError(f"evaluate.select is {recipe.evaluate.select!r}, but must be one of {', '.join(known)}")


def check_shares(run: Run) -> None:
    """Raises ValueError if a batch cannot be divided equally among processes, or among the parts of a step."""
    processes, batch = run.accelerator.num_processes, run.recipe.optimiser.batch_size
    parts = run.recipe.optimiser.accumulate
    if batch % processes:
        raise ValueError(f"optimiser.batch_size is {batch}, but must be a multiple of the {processes} processes")
    for span in run.spans:
        labelled = min(batch - span.unlabelled, len(run.splits.train))
        if labelled % processes or span.unlabelled % processes:
            raise ValueError(
                f"a batch of stage {span.name!r} has {labelled} labelled and {span.unlabelled} unlabelled images, but "
                f"each must be a multiple of the {processes} processes; change optimiser.batch_size or "
                "data.unlabelled_share"
            )
        if (own := (labelled + span.unlabelled) // processes) % parts:
            raise ValueError(
                f"a batch of stage {span.name!r} has {own} images for each process, but must be a multiple of the "
                f"{parts} parts (optimiser.accumulate); change it or optimiser.batch_size"
            )


def check_unlabelled(run: Run) -> None:
    """Raises ValueError if a stage has mean_teacher, but no image without a mask."""
    for span in run.spans:
        if span.stage.averages and span.stage.runs and not span.unlabelled:
            raise ValueError(
                f"stages.{span.name} weighs mean_teacher, but its batches hold no images without masks; name some "
                "with data.unlabelled=DIR, hide masks with data.labels=25%, or set data.unlabelled_share above 0"
            )


def check_student_strides(recipe: Recipe, student: Student) -> None:
    """Raises ValueError for a stride that the student does not have, or that does not divide the image size."""
    for band, stride in recipe.imitated:
        if stride not in student.strides:
            raise ValueError(
                f"imitate.{band} asks for stride {stride}, but student {recipe.student.name} has strides "
                f"{', '.join(map(str, student.strides))}"
            )
        if recipe.image_size % stride:
            raise ValueError(f"image_size is {recipe.image_size}, but must be a multiple of {stride} (imitate.{band})")


def check_sides(recipe: Recipe, student: Student) -> None:
    """Shows the student an image of every size in training, and one of `image_size`.

    Raises:
        ValueError: the student refuses one of them, as some networks need a certain size, or pads it, so that its
            maps have other cells than the maps that they imitate.
    """
    student.eval()
    side = recipe.image_size
    imitated = {stride for _, stride in recipe.imitated}
    try:
        with torch.no_grad():
            for side in sorted({*recipe.sides, recipe.image_size}):
                pyramid = student.features(torch.zeros(1, 3, side, side))
                for stride in sorted(imitated) if side in recipe.sides else ():
                    rows, columns = pyramid[student.level_of(stride)].shape[-2:]
                    if (rows, columns) != (side // stride,) * 2:
                        below = side // SIDE_STEP * SIDE_STEP
                        raise ValueError(
                            f"its map of stride {stride} then has {rows} x {columns} cells, but what it imitates has "
                            f"{side // stride} x {side // stride}; multiples of {SIDE_STEP} fit, such as "
                            f"{below or SIDE_STEP} and {below + SIDE_STEP}"
                        )
    except ValueError as error:
        asked = f"image_size={recipe.image_size}, augment.sizes={recipe.augment.sizes}"
        raise ValueError(
            f"student {recipe.student.name} does not take {side} x {side} pixels ({asked}): {error}"
        ) from error
