"""Frames without an object, made by covering the objects of others."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_run import disc_sample, recipe_of, run_of

from distill.cli.messages import introduction
from distill.config.schema import AugmentRecipe, EvaluateRecipe
from distill.data.erase import (
    BLACK,
    FRAME_SIDE,
    LARGEST,
    best_part,
    cover,
    cover_background,
    erase_objects,
    erased_frames,
    interpolated,
    shifted,
    soft,
    with_margin,
)

RED = (255, 0, 0)


def wall(height=120, width=160):
    """A smooth ground with folds, without red."""
    y, x = np.ogrid[:height, :width]
    light = 120 + 40 * np.sin(x / 15 + y / 40) + 0.3 * y
    return np.stack([0.8 * light, light, 0.6 * light], axis=-1).astype(np.uint8)


def disc(radius, top, left, size=(120, 160)):
    y, x = np.ogrid[: size[0], : size[1]]
    return ((y - top) ** 2 + (x - left) ** 2 < radius**2).astype(np.uint8)


def with_discs(*discs):
    """The ground with red discs, and their mask; the second and later ones have the number 255, as what is ignored."""
    image, mask = wall(), np.zeros((120, 160), dtype=np.uint8)
    for number, one in enumerate(discs):
        image[one > 0] = RED
        mask[one > 0] = 255 if number else 1
    return image, mask


def redness(image):
    return int((image[..., 0].astype(int) - image[..., 1]).max())


def test_an_erased_object_looks_like_the_ground_behind_it():
    image, mask = with_discs(disc(18, 60, 70))
    erased = erase_objects(image, mask, np.random.default_rng(0))
    assert erased.dtype == np.uint8 and redness(image) == 255 and redness(erased) <= 5
    untouched = ~with_margin(mask)
    assert np.array_equal(erased[untouched], image[untouched])
    assert np.abs(erased.astype(int) - wall())[mask > 0].mean() < 15
    assert np.array_equal(erased, erase_objects(image, mask, np.random.default_rng(0)))
    assert redness(image) == 255, "the given image is not changed"


@pytest.mark.parametrize("seed", range(8))
def test_no_part_that_shows_an_object_covers_another(seed):
    image, mask = with_discs(disc(15, 40, 40), disc(15, 70, 110), disc(8, 100, 30))
    assert redness(erase_objects(image, mask, np.random.default_rng(seed))) <= 5


def test_an_object_stays_if_it_is_too_large_or_nothing_can_cover_it():
    random = np.random.default_rng(0)
    assert erase_objects(*with_discs(), random) is None
    assert cover_background(*with_discs(), random) is None
    image, mask = with_discs(disc(50, 60, 80))
    assert with_margin(mask).mean() > LARGEST and erase_objects(image, mask, random) is None
    rows = np.zeros((120, 160), dtype=np.uint8)
    rows[::12] = 1  # no ground is left between them
    assert erase_objects(*with_discs(rows), random) is None
    everywhere = np.zeros((120, 160), dtype=bool)
    everywhere[:40] = True
    assert cover(image, ~everywhere, everywhere, random) is None


def test_what_lies_outside_the_field_of_view_covers_no_object():
    image, mask = with_discs(disc(12, 60, 90))
    image[:, :70] = BLACK - 20
    for seed in range(8):
        erased = erase_objects(image, mask, np.random.default_rng(seed))
        assert erased is not None and erased[mask > 0].max(axis=-1).min() > BLACK


def test_a_patch_beside_the_objects_leaves_them_as_they_are():
    image, mask = with_discs(disc(15, 60, 50))
    for seed in range(8):
        covered = cover_background(image, mask, np.random.default_rng(seed))
        changed = (covered != image).any(axis=-1)
        assert not changed[with_margin(mask)].any()
        assert changed.sum() > 0.3 * (mask > 0).sum()
        assert redness(covered) == 255 and redness(covered[mask == 0]) <= 5


@pytest.mark.parametrize("dark", [0.05, 0.5, 1.0])
def test_patches_beside_objects_are_found_in_dark_images_too(dark):
    image, mask = with_discs(disc(15, 60, 50))
    specks = np.random.default_rng(0).random(mask.shape) < dark
    image[specks] = BLACK - 10
    for seed in range(5):
        assert erase_objects(image, mask, np.random.default_rng(seed)) is not None
        assert cover_background(image, mask, np.random.default_rng(seed)) is not None


def test_unknown_pixels_alone_are_no_object():
    image, mask = wall(), 255 * disc(15, 60, 50)
    assert erase_objects(image, mask, np.random.default_rng(0)) is None
    assert cover_background(image, mask, np.random.default_rng(0)) is None
    sample = disc_sample("left", 0, (80, 112))
    unknown = replace(sample, read_mask=lambda: 255 * sample.read_mask())
    assert len(erased_frames([sample])) == 1 and not erased_frames([unknown])


def test_a_patch_is_soft_at_its_edge():
    region = torch.zeros(40, 40, dtype=torch.bool)
    region[10:30, 10:30] = True
    share = soft(region, 6)
    assert share[~region].max() == 0 and share[13:27, 13:27].min() == 1
    assert 0 < share[10, 20] < share[11, 20] < share[12, 20] < 1 and share[20, 10] == share[10, 20]
    assert torch.equal(soft(region, 1), region.float())


def test_the_part_that_differs_least_around_the_region_is_taken():
    image = torch.zeros(3, 40, 40)
    image[:, :, 20:] = 200
    region = torch.zeros(40, 40, dtype=torch.bool)
    region[16:22, 28:34] = True
    for seed in range(5):
        view, _, left = best_part(image, region, region, np.random.default_rng(seed))
        mirrored = view in ("hflip", "rot180")
        assert left + 10 <= 20 if mirrored else left >= 20, "ten columns of the bright half"


def test_values_are_continued_smoothly_and_kept_where_they_are_known():
    known = torch.zeros(1, 33, 47)
    known[:, :4] = known[:, -4:] = known[:, :, :4] = known[:, :, -4:] = 1
    constant = torch.full((2, 33, 47), 7.0)
    torch.testing.assert_close(interpolated(constant * known, known), constant)
    ramp = torch.linspace(0, 40, 47).expand(1, 33, 47)
    filled = interpolated(ramp * known, known)
    assert torch.equal(filled * known, ramp * known)
    assert filled.min() >= 0 and filled.max() <= 40 and (filled - ramp).abs().max() < 20


@pytest.mark.parametrize(("rows", "columns"), [(2, 3), (-2, 1), (0, -4), (3, 4), (-3, -4)])
def test_a_mask_is_moved_and_loses_what_leaves_the_image(rows, columns):
    mask = np.random.default_rng(0).random((7, 9)) < 0.5
    moved = shifted(mask, rows, columns)
    for row, column in np.ndindex(mask.shape):
        inside = 0 <= row - rows < 7 and 0 <= column - columns < 9
        assert moved[row, column] == (inside and mask[row - rows, column - columns])


def test_validation_frames_are_the_same_at_each_call():
    samples = [disc_sample("left", seed, (900, 1400) if seed == 3 else (80, 112)) for seed in range(6)]
    frames = erased_frames(samples)
    assert 0 < len(frames) < len(samples), "some discs are too large"
    assert not {frame.key for frame in frames} & {sample.key for sample in samples}
    again = [pickle.loads(pickle.dumps(frame)) for frame in erased_frames(samples)]
    for frame, other in zip(frames, again, strict=True):
        image, mask = frame.read_image(), frame.read_mask()
        assert image.shape == (*frame.size, 3) and mask.shape == frame.size and not mask.any()
        assert max(frame.size) <= FRAME_SIDE and image.dtype == mask.dtype == np.uint8
        assert frame == other and np.array_equal(image, other.read_image())
        assert image.astype(int).sum(axis=-1).mean() < 320, "no disc of brightness 290 to 470"


def test_validation_counts_false_alarms_on_erased_frames(tmp_path):
    run = run_of(recipe_of(), tmp_path)
    run = replace(run, splits=replace(run.splits, val=run.splits.train))
    counting = replace(run, recipe=replace(run.recipe, evaluate=EvaluateRecipe(erased=True)))
    frames = counting.validation[len(run.validation) :]
    assert counting.validation[: len(run.validation)] == run.validation
    assert frames and frames == erased_frames(run.splits.val)


def test_it_is_told_if_nothing_can_be_covered(tmp_path):
    run = run_of(recipe_of(), tmp_path)
    counting = replace(run, recipe=replace(run.recipe, evaluate=EvaluateRecipe(erased=True)))
    nothing = replace(counting, splits=replace(run.splits, val=run.splits.val[:1]))
    told = "evaluate.erased has no effect"
    assert not erased_frames(nothing.splits.val), "its disc is too large"
    assert told in "\n".join(introduction(nothing)) and told not in "\n".join(introduction(run))


def test_a_share_over_a_half_is_refused_since_as_many_images_get_a_patch_elsewhere():
    with pytest.raises(ValueError, match=r"augment\.erase is 0\.6, but must lie in \[0, 0\.5\]"):
        AugmentRecipe(erase=0.6)
