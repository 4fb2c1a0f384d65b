"""Students of the zoo: found by `zoo:NAME` wherever a published student's folder is taken."""

from __future__ import annotations

import json

import pytest
import torch
from published import write_disc, write_student
from safetensors.torch import load_file, save_file

import distill
import students
import teachers
from distill.cli.demo import COMMAND, open_server
from distill.inference import load_model
from distill.run import main
from distill.runs.build import create_student
from distill.runs.fingerprint import digest_weights
from distill.runs.leakage import training_keys_of_start
from distill.runs.licences import licences_of_start
from distill.runs.reproduce import command, public_recipe
from students import catalogue

RESULTS = {
    "student": {"parameters": 122_469, "macs": 1},
    "training": {"discs": 8, "others": 3},
    "datasets": {"left": {"dice": {"mean": 0.8126}}, "right": {"dice": {"mean": 0.5}}},
}


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """A zoo of two students, the first with all its files."""
    folder = tmp_path / "zoo"
    first = write_student(folder / "discs")
    (first / "results.json").write_text(json.dumps(RESULTS))
    (first / "learned.json").write_text('{"labelled": ["a", "b"]}')
    (first / "README.md").write_text("---\nlicense: other\nlicense_name: terms-of-discs\n---\n# Discs\n")
    write_student(folder / "stripes")
    monkeypatch.setattr(catalogue, "FOLDER", folder)
    return folder


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.setattr("students.catalogue.FOLDER", tmp_path / "none")


def test_a_student_of_the_zoo_is_loaded_by_its_name(zoo):
    expected = students.load(zoo / "discs").state_dict()
    found = students.load("zoo:discs").state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert load_model("zoo:discs").image_size == load_model(zoo / "discs").image_size
    assert students.read_config("zoo:discs") == students.read_config(zoo / "discs")


def test_weights_in_half_precision_are_loaded_as_float32(zoo):
    file = zoo / "discs" / "model.safetensors"
    tensors = {name: value.half() if value.ndim > 1 else value for name, value in load_file(file).items()}
    save_file(tensors, file)
    for network in (students.load("zoo:discs"), teachers.load("student", weights="zoo:discs").network.student):
        found = network.state_dict()
        assert all(value.dtype in (torch.float32, torch.int64) for value in found.values())
        assert all(torch.equal(found[name], value.to(found[name].dtype)) for name, value in tensors.items())


@pytest.mark.parametrize("name", ["zoo:disc", "zoo:", "zoo:discs/..", "zoo:../zoo/discs"])
def test_a_name_that_there_is_not_is_refused_with_those_that_there_are(zoo, name, tmp_path, capfd):
    message = rf"no student '{name}'; choose from zoo:discs, zoo:stripes"
    calls = (students.load, load_model, digest_weights, lambda name: teachers.load("student", weights=name))
    for call in calls:
        with pytest.raises(FileNotFoundError, match=message):
            call(name)
    write_disc(tmp_path / "disc.png", 0)
    for words in (["predict", f"images={tmp_path / 'disc.png'}", f"out={tmp_path / 'out'}"], ["demo", "port=0"]):
        assert main([*words, f"student={name}"]) == 1
        assert f"no student '{name}'; choose from zoo:discs, zoo:stripes" in capfd.readouterr().err


