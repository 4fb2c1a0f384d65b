"""`distill adapt student=... images=... out=DIR`: estimates a student's batch-norm statistics on new images."""

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
    """Adapts the student and reports the change; dry: only says what would be done."""
    from distill.inference.inputs import find_inputs
    from distill.publishing.adapt import adapt
    from distill.publishing.batch_norm import require_enough
    from distill.publishing.derived import require_new
    from students.config import locate

    student = student_of(given.student, home=given.home)
    if dry:
        locate(student, "config.json")  # not an ONNX file
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
        "these scores prove nothing: where this was tried, they rose and Dice fell; compare both students on images "
        "with masks before you use the new one\n"
    )
    return 0


COMMAND = Command(
    "adapt",
    run,
    does="Estimates the batch-norm statistics of a published student anew on images of a new hospital or camera, "
    "without masks, and writes the result as a new student. The command fails and writes nothing if the mean image "
    "score of findings falls (the Dice expected from the probabilities; a lost finding counts 0), or if the student "
    "found nothing before. A higher score proves nothing: in the one hospital where this was tried, scores rose and "
    "Dice fell. Check the adapted student on images with masks.",
    writes=("out/  model.safetensors; config.json and card, which say what was done; no ONNX file",),
    options=(
        TORCH_STUDENT,
        Option(
            "images",
            "a folder of pictures, or a pattern in quotes ('DIR/**/*.png'); at least 8 pictures, better hundreds",
            shown="FOLDER|'GLOB'",
            required=True,
        ),
        Option("out", "a new or empty folder for the adapted student", shown="DIR", read=path, required=True),
        TRUST,
        HOME,
    ),
    examples=(
        "distill adapt student=zoo:NAME images=DIR out=adapted",
        "distill predict student=adapted images=DIR out=masks",
    ),
)
