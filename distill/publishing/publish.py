"""Publishing: a folder that others can use, which says what it is and has been proved to be it."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from distill.config.parse import dump_recipe
from distill.config.schema import Recipe
from distill.evaluation.loading import load_student
from distill.evaluation.predictions_csv import Score, read_predictions
from distill.evaluation.results import read_metrics
from distill.inference.drawing import draw_example
from distill.inference.model import Deploy, predict
from distill.inference.onnx_file import export_onnx, open_onnx
from distill.metrics.overlap import IGNORED, THRESHOLD
from distill.publishing.card import Picture, licence_of_student, render_card, terms_of_run, title_of
from distill.publishing.gallery import draw_gallery
from distill.publishing.latency import latency
from distill.publishing.onnx_check import prove
from distill.publishing.quantize import add_int8
from distill.publishing.task_teacher import build_task
from distill.publishing.threshold import choose_threshold
from distill.runs.checks import init_arguments
from distill.runs.fingerprint import digest_file
from distill.runs.leakage import learned_by_start
from distill.runs.licences import contradictions
from distill.runs.reproduce import public_recipe
from distill.runs.run import Run, as_run, update_metrics
from distill.runtime.io import write_json
from students import MEAN, STD, Student
from students.published import LEARNED

RECORD = "published.json"

logger = logging.getLogger("bandpass")


def publish(work: Run | Recipe) -> Path:
    """Writes the student's folder, pushes it where `publish.hub` asks for it, and returns it.

    The folder appears at once and whole: weights, config, model card, recipe, example pictures, and an ONNX file that
    was proved equal to the torch network. Returns at once where all that is there for the same weights and wishes.

    Raises:
        FileNotFoundError: nothing has been trained or evaluated yet.
        ValueError: the ONNX file disagrees with torch or with the evaluation, or the Hub refuses.
    """
    run = as_run(work)
    if run.accelerator.is_main_process:
        record = wanted_record(run)
        if not is_published(run, record):
            build_and_replace(run, record)
        if run.recipe.publish.hub:
            push(run.published, run.recipe.publish.hub)
    run.accelerator.wait_for_everyone()
    return run.published


def wanted_record(run: Run) -> dict[str, Any]:
    """What decides whether a published folder is still the one asked for.

    Raises:
        FileNotFoundError: nothing has been trained or evaluated yet.
        ValueError: the evaluation is of other weights.
    """
    run.require_trained()
    metrics = read_metrics(run)
    if "datasets" not in metrics:
        raise FileNotFoundError(f"no evaluation in {run.folder / 'metrics.json'}; run do=evaluate first")
    weights = digest_file(run.weights)
    if metrics["evaluated"]["weights"] != weights:
        raise ValueError(f"{run.folder / 'metrics.json'} is of other weights than {run.weights}; run do=evaluate first")
    asked = asdict(run.recipe.publish)
    asked.pop("hub")
    return {"weights": weights, "evaluated": metrics["evaluated"], "asked": asked}


def is_published(run: Run, record: Mapping[str, Any]) -> bool:
    """Whether the published folder is there, for this record, with every file that it was published with."""
    path = run.published / RECORD
    if not path.is_file():
        return False
    found = json.loads(path.read_text(encoding="utf-8"))
    whole = all((run.published / name).is_file() for name in found.get("files", ()))
    return whole and all(found.get(name) == value for name, value in record.items())


def build_and_replace(run: Run, record: Mapping[str, Any]) -> None:
    """Builds the folder beside its place and moves it there, so that a half-written one is never seen."""
    temporary = run.folder / f".{run.published.name}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        proof = build_task(run, temporary) if run.recipe.reads_features else build(run, temporary)
        files = sorted(path.relative_to(temporary).as_posix() for path in temporary.rglob("*") if path.is_file())
        write_json(temporary / RECORD, {**record, **proof, "files": files})
        if run.published.exists():
            shutil.rmtree(run.published)
        temporary.replace(run.published)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    remark = "; model.onnx agrees with torch to {max_difference:.0e} on {batches} batches"
    logger.info("published %s%s", run.published, remark.format(**proof["onnx"]) if proof else "")


def build(run: Run, folder: Path) -> dict[str, Any]:
    """Writes everything but the record into `folder`; returns what was proved of the ONNX file."""
    recipe, metrics = run.recipe, read_metrics(run)
    scores = read_predictions(run.folder / "predictions.csv")
    student = load_student(run)
    deploy = Deploy(student, image_size=recipe.image_size).eval()
    choice = choose_threshold(partial(predict, deploy), run.splits.val) if student.classes == 1 else None
    threshold = choice.threshold if choice else THRESHOLD
    save_student(run, student, folder, threshold=threshold)
    if recipe.publish.encoder:
        student.export_encoder(folder / "encoder")
    logger.info("exporting model.onnx")
    export_onnx(deploy, folder / "model.onnx", metadata=onnx_metadata(run, threshold=threshold))
    proof = prove(deploy, open_onnx(folder / "model.onnx"), test=run.splits.test, scores=scores)
    found: dict[str, Any] = {"threshold": asdict(choice) if choice else None}
    if recipe.publish.int8:
        found["int8"] = add_int8(folder, run.splits, classes=student.classes, threshold=threshold)
    frame = next(iter(run.splits.test.values()))[0].read_image()
    found["latency"] = latency(open_onnx(folder / "model.onnx", threads=1), frame)
    update_metrics(run, published=found)
    pictures = draw_examples(run, deploy, scores, folder=folder)
    card = render_card(run, metrics, proof=proof, pictures=pictures, found=found)
    for sentence in contradictions(terms_of_run(run, tested=False), asked=recipe.publish.licence):
        logger.warning(sentence)
    labelled = {sample.key for sample in run.splits.train}.union(*filter(None, learned_by_start(recipe).values()))
    write_json(folder / LEARNED, {"labelled": sorted(labelled)})  # for those whom it may teach, or be the start of
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / "recipe.yaml").write_text(dump_recipe(public_recipe(recipe)), encoding="utf-8")
    return {"onnx": proof, **found}


def save_student(run: Run, student: Student, folder: Path, *, threshold: float) -> None:
    """`model.safetensors` and `config.json`, from which `students.load` and `from_pretrained` rebuild it."""
    config = {
        **init_arguments(run.recipe),
        "student": run.recipe.student.name,
        "image_size": run.recipe.image_size,
        "mean": list(MEAN),
        "std": list(STD),
        "threshold": threshold,
        "classes": student.classes,
        "run": run.folder.name,
    }
    student.save_pretrained(folder, config=config)
    # safetensors makes files that only their owner can read; a published one is for others
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)


def onnx_metadata(run: Run, *, threshold: float) -> dict[str, str]:
    """What the ONNX file says of itself, as strings."""
    licence = licence_of_student(run)
    return {
        "name": title_of(run.recipe),
        "classes": str(run.recipe.student.classes),
        "threshold": str(threshold),
        "image_size": str(run.recipe.image_size),
        "licence": licence.get("license_name", licence["license"]),
        "run": run.folder.name,
        "digest": run.folder.name.rpartition("-")[2],
    }


def draw_examples(run: Run, deploy: Deploy, scores: Sequence[Score], *, folder: Path) -> list[Picture]:
    """Pictures of test images at evenly spaced ranks of Dice, from the best to the worst."""
    samples = {
        (sample.dataset, sample.stem, sample.key): sample for part in run.splits.test.values() for sample in part
    }
    ranked = sorted(scores, key=lambda figures: (-figures.dice, figures.dataset, figures.stem))
    ranks = np.linspace(0, len(ranked) - 1, min(run.recipe.publish.examples, len(ranked))).round().astype(int)
    pictures: list[Picture] = []
    (folder / "examples").mkdir()
    if draw_gallery(run, deploy, folder / "examples" / "teacher.png"):
        title = "validation images: input, what the caches hold (features as colours, soft masks), student, truth"
        pictures.append(Picture("examples/teacher.png", title))
    for number, rank in enumerate(ranks, start=1):
        figures = ranked[rank]
        sample = samples[figures.dataset, figures.stem, figures.key]
        picture = Picture(
            f"examples/{number}.png",
            f"{figures.dataset}/{figures.stem}: Dice {figures.dice:.3f}, rank {rank + 1} of {len(ranked)}",
        )
        image = sample.read_image()
        draw_example(
            folder / picture.file,
            image,
            mask=sample.read_mask() % IGNORED,  # 255: nothing is known there
            probability=predict(deploy, image),
            title=picture.title,
        )
        pictures.append(picture)
    return pictures


def push(folder: Path, repository: str) -> None:
    """Uploads a published folder to the Hugging Face Hub; at once where the record says it is there.

    Raises:
        ValueError: the Hub refused or could not be reached.
    """
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    if record.get("hub") == repository:
        return
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repository, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repository, commit_message=f"Publish {folder.parent.name}")
    except Exception as error:  # of the Hub's client, of what it sends with, or of the system: they change by version
        raise ValueError(
            f"the Hub did not take {folder} as {repository!r}: {str(error).splitlines()[0]}; log in with "
            "`hf auth login`, check name and network, and run do=publish again (the folder itself is complete)"
        ) from error
    write_json(folder / RECORD, {**record, "hub": repository})
    logger.info("pushed to https://huggingface.co/%s", repository)
