"""The kinds of issues of a data set: severity, meaning and remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distill.data.sample import Sample
from distill.runtime.issues import Problem

ERROR, NOTE = "error", "note"

# Errors are what stops a run, or makes a score mean less than it says; the exit status is 1 if there is any. What
# `Problems` reports (unpaired, unreadable, another size, ...) stops a run and is an error too.
KINDS = {
    "image in two parts": (
        ERROR,
        "The same file is trained on and tested or validated. A run here drops it from training; others would not.",
    ),
    "near copy in two parts": (
        ERROR,
        "A tested or validated image looks nearly like one that is trained on: its score is partly memory. Take the "
        "training image out, or cut by sequence.",
    ),
    "test of known sequences": (
        ERROR,
        "Frames of the same sequences or patients are trained on. Cut the split by sequence, or say so beside a score.",
    ),
    "sequence in two parts": (ERROR, "The sequences or patients of which this is so, with a frame of each part."),
    "one image with two masks": (ERROR, "The same picture is there twice with different masks. Keep the right one."),
    "copies": (NOTE, "The same file under several names. A run keeps each image once."),
    "near copies": (
        NOTE,
        "Images that look nearly alike, as frames of a video do. Keep them on one side of any split.",
    ),
    "values in between": (
        NOTE,
        "Masks that are not of two values. They are read as foreground from 128 on, which is right for JPEG noise and "
        "soft edges; where levels stand for something else, correct the masks.",
    ),
    "class numbers": (
        NOTE,
        "Are these class numbers, with 255 for what is not known? With student.classes=1 only 255 would be foreground; "
        "set student.classes to what the masks hold.",
    ),
    "empty mask": (NOTE, "No foreground. Right for frames that show nothing; else the annotation is missing."),
    "full mask": (NOTE, "Foreground everywhere. Rarely meant; look at it."),
    "tiny foreground": (NOTE, "Less than 0.1 % of the image. Perhaps a stray stroke, perhaps really that small."),
    "huge foreground": (NOTE, "More than 70 % of the image. Perhaps an inverted mask, perhaps really that close."),
    "one colour": (NOTE, "An image without any content, as black frames of a video."),
    "turned by EXIF": (
        NOTE,
        "The image's file asks to be shown turned, and it is; the mask's file does not. Right if the mask was drawn on "
        "the picture as it is shown.",
    ),
    "note on the data": (NOTE, "Notes on the data, from opening it."),
}
UNUSABLE = (
    "This stops a run; data.skip_bad=true goes on without single images, but not where a whole data set is wrong."
)


@dataclass(frozen=True)
class Issue:
    """Something of a data set to be checked or fixed."""

    kind: str  # of `KINDS`, or of a `Problem`
    sentence: str
    samples: tuple[Sample, ...] = ()  # to be shown, with their parts in `where`
    where: tuple[str, ...] = ()

    @property
    def severity(self) -> str:
        """`error` or `note`."""
        return KINDS.get(self.kind, (ERROR, ""))[0]

    @property
    def advice(self) -> str:
        """The meaning of its kind, and the remedy."""
        return KINDS.get(self.kind, (ERROR, UNUSABLE))[1]


def issues_of_problems(problems: Sequence[Problem]) -> list[Issue]:
    """The problems of opening the data, as issues."""
    return [Issue(problem.kind, problem.sentence) for problem in problems]


def by_kind(issues: Sequence[Issue]) -> dict[str, list[Issue]]:
    """Findings of each kind: errors first, then in the order of `KINDS`."""
    order = list(KINDS)
    kinds = dict.fromkeys(issue.kind for issue in issues)
    ranked = sorted(kinds, key=lambda kind: (kind in KINDS, order.index(kind) if kind in KINDS else 0))
    return {kind: [issue for issue in issues if issue.kind == kind] for kind in ranked}
