"""Targets that the device decodes: integers read by a loading process, decoded for a whole batch at once.

As decoded features, a target takes 4 bytes per channel and cell of the student's grid, and two matrix products of a
core; as integers, mostly one byte per coded coefficient, whatever the grids. With a GPU, a loading process therefore
only undoes the entropy coding; the device turns integers into coefficients and maps. Coefficients equal those of
`Codec.coefficients` bit for bit, maps those of `distill.distillation.dataset` except for the order of sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import pad

from cache import Cache, Codec
from cache.fourier import fourier_band
from cache.series import Box, dct, matrices, series
from distill.distillation.targets import Target, as_target, fuse_maps

PREFIX = "code:"  # of the names of undecoded data in a batch; no teacher has such a name


def read_code(cache: Cache, target: Target, key: str, *, view: str, known: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The integers (n,) of the bands of a record that a target needs, by name, without those already `known`."""
    lacking = [band for band in target.bands if _integers_of(target, band) not in known]
    if not lacking:
        return {}
    code, codec = cache.read(key, view, map=target.map, bands=lacking), cache.codecs[target.map]
    found: dict[str, Tensor] = {}
    for band in lacking:
        values = torch.tensor(codec.read_integers(code, band)[band])
        small = values.dtype == torch.int32 and int(values.abs().max()) < 1 << 15
        found[_integers_of(target, band)] = values.short() if small else values
    return found


def matrices_of_box(codec: Codec, target: Target, *, box: Box, turned: str = "identity") -> dict[str, Tensor]:
    """The matrices that evaluate a target's series in a box on its grid, by name: (rows, U) and (columns, V).

    Args:
        codec: of its map.
        target: an ordinary target, or a part of a fused one.
        box: in the view that is read.
        turned: the view to which the result is turned.
    """
    extent = extent_of(codec, target)
    down, across = (torch.from_numpy(one) for one in matrices(extent, codec.grid, box=box, grid=target.grid))
    down, across = pad(down, (0, extent[0] - down.shape[1])), pad(across, (0, extent[1] - across.shape[1]))
    if turned in ("vflip", "rot180"):
        down = down.flip(0)
    if turned in ("hflip", "rot180"):
        across = across.flip(0)
    return {_matrix_of(target, "rows"): down, _matrix_of(target, "columns"): across}


def decode_targets(
    batch: Mapping[str, Tensor], targets: Iterable[Target], caches: Mapping[str, Cache]
) -> dict[str, Tensor]:
    """A batch, tensors (N, ...) by name, with decoded targets in place of their coded data, on the same device."""
    spectra: dict[tuple[str, ...], Tensor] = {}

    def seen(part: Target) -> Tensor:
        codec = caches[part.teacher].codecs[part.map]
        if part.source not in spectra:
            integers = {band: batch[_integers_of(part, band)] for band in part.bands}
            spectra[part.source] = spectrum_of(codec, part, integers)
        down, across = batch[_matrix_of(part, "rows")], batch[_matrix_of(part, "columns")]
        return as_target(codec, part, torch.einsum("ncv,nkuv,nru->nkrc", across, spectra[part.source], down))

    decoded = {
        target.name: fuse_maps(target, [seen(part) for part in target.parts]) if target.parts else seen(target)
        for target in targets
    }
    return {name: tensor for name, tensor in batch.items() if not name.startswith(PREFIX)} | decoded


def spectrum_of(codec: Codec, target: Target, integers: Mapping[str, Tensor]) -> Tensor:
    """The cosine coefficients (N, K, U, V) of a target, from the `integers` (N, n) of its bands."""
    coefficients = codec.restore(integers)
    if target.by_fourier:
        return dct(fourier_band(series(coefficients, codec.grid), target.band))
    return coefficients


def extent_of(codec: Codec, target: Target) -> tuple[int, int]:
    """U and V of a target's coefficients."""
    return codec.grid if target.by_fourier else codec.bands["low" if target.bands == ("low",) else "high"].extent


def _integers_of(target: Target, band: str) -> str:
    return f"{PREFIX}{target.teacher}/{target.map}/{band}"


def _matrix_of(target: Target, axis: str) -> str:
    return f"{PREFIX}{target.name}/{axis}"
