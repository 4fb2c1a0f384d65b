"""Every tested family of teachers as a table: loaded, equal to which code, at which sizes, and the error in bfloat16.

COMMAND writes it as JSON, and as Markdown beside it. The networks are those of the tests, small and random: trained
ones err otherwise in bfloat16.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import test_fpn as by_fpn
import test_timm_families as by_timm
import test_transformers_families as by_transformers
import torch
from pytest import skip
from small_teachers import random_pixels, write_dinov2, write_sam
from torch import Tensor
from transformers import AutoModel, SamVisionModel

import teachers
from distill.runtime.hardware import machine
from distill.runtime.io import write_json, write_text

COMMAND = "PYTHONPATH=.:tests:tests/teachers python tests/teachers/families.py results/bench/families.json"
COLUMNS = ("family", "adapter", "loaded", "equal to", "sizes, px", "maps", "largest difference", "error in bfloat16")
STORY = """\
Small random networks, as in the tests, float32, the same pixels. The largest difference is of any value of any map, by
the largest value of that map where it is above 1; at most 1e-5 is asked for. The error in bfloat16 is that of the worst
map: norm of the difference by norm of the map in float32. Sizes are the two that the tests have; `sam` takes one size,
and `dinov2` equals transformers at the weights' own.
"""
Pair = tuple[Any, Tensor, dict[str, Tensor]]  # teacher, pixels, and the maps that the other code gives


def timm_pair(family: str, folder: Path, size: int) -> Pair:
    """As `timm` and timm."""
    levels = by_timm.FAMILIES[family][2]
    teacher = teachers.load("timm", weights=folder, levels=levels, image_size=size)
    pixels, expected = by_timm.official(folder, family, size, levels)
    return teacher, pixels, dict(zip(teacher.spec.names, expected, strict=True))


def transformers_pair(family: str, folder: Path, size: int) -> Pair:
    """As `transformers` and transformers, which has some of the levels."""
    call, network, pixels = (
        by_transformers.FAMILIES[family][3],
        AutoModel.from_pretrained(folder).eval(),
        random_pixels(size),
    )
    kind = "stage" if hasattr(network.config, "depths") else "block"
    with torch.inference_mode():
        expected = call(network, pixels, size // (32 if kind == "stage" else network.config.patch_size), folder)
    every = tuple(range(max(expected) + 1))
    options = {"levels": every, "image_size": size, **by_transformers.STATISTICS}
    named = {f"{kind}{level}": value for level, value in expected.items()}
    return teachers.load("transformers", weights=folder, **options), pixels, named


def fpn_pair(kind: str, folder: Path, size: int) -> Pair:
    """As `fpn` and transformers, without the map of SAM 3 whose cells are no whole pixels."""
    teacher, pixels = teachers.load("fpn", weights=folder, image_size=size), random_pixels(size)
    with torch.inference_mode():
        pyramid = by_fpn.library(kind, folder, size)(pixels).fpn_hidden_states
    named = {f"fpn{index}": value for index, value in enumerate(pyramid)}
    return teacher, pixels, {name: named[name] for name in teacher.spec.names}


def sam_pair(_: str, folder: Path, size: int) -> Pair:
    """As `sam` and transformers."""
    pixels = random_pixels(size)
    with torch.inference_mode():
        expected = SamVisionModel.from_pretrained(folder).eval()(pixels).last_hidden_state
    return teachers.load("sam", weights=folder), pixels, {"neck": expected}


def dinov2_pair(_: str, folder: Path, size: int) -> Pair:
    """As `dinov2` and transformers, which differ at other sizes than the weights' own."""
    pixels, rows = random_pixels(size), size // 14
    with torch.inference_mode():
        expected = by_transformers.tokens(AutoModel.from_pretrained(folder).eval(), pixels, rows=rows)
    return teachers.load("dinov2", weights=folder), pixels, {"block1": expected}


def cases() -> Iterator[tuple[str, str, str, tuple[int, ...], Callable[[Path], object], Callable[..., Pair]]]:
    """Family, adapter, the other code, sizes, what writes the weights, and what loads both."""
    for family, (*_, sizes, _) in by_timm.FAMILIES.items():
        yield family, "timm", "timm", sizes, lambda folder, f=family: by_timm.write(folder, f), timm_pair
    for family, (_, _, sizes, *_) in by_transformers.FAMILIES.items():
        write = lambda folder, f=family: by_transformers.written(folder, f)  # noqa: E731
        yield family, "transformers", "transformers", sizes, write, transformers_pair
    for kind, write in by_fpn.WRITERS.items():
        yield kind, "fpn", "transformers", by_fpn.SIZES[kind], write, fpn_pair
    yield "SamVisionModel", "sam", "transformers", (80,), write_sam, sam_pair
    yield "Dinov2Model", "dinov2", "transformers", (140,), write_dinov2, dinov2_pair


def row_of(family: str, adapter: str, code: str, sizes: tuple[int, ...], write: Any, load: Any) -> dict[str, Any]:
    """The figures of one family; raises where a map of the other code is not among the teacher's."""
    with TemporaryDirectory() as folder:
        write(Path(folder))
        worst, count = 0.0, 0
        for size in sizes:
            teacher, pixels, expected = load(family, Path(folder), size)
            found, count = teacher.embed(pixels), len(expected)
            for name, value in expected.items():
                worst = max(worst, float((found[name] - value).abs().max()) / max(1.0, float(value.abs().max())))
        error = error_of(teacher, pixels, found)
    values = (family, adapter, "strictly", code, " and ".join(map(str, sizes)), count, worst, error)
    return dict(zip(COLUMNS, values, strict=True))


def error_of(teacher: Any, pixels: Tensor, found: dict[str, Tensor]) -> float | str:
    """The largest relative error of its maps in bfloat16, or that torch lacks an operator."""
    try:
        coarse = teacher.to("cpu", torch.bfloat16).embed(pixels)
    except NotImplementedError:
        return "not on CPUs"
    return max(float((coarse[name] - value).norm() / value.norm()) for name, value in found.items())


def main(out: Path) -> None:
    """Writes the table as JSON and Markdown."""
    torch.set_num_threads(1)
    rows = [row for case in cases() if (row := row_or_none(case)) is not None]
    where = machine(1)
    write_json(out, {"command": COMMAND, "machine": where, "families": rows})
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
    for row in rows:
        *texts, worst, error = row.values()
        shown = error if isinstance(error, str) else f"{error:.1%}"
        lines.append(f"| {' | '.join(map(str, texts))} | {worst:.1e} | {shown} |")
    head = f"`{COMMAND}`\n\n{', '.join(f'{key} {value}' for key, value in where.items())}\n\n{STORY}\n"
    write_text(out.with_suffix(".md"), head + "\n".join(lines) + "\n")


def row_or_none(case: Sequence[Any]) -> dict[str, Any] | None:
    """The row of a case; None where the installed library has no such network, which is said."""
    try:
        return row_of(*case)
    except skip.Exception as reason:
        sys.stderr.write(f"{case[0]} ({case[1]}): {reason}\n")
        return None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
