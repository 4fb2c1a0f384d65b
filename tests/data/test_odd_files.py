"""Files that people have: odd EXIF entries, damaged headers, names in bytes, pipes, bombs, masks of another kind."""

from __future__ import annotations

import io
import os
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.config.schema import DataRecipe
from distill.data import image_io
from distill.data.file_index import VERSION
from distill.data.image_io import (
    MOST_PIXELS,
    TooLargeError,
    decode,
    encoded,
    is_turned,
    read_image,
    read_mask,
    why_unreadable,
)
from distill.data.sources.open_data import open_data

PIXELS = np.random.default_rng(0).integers(0, 255, (12, 20, 3), dtype=np.uint8)


def jpeg(*entries: tuple[int, int, bytes]) -> bytes:
    """A JPEG whose EXIF holds entries of (tag, type, value), one value each."""
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "JPEG", quality=95)
    ifd, values, after = struct.pack("<H", len(entries)), b"", 8 + 2 + 12 * len(entries) + 4
    for tag, kind, value in entries:
        place = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", after + len(values))
        ifd += struct.pack("<HHI", tag, kind, 1) + place
        values += value if len(value) > 4 else b""
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + ifd + bytes(4) + values
    plain = stream.getvalue()
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]


def orientation(value: int) -> tuple[int, int, bytes]:
    return 0x112, 3, struct.pack("<H", value)


CAFE = os.fsdecode(b"caf\xe9.png")  # as an old archive has it
SOFTWARE_AS_RATIONAL = (0x131, 5, struct.pack("<II", 1, 2))


def test_of_exif_the_orientation_alone_is_read():
    upright = read_image(jpeg())
    assert np.array_equal(read_image(jpeg(orientation(3), SOFTWARE_AS_RATIONAL)), upright[::-1, ::-1])


@pytest.mark.parametrize("value", range(10))
def test_every_orientation_is_turned_as_pillow_turns_it(value):
    from PIL import ImageOps

    data = jpeg(orientation(value))
    assert np.array_equal(read_image(data), np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))
    assert is_turned(data) == (value in range(2, 9))  # 0, which some cameras write, turns nothing


SPECIMENS = {  # what Pillow 13 raises of them
    "KeyError, TypeError: entry of no known type": (
        "49492a00080000000a0000010400010000000200000001010400010000000200000002010300030000008600000003010300010000000100"
        "000006010300010000000200000011010400010000008c00000015010300010000000300000016010400010000000200000017010400010000"
        "000c0000001c01030001000000016a0000a8000000080008000800"
    ),
    "SyntaxError: broken PNG": (
        "89504e470d0a1a0a0000000d4948445200000002000000020802000000fdd49a730000000549444154789c6360400600000e0001a99173b1"
        "00008b0049454e44ae426082"
    ),
    "struct.error: cut PNG": "89504e470d0a1a0a0000000d4948445200000002000000020802000000fdd49a730000000b4944415488",
    "struct.error: second frame of a GIF": (
        "4749463837610200020081000000000000dc000000000000002c0000ad0002000200000806000108041010002c"
    ),
    "DecompressionBombError: GIF": (
        "474946383761020002008196000000000000000000000000002c009a001b02000200000806000108041010003b"
    ),
}


@pytest.mark.parametrize("specimen", SPECIMENS.values(), ids=SPECIMENS)
def test_a_damaged_header_is_one_unreadable_file(specimen):
    with pytest.raises(OSError, match=r"\w") as error:
        decode(bytes.fromhex(specimen))
    assert why_unreadable(error.value).startswith(("is truncated or damaged (", "is not a BMP", "is too large ("))


