"""Several published students as one teacher."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from small_teachers import noise, save_student, write_network

import students
import teachers
from cache.spec import LOGIT_CLIP, MASK


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of three students."""
    path = tmp_path_factory.mktemp("runs") / "ensemble"
    for seed in range(3):
        write_network(path / f"seed{seed}", seed=seed)
    return path


def test_the_mask_is_the_mean_probability_and_features_are_the_first_s(folder):
    places = [folder / f"seed{seed}" for seed in range(3)]
    alone = [teachers.load("student", weights=place, strides=(8,)) for place in places]
    image = noise(70, 90)
    together = teachers.load("ensemble", weights=folder, strides=(8,))
    maps, each = together([image]), [teacher([image]) for teacher in alone]
    mean = torch.stack([one[MASK].sigmoid() for one in each]).mean(0)
    assert (each[0][MASK] - each[1][MASK]).abs().max() > 0.1
    torch.testing.assert_close(maps[MASK], mean.logit().clamp(-LOGIT_CLIP, LOGIT_CLIP), atol=1e-4, rtol=1e-4)
    assert torch.equal(maps["stride8"], each[0]["stride8"])
    assert together.spec == alone[0].spec
    by_name = teachers.load("ensemble", weights=",".join(map(str, places)), strides=(8,))
    assert by_name.identity == together.identity
    assert together.identity["weights"] == ",".join(teacher.identity["weights"] for teacher in alone)


def test_a_folder_of_runs_is_one_of_their_students(folder, tmp_path):
    for place in sorted(folder.iterdir()):
        run = tmp_path / "runs" / place.name
        shutil.copytree(place, run / "student")
        (run / "recipe.yaml").write_text("name: own\n")
    (tmp_path / "runs" / "notes.txt").write_text("no run")
    runs = teachers.load("ensemble", weights=tmp_path / "runs", strides=(8,))
    assert runs.identity == teachers.load("ensemble", weights=folder, strides=(8,)).identity


def test_it_has_learned_from_all_that_its_students_learned_from(folder, tmp_path, monkeypatch):
    keys = {"seed0": ["b", "a"], "seed1": ["c"], "seed2": ["a"]}
    monkeypatch.setattr(students, "learned_keys", lambda place: keys[place.name])
    assert teachers.load("ensemble", weights=folder).identity["labelled"] == ["a", "b", "c"]
    monkeypatch.setattr(students, "learned_keys", lambda place: None if place.name == "seed1" else keys[place.name])
    assert "labelled" not in teachers.load("ensemble", weights=folder).identity


def test_students_that_do_not_fit_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"averages several students, got one, .*; give A,B,\.\.\. or adapter=student"):
        teachers.load("ensemble", weights=folder / "seed0")
    save_student(tmp_path / "classes", students.create("unet", width=4, classes=3), classes=3)
    with pytest.raises(ValueError, match=r"averages the masks of one class, but a student of .* has several"):
        teachers.load("ensemble", weights=f"{folder / 'seed0'},{tmp_path / 'classes'}")
    write_network(tmp_path / "other")
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    (tmp_path / "other" / "config.json").write_text(json.dumps({**config, "image_size": 128}))
    weights = f"{folder / 'seed0'},{tmp_path / 'other'}"
    with pytest.raises(
        ValueError, match=r"must see the same pixels, but one of .* expects stretch 1: to 128 x 128 .* 96"
    ):
        teachers.load("ensemble", weights=weights)
    image = np.zeros((20, 30, 3), np.uint8)
    assert teachers.load("ensemble", weights=weights, image_size=96)([image])[MASK].shape == (1, 1, 24, 24)


def test_its_cache_is_named_by_the_content_of_all_students(folder, tmp_path):
    from distill.runs.fingerprint import digest_weights

    first, second = (str(write_network(tmp_path / name, seed=seed)["weights"]) for seed, name in enumerate("ab"))
    assert digest_weights(f"{first},{second}") != digest_weights(f"{second},{first}")
    before = digest_weights(str(tmp_path)), digest_weights(f"{first},{second}")
    write_network(tmp_path / "b", seed=5)
    assert before[0] != digest_weights(str(tmp_path))
    assert before[1] != digest_weights(f"{first},{second}")