def test_the_list_leaves_out_a_figure_that_results_do_not_hold(zoo, capsys):
    results = {"student": {"parameters": 5}, "datasets": {"a": {"dice": {"mean": 0.5}}, "b": {"dice": {}}, "c": {}}}
    (zoo / "discs" / "results.json").write_text(json.dumps(results))
    assert main(["zoo"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("zoo:discs"))
    assert line.endswith("a 0.500")


def test_the_nearest_name_is_offered_and_an_empty_zoo_says_so(zoo, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"zoo:stripes; did you mean 'zoo:discs'\?$"):
        students.load("zoo:disc")
    monkeypatch.setattr(catalogue, "FOLDER", zoo / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no student 'zoo:discs': none comes with this copy of Bandpass"):
        students.load("zoo:discs")


def test_predict_takes_the_name(zoo, tmp_path, capfd):
    write_disc(tmp_path / "disc.png", 0)
    words = ["predict", f"images={tmp_path / 'disc.png'}", f"out={tmp_path / 'out'}", f"home={tmp_path}"]
    assert main([*words, "student=zoo:discs"]) == 0
    assert "1 image: 1 with a finding" in capfd.readouterr().out
    record = json.loads((tmp_path / "out" / "predict.json").read_text())
    assert record["name"] == "zoo:discs"
    served = [digest_weights(place, served=True) for place in ("zoo:discs", str(zoo / "discs"))]
    assert [record["student"]] * 2 == served


def test_what_only_serving_depends_on_leaves_the_names_of_what_was_made_from_a_student(zoo):
    file = zoo / "discs" / "config.json"
    config = json.loads(file.read_text())
    before = digest_weights("zoo:discs"), digest_weights("zoo:discs", served=True)
    file.write_text(json.dumps({**config, "temperature": 1.5}))
    named, served = digest_weights("zoo:discs"), digest_weights("zoo:discs", served=True)
    file.write_text(json.dumps({**config, "temperature": 2.0, "threshold": 0.25, "run": "another"}))
    assert digest_weights("zoo:discs") == named
    assert digest_weights("zoo:discs", served=True) not in (served, before[1])
    file.write_text(json.dumps({**config, "temperature": 2.0, "image_size": 40}))
    assert digest_weights("zoo:discs") != named


def test_a_recipe_starts_from_it_and_knows_what_it_learned_from_and_its_terms(zoo):
    recipe = distill.read_recipe(
        ["recipe=sam_to_unet", "student.name=unet", "student.width=4", "student.init=zoo:discs"]
    )
    found, expected = create_student(recipe).state_dict(), students.load("zoo:discs").state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert training_keys_of_start(recipe) == {"student.init=zoo:discs": {"a", "b"}}
    (source,) = licences_of_start(recipe)
    assert (source.title, source.licence) == ("the student that it began with, zoo:discs", "terms-of-discs")
    assert public_recipe(recipe).student.init == "zoo:discs"
    assert "student.init" not in command(recipe)


def test_a_teacher_is_loaded_by_its_name(zoo):
    teacher = teachers.load("student", weights="zoo:discs")
    assert teacher.spec.names == ("stride16", "stride8", "mask")
    assert teacher.identity["labelled"] == ["a", "b"]
    assert teacher.licence == "terms-of-discs"


def test_a_run_stands_for_the_student_that_it_published(zoo):
    run = zoo.parent / "run"
    assert students.place_of(run) == run
    run.mkdir()
    (zoo / "discs").rename(run / "student")
    (run / "recipe.yaml").write_text("name: discs\n")
    assert teachers.load("student", weights=str(run)).identity["labelled"] == ["a", "b"]
    assert digest_weights(str(run)) == digest_weights(str(run / "student"))
    recipe = distill.read_recipe(["recipe=sam_to_unet", "student.name=unet", "student.width=4", f"student.init={run}"])
    assert create_student(recipe).state_dict().keys() == students.load(run / "student").state_dict().keys()
    assert training_keys_of_start(recipe) == {f"student.init={run}": {"a", "b"}}
    assert students.place_of(run / "student") == run / "student"
    assert students.place_of("") == ""


def test_distill_zoo_lists_the_students_a_line_each(zoo, capsys):
    assert main(["zoo"]) == 0
    header, discs, stripes = capsys.readouterr().out.splitlines()
    assert header.split("  ")[0] == "name"
    assert " ".join(discs.split()) == "zoo:discs 122,469 8 of discs, 3 of others left 0.813, right 0.500"
    assert stripes.split() == ["zoo:stripes"]


def test_an_empty_zoo_is_told(empty, capsys):
    assert main(["zoo"]) == 0
    assert capsys.readouterr().out == "no published student comes with this copy of Bandpass\n"


def test_the_demo_opens_with_the_first_student_of_the_zoo(zoo, empty, monkeypatch):
    with pytest.raises(ValueError, match=r"distill demo needs student=, as in distill demo student=DIR"):
        open_server(COMMAND.read(["port=0"]))
    monkeypatch.setattr(catalogue, "FOLDER", zoo)
    write_disc(zoo / "discs" / "examples" / "1.png", 3)
    with open_server(COMMAND.read(["port=0"])) as server:
        assert server.session.segmenter.name == "zoo:discs"
        assert len(server.session.examples) == 1


def test_every_student_that_is_shipped_is_whole():
    for name in catalogue.names():
        folder = catalogue.FOLDER / name
        files = {path.name for path in folder.iterdir()}
        assert {"model.safetensors", "config.json", "README.md", "results.json", "learned.json"} <= files
        assert (folder / "model.safetensors").stat().st_size <= 10_000_000
        assert students.licence_of(folder)
        model = load_model(f"{catalogue.PREFIX}{name}")
        assert not model.student.training


def test_a_folder_that_is_being_written_is_no_student_of_the_zoo(zoo):
    before = students.catalogue.names()
    (zoo / ".discs.new").mkdir()
    (zoo / ".discs.new" / "config.json").write_text("{}")
    assert students.catalogue.names() == before


def test_the_digest_of_weights_counts_what_is_read_beside_them(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"weights")
    for place in map(str, (tmp_path, weights)):
        alone = digest_weights(place)
        for name in ("config.json", "preprocessor_config.json"):
            (tmp_path / name).write_text("{}")
            beside = digest_weights(place)
            (tmp_path / name).write_text('{"image_mean": [0.5]}')
            assert len({alone, beside, digest_weights(place)}) == 3
            (tmp_path / name).unlink()
        assert digest_weights(place) == alone


def test_a_student_served_with_another_threshold_names_no_other_weights_by_its_file_either(zoo):
    weights, config = str(zoo / "discs" / "model.safetensors"), zoo / "discs" / "config.json"
    named = []
    for threshold in (0.3, 0.4):
        config.write_text(json.dumps({**json.loads(config.read_text()), "temperature": 2.0, "threshold": threshold}))
        named.append((digest_weights(weights), digest_weights(weights, served=True)))
    assert named[0][0] == named[1][0] and named[0][1] != named[1][1]


def test_the_licence_of_a_student_on_the_hub_is_on_its_card(zoo, tmp_path, monkeypatch):
    asked = []

    def fetch(source, name):
        asked.append(name)
        if not (zoo / "discs" / name).is_file():
            raise OSError("no such file")
        return str(zoo / "discs" / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    monkeypatch.chdir(tmp_path)
    (zoo / "discs" / "README.md").write_text("---\nlicense: cc0-1.0\n---\n")
    assert students.licence_of("someone/discs") == "cc0-1.0" and asked == ["README.md"]
    (zoo / "discs" / "README.md").unlink()
    assert students.licence_of("someone/discs") is None
