"""Errors of bad data: everything wrong in one error, each sentence with the file and the remedy, before training."""

from __future__ import annotations

import csv
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from distill.config.schema import DataRecipe
from distill.data.image_io import decode
from distill.data.sources.open_data import open_data

HEIGHT, WIDTH, COUNT = 16, 20, 12


def save_mask(path: Path, *, value: int = 255, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    levels = np.zeros(shape, np.uint8)
    levels[2:6, 3:9] = value
    Image.fromarray(levels).save(path)


def fill(folder: Path, value: int) -> None:
    for path in (folder / "masks").iterdir():
        Image.fromarray(np.full((HEIGHT, WIDTH), value, np.uint8)).save(path)


@pytest.fixture
def polyps(tmp_path) -> Path:
    """A good data set of twelve pairs, a0 to a11."""
    folder = tmp_path / "polyps"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    generator = np.random.default_rng(0)
    for i in range(COUNT):
        pixels = generator.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"a{i}.png")
        save_mask(folder / "masks" / f"a{i}.png")
    return folder


def write_split(folder: Path, **parts: list[tuple[str, ...]]) -> str:
    folder.mkdir()
    for name, rows in parts.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(rows)
    return str(folder)


def names(first: int, last: int) -> list[tuple[str, ...]]:
    return [("stem",), *((f"a{i}",) for i in range(first, last))]


def open_folder(root: Path, **options):
    return open_data(DataRecipe(name="folder", root=str(root), **options), home=root.parent / "home")


def count(splits) -> int:
    return len(splits.train) + len(splits.val) + sum(map(len, splits.test.values()))


def lose_a_mask(folder: Path) -> None:
    (folder / "masks" / "a3.png").unlink()


def misname_a_mask(folder: Path) -> None:
    (folder / "masks" / "a3.png").rename(folder / "masks" / "a3_mask.png")


def lose_an_image(folder: Path) -> None:
    (folder / "images" / "a3.png").unlink()


def resize_a_mask(folder: Path) -> None:
    save_mask(folder / "masks" / "a3.png", shape=(HEIGHT, WIDTH + 2))


def turn_a_mask(folder: Path) -> None:
    save_mask(folder / "masks" / "a3.png", shape=(WIDTH, HEIGHT))


def truncate_an_image(folder: Path) -> None:
    path = folder / "images" / "a3.png"
    path.write_bytes(path.read_bytes()[:-200])


def truncate_a_mask(folder: Path) -> None:
    (folder / "masks" / "a3.png").unlink()
    path = folder / "masks" / "a3.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-60])


def call_a_text_an_image(folder: Path) -> None:
    (folder / "images" / "a3.png").write_text("not a picture")


def empty_a_file(folder: Path) -> None:
    (folder / "images" / "a3.png").write_bytes(b"")


def break_a_link(folder: Path) -> None:
    (folder / "images" / "a3.png").unlink()
    (folder / "images" / "a3.png").symlink_to(folder / "gone.png")


def bury_an_image(folder: Path) -> None:
    (folder / "images" / "sub").mkdir()
    (folder / "images" / "a3.png").rename(folder / "images" / "sub" / "a3.png")


def repeat_a_stem(folder: Path) -> None:
    Image.open(folder / "images" / "a3.png").save(folder / "images" / "a3.bmp")


def scale_a_mask(folder: Path) -> None:
    save_mask(folder / "masks" / "a3.png", value=1)


