"""`distill adapt student=... images=... out=DIR`: a student with the batch-norm statistics of new images."""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace

from distill.cli.options import Command, Option, path
from distill.cli.predict import HOME, TORCH_STUDENT, TRUST
from distill.runs.latest import student_of
from distill.runtime.issues import several

logger = logging.getLogger("bandpass")


def run(given: SimpleNamespace, *, dry: bool) -> int:
    """Adapts, and says what changed; dry: only says what would be done."""
    from distill.inference.inputs import find_inputs
    from distill.inference.segmenter import require_student
    from distill.publishing.adapt import adapt, require_new
    from distill.publishing.batch_norm import require_enough

    student = student_of(given.student, home=given.home)
    if dry:
        require_student(student)
        require_new(given.out)
        pictures = [one for one in find_inputs(given.images, out=given.out)[0] if not one.video]
        require_enough(pictures)
        logger.info("would adapt %s to %s and write %s", student, several(len(pictures), "picture"), given.out)
        return 0
    found = adapt(student, given.images, out=given.out, trust=given.trust)
    sys.stdout.write(
        f"adapted to {several(found.images, 'image')}: mean image score of findings {found.score_before:.3f}, now "
        f"{found.score:.3f}; images with a finding {found.found_before}, now {found.found}\n"
        f"the adapted student is in {given.out}\n"
        "these scores prove nothing: where it was tried they rose and Dice fell; compare both on images with masks "
        "before it is used\n"
    )
    return 0


COMMAND = Command(
    "adapt",
    run,
    does="Estimates the batch-norm statistics of a published student anew from images of a new hospital or camera, "
    "without masks, and writes it as a student of its own. Nothing is written, and the command fails, where the mean "
    "image score (the Dice that its probability expects) of findings falls, where one that is lost counts 0, or where "
    "the student found nothing before. That is no proof: in the one hospital where it was tried, scores rose and Dice "
    "fell, so check the adapted student on images with masks.",
    writes=("out/  model.safetensors, config.json and card, which say what was done; no ONNX file",),
    options=(
        TORCH_STUDENT,
        Option(
            "images",
            "a folder of pictures, or a pattern in quotes ('DIR/**/*.png'); at least 8, better hundreds",
            shown="FOLDER|'GLOB'",
            required=True,
        ),
        Option("out", "a new folder for the adapted student", shown="DIR", read=path, required=True),
        TRUST,
        HOME,
    ),
    examples=(
        "distill adapt student=zoo:NAME images=DIR out=adapted",
        "distill predict student=adapted images=DIR out=masks",
    ),
)
