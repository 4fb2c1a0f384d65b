"""Data sets of the field are found by name in the layouts that people have on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.config.schema import DataRecipe
from distill.data.sources.folder_names import find_place, find_places, named_after
from distill.data.sources.known import FIELD, known_sequences, named
from distill.data.sources.open_data import open_data
from distill.publishing.card import describe_split
from distill.runs.licences import licence_of_data

HEIGHT, WIDTH = 12, 16


def fill(folder: Path, images: str, masks: str, *, stems, suffix="png", mask="{}.png", first=0) -> None:
    """Pairs of a random picture and a mask; `mask` is how a mask is called after its image's stem."""
    (folder / images).mkdir(parents=True, exist_ok=True)
    (folder / masks).mkdir(parents=True, exist_ok=True)
    levels = np.zeros((HEIGHT, WIDTH), np.uint8)
    levels[3:7, 4:9] = 255
    for number, stem in enumerate(stems):
        pixels = np.random.default_rng(first + number).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / images / f"{stem}.{suffix}")
        Image.fromarray(levels).save(folder / masks / mask.format(stem))


def opened(root: Path, name: str, **options):
    return open_data(DataRecipe(name=name, root=str(root), **options), home=root.parent / "home")


def everything(splits):
    return [*splits.train, *splits.val, *(sample for part in splits.test.values() for sample in part)]