FILES = {
    lose_a_mask: (
        "polyps/images/a3.png has no mask; expected polyps/masks/a3.png (or another image suffix); add it or remove "
        "the image"
    ),
    misname_a_mask: (
        "polyps/images/a3.png has no mask; expected polyps/masks/a3.png (or another image suffix); did you mean "
        "'a3_mask'? rename it"
    ),
    lose_an_image: (
        "polyps/masks/a3.png has no image; expected polyps/images/a3 with an image suffix; add it or remove the mask"
    ),
    bury_an_image: (
        "polyps/masks/a3.png has no image; expected polyps/images/a3 with an image suffix; add it or remove the mask; "
        "the folder polyps/images/sub/ is not looked into, so move its files up"
    ),
    resize_a_mask: (
        "polyps/masks/a3.png is 22 x 16 pixels (width x height), but its image polyps/images/a3.png is 20 x 16; save "
        "the mask at the size of its image"
    ),
    turn_a_mask: (
        "polyps/masks/a3.png is 16 x 20 pixels (width x height), but its image polyps/images/a3.png is 20 x 16; turn "
        "it by a quarter, or remove the EXIF rotation of the image if the mask was drawn without it"
    ),
    truncate_an_image: "polyps/images/a3.png is truncated or damaged (",
    truncate_a_mask: "polyps/masks/a3.jpg is truncated or damaged (",
    call_a_text_an_image: "polyps/images/a3.png is not a BMP, GIF, JPEG, PNG, TIFF or WEBP picture; replace or remove",
    empty_a_file: "polyps/images/a3.png has 0 bytes; copy it again from its origin",
    break_a_link: (
        "polyps/images/a3.png cannot be opened (No such file or directory); check the file and its permissions"
    ),
    repeat_a_stem: (
        "polyps/images has a3.bmp and a3.png with one stem, so that the pair is not clear; rename or remove all but one"
    ),
    scale_a_mask: (
        "polyps/masks/a3.png holds only 0 and 1, but other masks of polyps go higher, so that it would be read as "
        "empty; save it with 0 and 255"
    ),
}


@pytest.mark.parametrize(("spoil", "sentence"), FILES.items(), ids=[spoil.__name__ for spoil in FILES])
def test_a_bad_file_is_named_with_its_remedy_and_skip_bad_goes_on_without_it(polyps, spoil, sentence):
    spoil(polyps)
    with pytest.raises(ValueError, match=re.escape(sentence)) as error:
        open_folder(polyps)
    assert str(error.value).endswith("fix them, or go on without these images by data.skip_bad=true")
    splits = open_folder(polyps, skip_bad=True)
    assert count(splits) == COUNT - 1
    assert any(note.startswith("data.skip_bad=true left out 1 (") and sentence in note for note in splits.notes)


def test_no_format_is_tried_that_is_not_promised():
    picture = Image.fromarray(np.zeros((4, 6, 3), np.uint8))
    for form in ("EPS", "PPM", "PCX", "MPO", "GIF", "WEBP"):  # an MPO is what some cameras call a JPEG
        stream = io.BytesIO()
        picture.save(stream, form, **({"save_all": True, "append_images": [picture]} if form == "MPO" else {}))
        if form in ("EPS", "PPM", "PCX"):
            with pytest.raises(UnidentifiedImageError, match="it is not a BMP, GIF, JPEG, PNG, TIFF or WEBP picture"):
                decode(stream.getvalue())
        else:
            assert decode(stream.getvalue()).size == (6, 4)


def test_everything_wrong_is_told_in_one_error_of_ten_lines(polyps):
    for i in range(9):
        (polyps / "masks" / f"a{i}.png").unlink()
    (polyps / "masks" / "a9.png").write_bytes(b"?")
    resize_a_mask(polyps)
    (polyps / "masks" / "a3.png").rename(polyps / "masks" / "a11.png")
    repeat_a_stem(polyps)
    with pytest.raises(ValueError, match="found 12 problems in ") as error:
        open_folder(polyps)
    lines = str(error.value).splitlines()
    assert len(lines) == 1 + 10 + 1 + 1
    assert lines[-2].strip() == "and 2 more"
    with pytest.raises(ValueError, match="no image is left to"):
        open_folder(polyps, skip_bad=True)


def test_a_text_file_among_the_images_is_ignored_and_told(polyps):
    (polyps / "images" / "readme.txt").write_text("from the hospital")
    (polyps / "images" / ".DS_Store").write_bytes(b"")
    splits = open_folder(polyps)
    assert splits.notes == ("ignored 1 file of polyps without an image's suffix: images/readme.txt",)
    assert count(splits) == COUNT


