"""Folders and tables become splits: by content, by group, without leaks."""

from __future__ import annotations

import csv
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from distill.config.schema import DataRecipe
from distill.data.image_io import read_image, read_mask
from distill.data.mask_classes import read_classes
from distill.data.sources.hf_datasets import name_parts
from distill.data.sources.open_data import open_data
from distill.data.split_files import read_roles
from distill.data.splits import bundle, closest_sum, deal
from distill.runtime.issues import Problems

HEIGHT, WIDTH = 20, 26


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8))


def mask(value: int = 255) -> Image.Image:
    levels = np.zeros((HEIGHT, WIDTH), np.uint8)
    levels[4:9, 6:14] = value
    return Image.fromarray(levels)


def make(folder: Path, count: int = 20, *, first: int = 0, value: int = 255) -> Path:
    """A data set of `count` pairs a0, a1, ...; the picture of stem i is `picture(first + i)`."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for i in range(count):
        picture(first + i).save(folder / "images" / f"a{i}.png")
        mask(value).save(folder / "masks" / f"a{i}.png")
    return folder


def write_csv(path: Path, rows: list[tuple[str, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)


def open_folder(root: Path, **options):
    return open_data(DataRecipe(name="folder", root=str(root), **options), home=root.parent / "home")


def stems(samples) -> set[str]:
    return {sample.stem for sample in samples}


def keys(samples) -> set[str]:
    return {sample.key for sample in samples}


def test_fractions_cut_one_data_set_into_disjoint_parts(tmp_path):
    splits = open_folder(make(tmp_path / "polyps"))
    assert [len(splits.train), len(splits.val), len(splits.test["polyps"])] == [16, 2, 2]
    assert len(keys(splits.train) | keys(splits.val) | keys(splits.test["polyps"])) == 20
    sample = splits.train[0]
    assert sample.size == (HEIGHT, WIDTH)
    assert sample.read_image().shape == (HEIGHT, WIDTH, 3)
    assert sample.read_mask().sum() == 40
    assert (pickle.loads(pickle.dumps(sample)).read_image() == sample.read_image()).all()


def test_renaming_and_copying_change_no_split(tmp_path):
    before = open_folder(make(tmp_path / "one"))
    make(tmp_path / "two")
    for part in ("images", "masks"):
        for i in range(20):
            old = tmp_path / "two" / part / f"a{i}.png"
            old.rename(old.with_name(f"größe {(i * 7) % 20}.png"))
        shutil.copy(tmp_path / "two" / part / "größe 3.png", tmp_path / "two" / part / "copy.png")
    after = open_folder(tmp_path / "two")
    assert keys(after.train) == keys(before.train)
    assert keys(after.val) == keys(before.val)
    assert keys(after.test["two"]) == keys(before.test["one"])
    assert open_folder(tmp_path / "one", seed=1).digest != before.digest


def test_the_digest_knows_images_masks_and_parts_but_no_names(tmp_path):
    digest = open_folder(make(tmp_path / "a" / "polyps")).digest
    assert open_folder(make(tmp_path / "b" / "polyps")).digest == digest
    levels = np.asarray(mask()).copy()
    levels[0, 0] = 255
    Image.fromarray(levels).save(tmp_path / "b" / "polyps" / "masks" / "a5.png")
    assert open_folder(tmp_path / "b" / "polyps").digest != digest


def test_a_split_decides_and_a_data_set_it_does_not_mention_is_tested_whole(tmp_path):
    for name, first in (("kvasir", 0), ("etis", 100), ("other", 200)):
        make(tmp_path / "root" / name, first=first)
    write_csv(tmp_path / "split" / "train.csv", [("dataset", "stem"), *(("kvasir", f"a{i}") for i in range(14))])
    write_csv(tmp_path / "split" / "test.csv", [("dataset", "stem"), ("kvasir", "a14"), ("kvasir", "a15")])
    options = {"split": str(tmp_path / "split"), "train": ["kvasir"], "test": ["etis", "kvasir"]}
    splits = open_folder(tmp_path / "root", **options)
    assert list(splits.test) == ["etis", "kvasir"]
    assert [len(splits.test["etis"]), stems(splits.test["kvasir"])] == [20, {"a14", "a15"}]
    assert (len(splits.train), len(splits.val)) == (13, 1)
    assert "4 of 20 images of kvasir are in no split file and are not used" in splits.notes
    assert "test.csv does not mention etis and it is not trained on: all its 20 images are tested" in splits.notes


def test_a_val_csv_is_the_validation_unless_a_fold_is_asked(tmp_path):
    make(tmp_path / "polyps")
    for part, chosen in (("train", range(12)), ("val", range(12, 15)), ("test", range(15, 20))):
        write_csv(tmp_path / "split" / f"{part}.csv", [("stem",), *((f"a{i}",) for i in chosen)])
    split = str(tmp_path / "split")
    assert stems(open_folder(tmp_path / "polyps", split=split).val) == {"a12", "a13", "a14"}
    folds = [open_folder(tmp_path / "polyps", split=split, fold=f"{k}/5") for k in range(1, 6)]
    assert [len(fold.val) for fold in folds] == [3] * 5
    assert set.union(*(stems(fold.val) for fold in folds)) == {f"a{i}" for i in range(15)}
    assert {fold.test["polyps"] for fold in folds} == {folds[0].test["polyps"]}


def test_an_image_of_the_test_never_enters_training_whatever_its_folder(tmp_path):
    make(tmp_path / "root" / "a")
    make(tmp_path / "root" / "b", 5, first=3)
    splits = open_folder(tmp_path / "root", train=["a"], test=["b"])
    assert len(splits.test["b"]) == 5
    assert not keys(splits.test["b"]) & (keys(splits.train) | keys(splits.val))
    assert splits.dropped == 5
    assert len(splits.train) + len(splits.val) == 15
    assert any(
        note.startswith("dropped 5 images of training that test also holds (first: a/a3)") for note in splits.notes
    )


def test_test_beats_validation_and_validation_beats_training(tmp_path):
    make(tmp_path / "root" / "a", 8)
    make(tmp_path / "root" / "b", 4)  # the same pictures as a0..a3
    rows = {
        "train": [("a", f"a{i}") for i in range(8)],
        "val": [("b", "a0"), ("b", "a3")],
        "test": [("b", "a1"), ("b", "a2")],
    }
    shutil.copy(tmp_path / "root" / "b" / "images" / "a1.png", tmp_path / "root" / "b" / "images" / "a3.png")
    for part, names in rows.items():
        write_csv(tmp_path / "split" / f"{part}.csv", [("dataset", "stem"), *names])
    splits = open_folder(tmp_path / "root", split=str(tmp_path / "split"))
    assert stems(splits.test["b"]) == {"a1", "a2"}
    assert stems(splits.val) == {"a0"}
    assert stems(splits.train) == {"a3", "a4", "a5", "a6", "a7"}
    assert splits.dropped == 1 + 3


def test_exact_copies_inside_training_are_kept_once(tmp_path):
    make(tmp_path / "root" / "a", 10)
    make(tmp_path / "root" / "b", 10, first=5)
    write_csv(tmp_path / "split" / "test.csv", [("dataset", "stem"), ("a", "a0")])
    names = [("a", f"a{i}") for i in range(1, 10)] + [("b", f"a{i}") for i in range(10)]
    write_csv(tmp_path / "split" / "train.csv", [("dataset", "stem"), *names])
    splits = open_folder(tmp_path / "root", split=str(tmp_path / "split"))
    assert len(splits.train) + len(splits.val) == 14 == len(keys(splits.train) | keys(splits.val))
    assert "kept each image of training once: 5 exact duplicates left out" in splits.notes
    assert splits.dropped == 0


def test_a_group_is_never_cut_in_two(tmp_path):
    make(tmp_path / "polyps", 24)
    write_csv(tmp_path / "polyps" / "sequences.csv", [("stem", "sequence"), *((f"a{i}", i // 3) for i in range(24))])
    splits = open_folder(tmp_path / "polyps", fractions=[0.5, 0.25, 0.25])
    groups = [{s.group for s in part} for part in (splits.train, splits.val, splits.test["polyps"])]
    assert [len(group) for group in groups] == [4, 2, 2]
    assert len(set.union(*groups)) == 8
    assert splits.notes == ()


def test_frames_of_known_sequences_in_the_test_are_told(tmp_path):
    make(tmp_path / "polyps", 12)
    write_csv(tmp_path / "polyps" / "patients.csv", [("stem", "patient"), *((f"a{i}", i % 3) for i in range(12))])
    write_csv(tmp_path / "split" / "train.csv", [("stem",), *((f"a{i}",) for i in range(9))])
    write_csv(tmp_path / "split" / "test.csv", [("stem",), *((f"a{i}",) for i in range(9, 12))])
    splits = open_folder(tmp_path / "polyps", split=str(tmp_path / "split"), groups="patients.csv")
    assert any(
        note.startswith("all 3 test images of polyps come from groups (patients.csv) that the training part also holds")
        for note in splits.notes
    )


def patients(folder: Path, header: tuple[str, ...], count: int = 20, *, known: int = 20) -> None:
    """patients.csv of a data set: five images a patient, beside a column that names every frame."""
    rows = [(f"a{i}", f"p{i // 5}", f"f{i}") for i in range(known)]
    columns = {name: place for place, name in enumerate(("stem", "group", "frame"))}
    write_csv(folder / "patients.csv", [header, *(tuple(row[columns[name]] for name in header) for row in rows)])


@pytest.mark.parametrize("header", [("stem", "frame", "group"), ("frame", "stem", "group"), ("stem", "group")])
def test_the_group_is_the_column_of_that_name(tmp_path, header):
    patients(make(tmp_path / "polyps"), header)
    splits = open_folder(tmp_path / "polyps", groups="patients.csv")
    groups = [{sample.group for sample in part} for part in (splits.train, splits.val, splits.test["polyps"])]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 4


def test_columns_among_which_none_is_the_group_are_refused(tmp_path):
    make(tmp_path / "polyps")
    write_csv(tmp_path / "polyps" / "sequences.csv", [("stem", "frame", "patient"), ("a0", "1", "1")])
    with pytest.raises(ValueError, match="has columns stem, frame, patient; expected stem and group"):
        open_folder(tmp_path / "polyps")


def test_a_group_file_that_is_asked_for_and_absent_is_refused(tmp_path):
    patients(make(tmp_path / "polyps"), ("stem", "group"))
    with pytest.raises(FileNotFoundError, match=r"data\.groups=patient\.csv, but there is no such file in .*polyps"):
        open_folder(tmp_path / "polyps", groups="patient.csv")
    assert open_folder(tmp_path / "polyps").train, "without sequences.csv there are no groups"


def test_images_in_no_group_are_counted(tmp_path):
    patients(make(tmp_path / "polyps"), ("stem", "group"), known=15)
    notes = open_folder(tmp_path / "polyps", groups="patients.csv").notes
    assert any(note.startswith("5 of 20 images of polyps are in no group (patients.csv)") for note in notes)


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "validation", "testing")])
def test_folders_called_after_the_parts_of_a_split_are_these(tmp_path, names):
    for start, name in zip((0, 20, 40), names, strict=True):
        make(tmp_path / "root" / name, 20, first=start)
    splits = open_folder(tmp_path / "root")
    found = [{sample.dataset for sample in part} for part in (splits.train, splits.val, splits.tested)]
    assert found == [{name} for name in names]
    assert [len(splits.train), len(splits.val), len(splits.tested)] == [20, 20, 20]
    assert any("are the parts of a split, by their names" in note for note in splits.notes)


def test_parts_may_hold_several_data_sets_and_validation_is_cut_where_no_folder_is_one(tmp_path):
    for start, name in zip((0, 20, 40), ("train/a", "train/b", "test/c"), strict=True):
        make(tmp_path / "root" / name, 20, first=start)
    splits = open_folder(tmp_path / "root")
    assert {sample.dataset for sample in [*splits.train, *splits.val]} == {"a", "b"}
    assert set(splits.test) == {"c"}
    assert (len(splits.val), len(splits.test["c"])) == (4, 20)


def test_what_a_folder_beside_the_parts_is_for_must_be_said(tmp_path):
    for start, name in zip((0, 20, 40), ("train", "test", "other"), strict=True):
        make(tmp_path / "root" / name, 20, first=start)
    with pytest.raises(ValueError, match=r"other lies beside folders that are the parts.*data\.test_only=\[other\]"):
        open_folder(tmp_path / "root")
    tested = open_folder(tmp_path / "root", test_only=["other"])
    assert {name: len(part) for name, part in tested.test.items()} == {"other": 20, "test": 20}
    assert {sample.dataset for sample in [*tested.train, *tested.val]} == {"train"}
    trained = open_folder(tmp_path / "root", train=["train", "other"])
    assert set(trained.test) == {"test"} and len(trained.test["test"]) == 20
    assert {sample.dataset for sample in [*trained.train, *trained.val]} == {"train", "other"}
    assert set(open_folder(tmp_path / "root", train=["train"], test=["test"]).test) == {"test"}


@pytest.mark.parametrize(("names", "absent"), [(("train", "val"), "test"), (("train2", "val", "test"), "train")])
def test_folders_that_are_not_all_parts_are_cut_and_said_to_be(tmp_path, names, absent):
    for number, name in enumerate(names):
        make(tmp_path / "root" / name, 20, first=20 * number)
    splits = open_folder(tmp_path / "root")
    assert set(splits.test) == set(names)
    assert any(f"has no folder for {absent}, so that" in note for note in splits.notes)


def test_patients_in_two_parts_are_told_whatever_the_folders_are_called(tmp_path):
    for number, name in enumerate(("train/a", "val/a", "test/a")):
        patients(make(tmp_path / "root" / name, 20, first=20 * number), ("stem", "group"))
    notes = open_folder(tmp_path / "root", groups="patients.csv").notes
    assert any(note.startswith("all 20 test images of test-a come from groups (patients.csv)") for note in notes)


def test_two_data_sets_of_one_joined_name_are_refused(tmp_path):
    for start, name in enumerate(("a-b/c", "a/b/c", "d/c")):
        make(tmp_path / "root" / name, 3, first=20 * start)
    with pytest.raises(ValueError, match="has 2 data sets of the name a-b-c; rename the folder of one"):
        open_folder(tmp_path / "root")


@pytest.mark.parametrize("key", ["train", "test", "split", "fold", "test_only"])
def test_generated_data_refuses_what_it_would_ignore(tmp_path, key):
    value = {"split": "DIR", "fold": "1/5"}.get(key, ["polyps"])
    with pytest.raises(ValueError, match=f"data.{key} is for data.name=folder, but data.name is builtin"):
        open_data(DataRecipe(**{key: value}), home=tmp_path)


@given(st.lists(st.integers(1, 9), min_size=2, max_size=8), st.integers(1, 40))
def test_the_chosen_groups_come_as_close_to_the_share_as_any(sizes, wanted):
    chosen = closest_sum(sizes, wanted)
    subsets = (sum(size for i, size in enumerate(sizes) if bits >> i & 1) for bits in range(1, 2 ** len(sizes) - 1))
    assert 0 < len(chosen) < len(sizes) == len({*chosen, *range(len(sizes))})
    assert abs(sum(sizes[i] for i in chosen) - wanted) == min(abs(total - wanted) for total in subsets)


def test_folds_share_out_whole_groups_evenly(tmp_path):
    make(tmp_path / "polyps", 30)
    write_csv(tmp_path / "polyps" / "sequences.csv", [("stem", "sequence"), *((f"a{i}", i // 4) for i in range(30))])
    splits = open_folder(tmp_path / "polyps")
    everything = [*splits.train, *splits.val, *splits.test["polyps"]]
    folds = deal(bundle(everything, purpose="validation", seed=0), hands=3)
    assert sorted(len(fold) for fold in folds) == [10, 10, 10] or max(map(len, folds)) - min(map(len, folds)) <= 4
    assert sum(len({sample.group for sample in fold}) for fold in folds) == 8


def test_a_second_look_decodes_nothing_and_a_changed_file_is_seen(tmp_path, monkeypatch):
    folder = make(tmp_path / "polyps")
    before = open_folder(folder)
    monkeypatch.setattr("distill.data.scan.decode", lambda data: pytest.fail("a known file was decoded again"))
    assert open_folder(folder).digest == before.digest
    os.utime(folder / "images" / "a3.png", ns=(1, 1))  # touched, not changed: hashed again, known by content
    assert open_folder(folder).digest == before.digest
    monkeypatch.undo()
    picture(99).save(folder / "images" / "a3.png")
    assert open_folder(folder).digest != before.digest
    (tmp_path / "home" / "file_index.table").write_text("{")
    assert open_folder(folder).digest != before.digest
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["file_index.table"]


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("a.JPG", "L"),
        ("b.png", "RGBA"),
        ("c.PNG", "LA"),
        ("d.png", "P"),
        ("e.bmp", "1"),
        ("f.webp", "RGB"),
        ("g.tiff", "CMYK"),
    ],
)
def test_images_of_any_mode_are_read_as_rgb(tmp_path, name, mode):
    picture(0).convert(mode).save(tmp_path / name)
    read = read_image(tmp_path / name)
    assert (read.dtype, read.shape) == (np.uint8, (HEIGHT, WIDTH, 3))
    assert read.flags.writeable
    if mode in ("LA", "1"):
        assert (read == read[..., :1]).all()
    if mode == "RGBA":
        assert (read == np.asarray(picture(0))).all()


def test_alpha_is_dropped_not_composited(tmp_path):
    image = picture(0)
    image.putalpha(0)
    image.save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png") == np.asarray(picture(0))).all()


def test_sixteen_bits_are_scaled_by_their_range(tmp_path):
    values = np.linspace(0, 65535, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / "a.png")
    Image.fromarray((values / 65535).astype(np.float32)).save(tmp_path / "b.tif")
    expected = np.rint(values / 257)[..., None].repeat(3, axis=2)
    assert (read_image(tmp_path / "a.png") == expected).mean() > 0.99
    assert (read_image(tmp_path / "b.tif") == expected).mean() > 0.99


def test_the_exif_rotation_of_an_image_is_applied_and_its_size_is_upright(tmp_path):
    folder = make(tmp_path / "polyps", 10)
    upright = Image.fromarray(np.asarray(picture(0)).transpose(1, 0, 2)[:, ::-1])  # as drawn, a quarter to the right
    exif = Image.Exif()
    exif[274] = 8  # shown after a quarter to the left
    upright.save(folder / "images" / "a0.png", exif=exif)
    assert (read_image(folder / "images" / "a0.png") == np.asarray(picture(0))).all()
    splits = open_folder(folder)
    assert {s.size for s in (*splits.train, *splits.val, *splits.test["polyps"])} == {(HEIGHT, WIDTH)}


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "1", "P", "PA", "I;16", "CMYK"])
def test_a_mask_of_any_mode_says_the_same(tmp_path, mode):
    expected = np.asarray(mask()) > 0
    image = Image.fromarray(np.asarray(mask()).astype(np.uint16) * 257) if mode == "I;16" else mask().convert(mode)
    path = tmp_path / ("a.tif" if mode in ("CMYK", "PA") else "a.png")
    image.save(path)
    assert (read_mask(path, threshold=128) == expected).all()


@pytest.mark.parametrize("orientation", range(2, 9))
def test_an_image_and_its_mask_are_turned_alike(tmp_path, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    levels = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 251
    grey = Image.fromarray(levels.astype(np.uint8))
    grey.convert("RGB").save(tmp_path / "image.png", exif=exif)
    grey.save(tmp_path / "mask.png", exif=exif)
    image = read_image(tmp_path / "image.png")[..., 0]
    assert image.shape == ((WIDTH, HEIGHT) if orientation > 4 else (HEIGHT, WIDTH))
    assert ((image >= 128) == read_mask(tmp_path / "mask.png", threshold=128)).all()
    assert (image == read_classes(tmp_path / "mask.png")).all()


def test_a_coloured_mask_counts_by_its_brightest_channel_and_a_coloured_palette_by_its_indices(tmp_path):
    levels = np.asarray(mask())
    Image.fromarray(np.stack([levels, 0 * levels, 0 * levels], axis=2)).save(tmp_path / "red.png")
    assert read_mask(tmp_path / "red.png", threshold=128).sum() == 40
    classes = Image.fromarray(levels // 255)
    classes.putpalette([0, 0, 0, 128, 0, 0])
    assert classes.mode == "P"
    classes.save(tmp_path / "palette.png")
    assert read_mask(tmp_path / "palette.png", threshold=1).sum() == 40


def test_the_threshold_is_the_data_sets_and_an_empty_jpeg_mask_stays_empty(tmp_path):
    ones = open_folder(make(tmp_path / "ones", value=1))
    assert {int(s.read_mask().sum()) for s in ones.train} == {40}
    folder = make(tmp_path / "noisy")
    (folder / "masks" / "a0.png").unlink()
    Image.fromarray(np.random.default_rng(0).integers(0, 8, (HEIGHT, WIDTH), dtype=np.uint8)).save(
        folder / "masks" / "a0.jpg"
    )
    noisy = open_folder(folder)
    assert "1 of 20 masks of noisy are empty: frames without foreground" in noisy.notes
    everything = {s.stem: s for s in (*noisy.train, *noisy.val, *noisy.test["noisy"])}
    assert everything["a0"].read_mask().sum() == 0
    assert everything["a1"].read_mask().sum() == 40


def test_the_pranet_split_names_images_that_are_there(shared):
    found = {
        name: {path.stem for path in (shared / "data" / name / "images").iterdir()}
        for name in ("cvc-clinicdb", "kvasir-seg")
    }
    problems = Problems("shared")
    recipe = DataRecipe(name="folder", split=str(shared / "data" / "splits" / "pranet"))
    roles = read_roles(recipe, found, trained=list(found), tested=list(found), problems=problems)
    count = {part: sum(found == part for found in roles.parts.values()) for part in ("train", "val", "test")}
    assert count == {"train": 1450, "val": 0, "test": 162}
    assert problems.found == []


def test_clinicdb_of_the_pranet_split_is_validated_by_sequence(shared, tmp_path):
    recipe = DataRecipe(
        name="folder",
        root=str(shared / "data"),
        split=str(shared / "data" / "splits" / "pranet"),
        train=["cvc-clinicdb"],
        test=["cvc-clinicdb"],
    )
    splits = open_data(recipe, home=tmp_path)
    assert (len(splits.train), len(splits.val), len(splits.test["cvc-clinicdb"])) == (495, 55, 62)
    assert not {s.group for s in splits.val} & {s.group for s in splits.train}
    assert None not in {s.group for s in splits.train}
    assert splits.dropped == 0
    assert [note[:49] for note in splits.notes] == ["all 62 test images of cvc-clinicdb come from grou"]
    assert {s.size for s in splits.train} == {(288, 384)}


@pytest.fixture(scope="module")
def table():
    """Twenty rows of picture, mask and patient, as the datasets library has them."""
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    rows = {
        "image": [picture(i) for i in range(20)],
        "mask": [mask() for _ in range(20)],
        "patient": [f"p{i // 4}" for i in range(20)],
    }
    image = datasets.Image()
    return datasets.Dataset.from_dict(
        rows, features=datasets.Features({"image": image, "mask": image, "patient": datasets.Value("string")})
    )


def test_a_parquet_file_is_split_by_fractions_and_by_a_group_column(table, tmp_path):
    table.to_parquet(tmp_path / "polyps.parquet")
    recipe = DataRecipe(
        name="datasets", root=str(tmp_path / "polyps.parquet"), groups="patient", fractions=[0.6, 0.2, 0.2]
    )
    splits = open_data(recipe, home=tmp_path / "home")
    parts = (splits.train, splits.val, splits.test["polyps"])
    assert [len(part) for part in parts] == [12, 4, 4]
    assert len(set.union(*({s.group for s in part} for part in parts))) == 5
    sample = pickle.loads(pickle.dumps(splits.train[0]))
    index = int(sample.stem.split("-")[1])
    assert (sample.read_image() == np.asarray(picture(index))).all()
    assert sample.read_mask().sum() == 40
    with pytest.raises(ValueError, match=r"has no column 'patients', which data\.groups names; it has image"):
        open_data(replace(recipe, groups="patients"), home=tmp_path / "home")


@pytest.mark.parametrize("names", [("train", "val", "test"), ("training", "Validation", "testing")])
def test_splits_on_disk_are_known_by_the_names_that_folders_are_known_by(names):
    assert list(name_parts(list(names), root="polyps").values()) == ["train", "val", "test"]


def test_given_splits_on_disk_are_used_as_they_are(table, tmp_path):
    import datasets

    parts = {"train": range(12), "validation": range(12, 15), "test": range(15, 20)}
    datasets.DatasetDict({name: table.select(rows) for name, rows in parts.items()}).save_to_disk(tmp_path / "polyps")
    splits = open_data(DataRecipe(name="datasets", root=str(tmp_path / "polyps")), home=tmp_path / "home")
    assert (len(splits.train), len(splits.val), len(splits.test["polyps"])) == (12, 3, 5)
    assert stems(splits.val) == {"validation-000000", "validation-000001", "validation-000002"}


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # datasets'
def test_an_imagefolder_has_the_keys_of_its_files(tmp_path):
    folder = tmp_path / "polyps" / "train"
    folder.mkdir(parents=True)
    for i in range(10):
        picture(i).save(folder / f"{i}.png")
        mask().save(folder / f"{i}_mask.png")
    write_csv(
        folder / "metadata.csv", [("file_name", "mask_file_name"), *((f"{i}.png", f"{i}_mask.png") for i in range(10))]
    )
    table = open_data(DataRecipe(name="datasets", root=str(tmp_path / "polyps")), home=tmp_path / "home")
    same = open_folder(make(tmp_path / "same", 10))
    assert keys(table.train) == keys(same.train)
    assert table.digest == open_data(DataRecipe(name="datasets", root=str(tmp_path / "polyps")), home=tmp_path).digest
