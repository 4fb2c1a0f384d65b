"""`distill evaluate predictions=DIR masks=DIR`: drawn discs with answers known by hand, and what goes wrong."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from PIL import Image

from distill.cli.score import COMMAND

score_command = COMMAND

SIZE = (60, 80)


def disc(radius, row=30, column=40, size=SIZE):
    y, x = np.ogrid[: size[0], : size[1]]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def save(path, mask, scale=255):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((mask * scale).astype(np.uint8)).save(path, quality=100)


@pytest.fixture
def folders(tmp_path):
    """Four pairs: a perfect disc, half of one, two false patches on an empty mask, a perfect one of twice the size."""
    predictions, masks = tmp_path / "predictions", tmp_path / "masks"
    half = disc(20)
    half[:, 40:] = False
    found = {"whole": disc(12), "half": half, "empty": disc(3, 10, 10) | disc(3, 40, 60)}
    for name, mask in found.items():
        save(predictions / f"{name}.png", mask)
    save(predictions / "double.png", np.kron(disc(15), np.ones((2, 2))))
    truth = {"whole": disc(12), "half": disc(20), "empty": np.zeros(SIZE), "double": disc(15)}
    for name, mask in truth.items():
        save(masks / f"{name}.jpg", mask)
    return predictions, masks


def words_of(folders, *more):
    return [f"predictions={folders[0]}", f"masks={folders[1]}", "bootstrap=100", *more]


def test_of_few_images_there_is_no_interval_and_it_is_said(folders, capsys):
    assert score_command(words_of(folders), dry=False) == 0
    table = capsys.readouterr().out
    assert "[" not in table.partition("Dice, by convention")[2].partition("by size")[0]
    assert "No 95 % interval from fewer than 10 images or sequences." in table


def test_a_folder_is_scored_in_every_convention(folders, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("distill.metrics.bootstrap.LEAST_GROUPS", 2)
    out = tmp_path / "scores.json"
    assert score_command(words_of(folders, f"out={out}"), dry=False) == 0
    result = json.loads(out.read_text())
    table = capsys.readouterr().out
    half = disc(20)[:, :40].sum() / disc(20).sum()
    by_hand = {"whole": 1.0, "half": 2 * half / (1 + half), "empty": 0.0, "double": 1.0}
    assert {stem: figures["dice"] for stem, figures in result["per_image"].items()} == pytest.approx(by_hand)
    assert result["mean"]["dice"]["mean"] == pytest.approx(np.mean(list(by_hand.values())))
    assert result["mean"]["dice"]["low"] < result["mean"]["dice"]["mean"] < result["mean"]["dice"]["high"]
    areas = {radius: int(disc(radius).sum()) for radius in (3, 12, 15, 20)}
    true = areas[12] + areas[15] + half * areas[20]
    pooled = 2 * true / (2 * true + 2 * areas[3] + (1 - half) * areas[20])
    assert result["mean"]["dice_pooled"]["mean"] == pytest.approx(pooled)
    pixels = SIZE[0] * SIZE[1]
    perfect = (255 + 2 * areas[12] / (pixels + areas[12])) / 256  # at threshold 0 every pixel is foreground
    assert result["per_image"]["whole"]["dice_mean_over_thresholds"] == pytest.approx(perfect)
    assert (result["images"], result["resized"], result["left_out"]) == (4, 1, [])
    assert result["empty_masks"]["false_positives_per_frame"]["mean"] == 2
    assert {name: group["images"] for name, group in result["by_size"].items()} == {"medium": 2, "large": 1}
    assert set(result["conventions"]) >= set(result["mean"])
    for line in ("each image at 0.5, mean over images", "PraNet: each image at 256", "pooled: all pixels as one image"):
        assert line in table
    assert f"{result['mean']['dice_pooled']['mean']:.4f}   [" in table
    assert len({line.index("[") for line in table.splitlines() if "[" in line}) == 1  # aligned


def test_what_was_resized_and_what_is_empty_is_said(folders, caplog, monkeypatch):
    monkeypatch.setattr("distill.cli.score.logger.propagate", True)
    with caplog.at_level("INFO", logger="bandpass"):
        score_command(words_of(folders), dry=False)
    assert "1 prediction had another size and was resized to the mask (bilinear, antialiased)" in caplog.text
    assert "1 mask is empty: there, an empty prediction scores 1 at a threshold, but 0 in PraNet's" in caplog.text


def test_masks_and_predictions_of_zeros_and_ones_are_understood(tmp_path):
    for folder in ("predictions", "masks"):
        save(tmp_path / folder / "a.png", disc(12), scale=1)
    out = tmp_path / "scores.json"
    words = words_of((tmp_path / "predictions", tmp_path / "masks"), f"out={out}")
    assert score_command(words, dry=False) == 0
    assert json.loads(out.read_text())["per_image"]["a"]["dice"] == 1


@pytest.mark.parametrize("kind", [np.uint16, np.int32])
def test_masks_of_zeros_and_ones_in_wide_integers_are_understood(tmp_path, kind):
    for folder in ("predictions", "masks"):
        (tmp_path / folder).mkdir()
        Image.fromarray(disc(12).astype(kind)).save(tmp_path / folder / "a.tif")
    out = tmp_path / "scores.json"
    words = words_of((tmp_path / "predictions", tmp_path / "masks"), f"out={out}")
    assert score_command(words, dry=False) == 0
    assert json.loads(out.read_text())["per_image"]["a"]["dice"] == 1


def test_predictions_that_use_little_of_16_bits_are_refused(tmp_path):
    save(tmp_path / "masks" / "a.png", disc(12))
    (tmp_path / "predictions").mkdir()
    Image.fromarray((100 * disc(12)).astype(np.uint16)).save(tmp_path / "predictions" / "a.png")
    with pytest.raises(ValueError, match="the highest level in the predictions is 100, but they have more than 8 bits"):
        score_command(words_of((tmp_path / "predictions", tmp_path / "masks")), dry=False)


@pytest.mark.parametrize("way", ["floats", "palette"])
def test_predictions_of_floats_or_of_a_palette_have_the_scale_that_they_are_read_by(tmp_path, way):
    save(tmp_path / "masks" / "a.png", disc(12))
    (tmp_path / "predictions").mkdir()
    if way == "floats":
        Image.fromarray(disc(12).astype(np.float32)).save(tmp_path / "predictions" / "a.tif")
    else:
        picture = Image.fromarray(disc(12).astype(np.uint8)).convert("P")
        picture.putpalette([0, 0, 0, 255, 0, 0])
        picture.save(tmp_path / "predictions" / "a.png")
    out = tmp_path / "scores.json"
    assert score_command(words_of((tmp_path / "predictions", tmp_path / "masks"), f"out={out}"), dry=False) == 0
    assert json.loads(out.read_text())["per_image"]["a"]["dice"] == 1


def test_files_without_a_partner_are_named_and_left_out_on_request(folders, tmp_path):
    save(folders[0] / "lonely.png", disc(5))
    save(folders[1] / "lonley.png", disc(5))
    with pytest.raises(
        ValueError, match=r"2 files cannot be scored:\s+lonely.png has no mask with the stem 'lonely'; did"
    ):
        score_command(words_of(folders), dry=False)
    out = tmp_path / "scores.json"
    assert score_command(words_of(folders, "skip_bad=true", f"out={out}"), dry=False) == 0
    assert json.loads(out.read_text())["images"] == 4


def test_an_unreadable_file_is_named_and_left_out_on_request(folders, tmp_path):
    (folders[0] / "whole.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"predictions/whole\.png cannot be read .*\s.*skip_bad=true"):
        score_command(words_of(folders), dry=False)
    out = tmp_path / "scores.json"
    assert score_command(words_of(folders, "skip_bad=true", f"out={out}"), dry=False) == 0
    assert "whole" not in json.loads(out.read_text())["per_image"]
    for path in folders[0].iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"none of 4 pairs can be read; the first: predictions/double\.png"):
        score_command(words_of(folders, "skip_bad=true"), dry=False)


def test_a_dry_run_scores_nothing(folders, tmp_path, capsys):
    out = tmp_path / "scores.json"
    assert score_command(words_of(folders, f"out={out}"), dry=True) == 0
    assert not out.exists()
    assert capsys.readouterr().out == ""


def test_folders_that_cannot_be_scored_are_refused(folders, tmp_path):
    predictions, masks = folders
    with pytest.raises(FileNotFoundError, match=r"expected a folder at masks=.*nowhere, found none"):
        score_command([f"predictions={predictions}", f"masks={tmp_path / 'nowhere'}"], dry=False)
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"holds no picture; expected files with \.jpg"):
        score_command([f"predictions={tmp_path / 'none'}", f"masks={masks}"], dry=False)
    save(tmp_path / "others" / "z.png", disc(5))
    with pytest.raises(ValueError, match=r"files are paired by stem \(a\.png with a\.jpg\)"):
        score_command([f"predictions={tmp_path / 'others'}", f"masks={masks}"], dry=False)
    save(masks / "whole.png", disc(12))
    with pytest.raises(ValueError, match=r"has whole\.jpg and whole\.png with the same stem"):
        score_command([f"predictions={predictions}", f"masks={masks}"], dry=False)
    save(tmp_path / "classes" / "whole.png", disc(12), scale=3)
    with pytest.raises(ValueError, match=r"in the masks is 3, but foreground begins at 128; .*save one class at a"):
        score_command([f"predictions={predictions}", f"masks={tmp_path / 'classes'}", "skip_bad=true"], dry=False)


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("treshold=0.4", "no key 'treshold'.*did you mean 'threshold'"),
        ("threshold=high", "threshold is 'high', but must be a number"),
        ("threshold=1.5", "threshold is 1.5, but must be above 0 and at most 1"),
        ("bootstrap=many", "bootstrap is 'many', but must be a whole number"),
        ("bootstrap=0", "bootstrap is '0', but must be a whole number of at least 1"),
        ("tolerance=-1", "must not be negative"),
        ("skip_bad=maybe", "must be true or false"),
        ("out=.", "out=. is a folder; name a file"),
        ("masks=", "distill evaluate needs masks=, as in distill evaluate predictions=DIR"),
    ],
)
def test_a_wrong_word_is_told(word, sentence):
    with pytest.raises(ValueError, match=sentence):
        score_command.read(["predictions=p", *(["masks=m"] if word != "masks=" else []), word])


def test_photographs_are_no_masks_and_a_mask_of_one_colour_is_one_also_as_jpeg(tmp_path):
    photograph = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    red = np.zeros((*SIZE, 3), np.uint8)
    red[disc(12) > 0] = (255, 40, 255)
    save(tmp_path / "predictions" / "a.png", disc(12))
    (tmp_path / "masks").mkdir()
    Image.fromarray(photograph).save(tmp_path / "masks" / "a.png")
    words = words_of((tmp_path / "predictions", tmp_path / "masks"))
    with pytest.raises(ValueError, match=r"masks/a\.png cannot be read \(it is a colour picture, such as a photograph"):
        score_command(words, dry=False)
    (tmp_path / "masks" / "a.png").unlink()
    Image.fromarray(red).save(tmp_path / "masks" / "a.jpg", quality=60)
    assert score_command(words, dry=False) == 0


@pytest.mark.parametrize("way", ["photograph", "overlay"])
def test_predictions_in_colours_are_refused_and_not_scored_as_probabilities(tmp_path, way):
    save(tmp_path / "masks" / "a.png", disc(12))
    pixels = np.full((*SIZE, 3), 90, np.uint8)
    pixels[disc(12) > 0] = (90, 200, 30)
    if way == "photograph":
        pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    (tmp_path / "predictions").mkdir()
    Image.fromarray(pixels).save(tmp_path / "predictions" / "a.png")
    with pytest.raises(ValueError, match=r"predictions/a\.png cannot be read \(it is a colour picture, such as"):
        score_command(words_of((tmp_path / "predictions", tmp_path / "masks")), dry=False)


def test_grey_predictions_in_three_channels_are_scored_also_as_jpeg(tmp_path):
    save(tmp_path / "masks" / "a.png", disc(12))
    (tmp_path / "predictions").mkdir()
    grey = Image.fromarray((255 * disc(12)).astype(np.uint8)).convert("RGB")
    grey.save(tmp_path / "predictions" / "a.jpg", quality=60)
    out = tmp_path / "scores.json"
    assert score_command(words_of((tmp_path / "predictions", tmp_path / "masks"), f"out={out}"), dry=False) == 0
    assert json.loads(out.read_text())["per_image"]["a"]["dice"] > 0.99


def test_predictions_of_class_numbers_are_refused(tmp_path):
    save(tmp_path / "masks" / "a.png", disc(12))
    save(tmp_path / "predictions" / "a.png", disc(12), scale=2)
    with pytest.raises(
        ValueError,
        match=r"level in the predictions is 2, a probability of 0\.01; .*save one class at a time with",
    ):
        score_command(words_of((tmp_path / "predictions", tmp_path / "masks")), dry=False)


def test_masks_with_void_are_refused(tmp_path):
    levels = np.where(disc(10), 1, np.where(disc(12), 255, 0)).astype(np.uint8)
    save(tmp_path / "masks" / "a.png", levels, scale=1)
    save(tmp_path / "predictions" / "a.png", disc(12))
    with pytest.raises(ValueError, match="class numbers and 255, which is void"):
        score_command(words_of((tmp_path / "predictions", tmp_path / "masks")), dry=False)


def test_a_prediction_that_lies_in_its_alpha_channel_is_refused_and_an_opaque_one_read(folders, tmp_path):
    white = np.full((*SIZE, 3), 255, np.uint8)
    alpha = (disc(12) * 255).astype(np.uint8)
    Image.fromarray(np.dstack([white, alpha])).save(folders[0] / "whole.png")
    with pytest.raises(ValueError, match=r"whole\.png cannot be read \(it has an alpha channel that is not opaque"):
        score_command(words_of(folders), dry=False)
    grey = np.dstack([alpha] * 3 + [np.full(SIZE, 255, np.uint8)])
    Image.fromarray(grey).save(folders[0] / "whole.png")
    out = tmp_path / "scores.json"
    assert score_command(words_of(folders, f"out={out}"), dry=False) == 0
    assert json.loads(out.read_text())["per_image"]["whole"]["dice"] == 1


def test_a_prediction_whose_name_is_not_utf_8_is_refused(folders):
    (folders[0] / "whole.png").rename(folders[0] / os.fsdecode(b"\xe9.png"))
    with pytest.raises(ValueError, match=r"predictions=.* has a file \\xe9\.png, whose name is not UTF-8; rename it"):
        score_command(words_of(folders), dry=False)
