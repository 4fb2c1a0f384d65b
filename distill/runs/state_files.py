"""train.json and metrics.json of a run, and what they say is done; a damaged one is named with what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distill.runs.fingerprint import digest_file
from distill.runtime.io import read_json, write_json

if TYPE_CHECKING:
    from distill.runs.run import Run


def read_summary(run: Run) -> dict[str, Any]:
    """train.json, the summary that `train` writes last.

    Raises:
        FileNotFoundError: training is not complete.
        ValueError: the file is damaged.
    """
    return read_json(run.trained, cure=f"delete it and the folder checkpoints in {run.folder} to train anew")


def read_metrics(run: Run) -> dict[str, Any]:
    """metrics.json; empty where there is none yet.

    Raises:
        ValueError: the file is damaged.
    """
    path = run.folder / "metrics.json"
    return read_json(path, cure="delete it, and evaluate again") if path.is_file() else {}


def update_metrics(run: Run, **entries: Any) -> dict[str, Any]:  # noqa: ANN401
    """Merges `entries` into the run's metrics.json (mappings one level deep) and returns the whole."""
    metrics = read_metrics(run)
    for name, value in entries.items():
        metrics[name] = {**metrics.get(name, {}), **value} if isinstance(value, dict) else value
    write_json(run.folder / "metrics.json", metrics)
    return metrics


def is_evaluated(run: Run) -> bool:
    """Whether training is complete and its weights have been scored."""
    if not (run.trained.is_file() and run.weights.is_file() and run.predictions.is_file()):
        return False
    return digest_file(run.weights) == read_metrics(run).get("evaluated", {}).get("weights")
