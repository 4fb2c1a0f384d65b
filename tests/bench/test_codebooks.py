"""Product and residual quantisation, as `bench what=cache` measures them beside the cache's code."""

from __future__ import annotations

import re

import pytest
import torch
from natural_maps import natural_maps

from distill.bench import codebooks
from distill.bench.codebooks import codebook, codebook_rows, nearest, product, residual


def test_the_nearest_centre_is_the_nearest():
    random = torch.Generator().manual_seed(0)
    vectors, centres = (torch.randn(count, 6, generator=random) for count in (50, 9))
    assert torch.equal(nearest(vectors, centres), torch.cdist(vectors, centres).argmin(1))


def test_centres_are_the_means_of_their_vectors():
    vectors = torch.randn(4000, 3, generator=torch.Generator().manual_seed(1))
    centres = codebook(vectors)
    mine = nearest(vectors, centres)
    error = (vectors - centres[mine]).square().sum(1).mean()
    assert error < 0.1 * vectors.square().sum(1).mean(), "256 centres in three dimensions"
    means = torch.stack([vectors[mine == number].mean(0) for number in range(len(centres))])
    assert (vectors - means[mine]).square().sum(1).mean() > 0.97 * error, "k-means has nearly settled"


@pytest.mark.parametrize("quantise", [product, residual])
def test_more_codebooks_leave_less(quantise):
    random = torch.Generator().manual_seed(2)
    mixed = torch.randn(8, 8, generator=random)
    known, unknown = (torch.randn(count, 8, generator=random) @ mixed for count in (4000, 500))
    errors = [(quantise(known, unknown, count) - unknown).square().mean().item() for count in (1, 2, 4)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_a_row_sets_the_bits_of_both_codes_at_one_cosine_side_by_side(monkeypatch):
    monkeypatch.setattr(codebooks, "BOOKS", (4,))
    maps = natural_maps(24, seed=3)
    rows = list(codebook_rows("drawn", maps[:16], maps[16:]))
    assert [row.figure.split(":")[1].split(",")[0].strip() for row in rows] == [
        "product quantisation", "residual quantisation",
    ]  # fmt: skip
    for row in rows:
        bits, reached, ours, own = (float(number) for number in re.findall(r"\d[\d.]*", row.note))
        assert bits == 32
        assert row.value == pytest.approx(bits / ours, rel=0.01)
        assert own == pytest.approx(reached, abs=0.02)
