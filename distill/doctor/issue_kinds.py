"""The kinds of issues of a data set: severity, meaning and remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distill.data.sample import Sample
from distill.runtime.issues import Problem

ERROR, NOTE = "error", "note"

# An error stops a run, or makes a score mean less than it says; the exit status is 1 if there is any. What `Problems`
# reports (unpaired, unreadable, another size, ...) stops a run and is an error too.
KINDS = {
    "image in two parts": (
        ERROR,
        "The same file is in training and in test or validation. A run here drops it from training; others may not.",
    ),
    "near copy in two parts": (
        ERROR,
        "A test or validation image is nearly the same as a training image, so its score is partly memory. Remove the "
        "training image, or split by sequence.",
    ),
    "test of known sequences": (
        ERROR,
        "Training has frames of the same sequences or patients. Split by sequence, or say so when you report a score.",
    ),
    "sequence in two parts": (ERROR, "Sequences or patients with frames in several parts, with a frame of each part."),
    "one image with two masks": (ERROR, "The same picture occurs with different masks. Keep the right one."),
    "copies": (NOTE, "The same file under several names. A run keeps each image once."),
    "near copies": (
        NOTE,
        "Images that look nearly alike, as frames of a video do. Keep them on one side of any split.",
    ),
    "values in between": (
        NOTE,
        "Masks with more than two values. Levels from 128 on are read as foreground, which is right for JPEG noise and "
        "soft edges; if levels mean something else, correct the masks.",
    ),
    "class numbers": (
        NOTE,
        "Are these class numbers, with 255 for unknown pixels? With student.classes=1, only 255 would be foreground; "
        "set student.classes to the number of classes in the masks.",
    ),
    "an object everywhere": (
        NOTE,
        "A student that never sees a frame without an object finds one in most of them. If yours will meet such "
        "frames, add some with empty masks, or make some: augment.erase=0.5 (0.25 with a teacher), with "
        "evaluate.erased=true to count the false alarms.",
    ),
    "empty mask": (NOTE, "No foreground. Right for frames without an object; else the annotation is missing."),
    "full mask": (NOTE, "Foreground everywhere. Rarely intended; check it."),
    "tiny foreground": (NOTE, "Less than 0.1 % of the image. Perhaps a stray stroke, perhaps a small object."),
    "huge foreground": (NOTE, "More than 70 % of the image. Perhaps an inverted mask, perhaps a close object."),
    "one colour": (NOTE, "An image without content, such as a black frame of a video."),
    "turned by EXIF": (
        NOTE,
        "The image's EXIF tag says to turn it, and it is turned; the mask has no such tag. Right if the mask was drawn "
        "on the turned picture.",
    ),
    "note on the data": (NOTE, "Notes from opening the data."),
}
UNUSABLE = (
    "This stops a run; data.skip_bad=true leaves out single images, but cannot help if a whole data set is wrong."
)


@dataclass(frozen=True)
class Issue:
    """Something of a data set to be checked or fixed."""

    kind: str  # of `KINDS`, or of a `Problem`
    sentence: str
    samples: tuple[Sample, ...] = ()  # shown as pictures, with their parts in `where`
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
    """The problems found while opening the data, as issues."""
    return [Issue(problem.kind, problem.sentence) for problem in problems]


def by_kind(issues: Sequence[Issue]) -> dict[str, list[Issue]]:
    """Kind -> its issues: errors first, then in the order of `KINDS`."""
    order = list(KINDS)
    kinds = dict.fromkeys(issue.kind for issue in issues)
    ranked = sorted(kinds, key=lambda kind: (kind in KINDS, order.index(kind) if kind in KINDS else 0))
    return {kind: [issue for issue in issues if issue.kind == kind] for kind in ranked}
