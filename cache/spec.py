"""Names, channels, grids and strides of a teacher's maps, and the views of an image."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    Array = TypeVar("Array", Tensor, np.ndarray)

VIEWS = ("identity", "hflip", "vflip", "rot180")
"""The views of an image. Their order is part of the file format: a shard stores the position in this tuple."""

BANDS = ("low", "high")
"""The bands of a code."""

MASK = "mask"
"""The name of a map that is a soft mask: one channel of logits, clipped at plus and minus LOGIT_CLIP. With several
classes there is one channel for each, with their mean subtracted first."""

LOGIT_CLIP = 6.0  # beyond it a sigmoid is within 0.25 % of 0 or 1, and a cosine series would spend its bytes there

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,199}")  # a codec's file is named after its map


@dataclass(frozen=True)
class MapSpec:
    """One map of a teacher: `channels` numbers for each cell of a `grid` (rows, columns) that covers the image.

    `stride` is the side of a cell in pixels of the teacher's input.
    """

    name: str
    channels: int
    grid: tuple[int, int]
    stride: int

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"expected a map name of lower-case letters, digits, '_', '.', '-', got {self.name!r}; rename the map"
            )
        if min(self.channels, *self.grid, self.stride) < 1 or len(self.grid) != 2:
            raise ValueError(f"expected positive channels, grid (rows, columns) and stride for a map, got {self}")


@dataclass(frozen=True)
class FeatureSpec:
    """The maps that a teacher returns for one image, in order."""

    maps: tuple[MapSpec, ...]

    def __post_init__(self) -> None:
        if not self.maps or len(set(self.names)) != len(self.maps):
            raise ValueError(f"expected at least one map, each under its own name, got {list(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the maps, in order."""
        return tuple(map_.name for map_ in self.maps)

    def __getitem__(self, name: str) -> MapSpec:
        for map_ in self.maps:
            if map_.name == name:
                return map_
        raise KeyError(f"unknown map {name!r}; choose from {', '.join(self.names)}")

    def __iter__(self) -> Iterator[MapSpec]:
        return iter(self.maps)

    def check(self, maps: Mapping[str, Tensor]) -> None:
        """Raises ValueError unless `maps` holds exactly this spec's maps, each (batch, channels, rows, columns)."""
        if set(maps) != set(self.names):
            raise ValueError(f"expected the maps {sorted(self.names)}, got {sorted(maps)}")
        batch = next(iter(maps.values())).shape[:1]
        for map_ in self.maps:
            got = tuple(maps[map_.name].shape)
            if len(got) != 4 or got[:1] != batch or got[1:] != (map_.channels, *map_.grid):
                shape = f"(batch, {map_.channels}, {map_.grid[0]}, {map_.grid[1]})"
                raise ValueError(f'expected features of shape {shape} for map "{map_.name}", got {got}')

    def to_json(self) -> list[dict[str, Any]]:
        """The spec as plain lists, numbers and strings."""
        return [{**asdict(map_), "grid": list(map_.grid)} for map_ in self.maps]

    @classmethod
    def from_json(cls, data: Sequence[Mapping[str, Any]]) -> FeatureSpec:
        """The inverse of `to_json`."""
        return cls(tuple(MapSpec(d["name"], d["channels"], (d["grid"][0], d["grid"][1]), d["stride"]) for d in data))


def flip(array: Array, view: str, axes: tuple[int, int] = (-2, -1)) -> Array:
    """A contiguous array (..., H, W), flipped as `view` says; its own inverse. `axes`: other row and column axes."""
    if view not in VIEWS:
        raise ValueError(f"unknown view {view!r}; choose from {', '.join(VIEWS)}")
    turned = {"identity": (), "hflip": axes[1:], "vflip": axes[:1], "rot180": axes}[view]
    if isinstance(array, np.ndarray):
        return np.ascontiguousarray(np.flip(array, turned)) if turned else array
    return array.flip(turned) if turned else array