TEN = (1, 30, 60, 70, 90, 110, 130, 160, 180, 202)  # frames of ten sequences of CVC-ClinicDB
LAYOUTS = {
    "kvasir archive": ("kvasir-seg", "Kvasir-SEG", "images", "masks", {"suffix": "jpg", "mask": "{}.jpg"}),
    "kvasir unpacked twice": ("kvasir-seg", "kvasir-seg/Kvasir-SEG", "images", "masks", {}),
    "the folder itself": ("kvasir-seg", ".", "images", "masks", {}),
    "clinicdb archive": (
        "cvc-clinicdb",
        "CVC-ClinicDB",
        "Original",
        "Ground Truth",
        {"suffix": "tif", "mask": "{}.tif"},
    ),
    "clinicdb as png": ("cvc-clinicdb", "CVC-ClinicDB/PNG", "Original", "Ground Truth", {}),
    "endoscene's clinicdb": ("cvc-clinicdb", "CVC-EndoSceneStill/CVC-612", "bbdd", "gtpolyp", {"mask": "{}.tif"}),
    "endoscene's cvc-300": ("cvc-300", "CVC-EndoSceneStill/CVC-300", "bbdd", "gtpolyp", {"suffix": "bmp"}),
    "colondb": ("cvc-colondb", "CVC-ColonDB", "images", "masks", {}),
    "etis archive": ("etis", "Etis", "ETIS-LaribPolypDB", "Ground Truth", {"suffix": "tif", "mask": "p{}.tif"}),
    "etis of pranet": ("etis", "TestDataset/ETIS-LaribPolypDB", "images", "masks", {}),
    "other names": ("etis", "etis", "imgs", "GT", {"mask": "{}_mask.png"}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_data_set_is_found_in_the_layouts_in_use(tmp_path, layout):
    name, folder, images, masks, options = LAYOUTS[layout]
    root = tmp_path / "unpacked"
    fill(root / folder, images, masks, stems=TEN, **options)
    splits = opened(root, name)
    assert len(everything(splits)) == 10
    assert list(splits.test) == [name]
    assert {sample.stem for sample in everything(splits)} == set(map(str, TEN))
    assert {int(sample.read_mask().sum()) for sample in everything(splits)} == {20}
    assert any(
        note.startswith(f"{name} has {FIELD[name].images[0]}") and "10 were found" in note for note in splits.notes
    )
    assert (None in {sample.group for sample in splits.train}) == (name != "cvc-clinicdb")


def test_the_fullest_folder_of_the_name_is_read_and_others_are_told(tmp_path):
    fill(tmp_path / "d" / "CVC-ClinicDB" / "PNG", "Original", "Ground Truth", stems=TEN)
    fill(tmp_path / "d" / "CVC-ClinicDB" / "TIF", "Original", "Ground Truth", stems=TEN, suffix="tif")
    fill(tmp_path / "d" / "TestDataset" / "CVC-ClinicDB", "images", "masks", stems=range(3))
    fill(tmp_path / "d" / "Kvasir-SEG", "images", "masks", stems=TEN)
    notes = opened(tmp_path / "d", "cvc-clinicdb").notes
    assert "cvc-clinicdb is read from CVC-ClinicDB/PNG, not from CVC-ClinicDB/TIF, TestDataset/CVC-ClinicDB" in notes


def test_polypgen_is_a_data_set_a_centre_and_its_sequences_are_groups(tmp_path):
    root = tmp_path / "PolypGen2021_MultiCenterData_v3"
    for centre in (1, 6):
        folder = root / f"data_C{centre}"
        options = {"stems": [f"{centre}0{i}H" for i in range(10)], "suffix": "jpg", "mask": "{}_mask.jpg"}
        fill(folder, f"images_C{centre}", f"masks_C{centre}", first=100 * centre, **options)
        (folder / f"bbox_C{centre}").mkdir()
    for sequence in (1, 2, 3):
        folder = root / "sequenceData" / "positive" / f"seq{sequence}"
        stems = [f"frame_{i}" for i in range(4)]  # the same in each
        fill(folder, f"images_seq{sequence}", f"masks_seq{sequence}", stems=stems, first=1000 * sequence)
        (folder / f"masks_seq{sequence}" / "box.txt").write_text("polyp 1 2 3 4")
    (root / "sequenceData" / "negativeOnly" / "seq1_neg").mkdir(parents=True)
    splits = opened(root, "polypgen", test_only=["polypgen-c6"])
    assert {name: len(part) for name, part in splits.test.items()}["polypgen-c6"] == 10
    assert "polypgen-c6" not in {sample.dataset for sample in (*splits.train, *splits.val)}
    sequences = [sample for sample in everything(splits) if sample.dataset == "polypgen-sequences"]
    assert len(sequences) == 12 == len({sample.stem for sample in sequences})
    assert {sample.group for sample in sequences} == {"seq1", "seq2", "seq3"}
    assert any("negativeOnly have no masks and are not used" in note for note in splits.notes)
    assert licence_of_data("polypgen-c6", generated=False).licence == "CC BY 4.0"


def write_pranet(root: Path, images: str = "image", masks: str = "masks") -> None:
    stems = [f"cju{i}" for i in range(12)] + [str(i) for i in (1, 2, 3, 30, 31, 60, 61, 70, 71, 80)]
    fill(root / "TrainDataset", images, masks, stems=stems)
    tests = {"Kvasir": ["cju90", "cju91"], "CVC-ClinicDB": ["4", "600"], "CVC-300": ["150"]}
    tests |= {"CVC-ColonDB": ["1", "2", "3"], "ETIS-LaribPolypDB": ["1"]}
    for number, (name, chosen) in enumerate(tests.items()):
        fill(root / "TestDataset" / name, "images", "masks", stems=chosen, first=100 * (number + 1))


@pytest.mark.parametrize("names", [("image", "masks"), ("images", "mask")])
def test_pranets_split_is_read_as_it_is_and_validated_by_sequence(tmp_path, names):
    write_pranet(tmp_path / "data", *names)
    splits = opened(tmp_path / "data", "pranet", validation=0.3)
    expected = {"kvasir-seg": 2, "cvc-clinicdb": 2, "cvc-300": 1, "cvc-colondb": 3, "etis": 1}
    assert {name: len(part) for name, part in splits.test.items()} == expected
    assert len(splits.train) + len(splits.val) == 22
    groups = [{s.group for s in part if s.dataset == "cvc-clinicdb"} for part in (splits.train, splits.val)]
    assert groups[0]
    assert groups[1]
    assert not groups[0] & groups[1]
    assert splits.notes.count("sequences of cvc-clinicdb are known by the numbers of its frames") == 1
    assert any(note.startswith("1 of 2 test images of cvc-clinicdb come from groups") for note in splits.notes)
    whole = opened(tmp_path / "data", "pranet", test_only=["cvc-clinicdb"])
    assert len(whole.test["cvc-clinicdb"]) == 12
    assert {sample.dataset for sample in (*whole.train, *whole.val)} == {"kvasir-seg"}


def test_pranets_archives_may_be_unpacked_into_folders_of_their_own_names(tmp_path):
    write_pranet(tmp_path / "plain")
    for part in ("TrainDataset", "TestDataset"):
        inner = next((tmp_path / "plain").rglob(part))
        (tmp_path / "data" / part).mkdir(parents=True)
        inner.rename(tmp_path / "data" / part / part)
    splits = opened(tmp_path / "data", "pranet")
    assert {sample.dataset for sample in splits.train} == {"kvasir-seg", "cvc-clinicdb"}
    assert "etis" in splits.test


def test_what_is_absent_says_where_it_is_had_and_on_which_terms(tmp_path):
    fill(tmp_path / "d" / "Kvasir-SEG", "images", "masks", stems=TEN)
    with pytest.raises(
        FileNotFoundError, match=r"no cvc-clinicdb in data.root=.*found d/Kvasir-SEG; CVC-ClinicDB is had "
    ):
        opened(tmp_path / "d", "cvc-clinicdb")
    with pytest.raises(FileNotFoundError, match=r"synapse|10.7303/syn26376615 \(licence: CC BY 4.0\)"):
        opened(tmp_path / "d", "polypgen")
    with pytest.raises(
        FileNotFoundError, match=r"expected TrainDataset/ .*found Kvasir-SEG; PraNet's .*see the page\)"
    ):
        opened(tmp_path / "d", "pranet")
    with pytest.raises(ValueError, match=r"data.name=etis needs data.root=DIR, where it was unpacked; ETIS-Larib"):
        open_data(DataRecipe(name="etis"), home=tmp_path)
    with pytest.raises(
        ValueError, match=r"data.name=pranet is a split itself, but data.split is somewhere; set data.split=null"
    ):
        opened(tmp_path / "d", "pranet", split="somewhere")


def test_a_plain_folder_profits_from_the_names_in_use(tmp_path):
    fill(tmp_path / "root" / "mine", "Image", "Ground_Truth", stems=[f"a{i}" for i in range(10)], mask="{}_mask.png")
    fill(tmp_path / "root" / "mine", "Image", "labels", stems=[])
    splits = opened(tmp_path / "root", "folder")
    assert len(everything(splits)) == 10
    assert splits.notes == (
        "masks of mine are named STEM_mask after their images",
        "mine: Image/ and Ground_Truth/ are read, not labels/ beside them",
    )


def test_one_mask_with_another_name_is_a_mistake_and_no_convention():
    assert named_after(["a", "b", "c_mask"], ["a", "b", "c"]) == ({}, ("", ""))
    assert named_after(["p1", "p2", "p3"], ["1", "2", "3"])[0] == {"p1": "1", "p2": "2", "p3": "3"}
    assert named_after(["A_Mask"], ["A"])[0] == {"A_Mask": "A"}


def test_hidden_folders_and_a_folder_without_masks_are_no_data_set(tmp_path):
    fill(tmp_path / ".hidden", "images", "masks", stems=["a"])
    fill(tmp_path / "__MACOSX", "images", "masks", stems=["a"])
    (tmp_path / "imgs").mkdir()
    assert list(find_places(tmp_path)) == []
    (tmp_path / "images").mkdir()
    assert find_place(tmp_path).masks == tmp_path / "masks"


@pytest.mark.parametrize("name", ["scan.dcm", "head.nii.gz", "ct.nrrd"])
def test_volumes_are_refused_in_a_sentence(tmp_path, name):
    folder = tmp_path / "polyps"
    fill(folder, "images", "masks", stems=[f"a{i}" for i in range(5)])
    (folder / "images" / name).write_bytes(b"DICM")
    with pytest.raises(
        ValueError, match=rf"polyps/images/{name} .*3-D volumes, DICOM and NIfTI are not supported: save"
    ):
        opened(folder, "folder")
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / name).write_bytes(b"DICM")
    with pytest.raises(FileNotFoundError, match=r"no data set in .*3-D volumes, DICOM and NIfTI are not supported"):
        opened(tmp_path / "only", "folder")
    with pytest.raises(FileNotFoundError, match=r"is a file .*3-D volumes, DICOM and NIfTI are not supported"):
        opened(tmp_path / "only" / name, "folder")


def test_a_picture_of_many_pages_is_refused(tmp_path):
    folder = tmp_path / "polyps"
    fill(folder, "images", "masks", stems=[f"a{i}" for i in range(5)])
    pages = [Image.new("L", (WIDTH, HEIGHT), level) for level in (0, 90, 200)]
    (folder / "images" / "a0.png").unlink()
    pages[0].save(folder / "images" / "a0.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(ValueError, match=r"polyps/images/a0.tif holds 3 pictures; 3-D volumes, DICOM and NIfTI"):
        opened(folder, "folder")


def test_the_names_of_the_field_are_told_apart():
    called = ["Kvasir", "CVC-ClinicDB", "cvc_colondb", "ETIS-LaribPolypDB", "CVC-300", "polypgen-c3", "mine"]
    assert list(map(named, called)) == [
        "kvasir-seg",
        "cvc-clinicdb",
        "cvc-colondb",
        "etis",
        "cvc-300",
        "polypgen",
        None,
    ]
    assert licence_of_data("Kvasir-SEG", generated=False).licence == "research and education"
    assert licence_of_data("etis", generated=False).licence == "see https://polyp.grand-challenge.org/EtisLarib/"
    assert "not known" in licence_of_data("mine", generated=False).licence


def test_the_sequences_of_clinicdb_are_those_of_its_table(shared):
    rows = (shared / "data" / "cvc-clinicdb" / "sequences.csv").read_text().split()[1:]
    told = dict(row.split(",") for row in rows)
    assert known_sequences("cvc-clinicdb", told) == told
    assert known_sequences("cvc-clinicdb", ["0", "613", "a"]) == {}
    assert known_sequences("kvasir-seg", ["1"]) == {}


def test_the_card_says_how_a_data_set_of_the_field_was_cut():
    told = describe_split(DataRecipe(name="pranet", root="d", test_only=["etis"]))
    assert told.startswith(
        "Training and test images are those of PraNet's folders; all of etis is test data. Validation is 10%"
    )
    assert "a random 10% of each data set" in describe_split(DataRecipe(name="polypgen", root="d"))
