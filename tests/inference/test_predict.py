"""Predictions: folder and ONNX file alike, results that are whole, what is done again and what is not."""

from __future__ import annotations

import csv
import json
import struct
import weakref
from dataclasses import replace
from fractions import Fraction
from importlib import import_module

import av
import numpy as np
import onnx
import pytest
from PIL import Image
from published import write_disc, write_student

import distill
from distill.cli.predict import COMMAND
from distill.data.image_io import NO_PICTURE
from distill.inference.images import ImagePredictor, Options, predict_images
from distill.inference.inputs import find_inputs
from distill.inference.overlay import colour, draw_overlay
from distill.inference.predict import by_onnx, named
from distill.inference.regions import measure_regions
from distill.inference.segmenter import open_segmenter
from distill.inference.thresholds import Thresholds
from distill.inference.video_files import VideoWriter, open_video
from distill.run import main

predict_command = COMMAND

predicting = import_module("distill.inference.predict")  # the module: the package has a function of that name


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    monkeypatch.setenv("BANDPASS_THREADS", "1")


@pytest.fixture(scope="session")
def student(tmp_path_factory):
    return write_student(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="session")
def bright(tmp_path_factory):
    """An ONNX file of a published one's form, whose probability is how bright a pixel is."""
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    node, info, kinds = onnx.helper.make_node, onnx.helper.make_tensor_value_info, onnx.TensorProto
    nodes = [
        node("Cast", ["image"], ["levels"], to=kinds.FLOAT),
        node("ReduceMean", ["levels"], ["grey"], axes=[3], keepdims=1),
        node("Transpose", ["grey"], ["plane"], perm=[0, 3, 1, 2]),
        node("Div", ["plane", "full"], ["probability"]),
    ]
    image = info("image", kinds.UINT8, ["n", "h", "w", 3])
    probability = info("probability", kinds.FLOAT, ["n", 1, "h", "w"])
    full = onnx.numpy_helper.from_array(np.array(255, np.float32), "full")
    graph = onnx.helper.make_graph(nodes, "bright", [image], [probability], [full])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.helper.set_model_props(model, {"classes": "1", "threshold": "0.3"})
    onnx.save(model, path)
    return path


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    for seed, size in enumerate([(45, 62), (80, 51), (33, 33)]):
        write_disc(folder / f"disc{seed}.png", seed, size)
    return folder


@pytest.fixture
def said(caplog, monkeypatch):
    monkeypatch.setattr(predicting.logger, "propagate", True)
    caplog.set_level("INFO", logger="bandpass")
    return caplog


