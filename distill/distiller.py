"""Student and projections: what a training step runs. A student without its projections is what is published."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from cache import Cache, FeatureSpec, MapSpec
from cache.series import cutoff
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


def check_strides(recipe: Recipe, student: Student) -> None:
    """Raises ValueError for a stride that the student does not have, or that does not divide the image size."""
    for band in bands_of(recipe):
        for stride in getattr(recipe.imitate, band):
            if stride not in student.strides:
                raise ValueError(
                    f"imitate.{band} asks for stride {stride}, but student {recipe.student.name} has strides "
                    f"{', '.join(map(str, student.strides))}"
                )
            if recipe.image_size % stride:
                raise ValueError(
                    f"image_size is {recipe.image_size}, but must be a multiple of {stride} (imitate.{band})"
                )


def check_grids(recipe: Recipe, spec: FeatureSpec, *, teacher: str) -> None:
    """Raises ValueError for a grid too coarse for the high band of the map that would be imitated there.

    A grid that holds less than an octave above the low band would mostly imitate what is not there.
    """
    for stride in recipe.imitate.high if "high" in bands_of(recipe) else ():
        cells = recipe.image_size // stride
        chosen = nearest_map(spec, (cells, cells))
        begins = cutoff(chosen.grid)
        if cells < 2 * begins:
            raise ValueError(
                f"imitate.high asks for stride {stride}, a grid of {cells}x{cells} cells, but the high band of "
                f"{teacher}/{chosen.name} begins at {begins} half-cycles and needs at least {2 * begins} cells; "
                "choose a smaller stride or a larger image_size, or set stages.NAME.losses.imitate_high=0"
            )


def bands_of(recipe: Recipe) -> list[str]:
    """The bands that any stage imitates."""
    return [band for band in ("low", "high") if f"imitate_{band}" in recipe.terms]


def nearest_map(spec: FeatureSpec, grid: tuple[int, int]) -> MapSpec:
    """The teacher's map whose number of cells is nearest to that of `grid`, by ratio."""
    cells = grid[0] * grid[1]

    def distance(entry: MapSpec) -> float:
        own = entry.grid[0] * entry.grid[1]
        return max(own / cells, cells / own)

    return min(spec.maps, key=distance)


def plan_targets(recipe: Recipe, caches: Mapping[str, Cache], student: Student) -> tuple[Target, ...]:
    """What the recipe asks the student to imitate, from caches that are open.

    Raises:
        ValueError: the student's levels or the teacher's maps do not allow it, or a band of the code is empty.
    """
    check_strides(recipe, student)
    targets = []
    for teacher, store in caches.items():
        check_grids(recipe, store.spec, teacher=teacher)
        for band in bands_of(recipe):
            for stride in getattr(recipe.imitate, band):
                grid = (recipe.image_size // stride,) * 2
                name = nearest_map(store.spec, grid).name
                codec = store.codecs[name]
                deviation = codec.band_deviation[band]
                if deviation == 0:
                    raise ValueError(
                        f"the {band} band of {teacher}/{name} is empty at fidelity {store.fidelity}; set "
                        f"stages.NAME.losses.imitate_{band}=0, or ask for a higher cache.fidelity"
                    )
                targets.append(Target(teacher, name, band, stride, grid, codec.components, deviation))
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
