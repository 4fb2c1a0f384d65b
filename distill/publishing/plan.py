"""The plan of publishing a run: all that must be known before anything is written, found out once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distill.config.command import command_for
from distill.publishing.folder import leftovers
from distill.runs.fingerprint import digest_file
from distill.runs.run import Run
from distill.runs.state_files import read_metrics
from distill.runtime.io import read_json_if_sound

RECORD = "published.json"
CARD = "README.md"  # the model card, which its owner may change


@dataclass(frozen=True)
class Plan:
    """A run that is to be published.

    Attributes:
        run: what is published.
        folder: where.
        metrics: its metrics.json.
        record: what decides whether a published folder is the one asked for, JSON-able.
        finished: whether it is there already, with every file that it was published with, and nothing is left beside
            it by a process that was killed.
    """

    run: Run
    folder: Path
    metrics: Mapping[str, Any]
    record: Mapping[str, Any]
    finished: bool


def plan_publishing(run: Run) -> Plan:
    """The plan of a run.

    Raises:
        FileNotFoundError: nothing has been trained or evaluated yet.
        ValueError: the evaluation is of other weights.
    """
    run.require_trained()
    weights, template = digest_file(run.weights), digest_file(template_of(run))
    metrics, results = read_metrics(run), run.folder / "metrics.json"
    if "datasets" not in metrics:
        raise FileNotFoundError(f"no evaluation in {results}; type {command_for('evaluate')} first")
    if metrics["evaluated"]["weights"] != weights:
        raise ValueError(f"{results} is of other weights than {run.weights}; type {command_for('evaluate')} first")
    asked = {key: value for key, value in asdict(run.recipe.publish).items() if key not in ("hub", "zoo")}
    record = {"weights": weights, "evaluated": metrics["evaluated"], "asked": asked, "template": template}
    finished = not leftovers(run.published) and _is_finished(run.published, record)
    return Plan(run, run.published, metrics, record, finished)


def template_of(run: Run) -> Path:
    """The template of the card of a student, or of a task teacher."""
    return Path(__file__).with_name("teacher_card.md" if run.recipe.reads_features else "card.md.jinja")


def _is_finished(folder: Path, record: Mapping[str, Any]) -> bool:
    """Whether a published folder is there for this record, whole: no file is missing, and none is damaged.

    A card that its owner has changed is whole, whatever the template says now.
    """
    found = read_record(folder)
    names = found.get("files", ())
    if not found or not all((folder / name).is_file() for name in names):
        return False
    digests = found.get("sha256", {})
    changed = {name for name in names if digests.get(name) not in (None, digest_file(folder / name))}
    stale = {name for name, value in record.items() if found.get(name) != value}
    return not changed - {CARD} and not (stale - {"template"} if CARD in changed else stale)


def read_record(folder: Path) -> dict[str, Any]:
    """The published.json of a folder; empty where there is none, or a damaged one."""
    return read_json_if_sound(folder / RECORD)
