from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.config.schema import DataRecipe
from distill.data.sources.builtin import generator_identity, probe
from distill.data.sources.open_data import open_data
from distill.data.synthetic.camera import field_of_view
from distill.data.synthetic.draw import draw
from distill.data.synthetic.generator import render
from distill.data.synthetic.scene import Scene
from distill.data.synthetic.surface import Wall, grid, place, view_polyps

FRAMES = 120
SIZE = (64, 80)


@pytest.fixture(scope="module")
def frames() -> list[tuple[np.ndarray, np.ndarray]]:
    return [render(7, index, size=SIZE) for index in range(FRAMES)]


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * np.logical_and(one, other).sum() / max(one.sum() + other.sum(), 1)


def test_a_frame_depends_on_seed_index_and_size_alone(frames):
    image, mask = render(7, 3, size=SIZE)
    assert np.array_equal(image, frames[3][0]) and np.array_equal(mask, frames[3][1])
    assert image.dtype == mask.dtype == np.uint8
    assert image.shape == (*SIZE, 3) and mask.shape == SIZE
    assert len({frame.tobytes() for frame, _ in frames}) == FRAMES
    assert not np.array_equal(render(8, 3, size=SIZE)[0], image)


@pytest.mark.parametrize("size", [(128, 160), (96, 96), (150, 260)])
def test_another_size_shows_the_same_scene(size):
    agreement, overlap = [], []
    for index in range(6):
        small_image, small_mask = render(11, index, size=(64, 80))
        image, mask = render(11, index, size=size)
        shrunk = np.asarray(Image.fromarray(image).resize((80, 64), Image.Resampling.BOX), np.float64)
        agreement.append(np.corrcoef(shrunk.ravel(), small_image.ravel())[0, 1])
        if small_mask.any() or mask.any():
            shrunk_mask = np.asarray(Image.fromarray(mask * 255).resize((80, 64), Image.Resampling.BOX)) > 127
            overlap.append(_dice(shrunk_mask, small_mask))
    assert min(agreement) > 0.9 and np.mean(agreement) > 0.97
    assert min(overlap) > 0.9


def test_the_mask_of_an_unhidden_polyp_is_its_analytic_outline():
    scene = _scene_with("flat")
    x, y = grid((160, 200))
    expected = place(scene.polyps[0].outline, x, y)[0] < 1
    (view,) = view_polyps(scene, Wall(scene, x, y), (160, 200))
    found = np.zeros((160, 200), bool)
    found[view.window] = view.inside
    assert np.array_equal(found, expected)


def test_what_the_mask_does_not_cover_looks_the_same_without_the_polyp(monkeypatch):
    scene = _scene_with("flat")
    camera = replace(scene.camera, defocus=0.0, motion=(0.0, 0.0), noise=0.0, jpeg=0, interlace=0.0, fringe=0.0)
    scene = replace(scene, camera=camera, patches=())
    monkeypatch.setattr("distill.data.synthetic.generator.draw", lambda seed, index: scene)
    image, mask = render(0, 0, size=(128, 160))
    bare = replace(scene, polyps=())
    monkeypatch.setattr("distill.data.synthetic.generator.draw", lambda seed, index: bare)
    without, empty = render(0, 0, size=(128, 160))
    changed = np.abs(np.log1p(image.astype(float)) - np.log1p(without)).mean(2)
    assert mask.any() and not empty.any()
    assert changed[mask > 0].mean() > 10 * np.median(changed[mask == 0])


def test_masks_are_binary_and_one_frame_in_ten_shows_no_polyp(frames):
    areas = np.array([mask.mean() for _, mask in frames])
    assert all(set(np.unique(mask)) <= {0, 1} for _, mask in frames)
    shown = areas[areas > 0]
    assert 0.04 < np.mean(areas == 0) < 0.18
    assert shown.min() > 0.005 and shown.max() < 0.5
    assert np.quantile(shown, 0.25) < 0.07 and np.quantile(shown, 0.9) > 0.15


