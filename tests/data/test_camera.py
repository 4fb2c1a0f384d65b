"""Changes of camera: photometric, in range, drawn from the sample alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from distill.data import camera


@pytest.fixture
def image():
    return torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2


@pytest.mark.parametrize("change", camera.CHANGES, ids=lambda change: change.__name__)
def test_every_change_keeps_shape_and_range_and_repeats(change, image):
    before = image.clone()
    for seed in range(20):
        changed = change(image, np.random.default_rng(seed))
        assert changed.shape == image.shape and changed.dtype == torch.float32
        assert changed.min() >= 0 and changed.max() <= 1
        assert torch.equal(changed, change(image, np.random.default_rng(seed)))
    assert torch.equal(image, before)


@pytest.mark.parametrize("size", [(32, 32), (33, 70), (8, 3)])
@pytest.mark.parametrize("change", camera.CHANGES, ids=lambda change: change.__name__)
def test_any_size(change, size):
    image = torch.full((3, *size), 0.5)
    assert change(image, np.random.default_rng(1)).shape == image.shape


def test_what_each_change_does(image):
    for seed in range(20):
        assert (camera.vignette(image, np.random.default_rng(seed)) <= image).all()
        assert (camera.highlights(image, np.random.default_rng(seed)) >= image).all()
        bordered = camera.border(image, np.random.default_rng(seed))
        assert ((bordered == image) | (bordered == 0)).all()
        assert torch.equal(bordered[:, 24, 32], image[:, 24, 32])  # never the middle
        ratio = camera.white_balance(image, np.random.default_rng(seed)) / image
        assert ratio.flatten(1).std(dim=1).max() < 1e-6  # one factor a channel
        assert (ratio - 1).abs().max() <= camera.LARGEST_GAIN + 1e-6
    flat = torch.full_like(image, 0.5)
    torch.testing.assert_close(camera.blur(flat, np.random.default_rng(0)), flat)
    curved = camera.gamma(flat, np.random.default_rng(0))
    assert 0.5**camera.LARGEST_GAMMA <= curved[0, 0, 0] <= 0.5 ** (1 / camera.LARGEST_GAMMA)


def test_the_share_scales_the_chances(image):
    def changed(share):
        drawn = (camera.change_camera(image, share, np.random.default_rng(seed)) for seed in range(200))
        return sum(not torch.equal(one, image) for one in drawn) / 200

    assert changed(0) == 0
    expected = 1 - (1 - camera.CHANCE) ** len(camera.CHANGES)
    assert abs(changed(1) - expected) < 0.05
    assert abs(changed(0.25) - (1 - (1 - camera.CHANCE / 4) ** len(camera.CHANGES))) < 0.1


def test_amplitudes_of_another_image(image):
    other = image.flip(0).roll(7, dims=2) * 0.5 + 0.3
    torch.testing.assert_close(camera.mix_amplitudes(image, other, 0), image)
    calm, donor = image * 0.2 + 0.4, other * 0.2 + 0.4  # so that nothing is cut off at 0 or 1
    mixed = camera.mix_amplitudes(calm, donor, 1)
    torch.testing.assert_close(mixed.mean(dim=(1, 2)), donor.mean(dim=(1, 2)))  # the mean is the lowest frequency
    before, after, given = (torch.fft.rfft2(x) for x in (calm, mixed, donor))
    torch.testing.assert_close(after[:, 1, 1].abs(), given[:, 1, 1].abs(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after[:, 1, 1].angle(), before[:, 1, 1].angle(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after[:, 10:-10], before[:, 10:-10], rtol=1e-4, atol=1e-3)  # high frequencies stay
