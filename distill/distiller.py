"""Student and projections: what a training step runs. A student without its projections is what is published."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from cache import Cache
from distill.recipe import Recipe
from students import Student


@dataclass(frozen=True)
class Target:
    """One thing to imitate: a band of a teacher's map, at one level of the student's pyramid."""

    teacher: str
    map: str
    band: str  # low or high
    stride: int  # of the student's level
    grid: tuple[int, int]
    channels: int
    deviation: float  # rms of the band in the cache's coded space

    @property
    def name(self) -> str:
        """Identifies the target in batches and logs: `sam/neck/low/16`."""
        return f"{self.teacher}/{self.map}/{self.band}/{self.stride}"

    @property
    def term(self) -> str:
        """The loss term that asks for it."""
        return f"imitate_{self.band}"


def nearest_map(cache: Cache, grid: tuple[int, int]) -> str:
    """The teacher's map whose number of cells is nearest to that of `grid`, by ratio."""
    cells = grid[0] * grid[1]

    def distance(name: str) -> float:
        rows, columns = cache.spec[name].grid
        return max(rows * columns / cells, cells / (rows * columns))

    return min(cache.spec.names, key=distance)


def plan_targets(recipe: Recipe, caches: Mapping[str, Cache], student: Student) -> tuple[Target, ...]:
    """What the recipe asks the student to imitate, from caches that are open.

    Raises:
        ValueError: a stride that the student does not have, an image size it does not divide, or a grid too coarse for
            the high band: one that holds less than an octave above the low band would mostly imitate what is not there.
    """
    targets = []
    for teacher, cache in caches.items():
        for band, strides in (("low", recipe.imitate.low), ("high", recipe.imitate.high)):
            for stride in strides:
                if stride not in student.strides:
                    raise ValueError(
                        f"imitate.{band} asks for stride {stride}, but student {recipe.student.name} has strides "
                        f"{', '.join(map(str, student.strides))}"
                    )
                if recipe.image_size % stride:
                    raise ValueError(
                        f"image_size is {recipe.image_size}, but must be a multiple of {stride} (imitate.{band})"
                    )
                grid = (recipe.image_size // stride,) * 2
                name = nearest_map(cache, grid)
                codec = cache.codecs[name]
                if band == "high" and min(grid) < 2 * codec.cutoff:
                    raise ValueError(
                        f"imitate.high asks for stride {stride}, a grid of {grid[0]}x{grid[1]} cells, but the high "
                        f"band of {teacher}/{name} begins at {codec.cutoff} half-cycles and needs at least "
                        f"{2 * codec.cutoff} cells; choose a smaller stride or a larger image_size"
                    )
                if codec.band_deviation[band] == 0:
                    raise ValueError(
                        f"the {band} band of {teacher}/{name} is empty at fidelity {cache.fidelity}; set "
                        f"imitate.{band}=[] or ask for a higher cache.fidelity"
                    )
                targets.append(Target(teacher, name, band, stride, grid, codec.components, codec.band_deviation[band]))
    return tuple(targets)


class Distiller(nn.Module):
    """A student with one linear projection (1x1 convolution) for each target, on the student's side."""

    def __init__(self, student: Student, targets: Iterable[Target]) -> None:
        super().__init__()
        self.student = student
        self.levels = {target.name: student.strides.index(target.stride) for target in targets}
        self.projections = nn.ModuleDict(
            {
                target.name: nn.Conv2d(student.channels[self.levels[target.name]], target.channels, 1)
                for target in targets
            }
        )

    def forward(self, images: Tensor, names: tuple[str, ...] = ()) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (N, K, H, W), and the projected features of the targets in `names`."""
        pyramid = self.student.features(images)
        logits = self.student.decode(pyramid, (int(images.shape[-2]), int(images.shape[-1])))
        return logits, {name: self.projections[name](pyramid[self.levels[name]]) for name in names}