def rows_of(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def times_of(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.*") if path.is_file()}


def counted(segmenter, seen):
    """The same student, which notes the size of every image that it sees."""

    def run(image):
        seen.append(image.shape[:2])
        return segmenter.run(image)

    return replace(segmenter, run=run)


def test_an_onnx_file_brings_its_own_threshold(bright, images, tmp_path):
    segmenter = open_segmenter(bright)
    assert (segmenter.classes, segmenter.thresholds.pixel) == (1, 0.3)
    distill.predict(bright, images, out=tmp_path / "out")
    image = np.asarray(Image.open(images / "disc1.png")).astype(np.float32)
    mask = np.asarray(Image.open(tmp_path / "out" / "masks" / "disc1.png"))
    np.testing.assert_array_equal(mask > 0, image.mean(axis=2) / 255 >= 0.3)


def test_the_mean_over_flips_of_a_mirrored_image_is_the_mirrored_mean(student, images):
    segmenter = open_segmenter(student)
    image = np.asarray(Image.open(images / "disc0.png"))
    mean = segmenter.probability(image, flips=True)
    assert abs(mean - segmenter.probability(image)).max() > 0.01
    mirrored = segmenter.probability(np.ascontiguousarray(image[:, ::-1]), flips=True)
    np.testing.assert_allclose(mirrored, mean[:, :, ::-1], atol=1e-6, rtol=0)


def test_a_folder_of_pictures_becomes_masks_overlays_and_a_table(student, images, tmp_path, capsys):
    (images / "broken.png").write_bytes(b"no picture")
    (images / "notes.txt").write_text("passed over")
    out = tmp_path / "out"
    words = [f"student={student}", f"images={images}", f"out={out}", "probabilities=true"]
    assert main(["predict", *words]) == 1
    told = capsys.readouterr()
    assert "3 images: 3 with a finding, 0 without" in told.out
    assert f"left out 1 file:\n  {images / 'broken.png'} cannot be read (it {NO_PICTURE})" in told.out
    assert "skipping notes.txt: by suffix neither picture nor video" in told.err
    assert f"faster on a CPU: distill publish student={student} onnx=model.onnx, then student=model.onnx" in told.err
    (student / "model.onnx").touch()
    assert by_onnx(student) == f"student={student / 'model.onnx'}"
    (student / "model.onnx").unlink()
    segmenter = open_segmenter(student)
    rows = {row["image"]: row for row in rows_of(out / "areas.csv")}
    assert list(rows) == ["disc0.png", "disc1.png", "disc2.png"]
    for name, row in rows.items():
        image = np.asarray(Image.open(images / name))
        mask = np.asarray(Image.open(out / "masks" / name))
        grey = np.asarray(Image.open(out / "probabilities" / name))
        expected = segmenter.probability(image)[0] >= 0.5
        np.testing.assert_array_equal(mask, 255 * expected)
        np.testing.assert_array_equal(grey >= 128, expected)  # greys round so that the threshold survives
        assert (int(row["width"]), int(row["height"])) == mask.shape[::-1]
        assert int(row["area"]) == expected.sum()
        assert float(row["share"]) == pytest.approx(expected.mean(), abs=1e-6)
        left, top, right, bottom = (int(row[side]) for side in ("left", "top", "right", "bottom"))
        assert expected[top:bottom, left:right].sum() == expected.sum()
        overlay = np.asarray(Image.open((out / "overlays" / name).with_suffix(".jpg")))
        assert overlay.shape == image.shape
    record = json.loads((out / "predict.json").read_text())
    assert record["threshold"] == 0.5
    assert record["palette"]["1"] == "#ffb000"


def test_finished_images_are_skipped(student, images, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(predicting, "open_segmenter", lambda source, **_: counted(open_segmenter(source), seen))
    out = tmp_path / "out"
    distill.predict(student, images, out=out)
    before = times_of(out / "masks")
    again = distill.predict(student, images, out=out)
    assert (again.pictures, again.kept, again.found, len(seen)) == (3, 3, 3, 3)
    assert times_of(out / "masks") == before
    write_disc(images / "disc1.png", 9)  # a changed picture, a lost mask, and a further kind of result
    (out / "masks" / "disc2.png").unlink()
    assert distill.predict(student, images, out=out).kept == 1
    assert distill.predict(student, images, out=out, probabilities=True).kept == 0
    assert len(seen) == 3 + 2 + 3


def test_an_interrupted_prediction_continues_where_it_stood(student, images, tmp_path):
    out, seen = tmp_path / "out", []
    out.mkdir()
    segmenter = counted(open_segmenter(student), seen)
    inputs, _ = find_inputs(str(images), out=out)

    def stopping(image):
        if len(seen) == 2:
            raise KeyboardInterrupt
        return segmenter.run(image)

    killed = ImagePredictor(replace(segmenter, run=stopping), Options(Thresholds()), out=out)
    with pytest.raises(KeyboardInterrupt):
        list(predict_images(killed, inputs, threads=1))
    assert len(rows_of(out / "areas.csv")) == 2
    outcomes = list(predict_images(ImagePredictor(segmenter, Options(Thresholds()), out=out), inputs, threads=1))
    assert [outcome.seconds is None for outcome in outcomes] == [True, True, False]
    assert len(seen) == 3


def test_another_threshold_or_student_does_everything_again_and_says_so(student, images, tmp_path, said):
    out = tmp_path / "out"
    distill.predict(student, images, out=out)
    first = rows_of(out / "areas.csv")
    (out / "overlays" / "older.jpg").write_bytes(b"")
    distill.predict(student, images, out=out, threshold=0.6)
    assert f"{out} was made with threshold 0.5 (now 0.6): everything in it is done again" in said.text
    assert 0 < int(rows_of(out / "areas.csv")[0]["area"]) < int(first[0]["area"])
    assert not (out / "overlays" / "older.jpg").exists()  # nothing of before stays among them
    other = write_student(tmp_path / "other", threshold=0.6)
    distill.predict(other, images, out=out)
    assert "was made with student" in said.text


def test_results_of_other_images_are_not_removed(student, images, tmp_path):
    out = tmp_path / "out"
    distill.predict(student, images, out=out)
    before = times_of(out / "masks")
    write_disc(tmp_path / "others" / "disc7.png", 7)
    with pytest.raises(ValueError, match=r"threshold 0\.5 \(now 0\.6\), and holds results of 'disc0', which .*choose"):
        distill.predict(student, tmp_path / "others", out=out, threshold=0.6)
    assert times_of(out / "masks") == before
    assert distill.predict(student, tmp_path / "others", out=out).pictures == 1
    assert len(rows_of(out / "areas.csv")) == 4


def test_a_table_of_the_users_own_stays_and_one_that_a_spreadsheet_saved_is_told(student, images, tmp_path):
    out = tmp_path / "out"
    distill.predict(student, images, out=out)
    (out / "notes.csv").write_text("mine")
    distill.predict(student, images, out=out, threshold=0.9)
    assert (out / "notes.csv").read_text() == "mine"
    table = out / "areas.csv"
    table.write_text(table.read_text().replace(",", ";"))
    with pytest.raises(ValueError, match=r"areas.csv does not begin with the columns image,key,width.* remove it"):
        distill.predict(student, images, out=out, threshold=0.9)


def test_a_folder_of_something_else_is_never_written_into(student, images, tmp_path):
    with pytest.raises(ValueError, match=r"holds 'disc0\.png' but no predict\.json.*choose an empty or a new folder"):
        distill.predict(student, images, out=images)
    assert {path.name for path in images.iterdir()} == {f"disc{n}.png" for n in range(3)}


def test_several_classes_become_numbers_with_a_palette_and_a_row_each(images, tmp_path):
    student = write_student(tmp_path / "classes", classes=3)
    out = tmp_path / "out"
    distill.predict(student, images, out=out, probabilities=True)
    mask = Image.open(out / "masks" / "disc0.png")
    assert mask.mode == "P"
    expected = open_segmenter(student).probability(np.asarray(Image.open(images / "disc0.png"))).argmax(axis=0)
    np.testing.assert_array_equal(np.asarray(mask), expected)
    palette = json.loads((out / "predict.json").read_text())["palette"]
    assert [f"#{bytes(mask.getpalette()[3 * label : 3 * label + 3]).hex()}" for label in range(3)] == list(
        palette.values()
    )
    rows = [row for row in rows_of(out / "areas.csv") if row["image"] == "disc0.png"]
    assert [(int(row["class"]), int(row["area"])) for row in rows] == [(n, (expected == n).sum()) for n in (1, 2)]
    assert {path.name for path in (out / "probabilities").glob("disc0*")} == {"disc0.1.png", "disc0.2.png"}
    with pytest.raises(ValueError, match="has 3 classes, of which the most probable is taken"):
        distill.predict(student, images, out=out, threshold=0.4)


def test_regions_count_parts_that_touch_at_a_corner_as_one():
    labels = np.zeros((6, 8), np.uint8)
    labels[1:3, 1:3] = labels[3, 3] = labels[5, 7] = 1
    (regions,) = measure_regions(labels, np.full((1, 6, 8), 0.25, np.float32))
    assert (regions.area, regions.components, regions.largest, regions.box) == (6, 2, 5, (1, 1, 8, 6))
    assert regions.share == 6 / 48
    (nothing,) = measure_regions(np.zeros((6, 8), np.uint8), np.full((1, 6, 8), 0.25, np.float32))
    assert (nothing.area, nothing.components, nothing.box, nothing.highest) == (0, 0, None, 0.25)


def test_an_overlay_shows_a_lone_pixel_and_leaves_what_is_far_from_a_mask():
    image = np.full((90, 120, 3), 90, np.uint8)
    labels = np.zeros((90, 120), np.uint8)
    labels[20, 30] = 1
    labels[50:70, 80:110] = 2
    drawn = draw_overlay(image, labels).astype(int)
    assert abs(drawn[20, 30] - colour(1)).max() < 90
    assert drawn[60, 95, 2] > drawn[60, 95, 0]  # the fill of class 2 is cyan
    far = np.ones((90, 120), bool)
    far[10:31, 20:41] = far[40:80, 70:] = False
    assert (drawn[far] == 90).all()
    assert (image == 90).all()


def test_patterns_keep_folders_apart_and_results_are_no_input(student, images, tmp_path):
    write_disc(images / "more" / "disc0.png", 5)
    out = images / "out"
    summary = distill.predict(student, f"{images}/**/*.png", out=out)
    assert summary.pictures == 4
    assert (out / "masks" / "more" / "disc0.png").is_file()
    assert distill.predict(student, f"{images}/**/*.png", out=out).pictures == 4


def test_inputs_that_are_none_are_told(images, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(
        FileNotFoundError, match=r"expected a file, a folder or a pattern at images=.*nowhere, found none"
    ):
        find_inputs(str(tmp_path / "nowhere"), out=out)
    with pytest.raises(
        ValueError, match=r"neither a picture .* searched only if you ask for it, as by images=.*images$"
    ):
        find_inputs(str(tmp_path), out=out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"means neither a picture \(.*\) nor a video \([^;]*\)$"):
        find_inputs(str(tmp_path / "empty"), out=out)
    write_disc(images / "disc0.jpg", 0)
    with pytest.raises(ValueError, match=r"disc0\.jpg and disc0\.png have the same stem"):
        find_inputs(str(images), out=out)


def test_what_is_passed_over_is_named(images):
    out = images / "out"
    for folder in (images / "more", images / ".hidden", out / "masks"):
        folder.mkdir(parents=True)
    for name in ("notes.txt", "slices.gif", ".DS_Store"):
        (images / name).touch()
    inputs, passed = find_inputs(str(images), out=out)
    assert [one.name for one in inputs] == ["disc0.png", "disc1.png", "disc2.png"]
    assert passed == ["notes.txt", "slices.gif", "more/"]
    told = named([*passed, *"abcd"])
    assert told.startswith(
        "notes.txt, slices.gif, more/, a, b and 2 more: by suffix neither picture nor video; folders"
    )


def test_a_link_that_leads_nowhere_is_named_and_left_out(student, images, tmp_path, capsys):
    (images / "lost.png").symlink_to(tmp_path / "nowhere.png")
    taken, _ = find_inputs(str(images), out=tmp_path / "out")
    assert "lost.png" in [one.path.name for one in taken]
    assert main(["predict", f"student={student}", f"images={images}", f"out={tmp_path / 'out'}"]) == 1
    assert "lost.png" in capsys.readouterr().out


def test_a_link_that_leads_to_itself_spoils_nothing(images, tmp_path):
    (images / "self").symlink_to("self")
    (images / "more" / "up").mkdir(parents=True, exist_ok=True)
    (images / "more" / "loop").symlink_to(images)
    taken, skipped = find_inputs(str(images), out=tmp_path / "out")
    assert taken and {"self", "more/"} <= set(skipped)
    assert find_inputs(f"{images}/**/*", out=tmp_path / "out")[0]


def test_levels_of_12_bits_in_16_are_told(student, tmp_path):
    levels = np.linspace(0, 4095, 64 * 64).astype(np.uint16).reshape(64, 64)
    folder = tmp_path / "dark"
    folder.mkdir()
    Image.fromarray(levels).save(folder / "bits12.png")
    Image.fromarray(16 * levels).save(folder / "bits16.png")
    summary = distill.predict(student, folder, out=tmp_path / "out")
    assert summary.dark == 1 and summary.lines()[1].startswith("1 image without a level over 63 of 255, nearly black")


def test_students_that_are_none_are_told(tmp_path, student):
    with pytest.raises(FileNotFoundError, match=r"no published student at .*/nowhere: no such folder"):
        open_segmenter(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"expected an ONNX file at student="):
        open_segmenter(tmp_path / "model.onnx")
    with pytest.raises(FileNotFoundError, match=r"no published student at someone/something: .*, and as a hub id"):
        open_segmenter("someone/something")
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"ONNX Runtime cannot open .*model\.onnx"):
        open_segmenter(tmp_path / "model.onnx")


def test_an_onnx_file_of_another_kind_is_refused(tmp_path):
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "other", value[:1], value[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(ValueError, match=r"other\.onnx takes .*'x'.* but a published student takes 'image'"):
        open_segmenter(tmp_path / "other.onnx")


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("treshold=0.4", "no key 'treshold'.*did you mean 'threshold'"),
        ("threshold=high", "threshold is 'high', but must be a number"),
        ("flips=maybe", "flips is 'maybe', but must be true or false"),
        ("out=", "distill predict needs out=, as in distill predict student=DIR"),
        ("images=j", "images is given twice, as 'i' and as 'j'; take one of them out"),
    ],
)
def test_a_wrong_word_is_told(word, sentence):
    with pytest.raises(ValueError, match=sentence):
        predict_command.read(["student=s", "images=i", *(["out=o"] if word != "out=" else []), word])


def test_a_threshold_out_of_range_is_refused(student, images, tmp_path):
    with pytest.raises(ValueError, match=r"threshold is 1\.5, but must be above 0 and at most 1"):
        distill.predict(student, images, out=tmp_path / "out", threshold=1.5)


def test_a_dry_run_writes_nothing_and_help_shows_examples(student, images, tmp_path, capsys):
    assert predict_command([f"student={student}", f"images={images}", f"out={tmp_path / 'out'}"], dry=True) == 0
    assert not (tmp_path / "out").exists()
    assert main(["predict", "--help"]) == 0
    told = capsys.readouterr().out
    assert "distill predict student=model.onnx images='DIR/**/*.png'" in told
    assert "optimiser.learning_rate" not in told  # keys of recipes, of which it has none


def write_video(path, count=12, rate=10):
    still = write_disc(path.with_suffix(".png"), 0, (47, 63))
    path.with_suffix(".png").unlink()
    with VideoWriter(path, rate=Fraction(rate)) as writer:
        for number in range(count):
            writer.write(np.roll(still, number, axis=1), number / rate)


def test_a_video_becomes_a_video_with_overlay_and_a_table_of_its_frames(student, images, tmp_path, monkeypatch, capsys):
    write_video(images / "video.mp4")
    (images / "damaged.mp4").write_bytes((images / "video.mp4").read_bytes()[:600])
    alive, most = weakref.WeakValueDictionary(), []

    def watched(source, **_):
        segmenter = open_segmenter(source)

        def run(image):
            alive[id(image)] = image
            most.append(len(alive))
            return segmenter.run(image)

        return replace(segmenter, run=run)

    monkeypatch.setattr(predicting, "open_segmenter", watched)
    out = tmp_path / "out"
    words = [f"student={student}", f"images={images}/*.mp4", f"out={out}"]
    assert main(["predict", *words]) == 1
    told = capsys.readouterr().out
    assert "video.mp4: 12 frames at 10/s, 12 with a finding; done at " in told
    assert "damaged.mp4 cannot be read" in told
    assert max(most) <= 3  # frames in memory, however long the video
    with open_video(out / "videos" / "video.mp4") as (facts, frames):
        seen = list(frames)
    assert (float(facts.rate), len(seen)) == (10, 12)
    assert seen[0][1].shape == (48, 64, 3)  # even, as its coding wants it
    np.testing.assert_allclose([seconds for seconds, _ in seen], np.arange(12) / 10, atol=1e-4)
    rows = rows_of(out / "videos" / "video.csv")
    assert [int(row["frame"]) for row in rows] == list(range(1, 13))
    assert all(int(row["area"]) > 0 for row in rows)
    assert sorted(path.name for path in (out / "videos").iterdir()) == ["video.csv", "video.mp4"]
    count = len(most)
    assert main(["predict", *words]) == 1
    assert "video.mp4: complete already" in capsys.readouterr().out
    assert len(most) == count


def packets_of(path):
    with av.open(str(path)) as container:
        return [packet.pos for packet in container.demux(video=0) if packet.size]


def test_a_video_that_was_cut_off_is_told_and_one_that_was_trimmed_is_whole(student, tmp_path, capsys):
    video, out = tmp_path / "video.mp4", tmp_path / "out"
    write_video(video, count=40)
    data = video.read_bytes()
    video.write_bytes(data[: sorted(packets_of(video))[15]])
    words = ["predict", f"student={student}", f"images={video}", f"out={out}"]
    for _ in range(2):  # it does not become complete
        assert main(words) == 1
        told = capsys.readouterr().out
        assert "video.mp4 cannot be read (it ends at frame 15 of the 40 that it declares; copy" in told
        assert not list((out / "videos").iterdir())
    place = data.index(b"elst") + 12  # shown is the second that begins with the third
    start = struct.unpack_from(">i", data, place + 4)[0] + 2 * 60_000
    video.write_bytes(data[:place] + struct.pack(">Ii", 1000, start) + data[place + 8 :])
    assert main(words) == 0
    assert "video.mp4: 10 frames at 10/s" in capsys.readouterr().out


def test_of_a_file_that_can_no_longer_be_read_no_results_stay(student, images, tmp_path):
    write_video(images / "video.mp4")
    write_video(tmp_path / "elsewhere.mp4")
    (images / "linked.mp4").symlink_to(tmp_path / "elsewhere.mp4")
    out = tmp_path / "out"
    words = ["predict", f"student={student}", f"images={images}", f"out={out}", "probabilities=true"]
    assert main(words) == 0
    (tmp_path / "elsewhere.mp4").unlink()
    for name in ("disc0.png", "video.mp4"):
        (images / name).write_bytes((images / name).read_bytes()[:300])
    assert main(words) == 1
    assert not [path for path in out.rglob("*.*") if path.stem in ("disc0", "video", "linked")]
    assert {row["image"] for row in rows_of(out / "areas.csv")} == {"disc1.png", "disc2.png"}
    assert rows_of(out / "videos.csv") == []


def test_a_side_of_one_pixel_is_flipped_too(student):
    segmenter = open_segmenter(student)
    for shape in ((1, 9, 3), (9, 1, 3)):
        assert segmenter.probability(np.zeros(shape, np.uint8), flips=True).shape == (1, *shape[:2])


def test_a_picture_at_which_the_network_fails_is_named_and_the_others_are_done(student, images, tmp_path, monkeypatch):
    def failing(source, **_):
        segmenter = open_segmenter(source)

        def run(image):
            if image.shape[0] == 80:
                raise RuntimeError("out of memory\nsee above")
            return segmenter.run(image)

        return replace(segmenter, run=run)

    monkeypatch.setattr(predicting, "open_segmenter", failing)
    summary = distill.predict(student, images, out=tmp_path / "out")
    assert summary.failures == [f"{images / 'disc1.png'} cannot be segmented (out of memory)"]
    assert summary.pictures == 2


def test_a_name_with_a_space_and_no_quotes_is_told():
    with pytest.raises(ValueError, match="expected key=value, got 'Folder'; put quotes around a value with spaces"):
        predict_command.read(["student=x", "images=My", "Folder", "out=y"])


def test_a_picture_too_long_for_its_overlay_is_one_failure_and_the_others_are_done(bright, tmp_path):
    images = tmp_path / "images"
    write_disc(images / "z.png", 0)
    Image.new("RGB", (66_000, 2)).save(images / "long.png")  # JPEG ends at 65,500
    summary = distill.predict(bright, images, out=tmp_path / "out")
    assert [failure.split(" cannot")[0] for failure in summary.failures] == [str(images / "long.png")]
    assert [path.name for path in (tmp_path / "out" / "masks").iterdir()] == ["z.png"]


@pytest.mark.parametrize("source", ["zoo:nope", "no/such/place", "absent.onnx"])
@pytest.mark.parametrize("command", ["predict", "adapt", "publish"])
def test_a_dry_run_promises_nothing_of_a_student_that_is_not_there(source, command, images, tmp_path, capsys):
    further = ["onnx=model.onnx"] if command == "publish" else [f"images={images}", f"out={tmp_path / 'out'}"]
    assert main([command, f"student={source}", *further, "--dry-run"]) == 1
    told = capsys.readouterr()
    assert "would" not in told.out + told.err


def test_a_dry_run_refuses_a_folder_that_the_command_would_refuse(student, images, capsys):
    for command in ("predict", "adapt"):
        assert main([command, f"student={student}", f"images={images}", f"out={images}", "--dry-run"]) == 1
        assert f"out={images}" in capsys.readouterr().err
