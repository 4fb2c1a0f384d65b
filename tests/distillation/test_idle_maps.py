"""Maps of a teacher that a recipe extracts and nothing imitates."""

from __future__ import annotations

import pytest

from cache import FeatureSpec, MapSpec
from distill.config.parse import read_recipe
from distill.distillation.targets import note_idle_maps

SPEC = FeatureSpec(tuple(MapSpec(f"stride{s}", channels=4, grid=(320 // s, 320 // s), stride=s) for s in (8, 16, 32)))


def note(*words):
    return note_idle_maps(read_recipe(["recipe=timm_to_unet", *words]), SPEC, teacher="efficientnet")


@pytest.mark.parametrize(("size", "idle"), [(128, "stride8"), (352, "stride32")])
def test_a_map_that_no_level_of_the_student_is_nearest_to_is_named(size, idle):
    assert note(f"image_size={size}").startswith(
        f"efficientnet: at image_size={size} nothing imitates {idle}, which other students and sizes may"
    )


def test_nothing_is_said_where_nothing_is_imitated_or_a_decoder_reads_every_map():
    assert not note("stages.joint.losses.imitate_features=0")
    assert not note("teachers.masks={adapter: task, of: efficientnet}")
