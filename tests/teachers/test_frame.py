"""The one geometric frame: maps cover exactly the image, whatever was padded."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from teachers.frame import resample, sampling_weights


def random_map(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_an_image_that_fills_the_map_keeps_every_bit():
    features = random_map(3, 5, 12, 12)
    assert torch.equal(resample(features, torch.ones(3, 2), (12, 12)), features)


def test_an_image_that_fills_the_map_keeps_every_bit_beside_one_that_does_not():
    features = random_map(2, 5, 12, 12)
    result = resample(features, torch.tensor([[1.0, 1.0], [0.55, 1.0]]), (12, 12))
    assert torch.equal(result[0], features[0])
    assert torch.equal(result[1], resample(features[1:], torch.tensor([[0.55, 1.0]]), (12, 12))[0])


@pytest.mark.parametrize("grid", [(16, 16), (24, 20), (5, 7)])
def test_a_border_between_cells_is_a_plain_cut_and_an_antialiased_resize(grid):
    features = random_map(2, 3, 16, 16)
    result = resample(features, torch.tensor([[9 / 16, 1.0], [9 / 16, 1.0]]), grid)
    expected = F.interpolate(features[:, :, :9], grid, mode="bilinear", antialias=True)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)


@settings(max_examples=60, deadline=None)
@given(covered=st.floats(0.05, 1.0), cells=st.integers(2, 40), targets=st.integers(1, 40), move=st.floats(-1e-9, 1e-9))
def test_padding_never_enters_and_a_little_more_image_changes_little(covered, cells, targets, move):
    weights = sampling_weights(torch.tensor([covered], dtype=torch.float64), cells, targets)[0]
    torch.testing.assert_close(weights.sum(-1), torch.ones(targets, dtype=torch.float64))
    assert (weights >= 0).all()
    outside = torch.arange(cells, dtype=torch.float64) >= covered * cells
    assert (weights[:, outside] == 0).all()
    nearby = torch.tensor([min(1.0, covered + move)], dtype=torch.float64)
    torch.testing.assert_close(sampling_weights(nearby, cells, targets)[0], weights, atol=1e-6, rtol=0)


@settings(max_examples=40, deadline=None)
@given(covered=st.floats(0.2, 1.0), cells=st.integers(8, 40), more=st.integers(0, 24))
def test_a_map_of_its_own_positions_becomes_the_positions_in_the_image(covered, cells, more):
    targets = cells + more
    positions = (torch.arange(cells, dtype=torch.float64) + 0.5) / (cells * covered)  # 0 to 1 over the image
    valid = torch.tensor([[1.0, covered]], dtype=torch.float64)
    found = resample(positions.expand(1, 1, 1, -1), valid, (1, targets)).flatten()
    centres = (torch.arange(targets, dtype=torch.float64) + 0.5) / targets
    margin = 1 / (cells * covered)  # a source cell: beyond the outermost centres there is no other to lean on
    inside = (centres > margin) & (centres < 1 - 1.5 * margin)
    torch.testing.assert_close(found[inside], centres[inside], atol=1e-9, rtol=0)
    assert (found - centres).abs().max() <= margin / 2 + 1e-9


def test_fractions_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"expected valid fractions in \(0, 1\], got \[\[0\.0, 1\.0\]\]"):
        resample(random_map(1, 2, 4, 4), torch.tensor([[0.0, 1.0]]), (4, 4))
    with pytest.raises(ValueError, match=r"valid fractions of shape \(1, 2\), one pair an image, got \(2, 2\)"):
        resample(random_map(1, 2, 4, 4), torch.ones(2, 2), (4, 4))
