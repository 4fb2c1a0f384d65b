"""Bootstraps over many images: bounded memory, and the figures of drawing all sets at once."""

from __future__ import annotations

import numpy as np
import pytest

from distill.metrics import bootstrap


@pytest.mark.parametrize("groups", [None, [f"{index // 3}" for index in range(50)]])
def test_means_do_not_depend_on_how_many_sets_are_drawn_at_once(monkeypatch, groups):
    table = np.random.default_rng(0).normal(size=(50, 3))
    whole = bootstrap.resampled_means(table, groups=groups, resamples=100)
    monkeypatch.setattr(bootstrap, "DRAWN_AT_ONCE", 700)
    np.testing.assert_allclose(bootstrap.resampled_means(table, groups=groups, resamples=100), whole, rtol=1e-12)
    assert whole.shape == (100, 3)
