"""`distill predict student=... images=... out=DIR`: the command line of `distill.predict`."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from distill.cli.options import Command, Option, number, path, truth
from distill.runs.latest import student_of
from distill.runtime.issues import several

logger = logging.getLogger("bandpass")


def run(given: SimpleNamespace, *, dry: bool) -> int:
    """Predicts, and prints a table of the results; returns 1 if any file could not be read."""
    from distill.inference.inputs import find_inputs
    from distill.inference.output_dir import require_own
    from distill.inference.predict import predict
    from distill.inference.segmenter import require_student

    student = student_of(given.student, home=given.home)
    if dry:
        require_student(student)
        require_own(given.out)
        inputs, _ = find_inputs(given.images, out=given.out)
        videos = sum(one.video for one in inputs)
        logger.info("would predict %s and %s with %s into %s", several(len(inputs) - videos, "picture"),
                    several(videos, "video"), student, given.out)  # fmt: skip
        return 0
    summary = predict(
        student,
        given.images,
        out=given.out,
        threshold=given.threshold,
        region_threshold=given.region_threshold,
        flips=given.flips,
        probabilities=given.probabilities,
        trust=given.trust,
    )
    sys.stdout.write("\n".join(summary.lines()) + "\n")
    return 1 if summary.failures else 0


_OTHERS = (
    "an id on the hub, zoo:NAME (distill zoo lists them), or a run: its folder, or its name in HOME/runs "
    "(RECIPE-STUDENT or RECIPE: the latest such run)"
)
STUDENT = Option(
    "student",
    f"a published folder, its model.onnx (run by ONNX Runtime alone), {_OTHERS}",
    shown="DIR|RUN|hub-id|zoo:NAME|model.onnx",
    required=True,
)
TORCH_STUDENT = replace(STUDENT, meaning=f"a published folder, {_OTHERS}", shown="DIR|RUN|hub-id|zoo:NAME")
TRUST = Option(
    "trust", "allow the code of this class, which is not part of Bandpass, to run for a student", shown="my_nets:Net"
)
HOME = Option("home", "folder in which runs are found by name", "artifacts", Path("artifacts"), path)
COMMAND = Command(
    "predict",
    run,
    continues=True,
    does="Segments pictures and videos with a published student. A second call skips what is complete in out; with "
    "another student, thresholds or flips it does everything again, and is refused if other images have results there. "
    "BANDPASS_THREADS=N in the environment sets the network's threads: use 1 if other work keeps the cores busy.",
    writes=(
        "out/masks/NAME.png      0 and 255 at the picture's own size; several classes: class numbers with a palette",
        "out/overlays/NAME.jpg   the picture with fill and contour",
        "out/areas.csv           for each picture and class: area in pixels and as a share, box, parts, expected Dice",
        "out/videos/NAME.mp4, NAME.csv   the video with fill and contour, and a line for each frame",
        "out/predict.json        the student, thresholds and palette of these results",
    ),
    options=(
        STUDENT,
        Option(
            "images",
            "a picture, a folder of pictures and videos, a pattern in quotes ('DIR/**/*.png'), or a video",
            shown="FILE|FOLDER|'GLOB'|VIDEO",
            required=True,
        ),
        Option("out", "a folder for the results", shown="DIR", read=path, required=True),
        Option(
            "threshold",
            "probability from which a pixel is foreground; empty: the student's own",
            read=number,
        ),
        Option(
            "region_threshold",
            "probability that a connected region must reach in a pixel, or else it is dropped: a high one loses false "
            "alarms, and also true regions; empty: the student's own",
            read=number,
        ),
        Option("flips", "average over four mirror images, which takes four times as long", "false", False, truth),
        Option("probabilities", "also write the probability as grey pictures", "false", False, truth),
        TRUST,
        HOME,
    ),
    examples=(
        "distill predict student=artifacts/runs/RUN/student images=DIR out=masks",
        "distill predict student=sam_to_unet images=DIR out=masks    # the latest run of a recipe",
        "distill predict student=model.onnx images='DIR/**/*.png' out=masks flips=true probabilities=true",
        "distill predict student=OWNER/NAME images=video.mp4 out=video threshold=0.4",
    ),
)
