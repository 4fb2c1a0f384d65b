"""From a probability to a mask: a region stays if it reaches the region threshold anywhere."""

from __future__ import annotations

import numpy as np
import pytest
from published import write_disc, write_student
from scipy import ndimage

import distill
from distill.inference.segmenter import Segmenter, settle_thresholds
from distill.inference.thresholds import Thresholds
from distill.metrics.overlap import labels

ISLANDS = np.array(
    [
        [0.0, 0.6, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.9, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.7],
        [0.5, 0.0, 0.0, 0.0, 0.7],
    ],
    np.float32,
)[None]


def test_a_region_stays_if_it_reaches_the_region_threshold_and_with_it_pixels_that_touch_at_a_corner():
    np.testing.assert_array_equal(
        Thresholds(0.5, 0.8).mask(ISLANDS), [[0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0] * 5, [0] * 5]
    )
    found = Thresholds(0.5, 0.7).mask(ISLANDS)
    assert found.dtype == np.uint8
    assert found.sum() == 4 and not found[3, 0]


def test_a_region_threshold_up_to_the_pixels_keeps_every_region():
    for region in (0.0, 0.3, 0.5):
        np.testing.assert_array_equal(Thresholds(0.5, region).mask(ISLANDS), labels(ISLANDS, threshold=0.5))


def test_nothing_found_and_nothing_kept_are_empty_masks():
    assert not Thresholds(0.95, 0.99).mask(ISLANDS).any()
    assert not Thresholds(0.5, 0.95).mask(ISLANDS).any()


def test_several_classes_have_no_thresholds():
    several = np.stack([np.full((2, 2), 0.2), np.full((2, 2), 0.5), np.full((2, 2), 0.3)])
    assert (Thresholds(0.9, 0.95).mask(several) == 1).all()


@pytest.mark.parametrize("seed", range(3))
def test_it_is_reconstruction_by_dilation(seed):
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(61, 83)), 3)
    probability = ((smooth - smooth.min()) / np.ptp(smooth)).astype(np.float32)[None]
    for pixel, region in ((0.3, 0.9), (0.5, 0.8), (0.6, 0.7)):
        marks, within = probability[0] >= region, probability[0] >= pixel
        expected = ndimage.binary_propagation(marks, mask=within, structure=np.ones((3, 3)))
        np.testing.assert_array_equal(Thresholds(pixel, region).mask(probability), expected)


def test_a_description_without_a_region_threshold_keeps_every_region():
    assert Thresholds.of({}) == Thresholds(0.5, 0.0)
    assert Thresholds.of({"threshold": "0.4"}) == Thresholds(0.4, 0.0)
    assert Thresholds(0.4).entries() == {"threshold": 0.4, "region_threshold": 0.4}
    assert Thresholds.of(Thresholds(0.4, 0.9).entries()) == Thresholds(0.4, 0.9)
    assert (str(Thresholds(0.4, 0.9)), str(Thresholds(0.4, 0.4))) == (
        "threshold 0.4, regions from 0.9",
        "threshold 0.4",
    )


def segmenter(classes=1):
    return Segmenter("s", "d", classes, Thresholds(0.4, 0.9), "here", lambda image: image)


def test_a_student_that_keeps_every_region_keeps_them_at_a_lower_threshold_too():
    own = Thresholds.of(Thresholds(0.75).entries())
    asked = settle_thresholds(Segmenter("s", "d", 1, own, "here", lambda image: image), 0.5)
    assert asked == Thresholds(0.5)
    np.testing.assert_array_equal(asked.mask(ISLANDS), labels(ISLANDS, threshold=0.5))


def test_a_requested_threshold_leaves_the_other_as_it_is():
    assert settle_thresholds(segmenter()) == Thresholds(0.4, 0.9)
    assert settle_thresholds(segmenter(), 0.3) == Thresholds(0.3, 0.9)
    assert settle_thresholds(segmenter(), region=0.5) == Thresholds(0.4, 0.5)
    with pytest.raises(ValueError, match=r"region_threshold is 1\.5, but must be above 0 and at most 1"):
        settle_thresholds(segmenter(), region=1.5)
    with pytest.raises(ValueError, match=r"has 3 classes, .* so region_threshold= has no meaning"):
        settle_thresholds(segmenter(3), region=0.5)


def test_predict_drops_regions_says_so_and_does_everything_again_for_another_region_threshold(tmp_path, caplog):
    student, images = write_student(tmp_path / "student"), tmp_path / "images"
    write_disc(images / "disc.png", 0)
    caplog.set_level("INFO", logger="bandpass")
    assert distill.predict(student, images, out=tmp_path / "out").found == 1
    assert distill.predict(student, images, out=tmp_path / "out", region_threshold=1.0).found == 0
    assert "threshold 0.5, regions from 1" in caplog.text
    assert "was made with region_threshold None (now 1.0): everything in it is done again" in caplog.text
    again = distill.predict(student, images, out=tmp_path / "out", region_threshold=0.2)
    assert (again.found, again.kept) == (1, 0)
    assert distill.predict(student, images, out=tmp_path / "out").kept == 1, "below the threshold it changes nothing"
