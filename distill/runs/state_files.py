"""train.json and metrics.json of a run; a damaged one is named with what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.runtime.io import read_json, write_sealed

if TYPE_CHECKING:
    from distill.runs.run import Run

DIGEST = re.compile(r"-[0-9a-f]{12}$")  # how a run's folder ends
BEGUN = "extraction_begun"  # entry of metrics.json while images are extracted: teacher -> images


def read_summary(run: Run) -> dict[str, Any]:
    """train.json, the summary that `train` writes last.

    Raises:
        FileNotFoundError: training is not complete.
        ValueError: the file is damaged.
    """
    return read_own(run, run.trained, cure=f"delete it and the folder checkpoints in {run.folder} to train anew")


def read_metrics(run: Run) -> dict[str, Any]:
    """metrics.json; empty where there is none yet.

    Raises:
        ValueError: the file is damaged, or another run's.
    """
    path, cure = run.folder / "metrics.json", "delete it, and evaluate again"
    return read_own(run, path, cure=cure) if path.exists() else {}


def read_own(run: Run, path: Path, *, cure: str) -> dict[str, Any]:
    """The object in a state file of a run; errors as of `read_json`, and ValueError where it is another run's."""
    state = read_json(path, cure=cure)
    own, found = (DIGEST.search(str(name)) for name in (run.folder.name, state.get("run", "")))
    if own and found and own[0] != found[0]:
        raise ValueError(f"{path} is damaged (it is of the run {state['run']}); {cure}")
    return state


def write_own(run: Run, path: Path, state: Mapping[str, Any]) -> None:
    """Replaces a state file of a run, which then holds the run's name and a digest of all."""
    write_sealed(path, {**state, "run": run.folder.name})


def update_metrics(run: Run, **entries: Any) -> dict[str, Any]:  # noqa: ANN401
    """Merges `entries` into the run's metrics.json (mappings one level deep) and returns the whole."""
    metrics = read_metrics(run)
    for name, value in entries.items():
        metrics[name] = {**metrics.get(name, {}), **value} if isinstance(value, dict) else value
    write_metrics(run, metrics)
    return read_metrics(run)


def write_metrics(run: Run, metrics: dict[str, Any]) -> None:
    """Replaces the run's metrics.json."""
    write_own(run, run.folder / "metrics.json", metrics)


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