@pytest.mark.parametrize(
    "raised",
    [IndexError("pop"), TypeError("None"), SyntaxError("not a TIFF"), struct.error("short"), RecursionError("deep"),
     OverflowError("large"), AttributeError("encode"), ZeroDivisionError("by"), EOFError(), MemoryError(),
     Image.DecompressionBombError("bomb"), KeyError("tag")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_whatever_pillow_raises_of_a_file_is_an_os_error(monkeypatch, raised):
    def broken(data):
        raise raised

    monkeypatch.setattr(image_io, "opened", broken)
    with pytest.raises(OSError, match=r"\w") as error:
        decode(b"")
    assert re.match(r"is (truncated or damaged|too large) \(.+\); ", why_unreadable(error.value))


def test_random_damage_raises_nothing_else():
    random = np.random.default_rng(1)
    good, more = [jpeg(orientation(6))], {"save_all": True, "append_images": [Image.new("RGB", (20, 12))]}
    for form in ("PNG", "BMP", "TIFF", "WEBP", "GIF"):
        stream = io.BytesIO()
        Image.fromarray(PIXELS).save(stream, form, **({} if form == "BMP" else more))
        good.append(stream.getvalue())
    for case in range(1500):
        data = bytearray(good[case % len(good)])
        for place in random.integers(0, min(len(data), (64, 4096)[case % 2]), size=1 + case % 4):
            data[place] = random.integers(256)
        try:
            decode(bytes(data[: random.integers(len(data))] if case % 3 == 0 else data))
        except (OSError, ValueError):
            continue


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch):
    stream = io.BytesIO()
    Image.new("1", (13_000, 13_000)).save(stream, "PNG")
    data = stream.getvalue()
    assert len(data) < 40_000
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda image: pytest.fail("it was decoded"))
    with pytest.raises(TooLargeError, match=rf"at most {MOST_PIXELS:,} are allowed") as error:
        decode(data)
    assert why_unreadable(error.value).startswith("is too large (")
    assert why_unreadable(error.value).endswith("); save it smaller or in tiles")


@pytest.fixture
def polyps(tmp_path) -> Path:
    """Twelve pairs, a0 to a11, in tmp_path/polyps."""
    return make(tmp_path / "polyps", lambda disc: disc * 255)


