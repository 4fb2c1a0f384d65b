"""The figures of a set as aligned lines for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill.metrics.aggregate import SIZES
from distill.metrics.bootstrap import NO_INTERVAL
from distill.metrics.names import CONTOUR, DICE, FRAMES, OVERLAP, SALIENCY, Figure

BY_SIZE = ("dice", "iou", "sensitivity", "surface_dice", "hd95")


def text(result: Mapping[str, Any]) -> str:
    """All tables of the result of `distill.evaluation.folder_scores.score_folders`: Dice in every convention first."""
    values = {"threshold": f"{result['threshold']:g}", "tolerance": f"{result['tolerance']:g}"}
    blocks = [_block("Dice, by convention", DICE, result["mean"], values)]
    blocks += [_block(f"other figures at {values['threshold']}", {**OVERLAP, **CONTOUR}, result["mean"], values)]
    blocks += [_block("saliency", SALIENCY, result["mean"], values)]
    if result["by_size"]:
        blocks.append(sizes(result["by_size"]))
    if result["empty_masks"]["images"]:
        head = f"frames without foreground ({result['empty_masks']['images']})"
        blocks.append(_block(head, FRAMES, result["empty_masks"], values))
    if "low" not in result["mean"]["dice"]:
        blocks.append(f"{NO_INTERVAL[0].upper()}{NO_INTERVAL[1:]}.")
    return "\n\n".join(blocks) + "\n"


def _block(
    head: str, figures: Mapping[str, Figure], summaries: Mapping[str, Mapping[str, float]], values: Mapping[str, str]
) -> str:
    """A block of lines with title, mean and interval, under a head."""
    titles = {name: figure.title.format(**values) for name, figure in figures.items() if name in summaries}
    lines = [f"{head:<54}{'mean':>9}   95 % interval"]
    for name, title in titles.items():
        entry = summaries[name]
        interval = f"   [{entry['low']:.4f}, {entry['high']:.4f}]" if "low" in entry else ""
        lines.append(f"  {title:<52}{entry['mean']:>9.4f}{interval}")
    return "\n".join(lines)


def sizes(groups: Mapping[str, Mapping[str, Any]]) -> str:
    """Means by the size of the foreground, one line per size."""
    titles = {name: {**DICE, **OVERLAP, **CONTOUR}[name].title.split(",")[0] for name in BY_SIZE} | {"dice": "Dice"}
    limits = list(SIZES)
    lines = [f"{'by size, share of the image':<36}{'images':>8}" + "".join(f"{titles[n]:>14}" for n in BY_SIZE)]
    for name, group in groups.items():
        before = SIZES[limits[limits.index(name) - 1]] if name != limits[0] else 0.0
        span = f"{name}: over {before:.0%} to {SIZES[name]:.0%}"
        figures = "".join(f"{group[key]['mean']:>14.4f}" for key in BY_SIZE)
        lines.append(f"  {span:<34}{group['images']:>8}{figures}")
    return "\n".join(lines)
