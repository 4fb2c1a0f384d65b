"""Masks of several classes: what files may hold, what is refused, and the whole run on a drawn data set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from small_teachers import write_timm

import distill
import students
from distill.config.schema import DataRecipe
from distill.data.mask_classes import Reading, as_classes, read_classes
from distill.data.sources.open_data import open_data
from distill.runs.open_run import open_run

HEIGHT, WIDTH = 40, 56
COLOURS = ("000000", "ff0000", "00ff00")


def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc (class 1) and a grey bar (class 2) on dark noise, and class numbers; a corner is not known."""
    random = np.random.default_rng(seed)
    numbers = np.zeros((HEIGHT, WIDTH), np.uint8)
    y, x = np.ogrid[:HEIGHT, :WIDTH]
    numbers[(y - random.uniform(12, 20)) ** 2 + (x - random.uniform(14, 26)) ** 2 < 60] = 1
    left = int(random.uniform(34, 44))
    numbers[8:34, left : left + 7] = 2
    image = np.array([(40, 20, 30), (210, 120, 90), (130, 130, 140)])[numbers] + random.integers(
        0, 30, (HEIGHT, WIDTH, 3)
    )
    numbers[:4, :4] = 255
    return image.astype(np.uint8), numbers


def colour_picture(numbers: np.ndarray) -> Image.Image:
    table = np.zeros((256, 3), np.uint8)
    table[1], table[2] = (255, 0, 0), (0, 255, 0)
    return Image.fromarray(table[numbers])


def palette_picture(numbers: np.ndarray) -> Image.Image:
    image = Image.fromarray(numbers).convert("P")
    image.putpalette([*(0, 0, 0, 128, 0, 0, 0, 128, 0), *[7, 5, 3] * 253])
    image.putdata(numbers.ravel().tolist())
    return image


WAYS = {
    "levels": lambda numbers: Image.fromarray(numbers),
    "16 bits": lambda numbers: Image.fromarray(numbers.astype(np.uint16)),
    "palette": palette_picture,
    "grey palette": lambda numbers: Image.fromarray(numbers).quantize(palette=grey_palette(), dither=0),
    "equal channels": lambda numbers: Image.fromarray(np.stack([numbers] * 3, axis=2)),
    "grey with alpha": lambda numbers: Image.merge("LA", [Image.fromarray(numbers)] * 2),
}


def grey_palette() -> Image.Image:
    image = Image.new("P", (1, 1))
    image.putpalette([level for index in range(256) for level in (index,) * 3])
    return image


@pytest.mark.parametrize("way", WAYS)
def test_class_numbers_are_read_from_levels_and_palette_indices(tmp_path, way):
    numbers = draw(0)[1]
    WAYS[way](numbers).save(tmp_path / "a.png")
    assert (read_classes(tmp_path / "a.png") == numbers).all()


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_class_numbers_are_read_from_colours_also_through_jpeg(tmp_path, suffix):
    numbers = draw(0)[1] % 255
    colour_picture(numbers).save(tmp_path / f"a.{suffix}", quality=90)
    read = read_classes(tmp_path / f"a.{suffix}", colours=COLOURS)
    assert (read == numbers).mean() > (0.999 if suffix == "png" else 0.97)


def test_what_holds_no_class_numbers_says_why():
    picture = colour_picture(draw(0)[1] % 255)
    with pytest.raises(ValueError, match=r"is a colour picture, but student.classes .*data.colours=\[000000,ff0000"):
        as_classes(picture)
    with pytest.raises(ValueError, match=r"has \d+% of its pixels in no colour of data.colours \(000000, 0000ff\)"):
        as_classes(picture, colours=("000000", "0000ff"))
    with pytest.raises(ValueError, match="from 0 to 700, but class numbers lie between 0 and 255"):
        as_classes(Image.fromarray(np.array([[0, 700]], np.uint16)))
    with pytest.raises(ValueError, match=r"student.classes is 3, but generated frames have one class; take your own"):
        open_data(DataRecipe(), home=Path("unused"), classes=3)
    with pytest.raises(ValueError, match=r"data.colours names 3 colours, but student.classes is 2"):
        Reading(2, COLOURS)


