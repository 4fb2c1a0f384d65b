"""The frequency code: what it keeps, what it promises, and what it refuses."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from natural_maps import CHANNELS, GRID, natural_maps

import cache
from cache.quality import cosine, reference_bytes
from cache.quantise import expected_errors, quantise, shifts
from cache.series import dct
from cache.spec import FeatureSpec, MapSpec, flip


@pytest.fixture(scope="module", params=[False, True], ids=["format 1", "format 2"])
def codec(request):
    return cache.fit(natural_maps(64, 0), fidelity=0.95, shells=request.param)


@pytest.fixture(scope="module")
def others():
    return natural_maps(24, 1)


@pytest.mark.parametrize("fidelity", [0.8, 0.95, 0.995])
def test_the_fidelity_asked_for_is_held_on_other_maps_and_not_overpaid(others, fidelity):
    codec = cache.fit(natural_maps(96, 0), fidelity=fidelity)
    reached = codec.fidelity(others, codec.encode_batch(others))
    assert fidelity <= codec.reached < fidelity + 0.002
    assert abs(reached - fidelity) < 3 * codec.spread * (1 / 24 + 1 / codec.held_out) ** 0.5


def test_the_code_is_near_the_gaussian_reference_and_far_below_half_precision(codec, others):
    codes = codec.encode_batch(others)
    size = np.mean([sum(map(len, code.values())) for code in codes])
    errors = [
        (codec.project(map_) - codec.decode(code)).square().sum() for map_, code in zip(others, codes, strict=True)
    ]
    reference = reference_bytes(codec.variances.numpy(), float(torch.stack(errors).mean()))
    assert reference < size < 2 * reference + 40
    assert size < others[0].numel() * 2 / 8


def test_the_bands_part_at_the_cutoff(codec, others):
    code = codec.encode(others[0])
    low, high = dct(codec.decode(code, band="low")), dct(codec.decode(code, band="high"))
    corner = codec.cutoff
    assert corner == 4
    assert codec.coefficients(code, "low").shape == (codec.components, corner, corner)
    assert low[:, corner:].abs().max() < 1e-5 > low[:, :, corner:].abs().max()
    assert high[:, :corner, :corner].abs().max() < 1e-5 < high.abs().max()


def test_the_low_band_is_decoded_from_its_own_entry_alone(codec, others):
    code = codec.encode(others[0])
    alone = codec.decode({"low": code["low"]}, band="low", grid=(5, 5))
    assert torch.equal(alone, codec.decode(code, band="low", grid=(5, 5)))
    with pytest.raises(ValueError, match=r"the high band was not read, only \['low'\]; read the record with bands="):
        codec.decode({"low": code["low"]})


def test_a_crop_of_the_code_equals_the_code_of_the_crop(codec, others):
    code = codec.encode(others[0])
    crop = codec.decode(code, box=(0.5, 0.5, 1.0, 1.0), grid=(7, 9))
    torch.testing.assert_close(crop, codec.decode(code)[:, 7:, 9:], atol=1e-5, rtol=0)


def test_the_coded_space_has_unit_variance_and_the_bands_their_stated_deviation(codec):
    training = natural_maps(64, 0)
    components = codec.project(training)
    assert components.square().mean().item() == pytest.approx(1, rel=0.05)
    codes = codec.encode_batch(training)
    for band in ("low", "high"):
        decoded = torch.stack([codec.decode(code, band=band) for code in codes])
        assert decoded.square().mean().sqrt().item() == pytest.approx(codec.band_deviation[band], rel=0.1)


def test_the_inverse_leads_back_to_the_teachers_space(others):
    codec = cache.fit(natural_maps(64, 0), fidelity=0.9999)
    assert codec.components == CHANNELS
    error = codec.inverse(codec.decode(codec.encode(others[0]))) - others[0]
    assert (error / codec.scale[:, None, None]).square().mean() < 1e-3
    torch.testing.assert_close(codec.inverse(codec.project(others)), others, rtol=1e-4, atol=1e-3)


def test_components_that_nothing_is_coded_of_are_not_kept(others):
    codec = cache.fit(natural_maps(64, 0), fidelity=0.6)
    assert codec.components < CHANNELS
    assert codec.lost > 0
    assert codec.decode(codec.encode(others[0])).shape == (codec.components, *GRID)


def test_values_beyond_eight_bits_are_never_clipped(codec, others):
    """A map a hundred thousand times as strong as any in training comes back as faithful as the others."""
    strong = codec.mean[:, None, None] + 1e5 * (others[:1] - codec.mean[:, None, None])
    codes = codec.encode_batch(strong)
    assert np.abs(codec.coders["low"].decode(codes[0]["low"])).max() > 32767
    assert codec.fidelity(strong, codes) > 0.95


@given(st.floats(0.02, 300), st.floats(0.5, 0.8))
@settings(max_examples=60, deadline=None)
def test_the_reconstruction_lies_in_its_bin(deviation, dead_zone):
    shift = float(shifts(np.array([deviation]), dead_zone)[0])
    assert dead_zone - 1 <= shift <= dead_zone - 0.5 + 1e-6
    for value in (0.0, dead_zone - 0.01, dead_zone + 0.01, 7.3):
        integer = float(quantise(np.array([value], np.float32), dead_zone)[0])
        assert integer == 0 if value < dead_zone else abs(integer + shift - value) <= 1


@pytest.mark.parametrize("deviation", [0.05, 0.6, 1.5, 40.0])
def test_the_expected_error_is_that_of_laplacian_numbers(deviation):
    values = np.random.default_rng(0).laplace(0, deviation / np.sqrt(2), 200_000).astype(np.float32)
    integers = quantise(values, 0.6)
    decoded = integers + np.sign(integers) * shifts(np.array([deviation]), 0.6)
    measured = float(((decoded - values) ** 2).mean())
    assert expected_errors(np.array([deviation], np.float32), 0.6)[0] == pytest.approx(measured, rel=0.03)


def test_the_codec_foretells_its_error_and_where_the_energy_lies(codec, others):
    decoded = torch.stack([codec.decode(code) for code in codec.encode_batch(others)])
    measured = (codec.project(others) - decoded).square().sum((1, 2, 3)).mean().item()
    assert codec.expected_error == pytest.approx(measured, rel=0.25)  # Gaussian maps, and few
    energies = codec.energies()
    assert list(energies) == ["low", "high", "not coded"]
    mean = codec.shells.energy(GRID) if codec.shells else 0
    assert sum(energies.values()) == pytest.approx(float(codec.variances.sum()) + mean + codec.lost)
    wanted = sum(part.square().sum().item() for part in codec.project(others)) / len(others) + codec.lost
    assert sum(energies.values()) == pytest.approx(wanted, rel=0.1)
    assert energies["low"] > energies["high"] > energies["not coded"] > 0


def test_both_coders_carry_the_same_integers_and_the_new_one_is_shorter(codec, others):
    old = dataclasses.replace(codec, entropy="zstd")
    for map_ in others[:6]:
        new_code, old_code = codec.encode(map_), old.encode(map_)
        assert torch.equal(codec.decode(new_code), old.decode(old_code))
        assert sum(map(len, new_code.values())) < sum(map(len, old_code.values()))


def test_a_saved_codec_encodes_and_decodes_bit_for_bit(codec, others):
    for again in (cache.Codec.from_bytes(codec.to_bytes()), pickle.loads(pickle.dumps(codec))):
        code = again.encode(others[0])
        assert code == codec.encode(others[0])
        assert torch.equal(again.decode(code), codec.decode(code))
        assert again.to_bytes() == codec.to_bytes()


def test_a_fit_does_not_depend_on_how_the_maps_are_batched():
    maps = natural_maps(20, 3).half()
    whole = cache.fit(maps, fidelity=0.9).to_bytes()
    assert cache.fit([maps[:7], maps[7:]], fidelity=0.9).to_bytes() == whole
    assert cache.fit(list(maps[:, None]), fidelity=0.9).images == 20


def test_the_bytes_of_a_map_do_not_depend_on_its_batch(codec, others):
    assert codec.encode_batch(others)[3] == codec.encode_batch(others[3:4])[0] == codec.encode(others[3].double())


def test_a_code_judged_while_it_is_made_is_the_same_and_judged_alike(codec, others):
    code, reached = codec.encode_with_fidelity(others[0])
    assert code == codec.encode(others[0])
    assert reached == codec.fidelity(others[:1], [code])
    with pytest.raises(ValueError, match="infinite, undefined or absurdly large values"):
        codec.encode_with_fidelity(others[0] * torch.inf)


def test_a_dead_channel_costs_nothing_and_comes_back_as_its_mean():
    maps = torch.cat([natural_maps(20, 4), torch.full((20, 1, *GRID), 7.0)], dim=1)
    codec = cache.fit(maps, fidelity=0.9)
    back = codec.inverse(codec.decode(codec.encode(maps[0])))
    assert codec.components <= CHANNELS
    torch.testing.assert_close(back[-1], torch.full(GRID, 7.0), atol=1e-3, rtol=0)


def test_cosine_counts_empty_cells_as_equal_only_if_both_are():
    maps = torch.tensor([[[3.0, 0.0, 0.0, 1.0]]])
    two = torch.cat([maps, 2 * maps])
    other = torch.tensor([[[6.0, 0.0, 1.0, 0.0]]])
    assert cosine(two, torch.cat([other, 2 * other])).item() == pytest.approx(0.5)


def test_the_cosine_of_one_channel_is_that_of_the_whole_map():
    maps, other = torch.tensor([[[3.0, 0.0, 0.0, 1.0]]]), torch.tensor([[[6.0, 0.0, 1.0, 0.0]]])
    whole = torch.nn.functional.cosine_similarity(maps.flatten(), other.flatten(), dim=0)
    assert cosine(maps, other).item() == pytest.approx(whole.item())
    flat = torch.zeros_like(maps)
    assert cosine(torch.stack([maps, flat]), torch.stack([maps, flat])).tolist() == pytest.approx([1, 1])


def test_the_reference_is_reverse_water_filling():
    assert reference_bytes(np.array([4.0, 1.0, 0.25]), 0.75) * 8 == pytest.approx((np.log2(16) + np.log2(4)) / 2)
    assert reference_bytes(np.full((2, 3), 2.0), 3.0) * 8 == pytest.approx(6 * np.log2(4) / 2)
    with pytest.raises(ValueError, match="expected a distortion between 0 and the total variance 2"):
        reference_bytes(np.array([1.0, 1.0]), 3.0)


@pytest.mark.parametrize(
    ("maps", "fidelity", "message"),
    [
        (torch.randn(8, 2, 3, 3), 1.0, "expected a fidelity above 0 and at most 0.9999, such as 0.95, got 1.0"),
        (torch.randn(1, 2, 3, 3), 0.9, "at least two calibration maps"),
        (torch.ones(8, 2, 3, 3), 0.9, "do not vary"),
        (torch.randn(8, 3, 3), 0.9, r"expected maps \(N, C, h, w\), got a tensor of shape \(8, 3, 3\)"),
        ([*torch.randn(8, 2, 3, 3)], 0.9, r"got a tensor of shape \(2, 3, 3\); torch.stack joins maps"),
        (torch.full((8, 2, 3, 3), torch.nan), 0.9, "do not vary, or hold infinite values"),
        (
            torch.randn(8, 2, 3, 3).index_fill(0, torch.tensor([3]), torch.nan),
            0.9,
            "a held-out map holds infinite or undefined",
        ),
    ],
)
def test_a_codec_that_cannot_be_fitted_says_why(maps, fidelity, message):
    with pytest.raises(ValueError, match=message):
        cache.fit(maps, fidelity=fidelity)


def test_what_cannot_be_coded_is_refused(codec, others):
    with pytest.raises(ValueError, match=r"expected features of shape \(..., 12, 14, 18\), got \(12, 14, 14\)"):
        codec.encode(others[0][..., :14])
    for encode in (codec.encode, codec.encode_with_fidelity):
        with pytest.raises(
            ValueError, match=r"expected one map \(C, h, w\), got \(8, 12, 14, 18\); encode_batch codes"
        ):
            encode(others[:1].expand(8, -1, -1, -1))
    broken = others[0].clone()
    broken[0, 0, 0] = torch.inf
    with pytest.raises(ValueError, match="infinite, undefined or absurdly large values"):
        codec.encode(broken)
    with pytest.raises(ValueError, match="unknown band 'mid'; choose from all, low, high"):
        codec.decode(codec.encode(others[0]), band="mid")
    with pytest.raises(ValueError, match=r"is damaged or does not hold .* verify the cache"):
        codec.decode({"low": b"no stack"}, band="low")


def test_the_spec_guards_the_seam():
    spec = FeatureSpec((MapSpec("neck", 256, (64, 64), 16), MapSpec("mask", 1, (4, 4), 256)))
    assert FeatureSpec.from_json(spec.to_json()) == spec
    assert spec["neck"].channels == 256
    spec.check({"neck": torch.empty(2, 256, 64, 64), "mask": torch.empty(2, 1, 4, 4)})
    with pytest.raises(
        ValueError, match=r"expected features of shape \(batch, 256, 64, 64\) for map \"neck\", got \(2, 256, 32, 32\)"
    ):
        spec.check({"neck": torch.empty(2, 256, 32, 32), "mask": torch.empty(2, 1, 4, 4)})
    with pytest.raises(ValueError, match=r"expected the maps \['mask', 'neck'\], got \['neck'\]"):
        spec.check({"neck": torch.empty(2, 256, 64, 64)})
    with pytest.raises(KeyError, match="unknown map 'nick'; choose from neck, mask"):
        spec["nick"]
    with pytest.raises(ValueError, match="rename the map"):
        MapSpec("../neck", 1, (1, 1), 1)


@pytest.mark.parametrize("view", cache.VIEWS)
def test_a_view_is_its_own_inverse_for_images_and_maps(view):
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    turned = flip(image, view, axes=(0, 1))
    assert turned.flags.c_contiguous
    assert np.array_equal(flip(turned, view, axes=(0, 1)), image)
    maps = torch.from_numpy(turned.copy()).permute(2, 0, 1)
    assert torch.equal(flip(maps, view).permute(1, 2, 0), torch.from_numpy(image))
    assert (
        image[0, 0, 0]
        == turned[{"identity": 0, "hflip": 0, "vflip": 1, "rot180": 1}[view], 3 * (view in ("hflip", "rot180")), 0]
    )


def test_importing_the_cache_does_not_import_torch():
    code = "import sys, cache; cache.FeatureSpec; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_large_maps_at_high_fidelity_are_not_clipped():
    maps = natural_maps(20, 5, channels=4, grid=(64, 64))
    offsets = torch.randn(20, 4, 1, 1, generator=torch.Generator().manual_seed(6))
    maps = maps + 3 * offsets * maps.std((0, 2, 3), keepdim=True)  # images differ by more than their cells
    codec = cache.fit(maps[:16], fidelity=0.99)
    codes = codec.encode_batch(maps[16:])
    assert np.abs(codec.coders["low"].decode(codes[0]["low"])).max() > 127
    assert codec.fidelity(maps[16:], codes) > 0.985


def test_a_map_of_one_channel_is_judged_as_a_whole():
    masks = natural_maps(40, 3, channels=1)
    codec = cache.fit(masks, fidelity=0.97)
    codes = codec.encode_batch(masks)
    decoded = torch.stack([codec.inverse(codec.decode(code)) for code in codes])
    whole = torch.nn.functional.cosine_similarity((masks - codec.mean).flatten(1), (decoded - codec.mean).flatten(1))
    assert codec.fidelity(masks, codes) == pytest.approx(float(whole.mean()), abs=1e-5)
    assert 0.97 <= codec.reached < 0.975
    assert codec.encode(codec.mean[:, None, None].expand(1, *GRID).contiguous())["low"] is not None


def test_maps_of_different_shapes_are_refused_and_so_are_cells_without_a_direction():
    maps = natural_maps(8, 3)
    with pytest.raises(ValueError, match=r"expected maps of one shape \(C, h, w\), got \(.*\) and \("):
        cache.fit([maps, maps[..., :-1]], fidelity=0.9)