def test_single_empty_and_full_masks_are_legitimate_and_told(polyps):
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(polyps / "masks" / "a0.png")
    Image.fromarray(np.full((HEIGHT, WIDTH), 255, np.uint8)).save(polyps / "masks" / "a1.png")
    assert open_folder(polyps).notes == (
        "1 of 12 masks of polyps are empty: frames without foreground",
        "1 of 12 masks of polyps are foreground everywhere",
    )


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (0, "all 12 masks of polyps are empty (highest value 0, foreground begins at 1): there is nothing to learn"),
        (7, "all 12 masks of polyps are empty (highest value 7, foreground begins at 128): there is nothing to learn"),
        (2, "there is nothing to learn; if they hold class numbers, set student.classes=3; else check its masks"),
        (99, "(highest value 99, foreground begins at 128): there is nothing to learn; check its masks (0 and 255, or"),
        (255, "all 12 masks of polyps are constant (0 empty, 12 foreground everywhere): there is no contour to learn"),
    ],
)
def test_a_data_set_of_constant_masks_stops_even_with_skip_bad(polyps, value, sentence):
    fill(polyps, value)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        open_folder(polyps, skip_bad=True)


def test_an_empty_folder_says_what_it_should_hold(polyps):
    shutil.rmtree(polyps / "images")
    (polyps / "images").mkdir()
    with pytest.raises(ValueError, match=r"polyps/images holds no picture; expected files of .jpg .jpeg .png"):
        open_folder(polyps)
    shutil.rmtree(polyps / "masks")
    with pytest.raises(ValueError, match="polyps has no folder masks/; expected images/ and masks/ in it"):
        open_folder(polyps)


def test_a_missing_root_says_the_layout(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"does not exist \(resolved to .*\); expected images/ and masks/ in it"
    ):
        open_folder(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=r"no data set in data.root=.*: expected images/.*, found nothing"):
        open_folder(tmp_path)
    with pytest.raises(ValueError, match=r"data.name=folder needs data.root=FOLDER; expected images/"):
        open_data(DataRecipe(name="folder"), home=tmp_path)


def test_unknown_names_say_the_nearest(polyps, tmp_path):
    with pytest.raises(ValueError, match=r"unknown data.name 'foldr'; choose .*, pranet; did you mean 'folder'"):
        open_data(DataRecipe(name="foldr"), home=tmp_path)
    with pytest.raises(ValueError, match=r"data.test names 'polips', which .* choose from polyps, .*did you mean 'pol"):
        open_folder(polyps, test=["polips"])
    with pytest.raises(ValueError, match=r"data.fold is '6/5', but must be k/n"):
        open_folder(polyps, fold="6/5")


def test_data_sets_of_a_recipe_that_are_not_there_are_told_at_once_with_what_to_type(polyps):
    with pytest.raises(ValueError, match=r"not under data\.root") as error:
        open_folder(polyps, train=["polyps", "kvasir-seg"], test=["kvasir-seg", "clinic"], test_only=["centre-4"])
    assert str(error.value) == (
        "data.train names 'kvasir-seg'; data.test names 'kvasir-seg' and 'clinic'; data.test_only names 'centre-4', "
        "which are not under data.root; choose from polyps, or for your own data, all that is there, add data.train=[] "
        "data.test=[] data.test_only=[]"
    )
    assert open_folder(polyps, train=[], test=[], test_only=[]).test.keys() == {"polyps"}


def test_a_split_that_names_absent_stems_says_the_nearest(polyps, tmp_path):
    split = write_split(tmp_path / "split", train=[*names(0, 8), ("b3",), ("a3.png",)], test=names(8, 12))
    with pytest.raises(ValueError, match="found 2 problems") as error:
        open_folder(polyps, split=split)
    assert "train.csv names polyps,b3, but polyps/images has no such file; correct the row or remove it" in str(
        error.value
    )
    assert "train.csv names polyps,a3.png, but polyps/images has no such file; write a3 without suffix" in str(
        error.value
    )
    assert count(open_folder(polyps, split=split, skip_bad=True)) == COUNT


def test_rows_given_twice_stop(polyps, tmp_path):
    split = write_split(tmp_path / "split", train=[*names(0, 8), ("a2",)], test=names(7, 12))
    with pytest.raises(ValueError, match="found 2 problems") as error:
        open_folder(polyps, split=split, skip_bad=True)
    assert "train.csv names polyps,a2 twice; remove one row" in str(error.value)
    assert "polyps,a7 is in both train.csv and test.csv; remove it from one of them" in str(error.value)