def test_every_kind_of_polyp_and_of_distractor_occurs():
    scenes = [draw(7, index) for index in range(300)]
    kinds = Counter(polyp.kind for scene in scenes for polyp in scene.polyps)
    assert set(kinds) == {"flat", "sessile", "stalked"} and min(kinds.values()) > 40
    assert {patch.kind for scene in scenes for patch in scene.patches} == {"bulge", "mucus", "mark", "stool", "bubble"}
    assert Counter(len(scene.polyps) for scene in scenes)[2] > 15
    assert {scene.camera.border for scene in scenes} == {"none", "octagon", "circle", "inset", "round"}


def test_nothing_is_labelled_where_the_camera_sees_nothing(frames):
    for index, (_, mask) in enumerate(frames[:40]):
        seen = field_of_view(draw(7, index).camera, SIZE)
        assert seen is None or not mask[~seen].any()


def test_no_threshold_on_a_colour_finds_the_polyps(frames):
    shown = [(image.astype(np.float64), mask) for image, mask in frames if mask.any()]
    measures = {
        "red": lambda image: image[..., 0],
        "green": lambda image: image[..., 1],
        "redness": lambda image: image[..., 0] / (image.sum(2) + 30),
        "brightness": lambda image: image.sum(2),
    }
    for name, measure in measures.items():
        best = 0.0
        values = [measure(image) for image, _ in shown]
        for threshold in np.quantile(np.stack(values), np.linspace(0.02, 0.98, 13)):
            for sign in (1, -1):
                scores = [
                    _dice(sign * value > sign * threshold, mask > 0)
                    for value, (_, mask) in zip(values, shown, strict=True)
                ]
                best = max(best, float(np.mean(scores)))
        assert best < 0.4, f"a threshold on {name} reaches a Dice of {best:.2f}"


@pytest.mark.parametrize(("seed", "index", "size"), [(-1, 0, (64, 64)), (0, -1, (64, 64)), (0, 0, (8, 64))])
def test_a_frame_that_cannot_be_is_refused(seed, index, size):
    with pytest.raises(ValueError, match=r"expected seed and index of at least 0 and a size of at least 16 x 16"):
        render(seed, index, size=size)


def test_the_built_in_splits_are_disjoint_named_without_rendering_and_read_what_they_name():
    data = DataRecipe(images={"train": 6, "val": 3, "test": 4}, size=list(SIZE), seed=5)
    splits = open_data(data, home=Path("unused"))
    assert (len(splits.train), len(splits.val), len(splits.test["builtin"])) == (6, 3, 4)
    samples = [*splits.train, *splits.val, *splits.test["builtin"]]
    names = [name for sample in samples for name in (sample.key, sample.mask_key)]
    assert len(set(names)) == 26 and all(len(name) == 64 for name in names)
    images = [sample.read_image() for sample in samples]
    assert len({image.tobytes() for image in images}) == 13
    for sample, image in zip(samples, images, strict=True):
        again = pickle.loads(pickle.dumps(sample))
        mask = again.read_mask()
        assert np.array_equal(again.read_image(), image) and image.flags.writeable
        assert sample.size == image.shape[:2] == mask.shape


def test_keys_follow_seed_and_size_and_not_the_number_of_frames():
    few = DataRecipe(images={"train": 2, "val": 1, "test": 1}, size=list(SIZE), seed=5)
    keys = [sample.key for sample in open_data(few, home=Path("unused")).train]
    more = replace(few, images={"train": 9, "val": 2, "test": 1})
    assert [sample.key for sample in open_data(more, home=Path("unused")).train][:2] == keys
    for other in (replace(few, seed=6), replace(few, size=[64, 64])):
        assert not set(keys) & {sample.key for sample in open_data(other, home=Path("unused")).train}


def test_the_generators_identity_does_not_hang_on_the_last_bit():
    means = probe()
    assert np.abs(means % 1 - 0.5).min() > 0.003
    assert generator_identity() == generator_identity() and "generator" in generator_identity()


def _scene_with(kind: str) -> Scene:
    """A scene with one polyp of that kind, wholly in a frame without a border."""
    for index in range(2000):
        scene = draw(23, index)
        if len(scene.polyps) == 1 and scene.polyps[0].kind == kind and scene.camera.border == "none":
            outline = scene.polyps[0].outline
            if abs(outline.x) + outline.reach < 1.2 and abs(outline.y) + outline.reach < 0.95:
                return replace(scene, camera=replace(scene.camera, corner_box=None))
    raise AssertionError(f"no {kind} polyp in 2000 scenes")
