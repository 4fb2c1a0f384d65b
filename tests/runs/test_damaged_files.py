"""Damaged files of every kind: repaired, refused in a sentence, or without effect; none is silently wrong."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from published import write_student
from small_extraction import CellTeacher, content, extraction_job
from small_job import write_job
from small_run import recipe_of as small_recipe
from small_run import run_of, train_until

import cache
from distill.cli.run import run as do_run
from distill.config.parse import read_recipe
from distill.data.sources.open_data import open_data
from distill.evaluation.results import read_scores
from distill.extraction.extract import extract
from distill.inference import load_model
from distill.inference.segmenter import open_segmenter
from distill.publishing.plan import plan_publishing
from distill.report.inputs import Inputs
from distill.runs.open_run import open_run
from distill.runs.weights import read_trained
from distill.training.checkpoint import checkpoint_of, load_checkpoint, previous_of, recover_checkpoint
from distill.training.plan import plan_training
from distill.training.state import build_state
from distill.training.validation import restore_best
from students.published import learned_keys

DAMAGES = ("flipped", "several flipped", "overwritten", "cut short", "zeroed", "emptied", "swapped", "a folder")
REFUSALS = (ValueError, OSError)
MANY = int(os.environ.get("BANDPASS_DAMAGES", "88"))  # of each file, in the long run: 2,024 in all
SEED = int(os.environ.get("BANDPASS_DAMAGES_SEED", "1"))
IMAGE = np.random.default_rng(0).integers(0, 255, (32, 40, 3), dtype=np.uint8)


@contextmanager
def damaged(file, damage, draw, other):
    """Within the context a file is damaged; `other` are bytes of another of its kind. It is put back afterwards."""
    good = file.read_bytes()
    data = bytearray(good)
    if damage in ("flipped", "several flipped"):
        for _ in range(1 if damage == "flipped" else 5):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif damage == "overwritten":
        place = draw.randrange(len(data))
        data[place : place + 16] = draw.randbytes(min(16, len(data) - place))
    elif damage == "cut short":
        del data[draw.randrange(len(data)) :]
    elif damage == "zeroed":
        data = bytearray(len(data))
    elif damage == "emptied":
        data = bytearray()
    elif damage == "swapped":
        data = bytearray(other)
    file.unlink()
    if damage == "a folder":
        file.mkdir()
    else:
        file.write_bytes(data)
    try:
        yield
    finally:
        if file.is_dir():
            shutil.rmtree(file)
        file.write_bytes(good)


def told(read, *, same, names=()):
    """The result of reading: "same" value as ever, or "refused" in a sentence; anything else fails.

    Args:
        read: what reads it, without arguments.
        same: whether a value is what it was.
        names: what the sentence must name one of.
    """
    try:
        value = read()
    except REFUSALS as error:
        sentence = str(error)
        assert len(sentence) > 30 and getattr(error, "filename", None) is None, repr(
            error
        )  # the system's own names one
        assert not names or any(name in sentence for name in names), sentence
        return "refused"
    assert same(value), value
    return "same"


def equal(value):
    """Whether another value has the same JSON."""
    before = json.dumps(value, sort_keys=True, default=str)
    return lambda found: json.dumps(found, sort_keys=True, default=str) == before


def cases(file, other, count, draw):
    """Yields so many damages of a file, each done while it is used and undone afterwards."""
    for number in range(count):
        damage = DAMAGES[number % len(DAMAGES)]
        with damaged(file, damage, draw, other):
            yield damage


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """Two finished jobs of other seeds, the first published too."""
    folder = tmp_path_factory.mktemp("jobs")
    found = []
    for number, more in enumerate(("seed: 0", "seed: 1\ndo: [extract, train, evaluate]")):
        job = write_job(folder / f"job{number}", folder / "shared", more)
        recipe = read_recipe([f"recipe={job / 'recipe.yaml'}"])
        do_run(recipe)
        found.append(open_run(recipe))
    return found


@pytest.fixture(autouse=True)
def _quiet():
    logging.getLogger("bandpass").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("bandpass").setLevel(logging.INFO)


def count_of(per_kind, share=1.0):
    return max(len(DAMAGES), round(per_kind * share))


def found_by_verify(folder):
    """The findings of `cache.verify`, or its error."""
    try:
        return cache.verify(folder)
    except REFUSALS as error:
        return [error]


def damage_caches(tmp_path, monkeypatch, count, draw):
    """Shards, manifest and statistics: extraction writes each again as it was."""
    monkeypatch.setattr(import_module("distill.extraction.extract"), "load_teacher", lambda *_: CellTeacher())
    run, other = extraction_job(tmp_path / "a"), extraction_job(tmp_path / "b", images=24, calibration=9)
    extract(run), extract(other)
    folder, found = run.caches["cells"], Counter()
    whole, others = content(folder), content(other.caches["cells"])
    for name in sorted(whole):
        kind = name.split("-")[0].split(".")[0]
        twin = next(data for file, data in sorted(others.items()) if file.startswith(kind) and data != whole[name])
        for damage in cases(folder / name, twin, count, draw):
            untouched = (folder / name).is_file() and (folder / name).read_bytes() == whole[name]
            assert untouched or found_by_verify(folder), (name, damage)
            found[told(lambda: (extract(run), content(folder))[1] == whole, same=bool, names=[name, str(folder)])] += 1
    return found


def damage_checkpoints(tmp_path, monkeypatch, count, draw):
    """The last checkpoint, the one before, and the best weights, of a training that was killed."""
    runs = []
    for seed in (0, 1):
        run = run_of(small_recipe(seed=seed), tmp_path / f"run{seed}-unet-{seed:012x}")
        train_until(run, monkeypatch, step=7)
        runs.append(run)
    run, other = runs
    last, found = checkpoint_of(run), Counter()
    plan = plan_training(run)
    state = build_state(plan)
    modules = {"model": state.run.accelerator.unwrap_model(state.model)}
    kept = {path: path.read_bytes() for path in (last, previous_of(last), run.weights)}

    def restored():
        assert recover_checkpoint(last)
        counters = load_checkpoint(last, modules, state.optimiser.optimizer)["state"]
        restore_best(state)
        return counters, {name: tensor.clone() for name, tensor in modules["model"].state_dict().items()}

    right = {}
    for file in (last, previous_of(last)):
        (tmp_path / "one" / "checkpoints").mkdir(parents=True, exist_ok=True)
        counters = load_checkpoint(file, modules, state.optimiser.optimizer)["state"]
        right[counters["step"]] = {n: t.clone() for n, t in modules["model"].state_dict().items()}

    def as_saved(value):
        counters, tensors = value
        return all(torch.equal(tensor, right[counters["step"]][name]) for name, tensor in tensors.items())

    for file in kept:
        twin = {last: checkpoint_of(other), run.weights: other.weights}.get(file, previous_of(checkpoint_of(other)))
        for number, damage in enumerate(cases(file, twin.read_bytes(), count, draw)):
            if number % 3 == 2 and file == last:
                previous_of(last).write_bytes(kept[previous_of(last)][:-9])  # both
            state.counters.best, state.counters.best_step = -1.0, 0
            outcome = told(restored, same=as_saved, names=[file.name, "previous.safetensors"])
            found[outcome] += 1
            assert outcome == "same" or damage != "swapped" or file != previous_of(last)
            for path, data in kept.items():
                if path.is_dir():
                    shutil.rmtree(path)
                if path != file:
                    path.write_bytes(data)
    return found


def damage_state_files(jobs, count, draw):
    """train.json, the weights, metrics.json, log.jsonl, predictions.csv: refused, or as they were, or made again."""
    run, other = jobs
    inputs = Inputs(run)
    readers = {
        "train.json": (lambda: run.read_summary(), equal(run.read_summary())),
        "checkpoints/best.safetensors": (
            lambda: {name: tensor.tolist() for name, tensor in read_trained(run)[1].items()},
            equal({name: tensor.tolist() for name, tensor in read_trained(run)[1].items()}),
        ),
        "metrics.json": (lambda: run.read_metrics(), equal(run.read_metrics())),
        "log.jsonl": (lambda: Inputs(run).log, equal(inputs.log)),
        "predictions.csv": (
            lambda: [asdict(one) for one in read_scores(run)],
            equal([asdict(one) for one in read_scores(run)]),
        ),
    }
    found = Counter()
    for name, (read, same) in readers.items():
        file = run.folder / name
        for damage in cases(file, (other.folder / name).read_bytes(), count, draw):
            outcome = told(read, same=same, names=[Path(name).name])
            found[outcome] += 1
            assert outcome == "refused" or damage not in ("swapped", "zeroed", "a folder", "emptied"), (name, damage)
            if name == "predictions.csv":
                assert run.has_scores() == (outcome == "same")  # else evaluation writes it again
    return found


def damage_published(jobs, tmp_path, count, draw):
    """A published student: its readers refuse what is not as it was published, and publishing writes it again."""
    run, _ = jobs
    folder, found = run.published, Counter()
    other = write_student(tmp_path / "other", classes=2)
    (other / "learned.json").write_text('{"labelled": []}')
    model = onnx.load(folder / "model.onnx")
    model.graph.initializer[0].raw_data = bytes(len(model.graph.initializer[0].raw_data))
    onnx.save(model, other / "model.onnx")
    (other / "published.json").write_text(json.dumps({"weights": "0" * 64, "files": [], "sha256": {}}))

    def by_torch():
        return load_model(folder).predict(IMAGE).tobytes()

    def by_onnx():
        return open_segmenter(folder / "model.onnx").probability(IMAGE).tobytes()

    def by_record():
        return bool(plan_publishing(run).published)

    readers = {
        "config.json": by_torch,
        "model.safetensors": by_torch,
        "learned.json": lambda: learned_keys(folder),
        "model.onnx": by_onnx,
        "published.json": by_torch,
    }
    assert by_record()
    for name, read in readers.items():
        whole, good = read(), (folder / name).read_bytes()
        for damage in cases(folder / name, (other / name).read_bytes(), count, draw):
            untouched = (folder / name).is_file() and (folder / name).read_bytes() == good
            outcome = told(read, same=lambda value, whole=whole: value == whole, names=[str(folder)])
            found[outcome] += 1
            finished = by_record()
            assert untouched or not finished or name == "published.json", (name, damage)
            assert not finished or json.loads((folder / "published.json").read_text()), damage
            found["published again"] += not finished
    return found


def damage_inputs(tmp_path, count, draw):
    """File index, split files, images, masks and recipe: refused, or without effect, or another run by its name."""
    job = write_job(tmp_path / "job", tmp_path / "shared")
    data, split = tmp_path / "shared" / "data", tmp_path / "split"
    split.mkdir()
    stems = sorted(path.stem for path in (data / "images").iterdir())
    for part, some in (("train", stems[:24]), ("val", stems[24:32]), ("test", stems[32:])):
        (split / f"{part}.csv").write_text("stem\n" + "".join(f"{stem}\n" for stem in some))
    text = (job / "recipe.yaml").read_text().replace("fractions: [0.6, 0.2, 0.2]", f"split: {split}")
    (job / "recipe.yaml").write_text(text)

    def folder():
        return open_run(read_recipe([f"recipe={job / 'recipe.yaml'}"])).folder.name

    def digest():
        recipe = read_recipe([f"recipe={job / 'recipe.yaml'}"]).data
        return open_data(recipe, home=job / "home").digest()

    name, content_digest = folder(), digest()
    files = {
        job / "home" / "file_index.table": (digest, b"{}\n", False),
        split / "train.csv": (folder, (split / "test.csv").read_bytes(), True),
        split / "val.csv": (folder, (split / "train.csv").read_bytes(), True),
        split / "test.csv": (folder, (split / "val.csv").read_bytes(), True),
        data / "images" / "frame03.png": (digest, (data / "images" / "frame04.png").read_bytes(), True),
        data / "masks" / "frame05.png": (digest, (data / "masks" / "frame06.png").read_bytes(), True),
        job / "recipe.yaml": (folder, text.replace("width: 2", "width: 3").encode(), True),
    }
    found = Counter()
    for file, (read, other, may_differ) in files.items():
        before = content_digest if read is digest else name
        good = file.read_bytes()
        for damage in cases(file, other, count, draw):
            changed = not file.is_file() or file.read_bytes() != good
            outcome = told(read, same=lambda value, before=before, free=may_differ: free or value == before)
            found[outcome] += 1
            assert outcome == "refused" or not changed or damage != "a folder" or not may_differ, (file, damage)
        if file.name != "file_index.table":
            assert read() == before
    return found


KINDS = {  # what damages a kind of files, and how many there are at least
    "caches": (lambda damage, count, draw: damage_caches(damage.folder, damage.monkeypatch, count, draw), 3),
    "checkpoints": (lambda damage, count, draw: damage_checkpoints(damage.folder, damage.monkeypatch, count, draw), 3),
    "state files": (lambda damage, count, draw: damage_state_files(damage.jobs(), count, draw), 5),
    "published": (lambda damage, count, draw: damage_published(damage.jobs(), damage.folder, count, draw), 5),
    "inputs": (lambda damage, count, draw: damage_inputs(damage.folder, count, draw), 7),
}


@pytest.fixture
def damage(tmp_path, monkeypatch, request):
    """The arguments of the kinds of damages; the finished jobs are made for those that ask for them."""
    return SimpleNamespace(folder=tmp_path, monkeypatch=monkeypatch, jobs=lambda: request.getfixturevalue("jobs"))


def done(damage, kind, *, per_file, seed):
    """Outcomes of damaging every file of a kind so many times."""
    work, files = KINDS[kind]
    found = work(damage, per_file, random.Random(seed))
    assert found["same"] + found["refused"] >= files * per_file
    return found


@pytest.mark.study
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_no_damaged_file_is_silently_wrong_or_a_traceback(damage, kind):
    done(damage, kind, per_file=8, seed=0)  # 184 in all


@pytest.mark.study
@pytest.mark.timeout(7200)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_none_of_two_thousand_damaged_files_is_silently_wrong_or_a_traceback(damage, kind, capsys):
    found = done(damage, kind, per_file=MANY, seed=SEED)
    with capsys.disabled():
        sys.stdout.write(f"\n{kind}: {found['same'] + found['refused']:,} damaged files, {dict(found)}\n")