def write_set(folder: Path, count: int = 12) -> Path:
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for seed in range(count):
        image, numbers = draw(seed)
        Image.fromarray(image).save(folder / "images" / f"a{seed}.png")
        Image.fromarray(numbers).save(folder / "masks" / f"a{seed}.png")
    return folder


def test_masks_with_unknown_classes_or_in_a_lossy_format_are_named(tmp_path):
    folder = write_set(tmp_path / "tools")
    recipe = DataRecipe(name="folder", root=str(folder))
    splits = open_data(recipe, home=tmp_path, classes=3)
    assert {int(level) for sample in splits.train for level in np.unique(sample.read_mask())} == {0, 1, 2, 255}
    with pytest.raises(
        ValueError, match=r"a0.png holds class 2, but student.classes=2 knows 0 \(background\) to 1, and"
    ):
        open_data(recipe, home=tmp_path, classes=2)
    (folder / "masks" / "a3.png").unlink()
    for name in ("a3.jpg", "a3.png"):  # by content, whatever the name
        for old in (folder / "masks").glob("a3.*"):
            old.unlink()
        Image.fromarray(draw(3)[1]).save(folder / "masks" / name, format="JPEG")
        with pytest.raises(ValueError, match=rf"masks/{name} is a JPEG, which does not keep class numbers; save it"):
            open_data(recipe, home=tmp_path, classes=3)


def test_several_classes_go_the_whole_way(tmp_path, monkeypatch):
    """Extracted by a small random teacher, trained, scored by class and published with an ONNX file that agrees."""
    monkeypatch.setattr("distill.metrics.bootstrap.LEAST_GROUPS", 1)
    root = write_set(tmp_path / "tools")
    teacher = write_timm(tmp_path / "teacher")
    words = [
        *("recipe=timm_to_unet", "data.name=folder", f"data.root={root}", f"home={tmp_path / 'home'}", "image_size=64"),
        *("data.split=null", "data.train=[]", "data.test=[]", "data.fractions=[0.5,0.25,0.25]", "student.classes=3"),
        *("student.width=4", f"teachers.efficientnet.weights={teacher['weights']}", "cache.calibration=8"),
        *(f"teachers.efficientnet.model={teacher['model']}", "teachers.efficientnet.strides=[16]"),
        *("teachers.efficientnet.image_size=64", "teachers.efficientnet.views=[identity]", "augment.views=[identity]"),
        *("stages.joint.steps=8", "augment.min_crop=0.6", "optimiser.batch_size=4", "evaluate.bootstrap=100"),
        *("optimiser.learning_rate=0.02", "publish.examples=1", "precision=fp32", "teachers.efficientnet.licence=MIT"),
    ]
    recipe = distill.read_recipe(words)
    distill.extract(recipe), distill.train(recipe)
    scores = distill.evaluate(recipe)["datasets"]["tools"]
    assert set(scores["by_class"]) == {"1", "2"}
    for figures in scores["by_class"].values():
        assert figures["images"] == 3
        assert 0 <= figures["dice"]["low"] <= figures["dice"]["mean"] <= figures["dice"]["high"] <= 1
        assert figures["hd95"]["mean"] >= 0
    apart = np.mean([figures["dice"]["mean"] for figures in scores["by_class"].values()])
    assert scores["dice"]["mean"] == pytest.approx(apart)
    folder = distill.publish(recipe)
    assert students.load(folder).classes == 3
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "| class of tools | images | Dice | IoU |" in card
    matrix = np.array(scores["pooled"]["confusion"])
    pixels = sum(int((s.read_mask() != 255).sum()) for s in open_run(recipe).splits.test["tools"])
    assert matrix.shape == (3, 3)
    assert matrix.sum() == pixels
    assert scores["pooled"]["iou"]["1"] == pytest.approx(
        matrix[1, 1] / (matrix[1].sum() + matrix[:, 1].sum() - matrix[1, 1])
    )
    assert f"mIoU {scores['pooled']['miou']:.3f}, the mean over the classes that occur" in card
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    (probability,) = session.run(None, {"image": draw(0)[0][None]})
    assert probability.shape == (1, 3, HEIGHT, WIDTH)
    assert np.allclose(probability.sum(axis=1), 1, atol=1e-5)
    assert json.loads((folder / "config.json").read_text())["classes"] == 3
