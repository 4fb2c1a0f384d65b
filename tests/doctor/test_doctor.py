"""`distill doctor`: every kind of trouble is found where it was put, and nothing where there is none."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from distill.cli.doctor import COMMAND, read_request
from distill.data.synthetic.generator import render
from distill.doctor.checks import MANY
from distill.doctor.duplicates import Near, components, find_near
from distill.doctor.examine import Diagnosis, examine_data
from distill.doctor.hashes import SIDE
from distill.doctor.issue_kinds import KINDS
from distill.run import main

doctor_command = COMMAND

SIZE = (96, 120)
COUNT = 16


def frame(index: int) -> tuple[Image.Image, Image.Image]:
    """A generated frame, and a mask of a disc, which is never empty."""
    y, x = np.ogrid[: SIZE[0], : SIZE[1]]
    disc = (y - 40 - index % 5) ** 2 + (x - 50) ** 2 < 300
    return Image.fromarray(render(7, index, size=SIZE)[0]), Image.fromarray(255 * disc.astype(np.uint8))


@pytest.fixture(scope="module")
def frames():
    return [frame(index) for index in range(COUNT)]


@pytest.fixture
def polyps(tmp_path, frames) -> Path:
    """A good data set of frames a0 to a15."""
    folder = tmp_path / "polyps"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for index, (image, mask) in enumerate(frames):
        add(folder, f"a{index}", image, mask)
    return folder


def add(folder: Path, stem: str, image: Image.Image, mask: Image.Image, *, suffix: str = "png", **options) -> None:
    image.save(folder / "images" / f"{stem}.{suffix}", **options)
    mask.save(folder / "masks" / f"{stem}.png")


def write_split(folder: Path, **parts: list[str]) -> str:
    folder.mkdir()
    for name, stems in parts.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("stem",), *((stem,) for stem in stems)])
    return f"data.split={folder}"


def words_of(folder: Path, *more: str) -> list[str]:
    return [f"data.root={folder}", f"home={folder.parent / 'home'}", *more]


def examined(words: list[str]) -> Diagnosis:
    request = read_request(words)
    return examine_data(request.data, classes=request.student.classes, home=Path(request.home))


def found(folder: Path, *more: str) -> dict[str, list[str]]:
    """Kind -> sentences."""
    findings = examined(words_of(folder, *more)).issues
    return {kind: [one.sentence for one in findings if one.kind == kind] for kind in {one.kind for one in findings}}


def test_a_good_data_set_is_clean_and_the_exit_status_is_0(polyps, capsys):
    assert doctor_command(words_of(polyps), dry=False) == 0
    printed = capsys.readouterr().out
    assert re.search(r"polyps +16  no split +120 x 96 +not known", printed)
    assert printed.endswith("16 images examined: 0 errors and 0 notes\n")
    result = json.loads((polyps.parent / "home" / "doctor" / "doctor.json").read_text())
    assert (result["images"], result["errors"], result["findings"]) == (16, 0, [])


def test_files_that_cannot_be_used_are_errors_and_the_rest_is_examined(polyps, frames):
    (polyps / "masks" / "a1.png").unlink()
    (polyps / "images" / "a2.png").write_bytes(b"no picture")
    frames[3][1].resize((50, 40)).save(polyps / "masks" / "a3.png")
    Image.new("L", SIZE[::-1]).save(polyps / "masks" / "a4.png")
    kinds = found(polyps)
    assert {"missing mask", "unreadable image", "mask of another size", "empty mask"} <= kinds.keys()
    assert kinds["empty mask"] == ["polyps/a4: highest level 0"]
    assert doctor_command(words_of(polyps), dry=False) == 1


CHANGES = {
    "encoded again": (lambda image: image, {"suffix": "jpg", "quality": 60}, ""),
    "scaled": (lambda image: image.resize((77, 60)), {}, ""),
    "darker": (lambda image: ImageEnhance.Brightness(image).enhance(0.8), {}, ""),
    "mirrored": (ImageOps.mirror, {}, ", mirrored"),
    "upside down": (ImageOps.flip, {}, ", upside down"),
    "turned": (lambda image: image.rotate(180), {}, ", turned by half"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_across_the_split_is_an_error_and_within_a_part_a_note(polyps, frames, tmp_path, change):
    function, options, told = CHANGES[change]
    image = function(frames[2][0])
    add(polyps, "copy", image, frames[2][1].resize(image.size, Image.Resampling.NEAREST), **options)
    (sentence,) = found(polyps)["near copies"]
    assert re.fullmatch(rf"polyps/a2, polyps/copy: correlation (0\.99|1\.0)\d\d?\d?{told}", sentence)
    split = write_split(tmp_path / "split", train=[f"a{i}" for i in range(12)], test=["a12", "a13", "copy"])
    kinds = found(polyps, split)
    assert kinds.keys() == {"near copy in two parts", "note on the data"}
    (sentence,) = kinds["near copy in two parts"]
    assert re.fullmatch(rf"polyps/copy \(test\) looks like polyps/a2 \(train\): correlation [01]\.\d+{told}", sentence)


def test_copies_are_told_by_what_they_mean(polyps, frames, tmp_path):
    for stem in ("b0", "b1", "b2"):
        add(polyps, stem, *frames[int(stem[1])])
    frames[5][1].save(polyps / "masks" / "b2.png")
    split = write_split(tmp_path / "split", train=[f"a{i}" for i in range(12)] + ["b0", "b2"], test=["a13", "b1"])
    kinds = found(polyps, split)
    assert kinds["copies"] == ["polyps/a0 (train), polyps/b0 (train) are one file"]
    assert kinds["image in two parts"] == ["polyps/a1 (train), polyps/b1 (test) are one file"]
    assert kinds["one image with two masks"] == ["polyps/a2 (train), polyps/b2 (train) are one file, with 2 masks"]
    assert "near copies" not in kinds


def test_copies_are_found_across_data_sets(polyps, frames):
    polyps.rename(polyps.parent / "root")
    root = polyps.parent / "both"
    root.mkdir()
    (polyps.parent / "root").rename(root / "one")
    for part in ("images", "masks"):
        (root / "two" / part).mkdir(parents=True)
    add(root / "two", "z", frames[0][0], frames[0][1])
    add(root / "two", "y", frames[1][0], frames[1][1], suffix="jpg", quality=80)
    kinds = found(root)
    assert kinds["copies"] == ["one/a0, two/z are one file"]
    assert kinds["near copies"][0].startswith("one/a1, two/y: correlation 0.99")


def test_a_near_copy_in_a_data_set_that_is_tested_alone_is_an_error(polyps, frames):
    root = polyps.parent / "both"
    root.mkdir()
    polyps.rename(root / "one")
    for part in ("images", "masks"):
        (root / "two" / part).mkdir(parents=True)
    add(root / "two", "z", frames[0][0].transpose(Image.Transpose.FLIP_LEFT_RIGHT), frames[0][1])
    for words in (["data.test_only=[two]"], ["data.train=[one]", "data.test=[two]"]):
        kinds = found(root, *words)
        assert kinds["near copy in two parts"][0].startswith("two/z (test)")
        assert "one/a0 (train)" in kinds["near copy in two parts"][0]
    assert "near copy in two parts" not in found(root)


def test_a_sequence_on_both_sides_of_a_split_is_an_error(polyps, tmp_path):
    rows = [("stem", "sequence"), *((f"a{i}", i // 5) for i in range(COUNT))]
    with (polyps / "sequences.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    split = write_split(tmp_path / "split", train=[f"a{i}" for i in range(12)], test=["a12", "a13", "a15"])
    kinds = found(polyps, split)
    assert kinds["sequence in two parts"] == ["sequence 2 of polyps: 2 in train and 2 in test"]
    assert kinds["test of known sequences"][0].startswith("2 of 3 test images of polyps come from groups (sequences")
    clean = write_split(tmp_path / "clean", train=[f"a{i}" for i in range(10)], test=["a12", "a15"])
    assert "sequence in two parts" not in found(polyps, clean)


def test_odd_masks_are_notes(polyps, frames, capsys):
    masks = {
        "a0": np.full(SIZE, 255),
        "a1": np.where(np.arange(SIZE[1]) < 100, 255, 0) * np.ones((SIZE[0], 1)),
        "a2": np.pad([[255]], ((10, SIZE[0] - 11), (10, SIZE[1] - 11))),
        "a3": np.asarray(frames[3][1]) // 2 + np.pad([[128]], ((40, SIZE[0] - 41), (50, SIZE[1] - 51))),
        "a4": np.where(np.arange(SIZE[1]) < 60, 1, 255) * np.ones((SIZE[0], 1)),
    }
    for stem, levels in masks.items():
        Image.fromarray(levels.astype(np.uint8)).save(polyps / "masks" / f"{stem}.png")
    Image.new("L", SIZE[::-1]).save(polyps / "masks" / "a5.png")
    Image.new("RGB", SIZE[::-1], (3, 3, 3)).save(polyps / "images" / "a6.png")
    turned = Image.Exif()
    turned[274] = 3
    frames[7][0].rotate(180).save(polyps / "images" / "a7.png", exif=turned)
    kinds = found(polyps)
    assert kinds["full mask"] == ["polyps/a0: 100.00% of the image"]
    assert kinds["huge foreground"] == ["polyps/a1: 83.33% of the image"]
    assert kinds["tiny foreground"] == ["polyps/a2: 0.01% of the image", "polyps/a3: 0.01% of the image"]
    assert kinds["empty mask"] == ["polyps/a5: highest level 0"]
    assert "1 of 16 masks of polyps hold levels from 16 to 239, at most 8.23% of their pixels (polyps/a3)" in str(kinds)
    assert kinds["class numbers"][0].startswith("1 of 16 masks of polyps hold 255 and otherwise only the lowest levels")
    assert kinds["one colour"] == ["polyps/a6 has no content (deviation 0.0)"]
    assert kinds["turned by EXIF"] == ["polyps/a7 is turned by its EXIF tag, its mask is not"]
    assert kinds.keys() <= KINDS.keys()
    assert doctor_command(words_of(polyps), dry=False) == 0
    assert "note           1  full mask" in capsys.readouterr().out


def test_data_without_a_frame_that_shows_no_object_is_a_note(polyps):
    for index in range(COUNT, MANY + 1):
        add(polyps, f"a{index}", *frame(index))
    told = f"each of the {MANY + 1} images to train on shows an object"
    assert found(polyps) == {"an object everywhere": [told]}
    assert not found(polyps, "student.classes=2").get("an object everywhere")
    add(polyps, "empty", frame(MANY + 1)[0], Image.new("L", SIZE[::-1]))
    assert "an object everywhere" not in found(polyps)


def test_jpeg_masks_are_noisy_and_not_soft(polyps):
    for path in (polyps / "masks").iterdir():
        Image.open(path).convert("L").save(path.with_suffix(".jpg"), quality=98)
        path.unlink()
    sentences = found(polyps)["values in between"]
    assert sentences[0].startswith("16 of 16 masks of polyps hold other levels than 0 and 255, at most")


def test_class_numbers_are_examined_as_such(polyps):
    for path in (polyps / "masks").iterdir():
        numbers = np.asarray(Image.open(path)) // 255 * 2
        Image.fromarray(numbers.astype(np.uint8)).save(path)
    assert found(polyps, "student.classes=3") == {}
    assert "empty masks" in found(polyps)


def test_the_page_stands_alone_and_escapes_names(polyps, frames, tmp_path):
    add(polyps, "<b>&", frames[0][0], frames[0][1], suffix="jpg", quality=70)
    doctor_command(words_of(polyps, f"out={tmp_path / 'out'}"), dry=False)
    page = (tmp_path / "out" / "doctor.html").read_text(encoding="utf-8")
    assert "polyps/&lt;b&gt;&amp;, polyps/a0" in page
    assert "<b>&" not in page
    assert page.count("data:image/jpeg;base64,") == 2
    assert not re.search(r"<script|(src|href)=\"(?!data:|#)", page)
    assert 'name="viewport"' in page
    assert "remark" not in page.lower()


def test_the_exit_status_reaches_the_shell(polyps, capsys):
    assert main(["doctor", *words_of(polyps)]) == 0
    (polyps / "masks" / "a1.png").unlink()
    assert main(["doctor", *words_of(polyps)]) == 1
    assert main(["doctor", *words_of(polyps), "--dry-run"]) == 0
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], r"the doctor needs data.root=DIR, as in distill doctor"),
        (["data.root=x", "data.name=datasets"], r"the doctor examines folders, but data.name is datasets"),
        (["data.root=x", "data.rot=y"], r"no key 'data.rot'; did you mean 'data.root'"),
        (["data.root=x", "student.width=4"], r"no key 'student.width'"),
    ],
)
def test_a_wrong_word_is_told(words, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_request(words)


def test_thumbnails_of_one_colour_are_no_copies():
    flat = np.zeros((4, SIDE, SIDE), np.uint8) + np.arange(4, dtype=np.uint8)[:, None, None]
    assert not len(find_near(flat).first)
    assert not len(find_near(flat[:1]).first)


def test_what_pairs_connect_is_one_group():
    first, second = np.array([2, 7, 1]), np.array([4, 9, 2])
    groups = components(Near(first, second, np.zeros(3, np.uint8), np.ones(3, np.float32)), 10)
    assert groups[1] == groups[2] == groups[4]
    assert groups[7] == groups[9]
    assert len(set(groups)) == 7


def test_every_pair_of_near_copies_is_told_once_and_the_most_alike_first():
    random = np.random.default_rng(0)
    scenes = random.integers(0, 255, (3, SIDE, SIDE))
    frames = np.repeat(scenes, 40, axis=0) + random.normal(0, 2, (120, SIDE, SIDE))
    frames[5] = frames[5, :, ::-1]
    near = find_near(frames.clip(0, 255).astype(np.uint8))
    pairs = set(zip(near.first.tolist(), near.second.tolist(), strict=True))
    assert pairs == {(i, j) for i in range(120) for j in range(i + 1, 120) if i // 40 == j // 40}
    assert len(near.first) == len(pairs)
    assert (np.diff(near.correlation) <= 0).all()
    turned = (near.first == 5) | (near.second == 5)
    assert set(near.view[turned]) == {1}
    assert set(near.view[~turned]) == {0}


def test_the_near_copies_and_the_leak_of_pranets_split_are_found(shared, tmp_path):
    data = shared / "data"
    words = [f"data.root={data}", f"data.split={data / 'splits' / 'pranet'}", f"home={tmp_path}"]
    diagnosis = examined([*words, "data.train=[cvc-clinicdb]", "data.test=[cvc-clinicdb]"])
    near = [finding for finding in diagnosis.issues if finding.kind == "near copy in two parts"]
    assert {finding.samples[0].stem for finding in near} == {"100", "181", "353", "381", "483"}
    leak = [finding.sentence for finding in diagnosis.issues if finding.kind == "test of known sequences"]
    assert leak[0].startswith("all 62 test images of cvc-clinicdb come from groups")
    assert sum(finding.kind == "sequence in two parts" for finding in diagnosis.issues) == 26


def test_a_sentence_names_a_few_of_many_copies_and_the_json_all(polyps, frames):
    for number in range(20):
        add(polyps, f"copy{number}", *frames[0])
    (sentence,) = found(polyps)["copies"]
    assert sentence.count("copy") == 12 - 1
    assert sentence.endswith("and 9 more are one file")


def test_a_root_with_a_comma_stays_as_it_is_typed(tmp_path):
    assert read_request([f"data.root={tmp_path}/polyps, second"]).data.root == f"{tmp_path}/polyps, second"
    assert read_request([f'data.root="{tmp_path}/polyps, second"']).data.root == f"{tmp_path}/polyps, second"


def test_a_patient_in_folders_of_two_parts_is_an_error(tmp_path, frames):
    for number, name in enumerate(("train", "test")):
        folder = tmp_path / "root" / name
        for part in ("images", "masks"):
            (folder / part).mkdir(parents=True)
        for index, (image, mask) in enumerate(frames[8 * number : 8 * number + 8]):
            add(folder, f"a{index}", image, mask)
        rows = [("stem", "group"), *((f"a{index}", f"p{index // 4}") for index in range(8))]
        with (folder / "sequences.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows(rows)
    kinds = found(tmp_path / "root")
    assert kinds["test of known sequences"][0].startswith("all 8 test images of test come from groups")
    assert kinds["sequence in two parts"][0] == "sequence p0 of train, test: 4 in train and 4 in test"
