"""What must hold before the first step: a recipe that fits the student, weights to start from, caches to learn from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import cache
import students
from cache.spec import MASK
from distill.config.command import command_for
from distill.config.schedule import spans_of
from distill.config.schema import SIDE_STEP, Recipe, TeacherRecipe
from distill.data.prompts import policy_of, record_key
from distill.distillation.distiller import bands_of, check_strides, plan_inputs
from distill.runs.leakage import check_start
from distill.runs.run import Run
from students.contract import check_contract
from students.task_decoder import TaskDecoder

logger = logging.getLogger("bandpass")

EXAMPLE_WEIGHTS = {
    "sam": "facebook/sam-vit-base",
    "sam2": "facebook/sam2.1-hiera-tiny",
    "dinov2": "facebook/dinov2-base",
    "dinov3": "facebook/dinov3-vitb16-pretrain-lvd1689m",
    "mask2former": "facebook/mask2former-swin-small-coco-panoptic",
    "oneformer": "shi-labs/oneformer_coco_swin_large",
    "timm": "timm/tf_efficientnet_b0.in1k (not measured; measured is what "
    "`distill weights do=fetch name=tracer-te0-efficientnet-b0` gets)",
}


def check(run: Run) -> None:
    """What can be known of a run before any teacher looks at an image: cheap mistakes are told before costly work.

    Raises:
        ValueError: the student cannot be made, or does not fit what the recipe asks of it.
    """
    recipe, processes = run.recipe, run.accelerator.num_processes
    for name, teacher in recipe.consulted.items():
        if teacher.weights is None and teacher.cache is None:
            if teacher.adapter == "task":
                raise ValueError(
                    f"teachers.{name}.weights is not given; recipe=adapt_teacher trains a task teacher and publishes "
                    f"it; then teachers.{name}.weights=DIR"
                )
            raise ValueError(
                f"teachers.{name}.weights is not given; give a file, a folder or a hub id, for example "
                f"teachers.{name}.weights={EXAMPLE_WEIGHTS.get(teacher.adapter, 'FILE')}, or teachers.{name}.cache=DIR"
            )
    if recipe.optimiser.batch_size % processes:
        raise ValueError(
            f"optimiser.batch_size is {recipe.optimiser.batch_size}, but must be a multiple of the {processes} "
            "processes"
        )
    check_shares(run)
    check_start(run)
    if recipe.reads_features:
        return
    student = create_student(recipe)
    if recipe.student.name not in students.STUDENTS:
        check_contract(student, image_size=recipe.image_size)
    check_strides(recipe, student)
    check_sides(recipe, student)


def check_sides(recipe: Recipe, student: students.Student) -> None:
    """Shows the student an image of every side that training has, and one of `image_size`.

    Raises:
        ValueError: it refuses one of them, as networks do that need a certain size, or at least one; or pads it, so
            that its maps have other cells than what they are to imitate.
    """
    student.eval()
    side = recipe.image_size
    imitated = {stride for band in bands_of(recipe) for stride in getattr(recipe.imitate, band)}
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


def check_shares(run: Run) -> None:
    """Raises ValueError where the processes cannot have equal shares of a batch's labelled and unlabelled images."""
    processes, splits = run.accelerator.num_processes, run.splits
    for span in spans_of(run.recipe, labelled=len(splits.train), unlabelled=len(splits.unlabelled)):
        labelled = min(run.recipe.optimiser.batch_size - span.unlabelled, len(splits.train))
        if labelled % processes or span.unlabelled % processes:
            raise ValueError(
                f"a batch of stage {span.name!r} has {labelled} labelled and {span.unlabelled} unlabelled images, but "
                f"each must be a multiple of the {processes} processes; change optimiser.batch_size or "
                "data.unlabelled_share"
            )


def init_arguments(recipe: Recipe) -> dict[str, Any]:
    """The arguments of the student's class that a recipe gives."""
    return {"width": recipe.student.width, "classes": recipe.student.classes, **recipe.student.options}


def build_student(recipe: Recipe, caches: Mapping[str, cache.Cache]) -> Any:  # noqa: ANN401
    """A network of the recipe's kind with random weights: a student, or a task decoder that fits its teacher's maps.

    Raises:
        ValueError: its class does not take what the recipe gives.
    """
    if recipe.reads_features:
        inputs = plan_inputs(recipe, caches)
        return TaskDecoder(
            channels=tuple(target.channels for target in inputs),
            grids=tuple(target.grid for target in inputs),
            **init_arguments(recipe),
        )
    return students.create(recipe.student.name, **init_arguments(recipe))