def test_a_split_without_files_columns_or_known_data_sets_says_so(polyps, tmp_path):
    split = write_split(tmp_path / "one", train=names(0, 8))
    with pytest.raises(FileNotFoundError, match=r"expected train.csv and test.csv in data.split=.*, found train.csv"):
        open_folder(polyps, split=split)
    split = write_split(tmp_path / "two", train=[("name",), ("a1",)], test=names(8, 12))
    with pytest.raises(ValueError, match=r"train.csv has columns name; expected stem"):
        open_folder(polyps, split=split)
    rows = [("dataset", "stem"), ("polyp", "a1")]
    split = write_split(tmp_path / "three", train=rows, test=names(8, 12))
    with pytest.raises(
        ValueError, match=r"names data set 'polyp' \(1 row\), .* choose by data.train=\[polyps\]; did you"
    ):
        open_folder(polyps, split=split)


def test_a_group_file_that_does_not_fit_stops(polyps):
    (polyps / "sequences.csv").write_text("frame,sequence\na0,1\n")
    with pytest.raises(ValueError, match=r"sequences.csv has columns frame, sequence; expected stem and group"):
        open_folder(polyps)
    (polyps / "sequences.csv").write_text("stem,sequence\nx.png,1\n")
    with pytest.raises(
        ValueError, match=r"polyps/sequences.csv knows no stem of the images beside it \(it has 'x.png'"
    ):
        open_folder(polyps)


def test_too_few_images_say_which_part_is_left_without(polyps):
    for i in range(2, COUNT):
        (polyps / "images" / f"a{i}.png").unlink()
        (polyps / "masks" / f"a{i}.png").unlink()
    with pytest.raises(
        ValueError, match=r"no image is left to validate on \(found 1 to train on, 0 to validate on, 1 to"
    ):
        open_folder(polyps)


@pytest.fixture
def parquet(tmp_path) -> Path:
    """Eight rows, of which the fourth has a broken mask."""
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    good = tmp_path / "good.png"
    save_mask(good)
    cells = [{"bytes": good.read_bytes(), "path": None} for _ in range(8)]
    images = []
    for i in range(8):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), i, np.uint8)).save(good)
        images.append({"bytes": good.read_bytes(), "path": None})
    cells[3] = {"bytes": b"?", "path": None}
    picture = datasets.Image(decode=False)
    features = datasets.Features({"image": picture, "mask": picture, "label": datasets.Value("int64")})
    rows = {"image": images, "mask": cells, "label": list(range(8))}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "polyps.parquet")
    return tmp_path / "polyps.parquet"


def test_a_bad_row_or_column_of_a_table_is_named(parquet):
    def opened(**options):
        return open_data(DataRecipe(name="datasets", root=str(parquet), **options), home=parquet.parent / "home")

    sentence = (
        "polyps: row 3 of train, column mask, is not a BMP, GIF, JPEG, PNG, TIFF or WEBP picture; replace or remove it"
    )
    with pytest.raises(ValueError, match=sentence):
        opened()
    assert count(opened(skip_bad=True)) == 7
    with pytest.raises(
        ValueError, match=r"has no column 'masks', it has image, mask, label; set data.mask_column; did"
    ):
        opened(mask_column="masks")
    with pytest.raises(ValueError, match=r"column 'label' of split train of polyps holds .*int64.*must hold pictures"):
        opened(mask_column="label")
    with pytest.raises(ValueError, match=r"data.split is for data.name=folder"):
        opened(split="splits")


def test_a_hub_id_without_network_says_how_to_go_on(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"data.root=user/polyps is no path here and cannot be loaded .*hf download"
    ):
        open_data(DataRecipe(name="datasets", root="user/polyps"), home=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"data.root=./gone.parquet does not exist \(resolved to"):
        open_data(DataRecipe(name="datasets", root="./gone.parquet"), home=tmp_path)
    (tmp_path / "odd").mkdir()
    with pytest.raises(FileNotFoundError, match=r"the datasets library cannot load data.root=.*expected a folder of"):
        open_data(DataRecipe(name="datasets", root=str(tmp_path / "odd")), home=tmp_path)
