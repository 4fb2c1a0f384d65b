"""A training before its first step, with generated frames and drawn maps, for benchmarks of its steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cache
from cache.spec import MapSpec
from distill.bench.inputs import drawn_maps, given, images_of, write_cache
from distill.bench.request import Request
from distill.config.schema import AugmentRecipe, OptimiserRecipe, Recipe, StageRecipe, StudentRecipe, TeacherRecipe
from distill.data.sample import Splits
from distill.runs.accelerator import start_accelerator
from distill.runs.run import Run
from distill.training.plan import plan_training
from distill.training.state import TrainingState, build_state

IMAGES = 32
STEPS = 100_000  # more than are ever done
TERMS = {"segment": 1.0, "imitate_low": 1.0, "imitate_high": 0.5}  # low at strides 16 and 8, high at 8


@dataclass(frozen=True)
class Case:
    """A student at an image size, and the limit for its step with cached targets."""

    student: str
    width: int
    size: int  # pixels a side
    batch: int
    map: MapSpec
    at_most: float | None

    @property
    def title(self) -> str:
        """The name of the case in the table."""
        shape = " x ".join(map(str, (self.map.channels, *self.map.grid)))
        return f"{self.student} of width {self.width} at {self.size} px, targets from {shape}"


def state_of(request: Request, case: Case, folder: Path, *, distilled: bool) -> TrainingState:
    """A training before its first step, with generated frames (or `images`) and drawn maps."""
    name = f"{case.map.name}-{distilled}"
    size = (case.size * 3 // 4, case.size)
    samples = given(images_of(request, max(IMAGES, case.batch), size=size))
    features = folder / "features"
    if distilled and not cache.exists(features):
        maps = drawn_maps(len(samples), case.map)
        write_cache(features, {case.map: maps}, keys=[sample.key for sample in samples])
    recipe = Recipe(
        name=name,
        image_size=case.size,
        precision=request.options.get("precision", "bf16"),
        teachers={"drawn": TeacherRecipe(weights="drawn", cache=str(features), views=["identity"])}
        if distilled
        else {},
        student=StudentRecipe(name=case.student, width=case.width),
        augment=AugmentRecipe(views=["identity"]),
        optimiser=OptimiserRecipe(batch_size=case.batch),
        stages={"joint": StageRecipe(steps=STEPS, losses=TERMS if distilled else {"segment": 1.0})},
    )
    caches = {"drawn": features} if distilled else {}
    splits = Splits(train=samples, val=(), test={})
    return build_state(plan_training(Run(recipe, splits, caches, folder / name, start_accelerator(recipe))))
