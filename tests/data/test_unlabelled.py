"""Images without masks join, few labels are kept by content, and a whole data set is tested: all without leaks."""

from __future__ import annotations

import csv
import hashlib
import json
import pickle
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.config.schema import DataRecipe
from distill.data.sample import Sample, Splits
from distill.data.sources.open_data import open_data
from distill.data.sources.unlabelled import keep_share, parse_labels
from distill.data.split_files import read_roles
from distill.runtime.issues import Problems

HEIGHT, WIDTH = 16, 20


def save_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def make(folder: Path, count: int, *, first: int = 0) -> Path:
    """A data set of `count` pairs a0, a1, ...; the picture of stem i is drawn from seed first + i."""
    (folder / "masks").mkdir(parents=True)
    levels = np.zeros((HEIGHT, WIDTH), np.uint8)
    levels[4:9, 6:14] = 255
    for i in range(count):
        save_image(folder / "images" / f"a{i}.png", first + i)
        Image.fromarray(levels).save(folder / "masks" / f"a{i}.png")
    return folder


def write_csv(path: Path, rows: list[tuple[object, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)


def write_split(folder: Path, **parts: dict[str, range]) -> str:
    for part, sets in parts.items():
        rows = [(name, f"a{i}") for name, numbers in sets.items() for i in numbers]
        write_csv(folder / f"{part}.csv", [("dataset", "stem"), *rows])
    return str(folder)


def open_folder(root: Path, **options):
    return open_data(DataRecipe(name="folder", root=str(root), **options), home=root.parent / "home")


def keys(samples) -> set[str]:
    return {sample.key for sample in samples}


def labelled(splits) -> set[str]:
    return keys(splits.train) | keys(splits.val) | keys(s for part in splits.test.values() for s in part)


@pytest.fixture(scope="module")
def polyps(tmp_path_factory) -> Path:
    """Forty pairs."""
    return make(tmp_path_factory.mktemp("forty") / "polyps", 40)


def test_a_share_of_the_labels_is_kept_by_content_and_the_rest_is_unlabelled(polyps):
    every, tenth = open_folder(polyps), open_folder(polyps, labels="10%")
    assert [len(every.train), len(every.val), len(every.unlabelled)] == [32, 4, 0]
    assert [len(tenth.train), len(tenth.val), len(tenth.unlabelled)] == [3, 1, 29]
    assert keys(tenth.train) < keys(every.train)
    assert keys(tenth.val) < keys(every.val)
    assert keys(tenth.test["polyps"]) == keys(every.test["polyps"])
    assert keys(tenth.train) | keys(tenth.unlabelled) == keys(every.train), "so that the teacher's cache is the same"
    assert not labelled(tenth) & keys(tenth.unlabelled)
    assert tenth.dropped == 0
    assert tenth.notes == (
        "data.labels=10%: 3 of 32 training images and 1 of 4 for validation keep their masks; the other 29 for "
        "training are unlabelled, and 3 validation images are left out",
    )


def test_the_same_seed_keeps_the_same_labels_and_another_others(polyps):
    parts = open_folder(polyps, fold="1/4").train
    kept = [keys(keep_share(parts, share=0.3, seed=seed)[0]) for seed in (0, 0, 1)]
    assert kept[0] == kept[1] != kept[2]
    assert open_folder(polyps, labels="30%").digest == open_folder(polyps, labels="30%").digest


def some(dataset: str, sizes: list[int]) -> list[Sample]:
    """Samples of one data set in groups of these sizes."""
    names = [f"{dataset} {group} {i}" for group, size in enumerate(sizes) for i in range(size)]
    return [
        Sample(
            dataset, name, hashlib.sha256(name.encode()).hexdigest(), "m", (8, 8), name.split()[1], np.array, np.array
        )
        for name in names
    ]


def test_fewer_labels_are_contained_in_more_and_groups_stay_whole():
    samples = some("a", [7, 3, 9, 1, 5, 8, 2, 6]) + some("b", [4] * 10)
    before: set[str] = set()
    for percent in range(5, 100, 5):
        kept, rest = keep_share(samples, share=percent / 100, seed=0)
        assert before <= keys(kept)
        assert not {(s.dataset, s.group) for s in kept} & {(s.dataset, s.group) for s in rest}
        assert kept + rest != () and len(kept) + len(rest) == len(samples)
        assert abs(len(kept) - percent / 100 * len(samples)) <= 5
        before = keys(kept)


def test_every_data_set_keeps_its_share_and_a_number_is_met_exactly(tmp_path):
    samples = some("a", [1] * 60) + some("b", [1] * 30) + some("c", [1] * 10)
    kept, _ = keep_share(samples, share=0.2, seed=3)
    assert [sum(s.dataset == name for s in kept) for name in "abc"] == [12, 6, 2]
    for number in range(1, 100):
        assert len(keep_share(samples, share=number / 100, seed=3)[0]) == number


def test_a_number_of_labels_is_a_share_of_training_and_validation_too(polyps):
    splits = open_folder(polyps, labels="16")
    assert [len(splits.train), len(splits.val), len(splits.unlabelled)] == [16, 2, 16]
    assert open_folder(polyps, labels="32").digest == open_folder(polyps).digest
    with pytest.raises(ValueError, match=r"data.labels is 33, but there are 32 training images; ask for fewer"):
        open_folder(polyps, labels="33")


@pytest.mark.parametrize("labels", ["0", "0%", "0.0%", "101%"])
def test_labels_of_nothing_or_of_more_than_all_are_refused(tmp_path, labels):
    with pytest.raises(ValueError, match=rf"data.labels is '{re.escape(labels)}', but must be over 0% and at most"):
        open_data(DataRecipe(labels=labels), home=tmp_path)
    assert [parse_labels("12.5%"), parse_labels("100%"), parse_labels("80")] == [0.125, 1, 80]


def test_the_masks_of_unlabelled_images_are_never_opened(tmp_path):
    folder = make(tmp_path / "polyps", 20)
    splits = open_folder(folder, labels="25%")
    for sample in splits.unlabelled:
        (folder / "masks" / f"{sample.stem}.png").unlink()
    for sample in pickle.loads(pickle.dumps(splits.unlabelled)):
        mask = sample.read_mask()
        assert (mask.dtype, mask.shape, sample.mask_key) == (np.uint8, sample.size, "")
        assert (mask == 255).all()
        assert sample.read_image().shape == (*sample.size, 3)
    assert {int(sample.read_mask().sum()) for sample in splits.train} == {40}


def test_generated_frames_and_tables_keep_few_labels_too(tmp_path, polyps):
    few = open_data(DataRecipe(labels="25%"), home=tmp_path)
    assert [len(few.train), len(few.val), len(few.test["builtin"]), len(few.unlabelled)] == [40, 10, 120, 120]
    assert (few.unlabelled[0].read_mask() == 255).all()
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    cells = {
        part: [{"bytes": p.read_bytes()} for p in sorted((polyps / f"{part}s").iterdir())] for part in ("image", "mask")
    }
    features = datasets.Features({part: datasets.Image(decode=False) for part in cells})
    datasets.Dataset.from_dict(cells, features=features).to_parquet(tmp_path / "polyps.parquet")
    table = DataRecipe(name="datasets", root=str(tmp_path / "polyps.parquet"), labels="10%")
    same = open_folder(polyps, labels="10%")
    found = open_data(table, home=tmp_path)
    assert (keys(found.train), keys(found.unlabelled)) == (keys(same.train), keys(same.unlabelled))


def test_the_digest_knows_unlabelled_images_and_is_as_before_without(polyps):
    splits = open_folder(polyps)
    content = [sorted([s.key, s.mask_key] for s in part) for part in (splits.train, splits.val)]
    content.append({"polyps": sorted([s.key, s.mask_key] for s in splits.test["polyps"])})
    assert splits.digest == hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    more = [replace(splits, unlabelled=splits.train[:count]).digest for count in (1, 2)]
    assert len({splits.digest, *more}) == 3
    assert Splits(splits.train, splits.val, splits.test).digest == splits.digest


@pytest.mark.parametrize("place", ["{}", "images/{}", "north/images/{}"])
def test_pictures_join_from_a_folder_its_images_or_several_data_sets(tmp_path, place):
    for i in range(3):
        save_image(tmp_path / "more" / place.format(f"b{i}.png"), 100 + i)
    splits = open_folder(make(tmp_path / "polyps", 10), unlabelled=str(tmp_path / "more"))
    assert [sample.stem for sample in sorted(splits.unlabelled, key=lambda s: s.stem)] == ["b0", "b1", "b2"]
    assert {sample.dataset for sample in splits.unlabelled} == {"north" if "north" in place else "more"}
    assert {sample.size for sample in splits.unlabelled} == {(HEIGHT, WIDTH)}
    assert all((sample.read_mask() == 255).all() and not sample.mask_key for sample in splits.unlabelled)
    assert [splits.dropped, splits.notes] == [0, ()]
    assert [len(splits.train), len(splits.val)] == [8, 1]
    assert len(open_data(DataRecipe(unlabelled=str(tmp_path / "more")), home=tmp_path / "home").unlabelled) == 3


def test_each_picture_is_decoded_once(tmp_path, monkeypatch):
    save_image(tmp_path / "more" / "b.png", 100)
    folder = make(tmp_path / "polyps", 10)
    before = open_folder(folder, unlabelled=str(tmp_path / "more"))
    monkeypatch.setattr("distill.data.scan.decode", lambda data: pytest.fail("a known file was decoded again"))
    assert open_folder(folder, unlabelled=str(tmp_path / "more")).digest == before.digest


def test_an_image_that_another_part_holds_or_that_comes_twice_is_not_unlabelled(tmp_path):
    folder, more = make(tmp_path / "polyps", 20), tmp_path / "more"
    before = open_folder(folder)
    parts = {"test": before.test["polyps"], "validation": before.val, "training": before.train[:3]}
    for sample in (sample for part in parts.values() for sample in part):
        more.mkdir(exist_ok=True)
        shutil.copy(folder / "images" / f"{sample.stem}.png", more / f"renamed {sample.stem}.png")
    save_image(more / "new.png", 100)
    shutil.copy(more / "new.png", more / "copy.png")
    splits = open_folder(folder, unlabelled=str(more))
    assert [len(splits.unlabelled), splits.dropped] == [1, 2 + 2 + 3]
    assert not labelled(splits) & keys(splits.unlabelled)
    for name, part in parts.items():
        sentence = f"dropped {len(part)} images of the unlabelled part that {name} also holds (first: more/renamed a"
        assert any(note.startswith(sentence) for note in splits.notes)
    assert "kept each image of the unlabelled part once: 1 exact duplicate left out" in splits.notes
    assert (
        "data.unlabelled holds 2 of 2 test images of polyps: these are dropped, but others of that folder may show the "
        "same patients" in splits.notes
    )


def test_the_folder_of_the_data_itself_adds_nothing_and_says_so(tmp_path):
    folder = make(tmp_path / "polyps", 20)
    write_csv(folder / "sequences.csv", [("stem", "sequence"), ("a0", 1)])
    splits = open_folder(folder, unlabelled=str(folder))
    assert [splits.unlabelled, splits.dropped] == [(), 20]
    assert splits.notes[:3] == (
        "19 of 20 images of polyps are in no group (sequences.csv): each is taken for one of its own",
        "data.unlabelled: masks/ of polyps not opened",
        "data.unlabelled: passed over what is neither a picture nor a folder with images/: sequences.csv",
    )
    assert splits.notes[-1] == "data.unlabelled adds no image: each of its images is there already"
    half = open_folder(folder, unlabelled=str(folder), labels="50%")
    put_away = keys(splits.val) - keys(half.val)
    assert keys(half.unlabelled) == keys(open_folder(folder, labels="50%").unlabelled) | put_away


def test_few_labels_and_a_folder_add_up(tmp_path):
    folder = make(tmp_path / "polyps", 20)
    for i in range(4):
        save_image(tmp_path / "more" / f"{i}.png", 100 + i)
    splits = open_folder(folder, labels="50%", unlabelled=str(tmp_path / "more"))
    assert [len(splits.train), len(splits.val), len(splits.unlabelled)] == [8, 1, 8 + 4]


def test_a_folder_that_is_absent_or_without_pictures_stops_before_any_file_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr("distill.data.sources.builtin.open_builtin", lambda data, home: pytest.fail("data was opened"))
    with pytest.raises(FileNotFoundError, match=r"data.unlabelled=\S+gone does not exist .* NAME/images/"):
        open_data(DataRecipe(unlabelled=str(tmp_path / "gone")), home=tmp_path)
    (tmp_path / "deep" / "north").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"data.unlabelled=\S+deep holds no picture: .*; found north"):
        open_data(DataRecipe(unlabelled=str(tmp_path / "deep")), home=tmp_path)


def test_an_unreadable_picture_is_named_and_skip_bad_goes_on_without_it(tmp_path):
    folder, more = make(tmp_path / "polyps", 10), tmp_path / "more"
    save_image(more / "images" / "good.png", 100)
    (more / "images" / "bad.png").write_text("not a picture")
    sentence = "more/images/bad.png is not a BMP, GIF, JPEG, PNG, TIFF or WEBP picture; replace or remove it"
    with pytest.raises(ValueError, match=sentence) as error:
        open_folder(folder, unlabelled=str(more))
    assert f"found 1 problem in data.unlabelled={more}" in str(error.value)
    splits = open_folder(folder, unlabelled=str(more), skip_bad=True)
    assert [sample.stem for sample in splits.unlabelled] == ["good"]
    assert f"data.skip_bad=true left out 1 (unreadable image): {sentence}" in splits.notes
    (more / "images" / "good.png").unlink()
    with pytest.raises(ValueError, match="none of the pictures can be read"):
        open_folder(folder, unlabelled=str(more), skip_bad=True)


@pytest.fixture(scope="module")
def centres(tmp_path_factory) -> Path:
    """Two data sets: kvasir of 20 pairs, clinic of 12; the split trains on both and tests both."""
    root = tmp_path_factory.mktemp("two") / "root"
    make(root / "kvasir", 20)
    make(root / "clinic", 12, first=100)
    return root


def test_a_whole_data_set_is_tested_whatever_the_split_says_of_it(centres, tmp_path):
    split = write_split(
        tmp_path,
        train={"kvasir": range(16), "clinic": range(9)},
        test={"kvasir": range(16, 20), "clinic": range(8, 30)},  # twice, and stems that are not there
    )
    for test in ([], ["kvasir"], ["kvasir", "clinic"]):
        splits = open_folder(centres, split=split, train=["kvasir"], test=test, test_only=["clinic"])
        assert {name: len(part) for name, part in splits.test.items()} == {"kvasir": 4, "clinic": 12}
        assert {sample.dataset for sample in (*splits.train, *splits.val)} == {"kvasir"}
        assert splits.notes == ("data.test_only names clinic: all its 12 images are tested",)


def test_a_whole_data_set_is_tested_alone_where_nothing_else_is_named(centres):
    told = open_folder(centres, train=["kvasir"], test=["clinic", "kvasir"])
    assert len(told.test["clinic"]) == 12
    assert open_folder(centres, test_only=["clinic"]).digest == told.digest
    alone = open_folder(centres, train=["kvasir"], test=["kvasir"], test_only=["clinic"])
    assert alone.digest == told.digest


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_whole_data_set_is_never_trained_or_validated_on(centres, tmp_path, part):
    parts = {"train": {"kvasir": range(12)}, "val": {"kvasir": range(12, 16)}, "test": {"kvasir": range(16, 20)}}
    parts[part]["clinic"] = range(3)
    split = write_split(tmp_path, **parts)
    with pytest.raises(
        ValueError,
        match=rf"data.test_only names 'clinic', but {part}.csv has 3 rows of it; .* by data.train=\[kvasir\]",
    ):
        open_folder(centres, split=split, test_only=["clinic"])
    assert len(open_folder(centres, split=split, test_only=["clinic"], train=["kvasir"]).test["clinic"]) == 12
    with pytest.raises(
        ValueError, match=r"data.train and data.test_only both name 'clinic', but .* take it out of one"
    ):
        open_folder(centres, split=split, test_only=["clinic"], train=["kvasir", "clinic"])


def test_a_whole_that_does_not_fit_says_what_to_do(centres, tmp_path):
    with pytest.raises(
        ValueError, match=r"data.test_only names 'clinik', which is not under .*; did you mean 'clinic'"
    ):
        open_folder(centres, test_only=["clinik"])
    with pytest.raises(ValueError, match=r"data.test_only names every data set under data.root \(clinic, kvasir\)"):
        open_folder(centres, test_only=["clinic", "kvasir"])
    for name in ("builtin", "datasets"):
        with pytest.raises(ValueError, match=rf"data.test_only is for data.name=folder, but data.name is {name}; take"):
            open_data(DataRecipe(name=name, test_only=["clinic"]), home=tmp_path)


def test_unlabelled_images_of_a_tested_centre_are_those_that_are_not_tested(centres, tmp_path):
    split = write_split(tmp_path, train={"kvasir": range(16)}, test={"clinic": range(8)})
    splits = open_folder(centres, split=split, unlabelled=str(centres / "clinic"))
    assert [len(splits.unlabelled), splits.dropped] == [4, 8]
    assert any(note.startswith("data.unlabelled holds 8 of 8 test images of clinic: ") for note in splits.notes)
    whole = open_folder(centres, test_only=["clinic"], unlabelled=str(centres / "clinic"))
    assert [whole.unlabelled, whole.dropped] == [(), 12]


def test_the_pranet_split_tests_every_frame_of_a_centre_that_none_saw(shared):
    sets = ("cvc-clinicdb", "kvasir-seg")
    found = {name: {path.stem for path in (shared / "data" / name / "images").iterdir()} for name in sets}
    problems = Problems("shared")
    split = str(shared / "data" / "splits" / "pranet")
    recipe = DataRecipe(name="folder", split=split, train=["kvasir-seg"], test_only=["cvc-clinicdb"])
    roles = read_roles(recipe, found, trained=["kvasir-seg"], tested=list(found), problems=problems)
    count = Counter((name, part) for (name, _), part in roles.parts.items())
    assert count == {("kvasir-seg", "train"): 900, ("kvasir-seg", "test"): 100, ("cvc-clinicdb", "test"): 612}
    assert problems.found == []
