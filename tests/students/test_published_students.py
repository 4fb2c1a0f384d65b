"""Published students: what loading refuses, whose code it runs, and which values config.json may hold."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import random
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from published import write_disc
from safetensors.torch import load_file, save_file
from small_run import recipe_of, run_of

import distill
import students
import teachers
from distill.config.schema import StudentRecipe
from distill.inference.model import InferenceModel
from distill.publishing.student import save_student
from distill.run import main
from students import MEAN, STD, create
from students.config import FIELDS


def test_a_folder_without_a_student_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a published student with config\.json"):
        students.load(tmp_path)


def published(folder, **config):
    """A small U-Net in a folder, as `distill publish` leaves it, but for what `config` changes."""
    config = {"student": "unet", "width": 2, "classes": 1, **config}
    create("unet", width=2).save_pretrained(folder, config=config)
    return folder


@pytest.mark.parametrize(
    "change", [lambda tensors: tensors.popitem(), lambda tensors: tensors.update(foreign=torch.ones(1))]
)
def test_a_student_whose_tensors_are_not_all_its_own_is_refused(tmp_path, change):
    file = published(tmp_path) / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    with pytest.raises(
        ValueError, match=r"are not those of student 'unet' as this version .*: .*(Missing|Unexpected) key"
    ):
        students.load(tmp_path)


def test_a_student_of_another_width_is_refused_in_one_short_line(tmp_path):
    published(tmp_path, width=4)
    with pytest.raises(ValueError, match=r"are not those of student 'unet' .*size mismatch") as refusal:
        students.load(tmp_path)
    assert len(str(refusal.value)) < 700 and "\n" not in str(refusal.value)


def test_a_student_that_is_not_there_is_refused(tmp_path, monkeypatch):
    with pytest.raises(
        FileNotFoundError, match=r"no published student at .*: no such folder, and neither zoo:NAME nor"
    ):
        students.load(tmp_path / "mistyped")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_: (_ for _ in ()).throw(RuntimeError("404\nlong")))
    with pytest.raises(FileNotFoundError, match=r"at runs/mistyped: no such folder, and as a hub id .* fetched: 404$"):
        students.load("runs/mistyped")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def test_a_pointer_or_half_a_file_of_weights_is_refused(tmp_path):
    file = published(tmp_path) / "model.safetensors"
    for data in (POINTER, file.read_bytes()[:-100]):
        file.write_bytes(data)
        with pytest.raises(
            ValueError, match=r"model\.safetensors is not a whole safetensors file \(a git-LFS pointer, or"
        ):
            students.load(tmp_path)
        with pytest.raises(ValueError, match=r"is not a whole safetensors file .*; download it again"):
            create("unet", width=2).load_encoder(file)


def test_a_config_that_is_no_json_or_names_no_student_is_refused(tmp_path):
    published(tmp_path)
    for text, message in (
        (POINTER.decode(), r"config\.json is not JSON"),
        ("[1]", "names no student"),
        ("{}", "no student"),
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            students.load(tmp_path)


SHOWN = {"image_size": 32, "mean": MEAN, "std": STD, "threshold": 0.4}
PAYLOAD = "from students.unet import UNet as Net\n(__import__('pathlib').Path(__file__).parent / 'ran').touch()\n"


@pytest.mark.parametrize("module", ["payload", "theirs.payload", "theirs.inner.payload"])
def test_code_that_comes_with_a_student_is_not_run(tmp_path, monkeypatch, module):
    folder = tmp_path / "theirs"
    published(folder, student=f"{module}:Net")
    (folder / "inner").mkdir()
    for place in (folder, folder / "inner"):
        (place / "payload.py").write_text(PAYLOAD)
    (folder / "inner" / "__init__.py").write_text(PAYLOAD)
    monkeypatch.syspath_prepend(tmp_path if "." in module else folder)
    with pytest.raises(ValueError, match=r"whose code came with it and is not run: .*theirs"):
        students.load(folder)
    assert not list(tmp_path.rglob("ran"))


def test_a_student_from_the_hub_runs_no_code_but_that_of_the_registry(tmp_path, monkeypatch):
    published(tmp_path / "snapshot", student="my_nets:Net")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda _, name: str(tmp_path / "snapshot" / name))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(ValueError, match=r"for a student from the hub only classes of the registry are run \(unet, "):
        students.load("someone/student")
    shutil.move(tmp_path / "snapshot", tmp_path / "hub")
    with pytest.raises(ValueError, match="for a student from the hub only classes of the registry are run"):
        students.load(tmp_path / "hub")


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """A student of class my_nets:Net in a folder, and beside it, importable, the module that it names."""
    (tmp_path / "my_nets.py").write_text(PAYLOAD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_nets", raising=False)
    return published(tmp_path / "student", student="my_nets:Net", **SHOWN)


def test_a_published_student_of_the_user_s_own_class_runs_it_and_logs_so(beside, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("bandpass"), "propagate", True)
    caplog.set_level(logging.INFO, "bandpass")
    assert type(students.load(beside, trust="my_nets:Net")) is sys.modules["my_nets"].Net
    assert f"runs code of my_nets:Net: {beside.parent / 'my_nets.py'}" in caplog.text


def test_a_class_that_was_edited_since_its_student_was_published_is_told_of(tmp_path, monkeypatch, caplog):
    code = tmp_path / "my_nets.py"
    code.write_text(PAYLOAD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_nets", raising=False)
    monkeypatch.setattr(logging.getLogger("bandpass"), "propagate", True)
    recorded = hashlib.sha256(code.read_bytes()).hexdigest()
    folder = published(tmp_path / "student", student="my_nets:Net", code_sha256=recorded, **SHOWN)
    students.load(folder, trust="my_nets:Net")
    assert "has been edited" not in caplog.text
    code.write_text(PAYLOAD + "# otherwise")
    students.load(folder, trust="my_nets:Net")
    assert f"{code} has been edited since {folder} was published" in caplog.text


@pytest.mark.parametrize("trust", [None, "other:Net", "my_nets:net", "my_nets", "unet"])
def test_code_beside_a_student_is_not_run_without_consent(beside, trust):
    got = f"got trust={trust}; " if trust else ""
    with pytest.raises(
        ValueError, match=rf"class 'my_nets:Net', which is not one of .*; {got}if .*, type trust=my_nets:Net"
    ):
        students.load(beside, trust=trust)
    assert not (beside.parent / "ran").exists() and "my_nets" not in sys.modules


@pytest.mark.parametrize("name", ["installed:Net", "installed.part:Net", "installed.inner.part:Net"])
def test_an_installed_module_is_not_run_without_consent(tmp_path, monkeypatch, name):
    package = tmp_path / "site-packages" / "installed"
    (package / "inner").mkdir(parents=True)
    for file in ("__init__.py", "part.py", "inner/__init__.py", "inner/part.py"):
        (package / file).write_text(PAYLOAD)
    monkeypatch.syspath_prepend(package.parent)
    with pytest.raises(ValueError, match=f"if you trust it, type trust={name}"):
        students.load(published(tmp_path / "student", student=name))
    assert not list(tmp_path.rglob("ran"))


@pytest.mark.parametrize("name", ["os:system", "__main__:Net", "no_such_module:Net", "students.unet:UNet"])
def test_any_class_that_is_not_of_the_registry_needs_consent(tmp_path, name):
    with pytest.raises(ValueError, match=f"type trust={name}"):
        students.load(published(tmp_path, student=name))


@pytest.mark.parametrize("through", ["file", "package", "path", "source"])
def test_code_that_comes_with_a_student_is_not_run_with_consent_either_through_links(tmp_path, monkeypatch, through):
    elsewhere, folder = tmp_path / "elsewhere", published(tmp_path / "student", student="linked:Net")
    elsewhere.mkdir()
    place = importable = folder
    if through == "file":  # a link in the folder to code outside of it
        (elsewhere / "code.py").write_text(PAYLOAD)
        (folder / "linked.py").symlink_to(elsewhere / "code.py")
    elif through == "package":
        (elsewhere / "__init__.py").write_text(PAYLOAD)
        (folder / "linked").symlink_to(elsewhere)
    else:  # code in the folder, which is imported, or named, through a link
        (elsewhere / "code.py").write_text(PAYLOAD)
        (folder / "linked.py").symlink_to(elsewhere / "code.py")
        (tmp_path / "door").symlink_to(folder)
        place, importable = (folder, tmp_path / "door") if through == "path" else (tmp_path / "door", folder)
    monkeypatch.syspath_prepend(importable)
    with pytest.raises(ValueError, match=r"whose code came with it and is not run: .*linked"):
        students.load(place, trust="linked:Net")
    assert not list(tmp_path.rglob("ran"))


def test_a_recipe_that_names_the_class_consents_to_start_from_it(beside):
    from distill.runs.checks import create_student

    start = ["recipe=sam_to_unet", "student.width=2", f"student.init={beside}"]
    with pytest.raises(ValueError, match=r"type trust=my_nets:Net \(in a recipe student\.name=my_nets:Net"):
        create_student(distill.read_recipe([*start, "student.name=unet"]))
    assert not (beside.parent / "ran").exists()
    student = create_student(distill.read_recipe([*start, "student.name=my_nets:Net"]))
    saved = load_file(beside / "model.safetensors")
    assert all(torch.equal(value, saved[name]) for name, value in student.state_dict().items())


def test_a_teacher_whose_model_is_named_runs_it(beside):
    for model in (None, "other:Net"):
        with pytest.raises(ValueError, match=r"type trust=my_nets:Net \(.*, or model=my_nets:Net of a teacher\)"):
            teachers.load("student", weights=beside, model=model)
    with pytest.raises(ValueError, match="has no option model: leave out model=unet"):
        teachers.load("student", weights=beside, model="unet")
    assert not (beside.parent / "ran").exists()
    assert teachers.load("student", weights=beside, model="my_nets:Net").spec.names == ("stride16", "stride8", "mask")


def test_predict_and_demo_take_consent_as_a_key(beside, tmp_path, capfd):
    write_disc(tmp_path / "disc.png", 0)
    predict = ["predict", f"student={beside}", f"images={tmp_path / 'disc.png'}", f"out={tmp_path / 'out'}"]
    demo = ["demo", f"student={beside}", "port=0", "--dry-run"]
    for words in (predict, demo):
        assert main(words) == 1
        assert "if you trust it, type trust=my_nets:Net" in capfd.readouterr().err
        assert not (tmp_path / "ran").exists()
    for words in (predict, demo):
        assert main([*words, "trust=my_nets:Net"]) == 0


class OpenNet(students.resolve("unet")):
    """A class that takes further options by name."""

    def __init__(self, *, width: int, classes: int = 1, **options: int) -> None:
        super().__init__(width=width, classes=classes)
        self.options = options


def test_a_class_with_open_options_gets_its_own_and_not_those_of_publishing(tmp_path):
    name = f"{__name__}:OpenNet"
    published(tmp_path, student=name, depth=3, run="unet-1f3a", **SHOWN)
    assert students.load(tmp_path, trust=name).options == {"depth": 3}


NONSENSE = {
    "image_size": [0, 31, 4097, -32, 10**400, 64.0, "64", True, None],
    "classes": [0, -1, 256, 1.5, "2", None, [1]],
    "width": [0, -4, "wide", None],
    "mean": [0.5, [0.5, 0.5], [0.5] * 4, [0.5, 0.5, float("nan")], [0.5, 0.5, "0.5"], [0.5, 0.5, float("inf")], None],
    "std": [0, [0.2, 0.2, 0.0], [0.2, 0.2, -0.2], [0.2, 0.2, float("nan")], [1e-300] * 3, None],
    "threshold": [0, 1, 5, -0.1, float("nan"), float("inf"), "0.5", True, None],
    "region_threshold": [0, 1, 5, -0.1, float("nan"), float("inf"), "0.5", True, None],
    "temperature": [0, -1, 0.001, 1000, float("nan"), float("inf"), "1", True, None],
}


def test_every_field_is_tried_with_nonsense():
    assert set(NONSENSE) == set(FIELDS) - {"student"}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in NONSENSE.items() for value in values])
def test_a_config_that_makes_nonsense_of_a_student_is_refused(tmp_path, field, value):
    published(tmp_path, **{**SHOWN, field: value})
    message = rf"config\.json of .*: expected {field} to be a .*, got {re.escape(json.dumps(value)[:80])}; publish"
    with pytest.raises(ValueError, match=message):
        students.load(tmp_path)
    with pytest.raises(ValueError, match=message):
        teachers.load("student", weights=tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"student": "unetpp", "depth": "deep"},
        {"student": "unetpp", "depth": 9},
        {"student": "unetpp", "depth": None},
        {"student": "timm_unet", "backbone": 5},
        {"student": "timm_unet", "backbone": "hf_hub:someone/network"},
        {"student": "sam2_adapted", "trunk": {"width": "wide", "blocks": 3, "everywhere": []}},
        {"student": "sam2_adapted", "trunk": ["tiny"]},
        {"student": "sam_vit", "width": 32, "patch": 0},
        {"student": "microaunet", "width": 6},
    ],
)
def test_options_that_a_class_does_not_take_are_refused_with_the_file(tmp_path, change):
    published(tmp_path, **change)
    with pytest.raises(
        ValueError, match=rf"config\.json of {tmp_path} does not describe a student '{change['student']}'"
    ):
        students.load(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["encoder.levels.0.0.weight", "encoder.levels.2.1.running_var"])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value, name):
    file = published(tmp_path, **SHOWN) / "model.safetensors"
    tensors = load_file(file)
    tensors[name].view(-1)[-1] = value
    save_file(tensors, file)
    message = (
        rf"model\.safetensors holds weights that are not numbers: 1 of \d+ values of {name} are nan or infinite; pub"
    )
    with pytest.raises(ValueError, match=message):
        students.load(tmp_path)
    with pytest.raises(ValueError, match=message):
        teachers.load("student", weights=tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path):
    (published(tmp_path) / "model.safetensors").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"expected a published student with model\.safetensors in .*, found none"
    ):
        students.load(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"labelled": 3}', '{"labelled": [1]}', "[" * 100_000])
def test_a_damaged_list_of_what_was_learned_is_refused(tmp_path, text):
    (tmp_path / "learned.json").write_text(text)
    with pytest.raises(
        ValueError, match=r"learned\.json has no list of keys under labelled \(.*\); publish the student"
    ):
        students.learned_keys(tmp_path)


@pytest.mark.parametrize("front", ["license: [mit", "- mit", "mit", "license:", "\x00"])
def test_a_card_without_a_licence_to_read_has_none(tmp_path, front):
    (tmp_path / "README.md").write_text(f"---\n{front}\n---\n# Card\n")
    assert students.licence_of(tmp_path) is None


def test_damaged_files_are_refused_or_loaded_and_raise_nothing_else(tmp_path):
    published(tmp_path, **SHOWN)
    drawn = random.Random(0)
    for file, count in ((tmp_path / "config.json", 200), (tmp_path / "model.safetensors", 100)):
        whole = file.read_bytes()
        for _ in range(count):
            damaged = bytearray(whole)
            damaged[drawn.randrange(min(len(whole), 2000))] = drawn.randrange(256)  # the header, of the weights
            file.write_bytes(damaged[: drawn.choice([len(whole), drawn.randrange(len(whole))])])
            with contextlib.suppress(ValueError, FileNotFoundError):
                students.load(tmp_path)
        file.write_bytes(whole)
    students.load(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "learned.json"])
def test_a_file_that_is_not_as_it_was_published_is_refused_until_its_record_is_removed(tmp_path, name):
    folder = published(tmp_path)
    (folder / "learned.json").write_text('{"labelled": ["a"]}')
    record = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    (folder / "published.json").write_text(json.dumps({"sha256": record}))

    def read():
        return students.load(folder), students.learned_keys(folder)

    read()
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if name == "model.safetensors" else data + b"\n")
    with pytest.raises(ValueError, match=rf"{name} is not as it was published \(expected sha256 .* or remove"):
        read()
    (folder / "published.json").unlink()
    read()


def test_what_is_published_of_a_class_of_one_s_own_names_the_file_that_defines_it(tmp_path):

    own = dataclasses.replace(recipe_of(), student=StudentRecipe(name=f"{__name__}:OpenNet", width=2))
    save_student(run_of(own, tmp_path / "run"), InferenceModel(OpenNet(width=2), image_size=32), tmp_path / "own")
    config = json.loads((tmp_path / "own" / "config.json").read_text())
    assert config["code_sha256"] == hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    run = run_of(recipe_of(), tmp_path / "run")
    save_student(run, InferenceModel(create("unet", width=4), image_size=32), tmp_path / "plain")
    assert "code_sha256" not in json.loads((tmp_path / "plain" / "config.json").read_text())


def test_predictions_of_an_edited_class_are_done_again(beside, tmp_path):
    write_disc(tmp_path / "images" / "disc.png", 0)
    words = [f"student={beside}", f"images={tmp_path / 'images'}", f"out={tmp_path / 'out'}", "trust=my_nets:Net"]
    digests = []
    for text in (PAYLOAD, PAYLOAD + "# otherwise"):
        (tmp_path / "my_nets.py").write_text(text)
        assert main(["predict", *words]) == 0
        digests.append(json.loads((tmp_path / "out" / "predict.json").read_text())["student"])
    assert digests[0] != digests[1]
