"""Publishing: a folder that others can use, with a card and an ONNX file that was checked against torch."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cache
from distill.config.command import command_for
from distill.config.parse import write_recipe
from distill.publishing.folder import replaced, sweep
from distill.publishing.plan import CARD, RECORD, Plan, plan_publishing
from distill.publishing.student import write_student
from distill.publishing.task_teacher import write_task_teacher
from distill.publishing.zoo import write_to_zoo
from distill.runs.fingerprint import digest_file
from distill.runs.reproduce import public_recipe
from distill.runs.run import Run
from distill.runtime.io import read_json_if_sound, write_sealed
from distill.runtime.issues import first_line

logger = logging.getLogger("bandpass")


def publish(run: Run) -> Path:
    """Writes the student's folder and returns it; also publishes to `publish.hub` and `publish.zoo`, if asked for.

    The folder appears as a whole: weights, config, model card, recipe, example pictures, and an ONNX file that matches
    PyTorch within 1e-3. Returns at once if the folder exists already for the same weights and settings.

    Raises:
        FileNotFoundError: nothing has been trained or evaluated yet.
        ValueError: the ONNX file disagrees with torch or with the evaluation, or the Hub refuses.
        OSError: the disk is full; a folder that was published before is left as it was.
    """
    if run.accelerator.is_main_process:
        plan = plan_publishing(run)
        published = plan.published or build(plan)
        if run.recipe.publish.hub:
            push(run.published, run.recipe.publish.hub)
        if run.recipe.publish.zoo:
            write_to_zoo(plan, published, Path(run.recipe.publish.zoo))
    run.wait()
    return run.published


def build(plan: Plan) -> Mapping[str, Any]:
    """Writes the folder, unless another process has done so meanwhile; returns its published.json."""
    run = plan.run
    with cache.lock(run.folder):
        sweep(run.published)
        if found := plan_publishing(run).published:
            return found
        with replaced(run.published) as folder:
            write = write_task_teacher if run.recipe.reads_features else write_student
            return complete(plan, folder, write(plan, folder))


def complete(plan: Plan, folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Completes the folder with the recipe and the record, published.json; returns the record."""
    write_recipe(public_recipe(plan.run.recipe), folder)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    digests = {name: digest_file(folder / name) for name in files}
    record = {**plan.record, **facts, "files": files, "sha256": digests}
    write_sealed(folder / RECORD, record)
    matches = "; model.onnx matches PyTorch within {max_difference:.0e} on {batches} batches"
    logger.info("published %s%s", plan.run.published, matches.format(**facts["onnx"]) if "onnx" in facts else "")
    return record


def push(folder: Path, repository: str) -> None:
    """Uploads a published folder to the Hugging Face Hub, unless it is there already.

    Weights and pictures of an earlier student are removed from the repository; its other files stay.

    Raises:
        ValueError: the Hub refused or could not be reached.
    """
    record = read_json_if_sound(folder / RECORD)
    pushed = {"hub": repository, "card": digest_file(folder / CARD)}  # which the owner may edit
    if pushed.items() <= record.items():
        return
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repository, exist_ok=True)
        api.upload_folder(
            folder_path=folder,
            repo_id=repository,
            commit_message=f"Publish {folder.parent.name}",
            delete_patterns=["*.safetensors", "*.onnx", "examples/*"],
        )
    except Exception as error:  # by the Hub's client, its HTTP library or the system; they differ between versions
        raise ValueError(
            f"the Hub did not take {folder} as {repository!r}: {first_line(error)}; log in with "
            f"`hf auth login`, check name and network, and type {command_for('publish')} again (the folder "
            "itself is complete)"
        ) from error
    write_sealed(folder / RECORD, {**record, **pushed})
    logger.info("pushed to https://huggingface.co/%s", repository)
