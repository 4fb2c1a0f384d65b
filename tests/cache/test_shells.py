"""Codes of format 2: a mean map, and axes of their own for each shell of frequency."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from natural_maps import natural_maps

import cache
from cache.manifest import Manifest
from cache.series import cutoff, dct, series
from cache.shells import Shells, rectangles, shells_of
from cache.spec import FeatureSpec, MapSpec

CHANNELS, GRID = 12, (14, 18)
GRIDS = ((1, 1), (3, 5), (14, 18), (20, 20), (64, 64), (7, 40))


def layered_maps(count, seed, strength=0.3):
    """Natural maps beside a mean map, whose channels are mixed by another matrix in each shell."""
    coefficients = dct(natural_maps(count, seed, channels=CHANNELS, grid=GRID))
    coefficients /= coefficients.std((0, 2, 3), keepdim=True)
    mixings = torch.Generator().manual_seed(5)
    for start, stop in shells_of(GRID):
        mixing = torch.randn(CHANNELS, CHANNELS, generator=mixings) / (1 + torch.arange(CHANNELS)) ** 2
        for rows, columns in rectangles(start, stop):
            block = coefficients[:, :, rows, columns]
            coefficients[:, :, rows, columns] = (mixing @ block.flatten(2)).unflatten(2, block.shape[2:])
    mean = strength * torch.randn(CHANNELS, 5, 5, generator=mixings)
    coefficients[:, :, :5, :5] += mean
    return series(coefficients, GRID)


@pytest.fixture(scope="module")
def codecs():
    return [cache.fit(layered_maps(96, 0), fidelity=0.9, shells=shells) for shells in (False, True)]


@pytest.mark.parametrize("grid", GRIDS)
def test_every_frequency_is_of_one_shell_and_the_first_is_the_low_band(grid):
    counts = np.zeros(grid, int)
    for number, (start, stop) in enumerate(shells_of(grid)):
        for rows, columns in rectangles(start, stop):
            counts[rows, columns] += 1 + 100 * number
    assert (counts % 100 == 1).all()
    low = np.zeros(grid, bool)
    low[: cutoff(grid), : cutoff(grid)] = True
    assert ((counts < 100) == low).all()


def test_turning_keeps_lengths_and_is_undone():
    turns = torch.linalg.qr(torch.randn(len(shells_of(GRID)), 4, 4)).Q
    shells = Shells(torch.randn(4, *GRID), turns)
    maps = torch.randn(3, 4, *GRID)
    coded = shells.forward(maps)
    torch.testing.assert_close(coded.norm(dim=1), (maps - shells.center).norm(dim=1))
    axes = (4,) * len(turns)
    torch.testing.assert_close(shells.back(coded, ("low", "high"), axes=axes), maps)
    torch.testing.assert_close(shells.back(coded[..., :9, :6], ("low", "high"), axes=axes), maps[..., :9, :6])
    corner, low = cutoff(GRID), torch.zeros_like(coded)
    low[..., :corner, :corner] = coded[..., :corner, :corner]
    torch.testing.assert_close(
        shells.back(low[..., :corner, :corner], ("low",), axes=axes), maps[..., :corner, :corner]
    )
    high = shells.back(coded - low, ("high",), axes=axes)
    assert not high[..., :corner, :corner].any() and torch.equal(
        high[..., corner:, :], shells.back(coded, ("low", "high"), axes=axes)[..., corner:, :]
    )


def test_it_takes_fewer_bytes_at_the_same_fidelity(codecs):
    others = layered_maps(32, 1)
    sizes = []
    for codec in codecs:
        codes = codec.encode_batch(others)
        assert codec.fidelity(others, codes) == pytest.approx(0.9, abs=0.01)
        sizes.append(np.mean([sum(map(len, code.values())) for code in codes]))
    assert sizes[1] < 0.75 * sizes[0]


def test_axes_that_nothing_is_coded_on_are_not_turned_back(codecs):
    codec = codecs[1]
    assert min(codec._axes) < codec.components
    code = codec.encode(layered_maps(1, 2)[0])
    integers = {band: torch.tensor(values) for band, values in codec.read_integers(code).items()}
    whole = codec.shells.back(
        torch.from_numpy(plain(codec, code)), integers, axes=(codec.components,) * len(codec._axes)
    )
    torch.testing.assert_close(codec.coefficients(code), whole)


def plain(codec, code):
    """The coefficients of a code as they are coded."""
    parts = {
        name: codec.bands[name].coefficients(values, step=codec.step, components=codec.components)
        for name, values in codec.read_integers(code).items()
    }
    high = parts["high"]
    high[:, : codec.cutoff, : codec.cutoff] = parts["low"]
    return high


def test_a_batch_on_the_device_is_restored_as_one_by_one(codecs):
    codec = codecs[1]
    codes = codec.encode_batch(layered_maps(5, 3))
    for band in ("low", "high", "all"):
        integers = [codec.read_integers(code, band) for code in codes]
        batch = {name: torch.stack([torch.tensor(one[name]).int() for one in integers]) for name in integers[0]}
        expected = torch.stack([codec.coefficients(code, band) for code in codes])
        torch.testing.assert_close(codec.restore(batch), expected, rtol=0, atol=1e-6 * expected.abs().max().item())


def test_a_codec_is_the_same_after_saving_and_loading_and_its_cache_has_version_2(codecs, tmp_path):
    maps = layered_maps(3, 4)
    for codec, version in zip(codecs, (1, 2), strict=True):
        again = cache.Codec.from_bytes(codec.to_bytes())
        assert again.to_bytes() == codec.to_bytes() and (again.shells is None) == (version == 1)
        assert again.encode(maps[0]) == codec.encode(maps[0])
        folder = tmp_path / str(version)
        wanted = {
            "spec": FeatureSpec((MapSpec("neck", CHANNELS, GRID, 16),)), "identity": {"teacher": "drawn"},
            "licence": "Apache-2.0", "fidelity": 0.9, "batch_size": 1, "views": ("identity",), "calibration": [],
        }  # fmt: skip
        store = cache.create(folder, codecs={"neck": codec}, **wanted)
        cache.write_shard(store, [("a" * 64, "identity", {"neck": codec.encode(maps[0])})], fidelity={"neck": 0.9})
        assert json.loads((folder / "manifest.json").read_text())["version"] == version
        assert Manifest.read(folder).version == version and not cache.verify(folder)
        decoded = cache.open(folder).decode("a" * 64, "identity", map="neck")
        assert torch.equal(decoded, codec.decode(codec.encode(maps[0])))
        (folder / "manifest.json").write_text("{}")
        cache.create(folder, codecs=None, **wanted)
        assert Manifest.read(folder).version == version


def test_maps_of_which_the_mean_says_enough_are_coded_all_the_same():
    codec = cache.fit(layered_maps(40, 0, strength=30), fidelity=0.9, shells=True)
    maps = layered_maps(4, 1, strength=30)
    assert codec.fidelity(maps, codec.encode_batch(maps)) > 0.95
    assert codec.reached > 0.9


@pytest.mark.parametrize("change", ["no turns", "another grid", "too few shells", "not finite"])
def test_statistics_that_do_not_fit_are_refused(codecs, change):
    from safetensors.torch import load, save

    data = codecs[1].to_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    tensors = load(data)
    if change == "no turns":
        del tensors["turns"]
    elif change == "another grid":
        tensors["center"] = tensors["center"][:, 1:].contiguous()
    elif change == "too few shells":
        tensors["turns"] = tensors["turns"][1:].contiguous()
    else:
        tensors["center"][0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"float32 tensors mean|expected center|finite mean"):
        cache.Codec.from_bytes(save(tensors, header["__metadata__"]))


GOLDEN_CODES = {"low": "b6d8ef62b22cfc8f7a5e0500", "high": "aca44d1d0a000000"}


def test_the_code_of_a_map_has_golden_bytes():
    """Under statistics that are given, as of format 1."""
    turns = torch.tensor([[[0.6, 0.8], [0.8, -0.6]], [[0.0, 1.0], [1.0, 0.0]]])
    codec = cache.Codec(
        mean=torch.tensor([1.0, -2.0]), scale=torch.tensor([0.5, 4.0]), basis=torch.eye(2),
        variances=torch.arange(1, 13).reshape(2, 2, 3).flip(0, 1, 2).float(), gain=1.5, step=0.25, dead_zone=0.6,
        lost=0.0, asked=0.95, reached=0.951, spread=0.004, held_out=4, images=16, entropy="laplace",
        shells=Shells(torch.arange(12).reshape(2, 2, 3) / 8, turns),
    )  # fmt: skip
    assert shells_of((2, 3)) == ((0, 2), (2, 3))
    data = codec.to_bytes()
    assert cache.Codec.from_bytes(data).to_bytes() == data
    codes = codec.encode(torch.arange(12).reshape(2, 2, 3).float())
    assert {name: code.hex() for name, code in codes.items()} == GOLDEN_CODES
