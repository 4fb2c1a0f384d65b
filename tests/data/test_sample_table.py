"""Very many samples in a mapped file: the same as in memory, shared by processes, gone with the one that wrote it."""

from __future__ import annotations

import errno
import gc
import json
import os
import pickle
import subprocess
import sys
from dataclasses import astuple, replace
from functools import partial

import numpy as np
import pytest
from accelerate.state import AcceleratorState
from forked_jobs import forked, launched
from small_job import write_data, write_job
from small_run import disc_splits

from distill.config.parse import read_recipe
from distill.config.schema import DataRecipe
from distill.data import sample_table
from distill.data.sample import Splits, keys_of
from distill.data.sample_table import SampleTable, in_file, in_reach
from distill.data.sources.open_data import open_data
from distill.runs.open_run import open_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set of forty pairs, nine of them in two sequences, and ten further pictures."""
    folder = tmp_path_factory.mktemp("data")
    write_data(folder / "polyps")
    write_data(folder / "more", 50)
    rows = [f"frame{number:02d},{'ä' if number < 5 else 'b'}" for number in range(9)]
    (folder / "polyps" / "sequences.csv").write_text("\n".join(["stem,group", *rows]), encoding="utf-8")
    return folder


@pytest.fixture
def opened(folder, tmp_path, monkeypatch):
    """The same data in memory and in a file: with masks put away, groups, and pictures that have no mask."""
    data = DataRecipe(
        name="folder",
        root=str(folder / "polyps"),
        labels="50%",
        unlabelled=str(folder / "more"),
        groups="sequences.csv",
    )
    memory = open_data(data, home=tmp_path / "home")
    monkeypatch.setattr(sample_table, "FROM", 1)
    return memory, open_data(data, home=tmp_path / "home")


def parts_of(splits: Splits):
    return [splits.train, splits.unlabelled, splits.val, *splits.test.values()]


def test_samples_in_a_file_are_those_in_memory(opened):
    memory, file = opened
    assert [type(part) for part in parts_of(file)] == [SampleTable] * 4
    assert [len(part) for part in parts_of(memory)] == [len(part) for part in parts_of(file)]
    for part, stored in zip(parts_of(memory), parts_of(file), strict=True):
        assert part == tuple(stored) == tuple(stored[place] for place in range(len(stored))) == tuple(stored[:])
        assert [list(map(type, astuple(one))) for one in part] == [list(map(type, astuple(one))) for one in stored]
        for sample, other in zip(part, stored, strict=True):
            np.testing.assert_array_equal(sample.read_image(), other.read_image())
            np.testing.assert_array_equal(sample.read_mask(), other.read_mask())
    assert {sample.group for sample in file.training} == {None, "ä", "b"} & {s.group for s in memory.training}
    assert (file.notes, file.dropped, file.digest) == (memory.notes, memory.dropped, memory.digest)
    assert file.hidden == memory.hidden and file.calibration(7) == memory.calibration(7)


def test_parts_that_follow_one_another_stay_in_the_file_and_others_become_tuples(opened):
    memory, file = opened
    for name in ("training", "tested", "held_out"):
        assert isinstance(getattr(file, name), SampleTable), name
        assert tuple(getattr(file, name)) == tuple(getattr(memory, name)), name
    assert file.val + file.train == (*memory.val, *memory.train)
    assert file.val + memory.train == (*memory.val, *memory.train)
    assert memory.val + file.train == (*memory.val, *memory.train)
    nothing = memory.train[:0]
    assert file.train + nothing is file.train and nothing + file.train is file.train
    assert isinstance(file.train[2:5], SampleTable) and tuple(file.train[2:5]) == memory.train[2:5]
    assert file.train[-1] == memory.train[-1] and file.train[::-2] == memory.train[::-2]
    assert memory.train[3] in file.train and file.train.index(memory.train[3]) == 3
    with pytest.raises(IndexError):
        file.train[len(file.train)]
    assert keys_of(file.training) == keys_of(memory.training)


def test_another_process_is_handed_the_place_of_the_file_and_maps_it(opened):
    memory, file = opened
    sent = pickle.dumps(file)
    assert len(sent) < 2000
    handed = pickle.loads(sent)
    assert in_reach(handed) and tuple(handed.training) == memory.training
    assert handed.digest == memory.digest
    stranger = subprocess.run([sys.executable, "-c", COUNT], input=sent, capture_output=True, check=True)
    assert int(stranger.stdout) == len(memory.training)


COUNT = "import pickle, sys; print(len([one.stem for one in pickle.load(sys.stdin.buffer).training]))"


def test_the_file_is_freed_with_what_opened_it_and_another_in_its_place_is_not_taken(opened, tmp_path):
    _, file = opened
    sent = pickle.dumps(file)
    kept, late = pickle.loads(sent), pickle.loads(sent)
    assert in_reach(kept)
    stem, number = file.train[0].stem, int(file.train.file.path.name)
    del file
    opened[1].__dict__.clear()
    gc.collect()
    assert kept.train[0].stem == stem and not in_reach(late)
    (tmp_path / "other").write_bytes(bytes(10_000))
    other = os.open(tmp_path / "other", os.O_RDONLY)
    if other != number:
        os.dup2(other, number)
        os.close(other)
    assert not in_reach(late)
    reading, writing = os.pipe()
    os.dup2(reading, number)
    assert not in_reach(late), "which would wait for what is written"
    for descriptor in (number, reading, writing):
        os.close(descriptor)
    with pytest.raises((OSError, ValueError)):
        late.train[0]


def test_a_file_that_is_cut_short_is_not_in_reach(opened):
    handed = pickle.loads(pickle.dumps(opened[1]))
    object.__setattr__(handed.train.file, "size", handed.train.file.size + 4096)
    assert not in_reach(handed)


def test_few_samples_and_those_without_files_stay_in_memory(opened, monkeypatch):
    memory, _ = opened
    drawn, first = disc_splits(), memory.train[0]
    odd = replace(memory, train=(replace(first, read_mask=partial(first.read_mask)), *memory.train[1:]))
    assert in_file(drawn) is drawn and in_file(odd) is odd and not in_reach(drawn)
    monkeypatch.setattr(sample_table, "FROM", 1 + sum(map(len, parts_of(memory))))
    assert in_file(memory) is memory


def test_without_room_for_the_file_samples_stay_in_memory_and_it_is_said(opened, monkeypatch, caplog):
    memory, _ = opened

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sample_table.os, "fsync", full)
    with caplog.at_level("WARNING"):
        assert in_file(memory) is memory
    assert "No space left on device): " in caplog.text and "samples stay in the memory of each process" in caplog.text


def test_names_that_no_text_holds_are_kept(opened):
    memory, _ = opened
    odd = replace(memory.train[0], stem="a\udcff", group="\ud800ä", dataset="\udcfe")
    file = in_file(replace(memory, train=(odd, *memory.train[1:])))
    assert file.train[0] == odd and file.train[0].read_image.source == odd.read_image.source


def report(job):
    """The report of a process of a job on the run that it opens; returns the exit status."""
    AcceleratorState._reset_state(reset_partial_state=True)  # which a test before this one has filled
    sample_table.FROM = 1
    run = open_run(read_recipe([f"recipe={job / 'recipe.yaml'}"]))
    train = run.splits.train
    found = {"file": str(train.file.path), "keys": [sample.key for sample in train], "digest": run.splits.digest}
    (job / f"found{os.environ['RANK']}").write_text(json.dumps(found))
    run.wait()
    return 0


def test_the_processes_of_a_job_map_the_file_of_the_first(tmp_path):
    job = write_job(tmp_path / "job", tmp_path / "shared")
    child = forked(job, lambda: launched(job, work=report))
    _, status = os.waitpid(child, 0)
    assert status == 0, (job / "log").read_text()
    first, second = (json.loads((job / f"found{rank}").read_text()) for rank in (0, 1))
    assert first == second and first["file"].startswith("/proc/")
