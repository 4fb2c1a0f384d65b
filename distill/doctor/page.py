"""doctor.html: every issue with pictures, in one file without scripts or external links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image

from distill.data.sample import Sample
from distill.doctor.issue_kinds import Issue, by_kind
from distill.doctor.table import format_sequences, format_sizes, verdict
from distill.metrics.surface import contour
from distill.report.thumbnails import TRUTH, uri

SHOWN = 12  # issues of a kind with pictures; doctor.json has all
SENTENCES = 40  # issues of a kind on the page, those after `SHOWN` without pictures
PICTURES = 6  # of one issue at most
TALL, WIDE = 132, 200  # pixels of a thumbnail at most


@dataclass(frozen=True)
class Thumbnail:
    """A picture inside the page."""

    uri: str
    caption: str
    width: int
    height: int


def render_page(result: Mapping[str, Any], issues: Sequence[Issue]) -> str:
    """The page as HTML, from the content of doctor.json and the issues with their samples."""
    import jinja2

    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, autoescape=True
    )
    template = environment.from_string(files("distill.doctor").joinpath("page.html.jinja").read_text(encoding="utf-8"))
    kinds = [
        {
            "name": kind,
            "severity": mine[0].severity,
            "advice": mine[0].advice,
            "count": len(mine),
            "entries": [(one.sentence, thumbnails_of(one), len(one.samples)) for one in mine[:SHOWN]],
            "further": [one.sentence for one in mine[SHOWN:SENTENCES]],
            "left": max(0, len(mine) - SENTENCES),
        }
        for kind, mine in by_kind(issues).items()
    ]
    return template.render(
        result=result,
        kinds=kinds,
        verdict=verdict(result),
        format_sizes=format_sizes,
        format_sequences=format_sequences,
    )


def thumbnails_of(issue: Issue) -> list[Thumbnail]:
    """The first images of an issue, with the contours of their masks."""
    shown = zip(issue.samples, issue.where, strict=True)
    return [thumbnail(sample, part=part) for sample, part in list(shown)[:PICTURES]]


def thumbnail(sample: Sample, *, part: str) -> Thumbnail:
    """A small JPEG of an image with the contour of its mask."""
    image, mask = Image.fromarray(sample.read_image()), sample.read_mask()
    image.thumbnail((WIDE, TALL), Image.Resampling.LANCZOS)
    small = Image.fromarray(255 * ((mask > 0) & (mask < 255)).astype(np.uint8)).resize(image.size)
    pixels = np.array(image)
    pixels[contour(np.asarray(small) >= 128)] = TRUTH
    caption = f"{sample.dataset}/{sample.stem}" + (f" · {part}" if part else "")
    return Thumbnail(uri(pixels), caption, *image.size)
