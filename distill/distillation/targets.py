"""Targets of imitation: bands of a teacher's maps at levels of the student's pyramid, and soft masks."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from cache import Cache, Codec, FeatureSpec, MapSpec
from cache.fourier import fourier_deviation
from cache.series import cutoff
from cache.spec import BANDS, MASK
from distill.config.registry import BAND_OF
from distill.config.schema import Recipe
from students import Student


@dataclass(frozen=True)
class Target:
    """A band of a teacher's map at one level of the student's pyramid, or the teacher's soft mask."""

    teacher: str
    map: str
    band: str  # low, high, or all (both); mask: a soft mask, imitated by the logits
    stride: int  # of the student's level
    grid: tuple[int, int]
    channels: int
    deviation: float  # rms of the band in the cache's coded space
    weight: float = 1.0  # of its teacher
    split: str = "cosine"  # or fourier: the split into low and high
    parts: tuple[Target, ...] = ()  # of a fused target, one of each teacher

    def at(self, side: int) -> Target:
        """The same target for images of another side, on the grid of the student's level at that side."""
        return replace(self, grid=(side // self.stride,) * 2, parts=tuple(part.at(side) for part in self.parts))

    @property
    def sources(self) -> tuple[Target, ...]:
        """The targets to read from a cache: the target itself, or the parts of a fused one."""
        return self.parts or (self,)

    @property
    def source(self) -> tuple[str, ...]:
        """The identity of its coefficients, which targets on other grids share."""
        return (self.teacher, self.map, self.band, self.split)

    @property
    def by_fourier(self) -> bool:
        """Whether it is a Fourier band, which is not one of the code's own."""
        return self.band in BANDS and self.split == "fourier"

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands of the code that are read for it."""
        return (self.band,) if self.band in BANDS and not self.by_fourier else BANDS

    @property
    def name(self) -> str:
        """The target's name in batches and logs: `sam/neck/low/16`."""
        return f"{self.teacher}/{self.map}/{self.band}/{self.stride}"


def check_grids(recipe: Recipe, spec: FeatureSpec, *, teacher: str) -> None:
    """Raises ValueError if a grid is too coarse for the high band of the map that would be imitated on it.

    A grid that holds less than an octave above the low band cannot represent most of the high band.
    """
    for stride in (stride for band, stride in recipe.imitated if band == "high"):
        cells = min(recipe.sides) // stride
        chosen = nearest_map(spec, (recipe.image_size // stride,) * 2)
        begins = cutoff(chosen.grid)
        if cells < 2 * begins:
            raise ValueError(
                f"imitate.high asks for stride {stride}, a grid of {cells}x{cells} cells, but the high band of "
                f"{teacher}/{chosen.name} begins at {begins} half-cycles and needs at least {2 * begins} cells; "
                "choose a smaller stride or a larger image_size, or set stages.NAME.losses.imitate_high=0"
            )


def check_mask(recipe: Recipe, maps: Collection[str], *, teacher: str) -> None:
    """Raises ValueError if a teacher should have a soft mask but has none, like a network with several classes."""
    terms = recipe.mask_terms
    if terms and recipe.teachers[teacher].has_mask and MASK not in maps:
        raise ValueError(
            f"stages weigh {' and '.join(terms)}, but teacher {teacher!r} has no soft mask of one class, only "
            f"{', '.join(maps)}; name its classes with teachers.{teacher}.classes (oneformer, mask2former), or set "
            f"{' and '.join(f'stages.NAME.losses.{term}=0' for term in terms)}"
        )


def check_classes(recipe: Recipe, spec: FeatureSpec, *, teacher: str) -> None:
    """Raises ValueError if a teacher's soft masks are imitated but have another number of classes than the student."""
    terms = recipe.mask_terms
    if not terms or MASK not in spec.names:
        return
    if spec[MASK].channels != recipe.student.classes:
        raise ValueError(
            f"stages weigh {' and '.join(terms)}, but the soft masks of teacher {teacher!r} have "
            f"{spec[MASK].channels} class{'es' * (spec[MASK].channels > 1)}, and student.classes is "
            f"{recipe.student.classes}; both must be equal, and class numbers must have the same meaning"
        )


def features_of(spec: FeatureSpec) -> list[MapSpec]:
    """A teacher's maps without its soft mask."""
    return [entry for entry in spec if entry.name != MASK]


def nearest_map(spec: FeatureSpec, grid: tuple[int, int]) -> MapSpec:
    """The teacher's feature map whose number of cells is nearest to that of `grid`, by ratio."""
    cells = grid[0] * grid[1]

    def distance(entry: MapSpec) -> float:
        own = entry.grid[0] * entry.grid[1]
        return max(own / cells, cells / own)

    return min(features_of(spec), key=distance)


def note_idle_maps(recipe: Recipe, spec: FeatureSpec, *, teacher: str) -> str:
    """A sentence on the teacher's maps that no level of the student imitates at the recipe's size; empty if none."""
    used = {nearest_map(spec, (recipe.image_size // stride,) * 2).name for _, stride in recipe.imitated}
    idle = [entry.name for entry in features_of(spec) if entry.name not in used]
    if not (used and idle) or any(other.of == teacher for other in recipe.teachers.values()):  # a decoder reads all
        return ""
    return (
        f"{teacher}: at image_size={recipe.image_size} nothing imitates {' and '.join(idle)}, which other students and "
        f"sizes may; set teachers.{teacher}.strides to leave maps out"
    )


def plan_targets(recipe: Recipe, caches: Mapping[str, Cache], student: nn.Module) -> tuple[Target, ...]:
    """The targets that the recipe asks the student to imitate, from open caches.

    Raises:
        ValueError: the teacher's maps do not allow it, or a band of the code is empty.
    """
    targets: list[Target] = []
    for teacher, store in caches.items():
        weight = recipe.teachers[teacher].weight
        if weight == 0:  # another teacher reads its cache
            continue
        check_mask(recipe, store.spec.names, teacher=teacher)
        check_classes(recipe, store.spec, teacher=teacher)
        if MASK in store.spec.names and recipe.mask_terms:
            classes = store.spec[MASK].channels
            targets.append(Target(teacher, MASK, "mask", 1, (recipe.image_size,) * 2, classes, 1.0, weight))
        if features_of(store.spec) and isinstance(student, Student):
            targets += plan_features(recipe, teacher, store)
    return fuse(targets, recipe.imitate.fuse) if recipe.imitate.fuse else tuple(targets)


def plan_features(recipe: Recipe, teacher: str, store: Cache) -> Iterator[Target]:
    """The targets from one teacher's features, one per band and stride; errors as in `plan_targets`."""
    check_grids(recipe, store.spec, teacher=teacher)
    for band, stride in recipe.imitated:
        grid = (recipe.image_size // stride,) * 2
        name = nearest_map(store.spec, grid).name
        codec = store.codecs[name]
        deviation = deviation_of(codec, band, split=recipe.imitate.bands)
        if deviation == 0:
            terms = [f"stages.NAME.losses.{term}=0" for term in recipe.terms if BAND_OF.get(term) == band]
            raise ValueError(
                f"the {band} band of {teacher}/{name} is empty at fidelity {store.fidelity}; set "
                f"{' and '.join(terms)}, or set a higher cache.fidelity"
            )
        weight = recipe.teachers[teacher].weight
        yield Target(teacher, name, band, stride, grid, codec.components, deviation, weight, recipe.imitate.bands)


def deviation_of(codec: Codec, band: str, *, split: str) -> float:
    """The expected root mean square of a band of a map (or of both) over components and cells in the coded space."""
    if band == "all":
        return math.hypot(*codec.band_deviation.values())
    return codec.band_deviation[band] if split == "cosine" else fourier_deviation(codec, band)


def plan_inputs(recipe: Recipe, caches: Mapping[str, Cache]) -> tuple[Target, ...]:
    """The inputs of a task decoder: every map of its teacher on its own grid, finest first; empty for a student."""
    if not recipe.reads_features:
        return ()
    ((teacher, store),) = caches.items()
    maps = sorted(features_of(store.spec), key=lambda entry: -entry.grid[0] * entry.grid[1])
    codecs = store.codecs
    return tuple(
        Target(teacher, entry.name, "all", entry.stride, entry.grid, codecs[entry.name].components, 1.0)
        for entry in maps
    )


def fuse(targets: Iterable[Target], channels: int) -> tuple[Target, ...]:
    """The targets with the features of all teachers fused, one per band and stride; soft masks stay as they are.

    A fused map has `channels` channels; a teacher's weight multiplies its maps.
    """
    targets = tuple(targets)
    features = [target for target in targets if target.band != "mask"]
    fused = []
    for band, stride in dict.fromkeys((target.band, target.stride) for target in features):
        parts = tuple(target for target in features if (target.band, target.stride) == (band, stride))
        teachers = "+".join(dict.fromkeys(part.teacher for part in parts))
        energy = sum(part.channels * (part.weight * part.deviation) ** 2 for part in parts)
        deviation = math.sqrt(energy / sum(part.channels for part in parts))
        first = parts[0]
        fused.append(
            Target(teachers, "fused", band, stride, first.grid, channels, deviation, split=first.split, parts=parts)
        )
    return (*(target for target in targets if target.band == "mask"), *fused)


def as_target(codec: Codec, target: Target, seen: Tensor) -> Tensor:
    """A map (..., K, *grid) in the coded space as a target: unchanged, or as the logits of a soft mask.

    Logits are (..., *grid) for one class, (..., classes, *grid) for several.
    """
    if target.band != "mask":
        return seen
    logits = codec.inverse(seen)
    return logits.squeeze(-3) if target.channels == 1 else logits


def fuse_maps(target: Target, maps: Sequence[Tensor]) -> Tensor:
    """A fused target (..., C, h, w): a fixed random 1x1 convolution of its parts' maps (..., K, h, w), in their order.

    The paper trains this convolution together with the student and lets the gradient through it, so the target drifts
    to what is easy to imitate. Here it is fixed: a random projection that nearly keeps distances (Johnson and
    Lindenstrauss, 1984) and the mean variance over channels.
    """
    stacked = torch.cat([part.weight * values for part, values in zip(target.parts, maps, strict=True)], dim=-3)
    matrix = _projection(target.channels, stacked.shape[-3]).to(stacked)
    return torch.einsum("ck,...khw->...chw", matrix, stacked)


@lru_cache(maxsize=8)
def _projection(outputs: int, inputs: int) -> Tensor:
    """Normal numbers (outputs, inputs) of variance 1 / inputs, the same in every run."""
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(0)) / math.sqrt(inputs)
