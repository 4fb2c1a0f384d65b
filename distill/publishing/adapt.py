"""Adaptation of a published student to unlabelled images of a new kind: batch-norm statistics estimated anew.

No weight is trained (Li et al., 2017, "Revisiting batch normalization for practical domain adaptation",
arXiv:1603.04779; Schneider et al., 2020, "Improving robustness against common corruptions by covariate shift
adaptation", NeurIPS). Results on such images afterwards measure adaptation, not generalisation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

import students
from distill.inference.inputs import find_inputs
from distill.inference.model import InferenceModel, load_model
from distill.inference.regions import image_score
from distill.publishing.batch_norm import estimate_statistics, norms_of, read, readable
from distill.publishing.derived import further_files, name_of, new_folder, require_new, write_further
from distill.publishing.markdown import code
from distill.publishing.student import save_weights
from distill.runtime.threads import use_all_cores

NOTE = """\
> **Adapted.** This is {source} with batch-norm statistics estimated anew from {images} images without masks (sha256 of
> their digests {sha256}); no weight was trained. The mean image score of findings changed from {score_before:.3f} to
> {score:.3f}, and the number of images with a finding from {found_before} to {found}. The results below are of the
> student before adaptation. Its thresholds and temperature are unchanged: they were fitted for that student, so on
> images like these the probability may not be calibrated. Results on images of this origin measure adaptation,
> not generalisation; on other images the adapted student may be worse.
> `distill publish student=THIS_FOLDER onnx=model.onnx` makes the ONNX file.
"""


@dataclass(frozen=True)
class Adaptation:
    """An adaptation, as in `adapted` of config.json, where `earlier` holds a previous adaptation.

    Attributes:
        source: the student that was adapted.
        images: the number of images from which the statistics were estimated.
        sha256: of the sorted digests of their files.
        score_before: mean image score of the original student, over images in which it found something; 0 if none.
        score: the same of the adapted student; a finding that was lost counts as 0.
        found_before: number of images in which the original student found something.
        found: the same of the adapted student.
    """

    source: str
    images: int
    sha256: str
    score_before: float
    score: float
    found_before: int
    found: int


def adapt(student: str | Path, images: str | Path, *, out: str | Path, trust: str | None = None) -> Adaptation:
    """Writes a published folder with batch-norm statistics of `images` into `out`, if the image score does not fall.

    Args:
        student: a published folder, a hub id or `zoo:NAME`.
        images: a folder, a pattern or a picture, as `distill predict` takes them; videos are ignored.
        out: a new or empty folder.
        trust: the class of a student of your own, `my_nets:Net`, whose code may run.

    Raises:
        FileNotFoundError: the student or the images do not exist.
        ConnectionError: the hub could not be asked which files lie beside the student.
        ValueError: `out` holds files, the student has no batch norm, there are fewer than `LEAST` images, the student
            finds nothing in any of them, or the mean image score fell. Nothing is written then.
    """
    out = Path(out).expanduser()
    require_new(out)
    use_all_cores()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(student, trust=trust).to(device)
    if not norms_of(model):
        raise ValueError(
            f"{student} has no batch norm with running statistics, so there is nothing to estimate anew; train it "
            "further on such images instead (student.init=, data.unlabelled=)"
        )
    further = further_files(student)
    config = students.read_config(student)
    before: list[Answer] = []
    frames = readable(
        [one for one in find_inputs(str(images), out=out)[0] if not one.video],
        use=lambda image: before.append(answer_of(model, image)),
        what="image scores before",
    )
    adapted = estimate_statistics(model, frames)
    after = [answer_of(adapted, image) for image in read(frames, "image scores after")]
    done = compare_answers(before, after, source=name_of(student, config), digests=[digest for _, digest in frames])
    require_evidence(done, student)
    earlier = {"earlier": config["adapted"]} if "adapted" in config else {}
    with new_folder(out) as folder:
        save_weights(adapted.cpu().student, folder, config={**config, "adapted": {**asdict(done), **earlier}})
        facts = {**asdict(done), "source": code(done.source), "sha256": done.sha256[:12]}
        write_further(further, NOTE.format(**facts), folder=folder)
    return done


def require_evidence(done: Adaptation, student: str | Path) -> None:
    """Raises ValueError unless the image scores show that the adapted copy is no worse than `student`."""
    if not done.found_before:
        raise ValueError(
            f"not adapted: {student} finds nothing in any of these {done.images} images, so no image score can tell "
            "whether new statistics help; give images in which it finds something, or train it further on such images "
            "(student.init=, data.unlabelled=)"
        )
    if done.score < done.score_before:
        raise ValueError(
            f"not adapted: with statistics of these {done.images} images the mean image score of findings fell "
            f"from {done.score_before:.3f} to {done.score:.3f} (images with a finding: {done.found_before}, then "
            f"{done.found}), so nothing was written; keep {student} as it is"
        )


class Answer(NamedTuple):
    """A student's answer to one image: its image score, and whether it found something."""

    score: float
    found: bool


def answer_of(model: InferenceModel, image: np.ndarray) -> Answer:
    """The answer of a model to an RGB image uint8 (H, W, 3)."""
    probability = model.predict(image)
    mask = model.thresholds.mask(probability)
    return Answer(image_score(mask, probability), bool(mask.any()))


def compare_answers(
    before: Sequence[Answer], after: Sequence[Answer], *, source: str, digests: Sequence[str]
) -> Adaptation:
    """Compares the mean image scores before and after, over images with a finding.

    Images without a finding are left out: the score of an empty mask measures something else, and is high for a student
    that finds nothing.
    """
    scores = [new.score if new.found else 0.0 for old, new in zip(before, after, strict=True) if old.found or new.found]
    return Adaptation(
        source=source,
        images=len(digests),
        sha256=hashlib.sha256("".join(sorted(digests)).encode()).hexdigest(),
        score_before=float(np.mean([one.score for one in before if one.found] or [0.0])),
        score=float(np.mean(scores or [0.0])),
        found_before=sum(one.found for one in before),
        found=sum(one.found for one in after),
    )
