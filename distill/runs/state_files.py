"""train.json and metrics.json of a run; a damaged one is named with what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distill.runtime.io import read_json, write_json

if TYPE_CHECKING:
    from distill.runs.run import Run

BEGUN = "extraction_begun"  # entry of metrics.json while images are extracted: teacher -> images


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
    write_metrics(run, metrics)
    return metrics


def write_metrics(run: Run, metrics: dict[str, Any]) -> None:
    """Replaces the run's metrics.json."""
    write_json(run.folder / "metrics.json", metrics)


def images_begun(run: Run, teacher: str, images: int) -> int:
    """The images that an extraction had to pass when it first began, which a kill may have come between.

    Args:
        run: whose metrics.json notes it, where a step of a run extracts.
        teacher: of the extraction.
        images: that it has to pass now.
    """
    begun = read_metrics(run).get(BEGUN)
    if begun is None:
        return images
    if images and teacher not in begun:
        update_metrics(run, **{BEGUN: {teacher: images}})
    return max(images, begun.get(teacher, 0))
