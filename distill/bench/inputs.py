"""Inputs of benchmarks: generated frames, drawn maps and random weights, or real ones if they are given."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import cache
from cache.series import series
from cache.spec import FeatureSpec, MapSpec
from distill.bench.request import Request
from distill.data.sample import Sample

EFFICIENTNET = "tf_efficientnet_b0"
FRAME = (240, 320)  # height and width of a generated frame
SIZE = 320  # pixels a side at which EfficientNet sees an image
STRIDES = (8, 16)
FIDELITY = 0.95
LARGE = MapSpec("neck", 256, (64, 64), 16)  # SAM's
SMALL = MapSpec("stride16", 112, (20, 20), 16)  # EfficientNet-B0's at 320 pixels


def images_of(request: Request, count: int, *, size: tuple[int, int] = FRAME) -> list[np.ndarray]:
    """The first `count` pictures of `images=DIR` by name, or as many generated frames: uint8 (H, W, 3).

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: it holds too few pictures.
    """
    if not request.options.get("images"):
        from distill.data.synthetic.generator import render

        return [render(0, index, size=size)[0] for index in range(count)]
    from distill.data.image_io import SUFFIXES, read_image

    folder = Path(request.options["images"]).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"images={folder} is not a folder; give one with pictures ({' '.join(SUFFIXES)})")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if len(files) < count:
        raise ValueError(f"images={folder} holds {len(files)} pictures, but the benchmark needs {count}; give more")
    return [read_image(path) for path in files[:count]]


def drawn_maps(count: int, entry: MapSpec, *, seed: int = 0) -> Tensor:
    """Random maps (count, channels, *grid) that vary like features: mostly at low frequencies and in few directions."""
    random = torch.Generator().manual_seed(seed)
    u, v = torch.arange(entry.grid[0])[:, None], torch.arange(entry.grid[1])[None, :]
    waves = torch.randn(count, entry.channels, *entry.grid, generator=random) / (1 + u**2 + v**2) ** 0.4
    mixing = torch.randn(entry.channels, entry.channels, generator=torch.Generator().manual_seed(1))
    mixing = mixing / (1 + torch.arange(entry.channels)) ** 0.5
    return torch.einsum("ck,nkhw->nchw", mixing, series(waves, entry.grid))


def given(images: Iterable[np.ndarray]) -> tuple[Sample, ...]:
    """Samples of decoded images, uint8 (H, W, 3), without masks, with digests of the pixels as keys."""
    return tuple(
        Sample("bench", f"{number}", hashlib.sha256(image.tobytes()).hexdigest(), "", (image.shape[0], image.shape[1]),
               None, partial(np.asarray, image), partial(np.zeros, image.shape[:2], np.uint8))
        for number, image in enumerate(images)
    )  # fmt: skip


def efficientnet(request: Request, folder: Path) -> Any:  # noqa: ANN401
    """EfficientNet-B0 at strides 8 and 16 as a teacher: from `weights=FILE`, or random and saved in `folder`."""
    import teachers

    weights = request.options.get("weights")
    if not weights:
        import timm
        from safetensors.torch import save_file

        torch.manual_seed(0)
        weights = str(folder / "efficientnet.safetensors")
        save_file(timm.create_model(EFFICIENTNET, features_only=True).state_dict(), weights)
    return teachers.load("timm", weights=weights, model=EFFICIENTNET, strides=STRIDES, image_size=SIZE)


def sam_vit_base(folder: Path, **sizes: int) -> Any:  # noqa: ANN401
    """A teacher with SAM ViT-B's architecture (changed by `sizes`) and random weights, so it is not SAM."""
    from transformers import SamVisionConfig, SamVisionModel

    import teachers

    torch.manual_seed(0)
    SamVisionModel(SamVisionConfig.from_dict({"initializer_range": 0.02, **sizes})).save_pretrained(folder / "sam")
    return teachers.load("sam", weights=folder / "sam")


def write_cache(
    folder: Path,
    maps: dict[MapSpec, Tensor],
    *,
    keys: Sequence[str],
    identity: dict[str, Any] | None = None,
    batch_size: int = 1,
    shells: bool = False,
) -> cache.Cache:
    """A cache with one record per key in the plain view at fidelity FIDELITY, fitted on its own maps (n, C, h, w)."""
    codecs = {entry.name: cache.fit(part, fidelity=FIDELITY, shells=shells) for entry, part in maps.items()}
    store = cache.create(
        folder,
        spec=FeatureSpec(tuple(maps)),
        codecs=codecs,
        identity=identity or {"teacher": "drawn"},
        licence="Apache-2.0",
        fidelity=FIDELITY,
        batch_size=batch_size,
        views=("identity",),
        calibration=sorted(keys),
    )
    codes = [
        (key, "identity", {entry.name: codecs[entry.name].encode(part[number]) for entry, part in maps.items()})
        for number, key in enumerate(keys)
    ]
    cache.write_shard(store, codes, fidelity=dict.fromkeys(codecs, FIDELITY))
    return cache.open(folder)
