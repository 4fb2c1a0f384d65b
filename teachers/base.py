"""The base class of teachers: images in, named maps in the one geometric frame out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from cache.spec import FeatureSpec
from teachers.choice import Choice
from teachers.frame import resample
from teachers.preprocess import Letterbox, MinMaxResize, Prepared, SquareResize

Self = TypeVar("Self", bound="Teacher")


class Teacher(ABC):
    """A frozen network that turns images into named feature maps.

    A subclass defines `load`, and also `maps` unless its network returns a list of them. This class handles the frame,
    the checks, freezing and identity for all teachers.

    Attributes:
        example: a hub id of weights that messages may recommend.
        name: the teacher's name in the registry.
        spec: the maps that `forward` returns.
        licence: licence of the weights, as an SPDX identifier where it is known.
        preprocessing: image -> Prepared; picklable, so that workers need not hold the teacher.
        network: the frozen network, in eval mode.
        device: where the network computes.
        dtype: precision of the network's arithmetic; maps are float32 in any case.
    """

    example: ClassVar[str]

    def __init__(
        self,
        name: str,
        network: nn.Module,
        *,
        spec: FeatureSpec,
        preprocessing: Letterbox | MinMaxResize | SquareResize,
        facts: Mapping[str, Any],
        licence: str,
    ) -> None:
        """Freezes the network, which may be any module, permanently.

        `facts` hold everything that the features depend on, JSON-able: model, layers, sha256 of the weights. The other
        arguments are described as attributes.
        """
        self.name = name
        self.spec = spec
        self.licence = licence
        self.preprocessing = preprocessing
        self.network = network.eval().requires_grad_(False)
        self.device = torch.device("cpu")
        self.dtype = torch.float32
        self._facts = dict(facts)

    @classmethod
    @abstractmethod
    def load(cls, weights: str | Path, choice: Choice) -> Teacher:
        """Loads the teacher; options and errors as in `teachers.load`."""

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that the features depend on, JSON-able; teachers with equal identities give equal features.

        `precision` is float32 (without TF32) or bfloat16.
        """
        return {
            "teacher": self.name,
            **self._facts,
            "image_size": self.preprocessing.size,
            "preprocessing": self.preprocessing.description,
            "precision": str(self.dtype).removeprefix("torch."),
            "maps": {entry.name: [entry.channels, *entry.grid] for entry in self.spec.maps},
        }

    def to(self: Self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Self:
        """Moves the network, and returns the teacher.

        Args:
            device: e.g. "cuda".
            dtype: torch.bfloat16 halves the memory. Maps then differ from those in float32 by up to 5 % of their norm
                (4.7 % for EfficientNet-B0), and `identity` records the precision.
        """
        self.device, self.dtype = torch.device(device), dtype
        self.network.to(self.device, dtype)
        return self

    def record(self, facts: Mapping[str, Any]) -> None:
        """Adds JSON-able facts to the identity: where the weights come from."""
        self._facts |= facts

    def prepare(self, image: np.ndarray) -> Prepared:
        """Prepares a uint8 image (H, W, 3), RGB, of any size; safe in threads and workers."""
        return self.preprocessing(image)

    def embed(self, pixels: Tensor, prompts: Sequence[Tensor] | None = None) -> dict[str, Tensor]:
        """The network's own maps, padding included, as the official implementation returns them for the same pixels.

        Args:
            pixels: float tensor (N, 3, S, S), as `prepare` gives them, on any device.
            prompts: for a prompted teacher, the boxes (B, 4) as x0, y0, x1, y1 or the points (P, 2) as x, y of each
                image, in pixels of S.

        Returns:
            one float32 tensor (N, C, H, W) per map, without gradient, on the teacher's device.
        """
        # Convolutions on the CPU are faster with channels last: EfficientNet-B0 takes half the time.
        with torch.inference_mode(), without_tf32():
            pixels = pixels.to(self.device, self.dtype, memory_format=torch.channels_last)
            maps = self.maps(pixels) if prompts is None else self.prompted_maps(pixels, prompts)
            self._require_maps(maps)
            return {name: value.float().contiguous() for name, value in maps.items()}

    def _require_maps(self, maps: object) -> None:
        """Raises ValueError unless there is a tensor for each map of the spec, which an adapter may get wrong."""
        entries = maps.items() if isinstance(maps, dict) else ()
        found = {name: tuple(getattr(value, "shape", ())) for name, value in entries}
        if set(found) != set(self.spec.names) or any(len(shape) != 4 for shape in found.values()):
            got = ", ".join(f"{name} {shape}" for name, shape in found.items()) or f"a {type(maps).__name__}"
            raise ValueError(
                f"maps of teacher {self.name!r} must return a dict with a tensor (N, C, H, W) for each of "
                f"{', '.join(self.spec.names)}, got {got}"
            )

    def forward(self, pixels: Tensor, valid: Tensor, prompts: Sequence[np.ndarray] | None = None) -> dict[str, Tensor]:
        """The maps of `spec`, each covering exactly the image.

        Args:
            pixels: float tensor (N, 3, S, S), as `prepare` gives them, on any device.
            valid: float tensor (N, 2), the fractions (rows, columns) of S that each image covers.
            prompts: as in `embed`, but in fractions of the image.

        Returns:
            one float32 tensor (N, channels, *grid) per map, without gradient, on the teacher's device.

        Raises:
            ValueError: if `valid` is not in (0, 1] or does not fit `pixels`, if prompts are missing or not supported,
                or if the network's cells do not cover `pixels` exactly.
        """
        if prompts is not None:
            covered = valid.to("cpu", torch.float64) * pixels.shape[-1]  # rows, columns of S that each image covers
            scaled = [
                torch.from_numpy(prompt) * size.flip(0).repeat(prompt.shape[-1] // 2)
                for prompt, size in zip(prompts, covered, strict=True)
            ]
        with torch.inference_mode():
            raw = self.embed(pixels, None if prompts is None else scaled)
            self._require_cover(raw, pixels)
            maps = {name: resample(value, valid, self.spec[name].grid) for name, value in raw.items()}
        self.spec.check(maps)
        return maps

    def _require_cover(self, maps: Mapping[str, Tensor], pixels: Tensor) -> None:
        """Raises ValueError if the network pads or crops its input: its cells would not lie on the spec's grid."""
        height, width = pixels.shape[-2:]
        for name in sorted(maps, key=lambda name: -self.spec[name].stride):  # what fits the coarsest map fits all
            rows, columns = maps[name].shape[-2:]
            stride = self.spec[name].stride
            if (rows * stride, columns * stride) != (height, width):
                raise ValueError(
                    f"map {name!r} of teacher {self.name!r} has {rows} x {columns} cells of stride {stride}, which "
                    f"cover {rows * stride} x {columns * stride} pixels, but its input is {height} x {width}; "
                    f"choose an image_size that its cells cover, such as {rows * stride}, or declare the right stride"
                )

    def __call__(self, images: Sequence[np.ndarray], prompts: Sequence[np.ndarray] | None = None) -> dict[str, Tensor]:
        """The maps of uint8 images (H, W, 3) of any sizes, which need not be equal; prompts as in `forward`."""
        prepared = [self.prepare(image) for image in images]
        valid = torch.tensor([entry.valid for entry in prepared], dtype=torch.float64)
        return self.forward(torch.stack([entry.pixels for entry in prepared]), valid, prompts)

    def prompted(self, policy: str) -> Teacher:
        """The teacher with a further map `mask`: the soft mask for each image's prompts, which `forward` then needs.

        Args:
            policy: a description of how prompts are made; part of the identity.

        Raises:
            ValueError: if the teacher takes no prompts.
        """
        del policy
        raise ValueError(f"teacher '{self.name}' takes no prompts; leave prompts out, or use adapter=sam")

    def prompted_maps(self, pixels: Tensor, prompts: Sequence[Tensor]) -> dict[str, Tensor]:
        """Like `maps`, with the prompts of each image."""
        del pixels, prompts
        raise ValueError(f"teacher '{self.name}' takes no prompts; leave them out")

    def maps(self, pixels: Tensor) -> dict[str, Tensor]:
        """Runs the network on pixels (N, 3, S, S) of its own device and dtype: one tensor (N, C, H, W) per map.

        This version serves networks that return the maps in the spec's order.
        """
        found = self.network(pixels)
        if isinstance(found, Tensor) or len(found) != len(self.spec.names):
            got = "one tensor" if isinstance(found, Tensor) else f"{len(found)} of them"
            raise ValueError(
                f"the network of teacher {self.name!r} must return a list of tensors, for {', '.join(self.spec.names)} "
                f"in this order, got {got}; or define maps"
            )
        return dict(zip(self.spec.names, found, strict=True))


@contextmanager
def without_tf32() -> Iterator[None]:
    """Makes CUDA multiply float32 in float32; by default PyTorch's convolutions round to TF32's 10 bits instead."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    places: list[Any] = [matmul, cudnn]
    name, exact = "allow_tf32", cast("Any", False)
    try:
        before = [getattr(place, name) for place in places]
    except RuntimeError:  # torch refuses to read these once the newer settings have been used
        places, name, exact = [matmul, cast("Any", cudnn).conv], "fp32_precision", "ieee"
        before = [getattr(place, name) for place in places]
    try:
        for place in places:
            setattr(place, name, exact)
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            setattr(place, name, value)