def make(folder: Path, levels) -> Path:
    """Twelve pairs whose masks are what `levels` makes of a bool disc."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    random = np.random.default_rng(0)
    rows, columns = np.ogrid[:24, :32]
    for number in range(12):
        disc = (rows - 12) ** 2 + (columns - 10 - number) ** 2 <= 36
        image = random.integers(0, 255, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / "images" / f"a{number}.png")
        Image.fromarray(levels(disc).astype(np.uint8)).save(folder / "masks" / f"a{number}.png")
    return folder


def open_folder(root: Path, *, classes: int = 1, **options):
    data = DataRecipe(name="folder", root=str(root), **options)
    return open_data(data, home=root.parent / "home", classes=classes)


def count(splits) -> int:
    return len(splits.train) + len(splits.val) + sum(map(len, splits.test.values()))


def test_a_pipe_and_a_device_among_the_images_are_named_and_never_read(polyps):
    for number in (1, 2):
        (polyps / "images" / f"a{number}.png").unlink()
    os.mkfifo(polyps / "images" / "a1.png")
    (polyps / "images" / "a2.png").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="found 2 problems") as error:
        open_folder(polyps)
    for number in (1, 2):
        sentence = f"polyps/images/a{number}.png is a pipe or a device, not a regular file; remove it"
        assert sentence in str(error.value)
    assert count(open_folder(polyps, skip_bad=True)) == 10
    with pytest.raises(OSError, match="pipe or a device"):
        encoded(polyps / "images" / "a1.png")


def test_a_name_that_is_not_utf_8_is_one_bad_file(polyps):
    for part in ("images", "masks"):
        (polyps / part / "a3.png").rename(polyps / part / CAFE)
    (polyps / "images" / f"notes {CAFE}.txt").write_text("from the hospital")
    with pytest.raises(ValueError, match="found 2 problems") as error:
        open_folder(polyps)
    sentence = r"polyps/images/caf\xe9.png has a name that is not UTF-8; rename it, as convmv -f latin1 -t utf8 does"
    assert sentence in str(error.value)
    splits = open_folder(polyps, skip_bad=True)
    assert count(splits) == 11
    assert any(r"images/notes caf\xe9.png.txt" in note for note in splits.notes)
    for note in splits.notes:
        note.encode("utf-8")


def test_a_folder_and_an_unlabelled_picture_whose_names_are_not_utf_8(polyps, tmp_path):
    more = tmp_path / "more"
    more.mkdir()
    shutil.copy(polyps / "images" / "a1.png", more / CAFE)
    Image.fromarray(PIXELS).save(more / "good.png")
    with pytest.raises(ValueError, match=r"more/caf\\xe9\.png has a name that is not UTF-8"):
        open_folder(polyps, unlabelled=str(more))
    assert len(open_folder(polyps, unlabelled=str(more), skip_bad=True).unlabelled) == 1
    both = tmp_path / "both"
    shutil.copytree(polyps, both / CAFE)
    with pytest.raises(ValueError, match=r"caf\\xe9\.png in data\.root=.* has a name that is not UTF-8"):
        open_folder(both)


def test_a_path_that_is_not_utf_8_is_indexed(polyps, tmp_path):
    elsewhere = tmp_path / CAFE
    elsewhere.mkdir()
    polyps.rename(elsewhere / "polyps")
    assert count(open_folder(elsewhere / "polyps")) == 12


def test_a_link_that_leads_nowhere_is_told(polyps, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    shutil.copytree(polyps, root / "polyps")
    (root / "clinic").symlink_to(tmp_path / "unmounted")
    assert f"passed over links in data.root={root} that lead nowhere: clinic" in open_folder(root).notes


def test_a_mask_replaced_by_one_of_the_same_size_and_time_is_read_again(polyps):
    path = polyps / "masks" / "a3.png"
    stream = io.BytesIO()
    Image.fromarray(255 - np.asarray(Image.open(path))).save(stream, "PNG")
    contents = [path.read_bytes(), stream.getvalue()]
    keys, stamps = [], []
    for content in contents:
        path.unlink()
        path.write_bytes(content.ljust(max(map(len, contents)), b"\0"))  # what follows a PNG's end is passed over
        os.utime(path, ns=(1, 1))
        stamps.append((path.stat().st_size, path.stat().st_mtime_ns))
        keys.append({sample.stem: sample.mask_key for sample in all_of(open_folder(polyps))})
    assert stamps[0] == stamps[1]
    assert {stem for stem in keys[0] if keys[0][stem] != keys[1][stem]} == {"a3"}


def all_of(splits):
    return [*splits.train, *splits.val, *(sample for part in splits.test.values() for sample in part)]


def void_around(disc):
    """Class 1 with a void band around it, as in Pascal VOC."""
    wide = disc | np.roll(disc, 1, 0) | np.roll(disc, -1, 0) | np.roll(disc, 1, 1) | np.roll(disc, -1, 1)
    return np.where(disc, 1, np.where(wide, 255, 0))


def test_masks_with_void_are_refused_for_one_class_and_read_for_two(tmp_path):
    folder = make(tmp_path / "voc", void_around)
    sentence = (
        "masks of voc hold class numbers from 0 to 1 and 255, which is void (as in Pascal VOC), but student.classes=1 "
        "reads 255 as the foreground; set student.classes=2"
    )
    with pytest.raises(ValueError, match=re.escape(sentence)):
        open_folder(folder, skip_bad=True)
    sample = open_folder(folder, classes=2).train[0]
    assert set(np.unique(sample.read_mask())) == {0, 1, 255}


def test_soft_edges_and_jpeg_masks_are_not_taken_for_void(tmp_path):
    soft = make(tmp_path / "soft", lambda disc: np.where(disc, 255, 0) - np.where(np.roll(disc, 1), 0, 3) * disc)
    assert count(open_folder(soft)) == 12
    stray = make(tmp_path / "stray", lambda disc: disc * 255)
    levels = np.asarray(Image.open(stray / "masks" / "a0.png")).copy()
    levels[0, 0] = 1
    Image.fromarray(levels).save(stray / "masks" / "a0.png")
    assert count(open_folder(stray)) == 12


def test_masks_of_0_and_255_with_two_classes_are_told_to_be_so(polyps):
    sentence = (
        "masks of polyps hold nothing but 0 and 255, but student.classes=2 reads class numbers, of which 255 counts "
        "for nothing; set student.classes=1, or save 255 as 1"
    )
    with pytest.raises(ValueError, match=re.escape(sentence)):
        open_folder(polyps, classes=2)


def test_twelve_bits_in_sixteen_are_told(polyps):
    for number in range(12):
        levels = np.random.default_rng(number).integers(0, 4096, (24, 32), dtype=np.uint16)
        levels[0, 0] = 4095
        Image.fromarray(levels).save(polyps / "images" / f"a{number}.png")
    (note,) = open_folder(polyps).notes
    assert note == (
        "images of polyps have 16 bits of which 12 are used (highest level 4095 of 65535), so that they are read "
        "nearly black; save them in 8 bits, or multiply their levels by 16"
    )
    assert open_folder(polyps).notes == (note,), "the file index knows it too"


def test_a_file_that_changes_or_vanishes_after_the_data_was_opened_is_named_and_not_read(polyps):
    samples = {sample.stem: sample for sample in all_of(open_folder(polyps))}
    for part, read in (("images", samples["a1"].read_image), ("masks", samples["a1"].read_mask)):
        pixels, path = read(), polyps / part / "a1.png"
        path.write_bytes((polyps / part / "a2.png").read_bytes())
        with pytest.raises(ValueError, match=rf"{part}/a1\.png has changed since the data was opened; type the same"):
            read()
        path.unlink()
        with pytest.raises(ValueError, match=rf"{part}/a1\.png cannot be opened .*; it was there when the data was"):
            read()
        Image.fromarray(pixels if part == "images" else pixels * 255).save(path)


def test_an_unlabelled_picture_that_changes_is_named_too(polyps, tmp_path):
    pictures = make(tmp_path / "more", lambda disc: disc * 255) / "images"
    for path in pictures.iterdir():
        path.write_bytes((polyps / "images" / path.name).read_bytes() + b"\0")
    (sample, *_) = open_folder(polyps, unlabelled=str(pictures)).unlabelled
    (pictures / f"{sample.stem}.png").write_bytes(b"")
    with pytest.raises(ValueError, match="has changed since the data was opened"):
        sample.read_image()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_mask_whose_shape_is_in_its_alpha_channel_alone_is_refused(polyps, mode):
    levels = np.asarray(Image.open(polyps / "masks" / "a3.png"))
    white = Image.new(mode.removesuffix("A"), (32, 24), "white")
    white.putalpha(Image.fromarray(levels))
    white.save(polyps / "masks" / "a3.png")
    with pytest.raises(ValueError, match=r"a3\.png has its shape in the alpha channel alone, of one colour; save it"):
        open_folder(polyps)
    opaque = Image.open(polyps / "masks" / "a4.png").convert(mode)
    opaque.putalpha(Image.fromarray(levels))
    assert np.array_equal(np.asarray(image_io.as_levels(opaque)), np.asarray(Image.open(polyps / "masks" / "a4.png")))


def test_images_that_exif_turns_are_told_of_where_their_masks_are_not_turned(polyps):
    for number, turn in ((1, 3), (2, 3), (3, 1)):
        exif = Image.Exif()
        exif[0x112] = turn
        path = polyps / "images" / f"a{number}.png"
        Image.open(path).save(path, exif=exif)
    told = "2 images of polyps are turned by EXIF, the mask is not; distill doctor shows them"
    assert told in open_folder(polyps).notes and told in open_folder(polyps).notes, "the file index knows it too"
    mask = polyps / "masks" / "a2.png"
    exif = Image.Exif()
    exif[0x112] = 3
    Image.open(mask).save(mask, exif=exif)
    assert (
        "1 image of polyps is turned by EXIF, the mask is not; distill doctor shows them" in open_folder(polyps).notes
    )


def test_a_home_that_cannot_be_written_costs_only_the_index(polyps, monkeypatch, caplog):
    def refuse(path, data):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr("distill.data.file_index.write_bytes", refuse)
    assert count(open_folder(polyps)) == 12
    assert (
        "file_index.table cannot be written (Read-only file system); every file is read again next time" in caplog.text
    )


def test_a_damaged_file_index_is_written_anew_and_believed_in_nothing(polyps, tmp_path, caplog):
    before, index = open_folder(polyps).digest, tmp_path / "home" / "file_index.table"
    whole, random = index.read_bytes(), np.random.default_rng(0)
    for place in random.integers(len(whole), size=30):
        index.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert open_folder(polyps).digest == before
        assert index.read_bytes() == whole
    for damaged in (b"", b"{", b"[]", f'{{"version": {VERSION}}}\n'.encode(), b"[" * 100_000, whole[:-5]):
        caplog.clear()
        index.write_bytes(damaged)
        assert open_folder(polyps).digest == before
        assert f"{index} cannot be read (" in caplog.text


def test_an_older_file_index_is_replaced_without_a_word(polyps, tmp_path, caplog):
    (tmp_path / "home").mkdir()
    open_folder(polyps)
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["file_index.table"]
    assert not caplog.text


def test_a_second_mask_of_an_image_is_named_and_not_passed_over(polyps):
    for path in sorted((polyps / "masks").iterdir()):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    assert count(open_folder(polyps)) == 12
    (polyps / "masks" / "a3_Mask.png").write_bytes((polyps / "masks" / "a4_mask.png").read_bytes())
    with pytest.raises(ValueError, match=r"a3_Mask\.png"):
        open_folder(polyps)


def test_a_mask_of_undefined_values_is_no_empty_frame(polyps):
    (polyps / "masks" / "a3.png").unlink()
    Image.fromarray(np.full((24, 32), np.nan, np.float32)).save(polyps / "masks" / "a3.tif")
    with pytest.raises(ValueError, match=r"a3\.tif holds values that are infinite or undefined"):
        open_folder(polyps)


def save_reduced(folder: Path) -> None:
    """Saves every mask as red on black with its colours reduced to a palette, red first."""
    for number in range(12):
        path = folder / "masks" / f"a{number}.png"
        levels = np.asarray(Image.open(path))
        picture = Image.fromarray(np.stack([levels, 0 * levels, 0 * levels], axis=-1))
        reduced = picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=2)
        assert reduced.getpalette("RGB")[:6] == [255, 0, 0, 0, 0, 0]
        reduced.save(path)


def test_a_palette_that_has_black_after_a_colour_counts_by_colours(polyps):
    plain = [sample.read_mask() for sample in all_of(open_folder(polyps))]
    save_reduced(polyps)
    for mask, sample in zip(plain, all_of(open_folder(polyps)), strict=True):
        assert mask.mean() == pytest.approx(sample.read_mask().mean(), abs=0.05) and 0 < mask.mean() < 0.5


def test_sixteen_bits_with_soft_edges_are_read_as_eight(tmp_path):
    soft = (np.linspace(0, 1, 24 * 32).reshape(24, 32) * 65535).astype(np.uint16)
    Image.fromarray(soft).save(tmp_path / "wide.png")
    Image.fromarray(np.rint(soft / 257).astype(np.uint8)).save(tmp_path / "narrow.png")
    wide, narrow = (read_mask(tmp_path / f"{name}.png", threshold=128) for name in ("wide", "narrow"))
    assert np.array_equal(wide, narrow) and 0.49 < wide.mean() < 0.51


@pytest.mark.parametrize(("level", "held"), [(1, "holds only 0 and 1"), (100, "goes up to 100")])
def test_a_mask_of_a_lower_scale_than_others_is_named(polyps, level, held):
    path = polyps / "masks" / "a3.png"
    Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8) * level).save(path)
    with pytest.raises(ValueError, match=rf"a3\.png {held}, but other masks of polyps go higher, so that it would be"):
        open_folder(polyps)
    assert count(open_folder(polyps, skip_bad=True)) == 11


def test_an_empty_mask_with_the_noise_of_a_jpeg_is_empty(polyps):
    path = polyps / "masks" / "a3.png"
    Image.fromarray(np.full((24, 32), 7, np.uint8)).save(path)
    assert count(open_folder(polyps)) == 12


def test_frames_without_foreground_may_be_a_test_set_beside_others_and_not_all_there_is(tmp_path):
    root = tmp_path / "root"
    make(root / "polyps", lambda disc: disc * 255)
    make(root / "clean", lambda disc: disc * 0)
    for path in (root / "clean" / "images").iterdir():  # else they are the polyps' images, which tests hold
        Image.fromarray(np.asarray(Image.open(path))[:, ::-1]).save(path)
    splits = open_folder(root, test_only=["clean"])
    assert len(splits.test["clean"]) == 12 and any("12 of 12 masks of clean are empty" in note for note in splits.notes)
    with pytest.raises(ValueError, match="all 12 masks of clean are empty"):
        open_folder(root / "clean")


def test_an_image_in_two_groups_is_refused(polyps):
    lines = ["stem,group", *(f"a{number},{number // 4}" for number in range(12)), "a3,2"]
    (polyps / "sequences.csv").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ValueError, match=r"sequences\.csv puts a3 into '0' and into '2'; keep one of the lines"):
        open_folder(polyps, skip_bad=True)
