"""The plan of publishing a run: everything that must be known before anything is written, collected once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from distill.config.command import command_for
from distill.publishing.card import template_of
from distill.publishing.folder import leftovers
from distill.publishing.provenance import Provenance, provenance_of
from distill.runs.fingerprint import digest_file
from distill.runs.run import Run
from distill.runtime.io import read_json_if_sound

RECORD = "published.json"
CARD = "README.md"  # the model card, which its owner may change


@dataclass(frozen=True)
class Plan:
    """A run that is to be published.

    Attributes:
        run: the run to publish.
        metrics: its metrics.json.
        record: what decides whether a published folder is the one asked for, JSON-able.
        published: published.json, if the folder exists with every file that was published and no killed process has
            left anything beside it; else empty.
    """

    run: Run
    metrics: Mapping[str, Any]
    record: Mapping[str, Any]
    published: Mapping[str, Any]

    @cached_property
    def origin(self) -> Provenance:
        """The provenance of the student."""
        return provenance_of(self.run)


def plan_publishing(run: Run) -> Plan:
    """The plan of a run.

    Raises:
        FileNotFoundError: nothing has been trained or evaluated yet.
        ValueError: the evaluation is of other weights.
    """
    run.require_trained()
    weights, template = digest_file(run.weights), digest_file(template_of(run))
    metrics = run.require_evaluated()
    if metrics["evaluated"]["weights"] != weights:
        results = run.folder / "metrics.json"
        raise ValueError(f"{results} is for other weights than {run.weights}; type {command_for('evaluate')} first")
    asked = {key: value for key, value in asdict(run.recipe.publish).items() if key not in ("hub", "zoo")}
    record = {"weights": weights, "evaluated": metrics["evaluated"], "asked": asked, "template": template}
    found = read_json_if_sound(run.published / RECORD)
    there = not leftovers(run.published) and is_published(run.published, found, record)
    return Plan(run, metrics, record, found if there else {})


def is_published(folder: Path, found: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Whether a published folder exists for this record and is whole: no file is missing, and none is damaged.

    A card that its owner has changed counts as whole, even if the template has changed since.

    Args:
        folder: the published folder.
        found: its published.json.
        record: what decides whether the folder is the one asked for.
    """
    names = found.get("files", ())
    if not found or not all((folder / name).is_file() for name in names):
        return False
    digests = found.get("sha256", {})
    changed = {name for name in names if digests.get(name) not in (None, digest_file(folder / name))}
    stale = {name for name, value in record.items() if found.get(name) != value}
    return not changed - {CARD} and not (stale - {"template"} if CARD in changed else stale)
