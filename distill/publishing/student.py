"""The published folder of a student: weights, an ONNX file that was checked, a card and examples."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distill.data.sample import keys_of
from distill.evaluation.predictions_csv import read_predictions
from distill.inference.model import InferenceModel
from distill.inference.onnx_file import export_onnx, onnx_metadata, open_onnx
from distill.publishing.card import render_card, title_of
from distill.publishing.examples import draw_examples
from distill.publishing.image_scores import score_images
from distill.publishing.latency import latency
from distill.publishing.onnx_check import check_onnx
from distill.publishing.operating_point import choose_thresholds
from distill.publishing.plan import Plan
from distill.publishing.quantise import add_int8
from distill.publishing.temperature import find_temperature
from distill.runs.build import student_arguments
from distill.runs.caches import labels_of_teachers
from distill.runs.fingerprint import digest_file
from distill.runs.leakage import training_keys_of_start
from distill.runs.run import PREDICTIONS, Run
from distill.runs.weights import load_student
from distill.runtime.io import write_json, write_text
from students import MEAN, STD, Student
from students.published import LEARNED
from students.registry import code_of

logger = logging.getLogger("bandpass")


def write_student(plan: Plan, folder: Path) -> dict[str, Any]:
    """Writes a student into `folder`; returns the measurements made on the way.

    They are the ONNX check, the temperature, the thresholds, int8, latency and image scores.

    Raises:
        ValueError: the ONNX file disagrees with torch or with the evaluation.
    """
    run, recipe, test, origin = plan.run, plan.run.recipe, plan.run.splits.test, plan.origin
    for sentence in origin.contradictions:
        logger.warning(sentence)
    scores = read_predictions(run.predictions, digest=plan.metrics.get(PREDICTIONS))
    network = load_student(run)
    model = InferenceModel(network, image_size=recipe.image_size).eval()
    calibration = find_temperature(model.predict, run.validation, classes=model.classes)
    model.temperature = calibration.temperature
    choice = choose_thresholds(model.predict, run.validation) if model.classes == 1 else None
    model.thresholds = choice.thresholds if choice else model.thresholds
    save_student(run, model, folder)
    if recipe.publish.encoder:
        network.export_encoder(folder / "encoder")
    logger.info("exporting model.onnx")
    licence = origin.licence.get("license_name", origin.licence["license"])
    metadata = onnx_metadata(model, name=title_of(recipe), licence=licence, run=run.folder.name)
    export_onnx(model, folder / "model.onnx", metadata=metadata)
    check = check_onnx(model, open_onnx(folder / "model.onnx"), test=test, scores=scores)
    found: dict[str, Any] = {"thresholds": choice.record() if choice else None, "calibration": asdict(calibration)}
    if recipe.publish.int8:
        found["int8"] = add_int8(folder / "model.onnx", run.splits, classes=model.classes, thresholds=model.thresholds)
    frame = next(iter(test.values()))[0].read_image()
    found["latency"] = latency(open_onnx(folder / "model.onnx", threads=1), frame)
    found["image_scores"] = score_images(model, test)
    run.update_metrics(published=found)
    pictures = draw_examples(run, model, scores, folder=folder)
    card = render_card(run, plan.metrics, origin=origin, check=check, pictures=pictures, found=found)
    start = filter(None, training_keys_of_start(recipe).values())
    labelled = keys_of(run.splits.train).union(*start, labels_of_teachers(run))
    write_json(folder / LEARNED, {"labelled": sorted(labelled)})  # for use as teacher or student.init
    write_text(folder / "README.md", card)
    return {"onnx": check, **found}


def save_student(run: Run, model: InferenceModel, folder: Path) -> None:
    """Writes `model.safetensors` and `config.json`, from which `students.load` and `from_pretrained` rebuild it."""
    config = {
        **student_arguments(run.recipe),
        "student": run.recipe.student.name,
        "image_size": run.recipe.image_size,
        "mean": list(MEAN),
        "std": list(STD),
        **model.thresholds.entries(),
        "temperature": model.temperature,
        "classes": model.classes,
        "run": run.folder.name,
    }
    if code := code_of(run.recipe.student.name):
        config["code_sha256"] = digest_file(code)
    save_weights(model.student, folder, config=config)


def save_weights(network: Student, folder: Path, *, config: dict[str, Any] | None = None) -> None:
    """Writes `model.safetensors` and `config.json` of a network, readable by everybody who may read the folder."""
    network.save_pretrained(folder, config=config)
    open_to_others(folder / "model.safetensors")


def open_to_others(weights: Path) -> None:
    """Gives the weights the permissions of config.json beside them; safetensors lets only their owner read them."""
    weights.chmod(weights.with_name("config.json").stat().st_mode)
