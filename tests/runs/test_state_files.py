"""State files of a run: their digest, and the run that they are of."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from small_run import recipe_of, run_of


@pytest.fixture
def run(tmp_path):
    return run_of(recipe_of(), tmp_path / "discs-unet-0123456789ab")


def test_a_digit_that_has_changed_is_found(run):
    run.update_metrics(datasets={"left": {"dice": {"mean": 0.731}}})
    path = run.folder / "metrics.json"
    path.write_text(path.read_text().replace("0.731", "0.781"))
    with pytest.raises(ValueError, match=r"metrics\.json is damaged \(expected content of sha256 .*evaluate again"):
        run.read_metrics()


def test_the_file_of_another_run_is_refused_and_that_of_a_folder_with_another_name_is_read(run, tmp_path):
    run.update_metrics(teacher_forwards=3)
    data = (run.folder / "metrics.json").read_bytes()
    for name, refused in (("discs-unet-ba9876543210", True), ("other-unet-0123456789ab", False), ("copy", False)):
        other = run_of(recipe_of(), tmp_path / name)
        other.folder.mkdir()
        (other.folder / "metrics.json").write_bytes(data)
        if refused:
            with pytest.raises(
                ValueError, match=r"is damaged \(it belongs to the run discs-unet-0123456789ab\); delete"
            ):
                other.read_metrics()
        else:
            assert other.read_metrics()["teacher_forwards"] == 3


def test_a_file_without_a_digest_is_believed(run):
    run.folder.mkdir()
    (run.folder / "metrics.json").write_text(json.dumps({"teacher_forwards": 4}))
    assert run.read_metrics() == {"teacher_forwards": 4}


def test_an_extraction_that_a_kill_came_between_counts_what_it_had_to_pass_at_first(run):
    assert run.images_begun("sam", 5) == 5, "outside a step of a run nothing is noted"
    assert not (run.folder / "metrics.json").exists()
    run = replace(run, step="extract")
    assert run.images_begun("sam", 104) == 104
    assert run.images_begun("sam", 40) == 104
    assert run.images_begun("sam", 0) == 104
    assert run.images_begun("other", 0) == 0
