"""The published folder of a task teacher: the decoder, its input, its training images and its results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cache
from distill.data.sample import keys_of
from distill.distillation.targets import plan_inputs
from distill.evaluation.results import format_scores
from distill.extraction.task_teacher import FACTS
from distill.publishing.card import template_of
from distill.publishing.markdown import block, code, plain
from distill.publishing.plan import Plan
from distill.publishing.student import save_weights
from distill.runs.reproduce import command
from distill.runs.weights import load_student
from distill.runtime.io import write_json, write_text


def write_task_teacher(plan: Plan, folder: Path) -> dict[str, Any]:
    """Writes a task teacher into `folder`; nothing is exported to ONNX, because it reads no images."""
    run, metrics = plan.run, plan.metrics
    ((name, path),) = run.caches.items()
    caches = {name: cache.open(path)}
    decoder, inputs = load_student(run, caches), plan_inputs(run.recipe, caches)
    save_weights(decoder, folder)
    labelled = sorted(keys_of(run.splits.train))
    facts = {
        "reads": caches[name].manifest.digest,
        "maps": [target.map for target in inputs],
        "labelled": labelled,
        "licence": caches[name].licence,
        "run": run.folder.name,
    }
    write_json(folder / FACTS, facts)
    card = (
        template_of(run)
        .read_text(encoding="utf-8")
        .format(
            parameters=metrics["student"]["parameters"],
            teacher=code(caches[name].identity["teacher"]),
            maps=", ".join(f"{plain(t.map)}: {t.channels} x {t.grid[0]} x {t.grid[1]}" for t in inputs),
            labelled=len(labelled),
            licence=plain(caches[name].licence),
            scores="\n".join(
                f"* {plain(dataset)}: {format_scores(figures)}" for dataset, figures in metrics["datasets"].items()
            ),
            convention=metrics["convention"],
            command=block(command(run.recipe), "bash"),
        )
    )
    write_text(folder / "README.md", card)
    return {}
