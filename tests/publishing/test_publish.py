"""The published folder: what is in it, and what keeps a wrong one from being published."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
import yaml
from PIL import Image
from small_run import small_run

import students
from distill.config.parse import build_recipe, dump_recipe
from distill.config.schema import Recipe, StageRecipe, TeacherRecipe
from distill.evaluation.evaluate import evaluate
from distill.evaluation.scoring import score
from distill.inference import load_model
from distill.inference.onnx_file import open_onnx
from distill.inference.segmenter import open_segmenter
from distill.inference.thresholds import Thresholds
from distill.publishing.card import render_card
from distill.publishing.operating_point import Choice, Point, choose_thresholds
from distill.publishing.provenance import provenance_of
from distill.publishing.publish import publish, push
from distill.publishing.temperature import find_temperature
from distill.runs.licences import LicensedSource, contradictions
from distill.runs.reproduce import command, public_recipe
from distill.runs.weights import load_student
from students import catalogue
from teachers.weights import known

publishing = import_module("distill.publishing.publish")  # the module: the package has a function of that name
contents = import_module("distill.publishing.student")
planning, rendering = (import_module(f"distill.publishing.{name}") for name in ("plan", "card"))

CHECK = {"batches": 3, "sizes": {"count": 1}, "max_difference": 1e-6, "dice": {}}


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """A run published for real, once, with what it said while doing so: exporting to ONNX takes seconds."""
    run = small_run(tmp_path_factory.mktemp("published"))
    evaluate(run)
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        assert publish(run) == run.published
    return run, out.getvalue()


@pytest.fixture
def run(published):
    return published[0]


@pytest.fixture
def fresh_job(tmp_path, monkeypatch):
    """A run that has been evaluated, and an exporter and a runner that are torch itself."""
    run = small_run(tmp_path)
    evaluate(run)
    exported = []

    def by_torch(images):
        with torch.inference_mode():
            return exported[-1](torch.from_numpy(images.copy())).numpy()

    def export(model, path, *, metadata):
        exported.append(model)
        path.write_bytes(b"")

    monkeypatch.setattr(contents, "export_onnx", export)
    monkeypatch.setattr(contents, "open_onnx", lambda path, **threads: by_torch)
    return run


def card_of(folder) -> tuple[dict, str]:
    front, body = (folder / "README.md").read_text(encoding="utf-8").removeprefix("---\n").split("\n---\n", 1)
    return yaml.safe_load(front), body


def test_predict_sees_the_same_by_the_folder_and_by_its_onnx_file(run):
    by_folder, by_file = open_segmenter(run.published), open_segmenter(run.published / "model.onnx")
    chosen = Thresholds.of(json.loads((run.published / "config.json").read_text()))
    assert (by_folder.classes, by_folder.thresholds) == (by_file.classes, by_file.thresholds) == (1, chosen)
    for sample in run.splits.val:
        image = sample.read_image()
        for flips in (False, True):
            expected = by_folder.probability(image, flips=flips)
            assert expected.shape == (1, *image.shape[:2])
            np.testing.assert_allclose(by_file.probability(image, flips=flips), expected, atol=1e-5, rtol=0)


def test_a_folder_in_the_home_folder_is_found(run, monkeypatch):
    monkeypatch.setenv("HOME", str(run.published.parent))
    assert load_model(f"~/{run.published.name}").image_size == run.recipe.image_size


@pytest.mark.parametrize("shape", [(1, 40, 56), (2, 131, 67), (3, 17, 200)])
def test_onnx_runtime_agrees_with_torch_at_any_size_and_batch(run, shape):
    images = np.random.default_rng(0).integers(0, 256, size=(*shape, 3), dtype=np.uint8)
    found = open_onnx(run.published / "model.onnx")(images)
    assert found.dtype == np.float32
    assert found.shape == (shape[0], 1, *shape[1:])
    model = load_model(run.published)
    np.testing.assert_allclose(found, np.stack([model.predict(image) for image in images]), atol=1e-5, rtol=0)


def test_the_onnx_file_is_one_file_that_says_what_it_is(run):
    model = onnx.load(run.published / "model.onnx", load_external_data=False)
    assert [node.name for node in model.graph.input] == ["image"]
    assert [node.name for node in model.graph.output] == ["probability"]
    assert not [tensor for tensor in model.graph.initializer if tensor.external_data]
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "name": "discs: unet of width 4",
        "classes": "1",
        **{name: str(value) for name, value in thresholds_of(run).entries().items()},
        "temperature": str(run.read_metrics()["published"]["calibration"]["temperature"]),
        "image_size": "32",
        "licence": "apache-2.0",
        "run": "discs-unet-0123456789ab",
        "digest": "0123456789ab",
    }


def thresholds_of(run):
    return load_model(run.published).thresholds


def test_the_published_thresholds_are_those_that_validation_chose(run):
    found = run.read_metrics()["published"]["thresholds"]
    choice = choose_thresholds(load_model(run.published).predict, run.splits.val)
    assert found == json.loads(json.dumps(choice.record()))
    assert choice.thresholds.entries() == thresholds_of(run).entries()
    body = card_of(run.published)[1]
    assert f"from the threshold {choice.chosen.threshold} on" in body
    assert f"{choice.chosen.dice:.4f}, compared with {choice.usual.dice:.4f} at 0.5" in body


def test_a_student_without_validation_images_is_not_calibrated():
    with pytest.raises(ValueError, match="expected validation images to calibrate on, got none"):
        find_temperature(lambda image: image, (), classes=1)


def test_the_onnx_file_gives_the_dice_of_the_evaluation(run):
    segment = open_onnx(run.published / "model.onnx")
    record = json.loads((run.published / "published.json").read_text())["onnx"]
    for name, samples in run.splits.test.items():
        found = np.mean(
            [
                figures.dice
                for figures in score(lambda sample: segment(sample.read_image()[None])[0], samples, shown=False)
            ]
        )
        expected = run.read_metrics()["datasets"][name]["dice"]["mean"]
        assert found == pytest.approx(expected, abs=1e-3)
        assert record["dice"][name] == {"images": len(samples), "onnx": pytest.approx(found), "torch": expected}
    assert 0 <= record["max_difference"] < 1e-5
    assert record["batches"] > sum(map(len, run.splits.test.values()))


def test_the_published_student_loads_in_one_line_with_the_trained_weights(run):
    trained = load_student(run).state_dict()
    for student in (students.load(run.published), students.resolve("unet").from_pretrained(run.published)):
        found = student.state_dict()
        assert found.keys() == trained.keys()
        assert all(torch.equal(found[name], trained[name]) for name in trained)
        assert not student.training


def test_the_card_s_front_matter_holds_the_measured_figures(run):
    front, _ = card_of(run.published)
    assert front["license"] == "apache-2.0"
    assert "license_name" not in front
    assert front["library_name"] == "bandpass"
    found = {
        (result["dataset"]["name"], metric["type"]): metric["value"]
        for result in front["model-index"][0]["results"]
        for metric in result["metrics"]
    }
    for name, figures in run.read_metrics()["datasets"].items():
        assert found[name, "dice"] == pytest.approx(figures["dice"]["mean"], abs=1e-6)
        assert found[name, "mean_iou"] == pytest.approx(figures["iou"]["mean"], abs=1e-6)


def test_the_card_shows_every_picture_and_every_picture_is_there(run):
    _, body = card_of(run.published)
    pictures = sorted(path.relative_to(run.published).as_posix() for path in run.published.glob("examples/*"))
    assert pictures == ["examples/1.png", "examples/2.png", "examples/3.png"]
    assert all(f"]({picture})" in body for picture in pictures)
    for picture in pictures:
        with Image.open(run.published / picture) as opened:
            assert opened.width > opened.height > 200


def test_the_lines_that_the_card_gives_for_serving_run(run, tmp_path, monkeypatch):
    _, body = card_of(run.published)
    (lines,) = (block.split("```")[0] for block in body.split("```python\n") if "onnxruntime" in block.split("```")[0])
    assert "torch" not in lines
    assert len([line for line in lines.splitlines() if line]) <= 12
    image = run.splits.test["right"][0].read_image()
    Image.fromarray(image).save(tmp_path / "image.png")
    (tmp_path / "model.onnx").symlink_to(run.published / "model.onnx")
    monkeypatch.chdir(tmp_path)
    exec(lines, {})
    mask = np.asarray(Image.open(tmp_path / "mask.png"))
    model = load_model(run.published)
    np.testing.assert_array_equal(mask > 0, model.thresholds.mask(model.predict(image)))


def test_the_lines_that_the_card_gives_for_bandpass_run(run):
    _, body = card_of(run.published)
    (lines,) = (block.split("```")[0] for block in body.split("```python\n") if "import students" in block)
    names: dict = {}
    exec(lines.replace("path/to/this/folder", str(run.published)), names)
    image = run.splits.test["right"][0].read_image()
    assert names["model"].predict(image).shape == (1, *image.shape[:2])


def test_the_card_says_what_it_must(run):
    _, body = card_of(run.published)
    for words in (
        "Not a medical device",
        "generated images",
        "A frame of 56 x 40 pixels took",
        "measured when this was published",
        "two discs of left were drawn by the same hand",
        "per image at threshold 0.5, at the mask's own size",
        "accelerate launch distill/run.py recipe=recipe.yaml",
        "None: trained on masks alone",
    ):
        assert words in body
    found = build_recipe(yaml.safe_load((run.published / "recipe.yaml").read_text()))
    assert found == public_recipe(run.recipe)


def test_the_exporter_s_noise_does_not_reach_the_user(published):
    assert published[1] == ""


def test_publishing_again_returns_at_once(run, monkeypatch):
    monkeypatch.setattr(publishing, "write_student", None)
    assert publish(run) == run.published


def test_a_folder_that_lacks_a_file_is_published_again(fresh_job):
    folder = publish(fresh_job)
    record = json.loads((folder / "published.json").read_text())
    assert {"README.md", "model.onnx", "model.safetensors", "examples/1.png"} <= set(record["files"])
    (folder / "model.onnx").unlink()
    assert (publish(fresh_job) / "model.onnx").is_file()
    record.pop("files"), record.pop("content_sha256")  # as one of before was published
    (folder / "published.json").write_text(json.dumps(record))
    (folder / "left-over.txt").write_text("old")
    assert (publish(fresh_job) / "left-over.txt").is_file()


def test_an_edited_template_gives_a_new_card_but_for_one_that_its_owner_has_changed(fresh_job, tmp_path, monkeypatch):
    card = publish(fresh_job) / "README.md"
    template = tmp_path / "card.md.jinja"
    for module in (planning, rendering):
        monkeypatch.setattr(module, "template_of", lambda run: template)
    template.write_text("---\n{{ front_matter }}\n---\nanother card")
    assert (publish(fresh_job) / "README.md").read_text().endswith("another card")
    card.write_text("the owner's words")
    template.write_text("---\n{{ front_matter }}\n---\na third card")
    assert (publish(fresh_job) / "README.md").read_text() == "the owner's words"


def test_other_wishes_replace_the_folder_as_a_whole(fresh_job):
    publish(fresh_job)
    (fresh_job.published / "left-over.txt").write_text("old")
    other = replace(fresh_job, recipe=replace(fresh_job.recipe, publish=replace(fresh_job.recipe.publish, examples=0)))
    publish(other)
    assert not (other.published / "left-over.txt").exists()
    assert not list(other.published.glob("examples/*"))
    assert "## Examples" not in card_of(other.published)[1]
    assert not list(other.folder.glob(".student*"))


def test_an_onnx_file_that_disagrees_is_not_published(fresh_job, monkeypatch):
    by_torch = contents.open_onnx(None)
    monkeypatch.setattr(contents, "open_onnx", lambda path, **threads: lambda images: by_torch(images) + 2e-3)
    with pytest.raises(ValueError, match=r"model.onnx differs from torch by 2.0e-03 on left/.*nothing was published"):
        publish(fresh_job)
    assert not fresh_job.published.exists()
    assert not list(fresh_job.folder.glob(".student*"))


def test_an_onnx_file_that_fails_only_on_batches_is_not_published(fresh_job, monkeypatch):
    by_torch = contents.open_onnx(None)
    monkeypatch.setattr(
        contents, "open_onnx", lambda path, **threads: lambda images: by_torch(images)[[0] * len(images)]
    )
    with pytest.raises(ValueError, match=r"differs from torch by .* on two images of 40 x 56 pixels from left/"):
        publish(fresh_job)


def test_an_onnx_file_of_another_dice_is_not_published(fresh_job):
    path = fresh_job.folder / "predictions.csv"
    lines = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(set(lines[0])) == len(lines[0]), "no column twice"
    changed = [lines[0], *([*fields[:3], str(float(fields[3]) - 0.01), fields[4]] for fields in lines[1:])]
    path.write_text("\n".join(",".join(fields) for fields in changed) + "\n", encoding="utf-8")
    fresh_job.update_metrics(predictions_sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(ValueError, match=r"scores Dice 0\.\d+ on 3 images of left, but the evaluation says 0\.\d+"):
        publish(fresh_job)
    assert not fresh_job.published.exists()


def test_publishing_before_training_or_evaluation_says_what_to_run(tmp_path):
    run = small_run(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"type distill evaluate recipe=.* first"):
        publish(run)
    evaluate(run)
    run.weights.write_bytes(b"other")
    with pytest.raises(ValueError, match="for other weights"):
        publish(run)
    run.weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"best\.safetensors has been removed since; put it back"):
        publish(run)
    run.trained.unlink()
    with pytest.raises(FileNotFoundError, match=r"type distill train recipe=.* first"):
        publish(run)


def research_job(folder, **wishes):
    """A run on data sets that may not be used for everything."""
    run = small_run(folder, data="folder", **wishes)
    names = {"left": "kvasir-seg", "right": "CVC-ClinicDB"}
    test = {names[n]: tuple(replace(s, dataset=names[n]) for s in part) for n, part in run.splits.test.items()}
    train = tuple(replace(sample, dataset="our-own") for sample in run.splits.train)
    return replace(run, splits=replace(run.splits, train=train, test=test))


def render(run) -> tuple[dict, str]:
    text = render_card(run, evaluate(run), origin=provenance_of(run), check=CHECK, pictures=[])
    front, body = text.removeprefix("---\n").split("\n---\n", 1)
    return yaml.safe_load(front), body


def test_research_data_forbids_an_open_licence(tmp_path):
    front, body = render(research_job(tmp_path))
    assert front["license"] == "other"
    assert front["license_name"] == "terms-of-our-own-left-cvc-clinicdb-kvasir-seg"
    assert "Apache" not in body
    assert "| Kvasir-SEG | research and education |" in body
    assert "| our-own | not known to Bandpass; ask its owner |" in body
    assert "Jha, D." in body
    assert "Bernal, J." in body
    assert "generated" not in body


def test_a_fit_that_ended_at_a_bound_is_no_calibration_on_the_card(tmp_path):
    run = small_run(tmp_path)
    figures = {"nll": 0.3, "nll_before": 0.5, "error": 0.25, "error_before": 0.3, "images": len(run.splits.val) + 2}
    usual, chosen = Point(0.5, 0.0, 0.8, 2, 1), Point(0.4, 0.9, 0.9, 2, 0)
    choice = Choice(figures["images"], figures["images"] - 2, chosen, usual, (chosen,)).record()
    whole = f"{len(run.splits.val)} validation image{'s' * (len(run.splits.val) > 1)}"
    cards = {
        temperature: render_card(
            run, evaluate(run), origin=provenance_of(run), check=CHECK, pictures=[],
            found={"thresholds": choice, "calibration": {"temperature": temperature, **figures}},
        )
        for temperature in (0.1, 9.9999, 0.8)
    }  # fmt: skip
    for temperature, card in cards.items():
        assert card.count(f"on the {whole} and 2 without an object made from them") == 2
        assert "| 0.9 (chosen) | 2 of 2 | 0 of 2 | 0.9000 |" in card
        assert ("The probability is calibrated:" in card) == (temperature == 0.8)
        assert card.count("The probability is not calibrated") == (0 if temperature == 0.8 else 2)
    assert "ended at 0.1, at a bound of the search (0.1 to 10)." in cards[0.1]


def test_the_terms_of_a_published_student_are_carried_in_words(tmp_path):
    job = research_job(tmp_path)
    text = render_card(job, evaluate(job), origin=provenance_of(job), check=CHECK, pictures=[])
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "README.md").write_text(text)
    assert students.licence_of(tmp_path / "student") == (
        "our-own (not known to Bandpass; ask its owner); left (not known to Bandpass; ask its owner); CVC-ClinicDB "
        "(research and education, not for commercial purposes); Kvasir-SEG (research and education)"
    )
    said = students.licence_of(catalogue.FOLDER / "polyp-expert-2")
    assert "CVC-ClinicDB (research and education, not for commercial purposes); Kvasir-SEG (" in said
    assert "terms-of" not in said


def test_a_student_that_it_began_as_is_named_on_the_card(tmp_path):
    run = small_run(tmp_path)
    metrics = evaluate(run)
    run = replace(run, recipe=replace(run.recipe, student=replace(run.recipe.student, init="someone/discs")))
    card = render_card(run, metrics, origin=provenance_of(run), check=CHECK, pictures=[])
    assert "The network was initialised from the student someone/discs, whose terms apply to this one as well." in card


def test_a_licence_that_was_asked_for_is_the_one_on_the_card(tmp_path):
    front, body = render(research_job(tmp_path, licence="CC-BY-NC-4.0"))
    assert front["license"] == "cc-by-nc-4.0"
    assert "license_name" not in front
    assert "CC-BY-NC-4.0, as chosen by whoever published" in body
    assert "No licence is granted" not in body


def test_a_licence_that_contradicts_what_the_student_was_made_from_is_granted_with_a_warning(tmp_path):
    run = research_job(tmp_path, licence="apache-2.0")
    sentence = (
        "publish.licence=apache-2.0 was asked for, but our-own, from which this student was made, is under: not known"
    )
    front, body = render(run)
    assert front["license"] == "apache-2.0"
    assert f"**{sentence}" in body
    assert "Kvasir-SEG, which" not in body, "it was only tested on"
    terms = [
        LicensedSource("a teacher", "CC-BY-NC-4.0"),
        LicensedSource("another", "MIT"),
        LicensedSource("ours", "Apache-2.0"),
    ]
    assert [s.split(", ")[1] for s in contradictions(terms, asked="apache-2.0")] == ["but a teacher"]
    assert contradictions(terms, asked="cc-by-nc-4.0") == contradictions(terms, asked=None) == []


def test_a_teacher_is_named_with_its_weights_and_its_licence_binds_the_student(tmp_path, monkeypatch):
    identity = {"teacher": "timm", "model": "vit_small", "weights": "ab" * 32}
    opened = SimpleNamespace(identity=identity, licence="dinov3-license")
    monkeypatch.setattr("cache.open", lambda path: opened, raising=False)
    run = small_run(tmp_path)
    recipe = replace(
        run.recipe,
        stages={"semantic": StageRecipe(losses={"segment": 1.0, "imitate_low": 1.0})},
        teachers={"timm": TeacherRecipe(adapter="timm", weights="timm/vit_small")},
    )
    run = replace(run, recipe=recipe, caches={"timm": tmp_path, "gone": tmp_path / "gone"})
    (tmp_path / "manifest.json").write_text("{}")
    front, body = render(run)
    assert front["license"] == "other"
    assert "| timm vit_small | timm/vit_small (sha256 abababababab) | dinov3-license |" in body
    assert "| gone | not recorded: gone is not there any more |" in body
    opened.licence = "apache-2.0"
    assert render(replace(run, caches={"timm": tmp_path}))[0]["license"] == "apache-2.0"
    opened.licence = known.UNKNOWN_LICENCE  # as caches say that were made before their weights were known
    monkeypatch.setattr(known, "PUBLISHED", (replace(known.PUBLISHED[0], sha256="ab" * 32, licence="Apache-2.0"),))
    assert render(replace(run, caches={"timm": tmp_path}))[0]["license"] == "apache-2.0"
    given = replace(recipe, teachers={"timm": replace(recipe.teachers["timm"], licence="our-own")})
    assert "| our-own |" in render(replace(run, recipe=given, caches={"timm": tmp_path}))[1]


def test_places_of_this_machine_are_not_published(tmp_path):
    weights = tmp_path / "teacher.safetensors"
    weights.write_bytes(b"")
    recipe = small_run(tmp_path, data="folder").recipe
    recipe = replace(recipe, home=str(tmp_path), teachers={"timm": TeacherRecipe(adapter="timm", weights=str(weights))})
    assert str(tmp_path) not in dump_recipe(public_recipe(recipe))
    assert command(recipe).endswith("recipe=recipe.yaml data.root=DIR teachers.timm.weights=FILE")


def test_places_of_an_ensemble_and_in_the_home_folder_are_not_published_either(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in ("a/student", "b/student", "polyps"):
        (tmp_path / folder).mkdir(parents=True)
    stages = {"semantic": {"epochs": 1, "losses": {"segment": 1.0, "imitate_mask": 1.0}}}
    weights = f"{tmp_path}/a/student,~/b/student,zoo:polyp-small"
    recipe = build_recipe(
        {
            "data": {"name": "folder", "root": "~/polyps"},
            "stages": stages,
            "teachers": {"all": {"adapter": "ensemble", "weights": weights}},
        }
    )
    assert isinstance(recipe, Recipe)
    public = public_recipe(recipe)
    assert (public.data.root, public.teachers["all"].weights) == ("polyps", "student,student,zoo:polyp-small")
    assert command(recipe).endswith("recipe=recipe.yaml data.root=DIR teachers.all.weights=DIR")


def test_a_word_in_a_teacher_s_overrides_is_no_place_where_a_folder_has_its_name(tmp_path, monkeypatch):
    (tmp_path / "unet").mkdir()
    (tmp_path / "expert").mkdir()
    (tmp_path / "weights").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    overrides = {"student": {"name": "unet", "encoder": str(tmp_path / "weights")}}
    teacher = TeacherRecipe(adapter="student", recipe="expert", overrides=overrides)
    recipe = replace(small_run(tmp_path, data="folder").recipe, teachers={"expert": teacher})
    assert command(recipe).endswith("data.root=DIR teachers.expert.overrides.student.encoder=FILE")


def test_a_hub_id_is_public():
    stages = {"semantic": {"epochs": 1, "losses": {"segment": 1.0}}}
    recipe = build_recipe({"stages": stages, "teachers": {"sam": {"weights": "facebook/sam-vit-base"}}})
    assert isinstance(recipe, Recipe)
    assert public_recipe(recipe).teachers["sam"].weights == "facebook/sam-vit-base"
    assert command(recipe) == "accelerate launch distill/run.py recipe=recipe.yaml"


class Hub:
    """Stands for `huggingface_hub.HfApi`."""

    uploads: list = []  # noqa: RUF012
    refuses = False

    def create_repo(self, repository, *, exist_ok):
        if Hub.refuses:
            raise OSError("401 Client Error: Unauthorized\nRequest ID")

    def upload_folder(self, *, folder_path, repo_id, commit_message, delete_patterns):
        assert {"*.onnx", "*.safetensors"} <= set(delete_patterns), "files of an earlier student would stay"
        Hub.uploads.append((folder_path, repo_id))


def test_the_hub_gets_a_folder_once_and_a_refusal_is_a_sentence(fresh_job, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    asked = replace(fresh_job.recipe.publish, hub="someone/discs")
    run = replace(fresh_job, recipe=replace(fresh_job.recipe, publish=asked))
    Hub.refuses = True
    with pytest.raises(ValueError, match=r"did not take .* as 'someone/discs': 401 Client Error.*`hf auth login`"):
        publish(run)
    Hub.refuses = False
    publish(run)
    publish(run)
    push(run.published, "someone/discs")
    assert Hub.uploads == [(run.published, "someone/discs")]
    card = run.published / "README.md"
    assert 'students.load("someone/discs")' in card.read_text()
    card.write_text(card.read_text() + "A word of its owner's.\n")
    push(run.published, "someone/discs")
    push(run.published, "someone/discs")
    assert len(Hub.uploads) == 2, "a card that was edited is pushed, and once"


def test_the_encoder_alone_is_published_and_another_student_starts_from_it(fresh_job):
    wishes = replace(fresh_job.recipe.publish, encoder=True)
    folder = publish(replace(fresh_job, recipe=replace(fresh_job.recipe, publish=wishes)))
    assert "student.encoder=FILE" in (folder / "README.md").read_text(encoding="utf-8")
    trained, fresh = load_student(fresh_job), students.create("unet", width=4)
    fresh.load_encoder(folder / "encoder" / "encoder.safetensors")
    expected, found = trained.encoder.state_dict(), fresh.encoder.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    with pytest.raises(ValueError, match=r"is not an encoder of student UNet at this width: \d+ of \d+ tensors"):
        students.create("unet", width=8).load_encoder(folder / "encoder" / "encoder.safetensors")