def create_student(recipe: Recipe, caches: Mapping[str, cache.Cache] | None = None) -> Any:  # noqa: ANN401
    """The student to train: fresh from the seed, with a pretrained backbone, or from a published one.

    Raises:
        ValueError: the published student (`student.init`) is of another shape than the recipe asks for, or the
            student has no backbone for `student.encoder`.
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
            f"{recipe.student.width}: {len(rebuilt)} tensors differ, the first is {rebuilt[0]}; give the name and the "
            "width it was trained with"
        )
    student.load_state_dict(kept, strict=False)
    return student


def open_caches(run: Run, *, learning: bool = True) -> dict[str, cache.Cache]:
    """The caches that a run reads, each checked to hold what is read of it.

    Args:
        run: whose caches are opened.
        learning: every training image is wanted in every view drawn; else every validation and test image as it is.

    Raises:
        FileNotFoundError: a cache is missing or incomplete.
        ValueError: a cache was fitted on images that this run validates or tests on, or on masks it should not know.
    """
    opened: dict[str, cache.Cache] = {}
    splits = run.splits
    held_out = {sample.key for part in (splits.val, *splits.test.values()) for sample in part}
    for name, path in run.caches.items():
        wanted = read_records(run, name, learning=learning)
        cure = "give another cache" if run.recipe.teachers[name].cache else f"type {command_for('extract')} first"
        if not cache.exists(path):
            raise FileNotFoundError(f"no features of teacher {name!r} at {path}; {cure}")
        opened[name] = cache.open(path)
        check_prompts(path, opened[name], run.recipe.teachers[name])
        if missing := sum(record not in opened[name] for record in wanted):
            raise FileNotFoundError(
                f"{path} lacks {missing} of {len(wanted)} records (images times views) of teacher {name!r}; {cure}"
            )
        if leaked := len(held_out.intersection(opened[name].calibration)):
            raise ValueError(
                f"{path} was fitted on {leaked} images that are validation or test here; {cure}, or another split"
            )
        check_labels(run, path, opened[name])
    return opened


def read_records(run: Run, name: str, *, learning: bool) -> list[tuple[str, str]]:
    """The records that are read of a teacher's cache; see `open_caches`."""
    splits, teacher = run.splits, run.recipe.teachers[name]
    if not learning:
        return [(sample.key, "identity") for part in (splits.val, *splits.test.values()) for sample in part]
    keys = sorted({record_key(teacher, sample) for sample in (*splits.train, *splits.unlabelled)})
    wanted = [(key, view) for key in keys for view in run.recipe.augment.views]
    if run.recipe.reads_features:  # which is validated from the cache while it learns
        wanted += [(sample.key, "identity") for sample in splits.val]
    return wanted


def check_prompts(path: Path, store: cache.Cache, teacher: TeacherRecipe) -> None:
    """Raises ValueError where a given cache was asked in another way than the recipe says: it holds other records."""
    said = store.identity.get("prompts", "").split("; soft mask")[0]
    if said != ("" if teacher.prompts is None else policy_of(teacher)):
        raise ValueError(
            f"{path} was asked with prompts {said or 'none'!r}, but the recipe says teachers.NAME.prompts="
            f"{teacher.prompts}, jitter={teacher.jitter:g}, points={teacher.points}; say it as it was, or extract anew"
        )


def check_labels(run: Run, path: Path, store: cache.Cache) -> None:
    """Refuses a teacher that learned from masks which this run must not know, as far as its cache says what it saw.

    Raises:
        ValueError: it learned from masks of images that are held out, or that have no mask here.
    """
    if "prompts" in store.identity:  # a record's key says which mask asked for it
        return
    seen = store.calibration if store.identity["teacher"] == "task" else store.identity.get("labelled")
    if seen is None:
        if MASK in store.spec.names:
            logger.warning(
                "%s does not say which masks its teacher learned from; see that none of them is tested here", path
            )
        return
    if foreign := len(set(seen) - {sample.key for sample in run.splits.train}):
        raise ValueError(
            f"the teacher behind {path} learned from the masks of {foreign} images that have no mask here, or are held "
            "out; train it with the same data.split, data.labels and data.seed"
        )
