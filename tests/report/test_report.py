"""report.html: what stands in it, that it stands alone, and that no run fails because of it."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from small_run import IMAGE_SIZE, disc_splits, recipe_of, run_of, small_run

from distill.cli.report import COMMAND as REPORT
from distill.config.registry import LOSSES
from distill.config.schema import OptimiserRecipe, StageRecipe, StudentRecipe, TeacherRecipe
from distill.evaluation.evaluate import evaluate
from distill.metrics.aggregate import summarise_confidence
from distill.metrics.calibration import calibration_error, reliability
from distill.metrics.names import FIGURES
from distill.metrics.per_image import score_everything
from distill.metrics.score_table import ScoreTable
from distill.publishing.gallery import colours_of
from distill.report.cases import places
from distill.report.curves import MEANINGS
from distill.report.features import colours
from distill.report.inputs import Row, share_of
from distill.report.thumbnails import contours_tile, distances, errors_tile, mask_tile
from distill.report.write import NAME, refresh, report
from distill.run import main
from distill.training.train import train

pages = import_module("distill.report.page")
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """The elements of a page, its words, and whether every element is closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def page_of(run) -> Page:
    return Page((run.folder / NAME).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def taught(features, tmp_path_factory):
    """A student taught by the drawn features, in two stages, evaluated."""
    recipe = recipe_of(features, optimiser=OptimiserRecipe(batch_size=4, learning_rate=1e-2))
    run = run_of(recipe, tmp_path_factory.mktemp("taught") / "runs" / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.metrics.bootstrap.LEAST_GROUPS", 1)  # of so few test images there would be no interval
        train(run), evaluate(run), report(run)
    return run


def test_the_page_stands_alone_and_is_whole(taught):
    page = page_of(taught)
    assert not {"script", "link", "iframe", "object", "video"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "data", "poster"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/")), attributes
        assert not [name for name in attributes if name.startswith("on")]
    style = " ".join([text for text in page.words if "{" in text] + [a.get("style") or "" for _, a in page.elements])
    assert "@import" not in style
    assert not re.search(r"url\((?!#)", style)
    assert "http" not in re.sub(r"data:image/[^\"]+", "", (taught.folder / NAME).read_text(encoding="utf-8"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in page.of("a")} <= set(ids)
    assert (taught.folder / NAME).stat().st_size < 5e6


def test_every_picture_is_told_in_words(taught):
    page = page_of(taught)
    assert all(image["alt"] and int(image["width"]) > 0 for image in page.of("img"))
    assert all(drawing["aria-label"] for drawing in page.of("svg"))
    assert "left out:" not in page.text


def test_every_figure_of_every_data_set_is_there_with_its_convention(taught):
    page, metrics = page_of(taught), json.loads((taught.folder / "metrics.json").read_text())
    for name, entry in metrics["datasets"].items():
        assert f"{name}, {entry['images']} test images" in page.text
        for figure in FIGURES:
            digits = 1 if figure in ("hd95", "average_surface_distance") else 3
            assert f"{entry[figure]['mean']:.{digits}f} {entry[figure]['low']:.{digits}f}–" in page.text, figure
    conventions = [text for figure, text in metrics["conventions"].items() if figure in FIGURES]
    assert all(" ".join(text.split()) in page.text for text in conventions)


def test_training_is_drawn_by_term_and_by_stage(taught):
    titles = page_of(taught).text
    for words in ("validation Dice, kept", "segment", "boundary", "imitate_low", "imitate_high", "learning rate"):
        assert words in titles
    assert "segment + 0.5 boundary + 0.5 imitate_high" in titles


def test_every_term_of_the_loss_has_its_meaning():
    assert MEANINGS.keys() == LOSSES.keys()


def test_void_is_no_foreground():
    mask = np.zeros((4, 4), dtype=np.uint8)
    mask[0], mask[1] = 255, 2
    row = Row(SimpleNamespace(read_mask=lambda: mask), {})
    assert share_of(row) == 0.25


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_code_of_few_components_is_drawn_in_colour(kept):
    components = torch.zeros(kept, 4, 6)
    components[:, :, 3:] = 10
    pixels = Image.open(io.BytesIO(base64.b64decode(colours(components, (40, 60)).partition(",")[2])))
    assert (pixels.mode, pixels.size) == ("RGB", (240, 160))
    expected = [255 if channel < kept else 127 for channel in range(3)]
    assert np.abs(np.subtract(pixels.getpixel((220, 80)), expected)).max() <= 3
    drawn = colours_of(components.numpy())
    assert drawn.shape == (4, 6, 3) and (drawn[:, :, kept:] == 0.5).all()


def test_the_teacher_s_bands_are_shown_beside_what_is_read_from_the_student(taught):
    page = page_of(taught)
    shown = len(taught.splits.val)
    for title in ("teacher, all of the code", "its low band", "its high band, own scale", "read from the student, 1/8"):
        assert page.words.count(title) == shown, title
    cosine = float(re.search(r"its mean cosine with the teacher's features is (-?\d\.\d\d)", page.text)[1])
    assert 0.1 < cosine <= 1, "the discs are in the features, and the student finds them"


def test_licences_costs_and_the_way_to_run_it_again_are_there(taught):
    text = page_of(taught).text
    said = ("drawn", "Apache-2.0", "recipe=recipe.yaml", "torch", "not measured: no model.onnx", "Not a medical device")
    for words in (*said, "two discs of left were drawn by the same hand"):
        assert words in text
    assert str(taught.folder.parent) not in text


def test_names_of_files_and_data_sets_are_words_and_never_markup(tmp_path):
    run = small_run(tmp_path)
    odd = 'a<script>alert("&")</script>&amp;$x_1$'
    test = {odd: tuple(replace(s, dataset=odd, stem=f"{odd}{i}") for i, s in enumerate(run.splits.test["left"]))}
    run = replace(run, splits=replace(run.splits, test=test, notes=(odd,)))
    evaluate(run), report(run)
    page = page_of(run)
    assert not page.of("script")
    assert page.text.count(odd) > 5
    assert f"{odd}0" in page.text


def test_a_run_without_a_teacher_has_a_page_that_says_so(tmp_path):
    run = small_run(tmp_path)
    evaluate(run), report(run)
    page = page_of(run)
    assert "none: trained on masks alone" in page.text
    assert not {"teacher", "features", "cache", "training"} & {a["id"] for a in page.of("section")}
    assert len([1 for words in page.words if words in ("best", "median", "worst")]) == 5, (
        "each of five test images once"
    )


def test_several_classes_have_a_page(tmp_path):
    run = small_run(tmp_path)
    recipe = replace(run.recipe, student=StudentRecipe(width=2, classes=3), image_size=IMAGE_SIZE)
    run = run_of(
        replace(recipe, stages={"semantic": StageRecipe(steps=2, losses={"segment": 1.0})}), tmp_path / "three"
    )
    train(run), evaluate(run), report(run)
    page = page_of(run)
    assert "predicted as another class" in page.text
    assert "averaged over the classes but background" in page.text
    assert "By class" in page.text
    pooled = json.loads((run.folder / "metrics.json").read_text())["datasets"]["left"]["pooled"]
    assert f"All pixels of left, by class: mIoU {pooled['miou']:.3f}" in page.text
    assert f"{pooled['confusion'][0][0]:,}" in page.text
    assert "no 95 % interval from fewer than 10 images or sequences" in page.text
    assert "class 1" in page.text
    assert "left out:" not in page.text


def test_a_part_that_cannot_be_drawn_leaves_a_sentence_and_the_rest(tmp_path, monkeypatch, caplog):
    run = small_run(tmp_path)
    evaluate(run)

    def broken(*_):
        raise RuntimeError("the pencil broke")

    monkeypatch.setattr(pages, "cases", broken)
    report(run)
    page = page_of(run)
    assert "The cases are left out: the pencil broke." in page.text
    assert "All metrics, with their conventions" in page.text
    monkeypatch.setattr(pages, "render", broken)
    (run.folder / NAME).unlink()
    refresh(run)
    assert not (run.folder / NAME).exists()
    assert any("report.html was not written (RuntimeError: the pencil broke)" in r.getMessage() for r in caplog.records)


def test_a_cache_that_is_gone_is_named(taught, tmp_path):
    run = replace(taught, caches={"drawn": tmp_path / "drawn-0123"}, folder=tmp_path)
    for path in taught.folder.rglob("*.*"):
        (tmp_path / path.relative_to(taught.folder)).parent.mkdir(exist_ok=True)
        (tmp_path / path.relative_to(taught.folder)).write_bytes(path.read_bytes())
    report(run)
    page = page_of(run)
    assert "The features of teacher drawn are left out: its cache drawn-0123 is not there." in page.text
    assert "features" not in {section["id"] for section in page.of("section")}
    assert page.of("img"), "the student's cases need no cache"


def test_a_page_is_written_again_only_for_other_figures(tmp_path, monkeypatch):
    run = small_run(tmp_path)
    evaluate(run)
    refresh(run)
    first = (run.folder / NAME).read_text(encoding="utf-8")
    monkeypatch.setattr(pages, "render", lambda run: pytest.fail("it was there already"))
    refresh(run)
    assert (run.folder / NAME).read_text(encoding="utf-8") == first
    metrics = json.loads((run.folder / "metrics.json").read_text())
    del metrics["content_sha256"]
    (run.folder / "metrics.json").write_text(json.dumps({**metrics, "evaluated": {"weights": "others"}}))
    monkeypatch.setattr(pages, "render", lambda run: "<title>new</title>")
    refresh(run)
    assert "<title>new</title>" in (run.folder / NAME).read_text(encoding="utf-8")


def test_the_command_finds_a_run_wherever_it_lies(tmp_path, capfd):
    words = ["recipe=sam_to_unet", "data.size=[64,64]", "data.images={train: 8, val: 2, test: 3}", "image_size=64"]
    words += ["student.width=2", "optimiser.batch_size=4", "precision=fp32", "evaluate.bootstrap=100"]
    words += ["stages.semantic={steps: 2, losses: {segment: 1, imitate_low: 0}}", "do=train,evaluate"]
    words += [
        "stages.boundary.losses={imitate_low: 0, imitate_high: 0}",
        "stages.boundary.steps=1",
        f"home={tmp_path / 'home'}",
    ]
    assert main(words) == 0
    (run,) = (tmp_path / "home" / "runs").iterdir()
    assert (run / NAME).is_file(), "every run that is evaluated has a page"
    assert f"the report: {run / NAME}" in capfd.readouterr().err
    moved = run.rename(tmp_path / "moved")
    (moved / NAME).unlink()
    assert main(["report", f"run={moved}"]) == 0
    assert page_of(replace(small_run(tmp_path), folder=moved)).of("svg")
    assert main(["report", f"run={tmp_path}"]) == 1
    assert "expected a run in" in capfd.readouterr().err
    with pytest.raises(ValueError, match="distill report needs run=DIR or recipe=NAME"):
        REPORT([], dry=True)
    (moved / "metrics.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no evaluation in .*; type distill evaluate recipe=.* first"):
        REPORT([f"run={moved}"], dry=False)


@pytest.fixture(scope="module")
def masks_job(features, tmp_path_factory):
    """A student that hears a task teacher, evaluated; the teacher's source holds validation and test images."""
    from distill.extraction.extract import extract
    from distill.publishing.publish import publish

    folder = tmp_path_factory.mktemp("agreement")
    recipe = replace(
        recipe_of(features),
        image_size=48,
        student=StudentRecipe(name="task_decoder", width=8),
        stages={"semantic": StageRecipe(steps=30, losses={"segment": 1.0})},
    )
    teacher = run_of(recipe, folder / "teacher")
    train(teacher), evaluate(teacher), publish(teacher), report(teacher)
    masks = TeacherRecipe(adapter="task", of="drawn", weights=str(teacher.published))
    recipe = recipe_of(features)
    stages = {"semantic": StageRecipe(steps=8, losses={"segment": 1.0, "imitate_mask": 1.0})}
    run = run_of(replace(recipe, teachers={**recipe.teachers, "masks": masks}, stages=stages), folder / "student")
    extract(run), train(run), evaluate(run), report(run)
    return teacher, run


def test_teacher_and_student_are_scored_alike_on_the_same_images(masks_job):
    teacher, run = masks_job
    own = json.loads((teacher.folder / "metrics.json").read_text())["datasets"]
    found = json.loads((run.folder / "metrics.json").read_text())
    assert set(found["teachers"]["masks"]) == {"validation", "left", "right"}
    for name, entry in found["teachers"]["masks"].items():
        assert entry["images"] == entry["of"]
        assert 0 <= entry["agreement"]["dice"]["mean"] <= 1
        if name in own:
            assert entry["teacher"]["dice"]["mean"] == pytest.approx(own[name]["dice"]["mean"], abs=0.1)
            assert entry["student"]["dice"] == found["datasets"][name]["dice"]


def test_the_page_shows_what_the_teacher_says_and_where_they_agree(masks_job):
    page = page_of(masks_job[1])
    assert "teacher" in {section["id"] for section in page.of("section")}
    assert page.words.count("teacher (masks)") == sum(map(len, disc_splits().test.values()))
    assert "Dice between them" in page.text
    assert "left out:" not in page.text


def test_a_task_teacher_has_a_page_too(masks_job):
    page = page_of(masks_job[0])
    assert "reads a teacher's cached features" in page.text
    assert "left out:" not in page.text


def test_soft_masks_that_are_not_known_are_not_scored(masks_job, tmp_path):
    from distill.evaluation.soft_masks import known, soft_masks_of

    _, run = masks_job
    (masks,) = soft_masks_of(run).values()
    assert masks.teacher is not None
    alone = replace(masks, teacher=None)
    assert set(known(alone, run.splits.val)) == set(run.splits.val), "the gallery's"
    assert not known(alone, run.splits.test["left"])
    sample = run.splits.val[0]
    assert masks.probability(sample).shape == (1, *sample.size)
    np.testing.assert_array_equal(masks.as_truth(sample).read_mask(), masks.probability(sample)[0] >= 0.5)


def test_places_are_taken_once_from_best_to_worst():
    assert places(9, 3) == [(kind, 3 * i + j) for i, kind in enumerate(("best", "median", "worst")) for j in range(3)]
    assert places(4, 3) == [("best", 0), ("median", 1), ("worst", 3)]
    assert places(2, 3) == [("best", 0), ("worst", 1)]
    assert places(0, 3) == []
    assert [kind for kind, _ in places(100, 1)] == ["best", "median", "worst"]


def test_a_contour_lies_on_the_mask_s_border_and_nowhere_else():
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:30, 20:40] = True
    away = distances(mask, (80, 120))
    assert away[20:60, 39:41].max() < 1.5
    assert away[40, 60] > 15
    assert away[0, 0] > 15
    assert np.isinf(distances(np.zeros((4, 4), dtype=bool), (8, 8))).all()
    image = np.zeros((40, 60, 3), dtype=np.uint8)
    for tile in (contours_tile(image, mask, mask), errors_tile(image, mask, mask), mask_tile(mask.astype(np.uint8))):
        assert tile.startswith("data:image/")


def test_a_probability_that_means_what_it_says_has_no_calibration_error():
    random = np.random.default_rng(0)
    probability = random.uniform(size=(300, 400))
    truth = random.uniform(size=probability.shape) < probability
    assert calibration_error(reliability(probability, truth)) < 0.01
    sure = np.where(truth, 1.0, 0.0)
    assert calibration_error(reliability(sure, truth)) == 0
    assert calibration_error(reliability(sure, ~truth)) == 1
    scores = [score_everything(p, t) for p, t in ((probability, truth), (sure, truth))]
    found = summarise_confidence(ScoreTable.of(5 * scores), resamples=50)
    assert sum(found["bins"]["pixels"]) == pytest.approx(1)
    assert found["expected_calibration_error"]["low"] <= found["expected_calibration_error"]["mean"]
    assert summarise_confidence(ScoreTable.of([score_everything(sure, truth)]), resamples=10)["bins"]["said"][5] is None
