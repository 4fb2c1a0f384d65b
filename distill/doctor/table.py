"""The table that the doctor prints, and doctor.json."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from distill.doctor.checks import RANK, Case
from distill.doctor.issue_kinds import ERROR, Issue, by_kind
from distill.runtime.issues import several

WIDTH, INDENT = 118, 20  # columns of a printed line, and before an issue
EXAMPLES = {"error": 8, "note": 3}  # issues of a kind that are printed; the others are counted


def to_json(root: str, cases: Sequence[Case], issues: Sequence[Issue]) -> dict[str, Any]:
    """The content of doctor.json.

    Returns:
        {"root", "images", "errors", "notes", "datasets": {name: {"images", "parts", "sizes", "sequences"}},
        "findings": [{"kind", "severity", "advice", "count", "items": [{"sentence", "images"}]}]}
    """
    names = dict.fromkeys(case.sample.dataset for case in cases)
    kinds = by_kind(issues)
    return {
        "root": root,
        "images": len(cases),
        "errors": sum(issue.severity == ERROR for issue in issues),
        "notes": sum(issue.severity != ERROR for issue in issues),
        "datasets": {name: _describe([case for case in cases if case.sample.dataset == name]) for name in names},
        "findings": [
            {
                "kind": kind,
                "severity": mine[0].severity,
                "advice": mine[0].advice,
                "count": len(mine),
                "items": [
                    {"sentence": one.sentence, "images": [f"{s.dataset}/{s.stem}" for s in one.samples]} for one in mine
                ],
            }
            for kind, mine in kinds.items()
        ],
    }


def _describe(cases: Sequence[Case]) -> dict[str, Any]:
    sizes = Counter(case.sample.size for case in cases)
    height, width = sizes.most_common(1)[0][0]
    groups = {case.sample.group for case in cases} - {None}
    parts = Counter(case.part for case in cases if case.part)
    return {
        "images": len(cases),
        "parts": {part: parts[part] for part in sorted(parts, key=lambda part: RANK[part])},
        "sizes": {"count": len(sizes), "most_common": [width, height]},
        "sequences": len(groups),
    }


def table(result: Mapping[str, Any]) -> str:
    """The printed tables: data sets, then issues, errors first."""
    lines = [f"{'data set':<24}{'images':>8}  {'parts':<34}{'size':<22}sequences"]
    for name, entry in result["datasets"].items():
        parts = ", ".join(f"{part} {count}" for part, count in entry["parts"].items()) or "no split"
        lines.append(f"{name:<24}{entry['images']:>8}  {parts:<34}{format_sizes(entry):<22}{format_sequences(entry)}")
    lines += ["", f"{'severity':<10}{'count':>6}  issue"]
    for kind in result["findings"]:
        lines.append(f"{kind['severity']:<10}{kind['count']:>6}  {kind['kind']}")
        shown = EXAMPLES[kind["severity"]]
        for item in kind["items"][:shown]:
            lines += wrapped(item["sentence"])
        if kind["count"] > shown:
            lines.append(" " * INDENT + f"... and {kind['count'] - shown} more, in doctor.json")
    return "\n".join([*lines, "", verdict(result)]) + "\n"


def wrapped(sentence: str) -> list[str]:
    """The lines of an issue under its kind."""
    wrapper = textwrap.TextWrapper(WIDTH, break_on_hyphens=False, break_long_words=False)
    wrapper.initial_indent, wrapper.subsequent_indent = " " * INDENT, " " * (INDENT + 2)
    return wrapper.wrap(sentence)


def format_sizes(entry: Mapping[str, Any]) -> str:
    """`384 x 288`, or the most common of several sizes."""
    width, height = entry["sizes"]["most_common"]
    return f"{width} x {height}" if entry["sizes"]["count"] == 1 else f"{entry['sizes']['count']} sizes"


def format_sequences(entry: Mapping[str, Any]) -> str:
    """The number of sequences, if it is known."""
    return str(entry["sequences"]) if entry["sequences"] else "not known"


def verdict(result: Mapping[str, Any]) -> str:
    """The number of images, errors and notes, in a sentence."""
    found = f"{several(result['errors'], 'error')} and {several(result['notes'], 'note')}"
    return f"{several(result['images'], 'image')} examined: {found}"
