"""The forward pass of a teacher: batches read ahead by threads, halved if memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cache.shard import Record
from distill.config.schema import TeacherRecipe
from distill.data.prompts import policy_of
from distill.extraction.plan import Input
from distill.runtime.threads import own_cores, small_workers

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}  # of `teachers.NAME.precision`
READERS = 8  # at most: threads that read and preprocess images while the last batch passes the teacher

logger = logging.getLogger("bandpass")


class Batch(NamedTuple):
    """Preprocessed images of N records, the input of a forward pass."""

    records: list[Record]
    pixels: Tensor  # (N, 3, S, S)
    valid: Tensor  # (N, 2): shares of the padded height and width that the image covers
    prompts: list[np.ndarray] | None  # one per image, for a teacher with prompts


def load_teacher(recipe: TeacherRecipe, origin: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401
    """The teacher of a recipe; its library is imported here and nowhere else.

    Args:
        recipe: of the teacher.
        origin: the recipe and runs that made it, a part of its identity (`origin_of`).

    Raises:
        ValueError: no weights are named.
        FileNotFoundError: the weights do not exist.
    """
    import teachers

    policy = None if recipe.prompts is None else policy_of(recipe)
    teacher = teachers.load(
        recipe.adapter,
        weights=recipe.weights,
        model=recipe.model,
        strides=tuple(recipe.strides) or None,
        levels=tuple(recipe.levels) or None,
        image_size=recipe.image_size,
        classes=tuple(recipe.classes) or None,
        norm=recipe.norm,
        mean=tuple(recipe.mean) or None,
        std=tuple(recipe.std) or None,
        variant=recipe.variant,
    )
    teacher.record(origin or {})
    return teacher if policy is None else teacher.prompted(policy)


def rounded_to_half(maps: Tensor) -> Tensor:
    """Maps (N, C, h, w) as calibration keeps them: in half precision, except images whose values exceed its range.

    Those are kept unchanged; the tensor is then float32, with the other images rounded to half precision.
    """
    half = maps.half()
    fits = half.isfinite().flatten(1).all(dim=1)
    if bool(fits.all()):
        return half
    return torch.where(fits[:, None, None, None], half.float(), maps)


def batches_of(
    records: Sequence[Record],
    read: Callable[[Record], Input],
    *,
    teacher: Any,  # noqa: ANN401
    size: int,
) -> Iterator[Batch]:
    """Preprocessed batches of `size` records, read by threads one batch ahead.

    Args:
        records: in the wanted order.
        read: returns the image and the prompt of a record.
        teacher: the teacher whose preprocessing is applied.
        size: records per batch; the last may have fewer.
    """

    def prepare(record: Record) -> tuple[Any, np.ndarray | None]:
        image, prompt = read(record)
        return teacher.prepare(image), prompt

    parts = [list(records[first : first + size]) for first in range(0, len(records), size)]
    with small_workers(min(READERS, own_cores())) as pool:
        ahead = [pool.submit(prepare, record) for record in parts[0]] if parts else []
        for number, part in enumerate(parts):
            ready, prompts = zip(*(future.result() for future in ahead), strict=True)
            following = parts[number + 1] if number + 1 < len(parts) else []
            ahead = [pool.submit(prepare, record) for record in following]
            pixels = torch.stack([one.pixels for one in ready])
            valid = torch.tensor([one.valid for one in ready])
            yield Batch(part, pixels, valid, None if prompts[0] is None else list(prompts))


class FeatureExtractor:
    """A teacher's forward pass over batches, in smaller parts if memory runs out.

    Attributes:
        size: images per forward pass; halved whenever the device's memory runs out, and kept from then on.
    """

    def __init__(self, teacher: Any, *, size: int) -> None:  # noqa: ANN401
        self.teacher, self.size = teacher, size

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """The teacher's maps (N, C, h, w) of a batch, on the CPU.

        Raises:
            ValueError: not even one image fits into the device's memory.
        """
        while (maps := self.attempt(batch)) is None:
            if self.size == 1:
                raise ValueError(
                    f"the teacher and one image do not fit into the memory of {self.teacher.device}; use a smaller "
                    "teacher or teachers.NAME.image_size, end other work on it, or extract on another machine"
                )
            self.size = max(1, min(self.size, len(batch.records)) // 2)
            logger.warning("out of memory; the teacher continues with %d images at a time", self.size)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return maps

    def attempt(self, batch: Batch) -> dict[str, Tensor] | None:
        """The maps (N, C, h, w) of a batch; None if memory ran out."""
        parts = []
        try:
            for first in range(0, len(batch.records), self.size):
                part = slice(first, first + self.size)
                prompts = {} if batch.prompts is None else {"prompts": batch.prompts[part]}
                maps = self.teacher.forward(batch.pixels[part], batch.valid[part], **prompts)
                parts.append({name: value.cpu() for name, value in maps.items()})
        except torch.OutOfMemoryError:
            return None
        return parts[0] if len(parts) == 1 else {name: torch.cat([p[name] for p in parts]) for name in parts[0]}
