"""Adaptation of a published student to unlabelled images of a new kind: batch-norm statistics estimated anew.

No weight is trained (Li et al., 2017, "Revisiting batch normalization for practical domain adaptation",
arXiv:1603.04779; Schneider et al., 2020, "Improving robustness against common corruptions by covariate shift
adaptation", NeurIPS). Results on such images afterwards measure adaptation, not generalisation.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

import students
from distill.inference.inputs import find_inputs
from distill.inference.model import InferenceModel, load_model, threshold_of
from distill.inference.regions import image_score
from distill.metrics.overlap import labels
from distill.publishing.batch_norm import estimate_statistics, norms_of, read, readable
from distill.publishing.folder import replaced
from distill.publishing.markdown import code
from distill.publishing.plan import CARD
from distill.publishing.student import save_weights
from distill.runtime.io import write_text
from distill.runtime.threads import use_all_cores
from students.config import locate
from students.published import LEARNED

COPIED = ("recipe.yaml", LEARNED)  # not results.json, whose figures are those of the student before
NOTE = """\
> **Adapted.** This is {source} with batch-norm statistics estimated anew from {images} images without masks (sha256 of
> their digests {sha256}); no weight was trained. The mean image score of findings changed from {score_before:.3f} to
> {score:.3f}, and the number of images with a finding from {found_before} to {found}. The results below are of the
> student before adaptation. Its threshold and temperature are unchanged too: they were fitted on its validation images,
> so on images like these the probability may not be calibrated. Results on images of this origin measure adaptation,
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


def require_new(out: Path) -> None:
    """Raises ValueError unless `out` is new or an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"out={out} exists already; choose an empty or a new folder")


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
    further = {name: file for name in (*COPIED, CARD) if (file := beside(student, name)) is not None}
    config, threshold = students.read_config(student), threshold_of(student)
    before: list[Answer] = []
    frames = readable(
        [one for one in find_inputs(str(images), out=out)[0] if not one.video],
        use=lambda image: before.append(answer_of(model, image, threshold=threshold)),
        what="image scores before",
    )
    adapted = estimate_statistics(model, frames)
    after = [answer_of(adapted, image, threshold=threshold) for image in read(frames, "image scores after")]
    place = Path(student).expanduser()
    source = config.get("run", place.name) if place.is_dir() else str(student)
    done = compare_answers(before, after, source=source, digests=[digest for _, digest in frames])
    require_evidence(done, student)
    earlier = {"earlier": config["adapted"]} if "adapted" in config else {}
    with replaced(out) as folder:
        save_weights(adapted.cpu().student, folder, config={**config, "adapted": {**asdict(done), **earlier}})
        write_further(further, done, folder=folder)
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


def answer_of(model: InferenceModel, image: np.ndarray, *, threshold: float) -> Answer:
    """The answer of a model to an RGB image uint8 (H, W, 3)."""
    probability = model.predict(image)
    mask = labels(probability, threshold=threshold)
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


def beside(source: str | Path, name: str) -> Path | None:
    """Another file of a published student; None if it has no such file.

    Raises:
        ConnectionError: the hub does not say whether the file exists.
    """
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return locate(source, name)
    except FileNotFoundError as error:
        reason = error.__cause__  # the hub's; none of a folder
        absent = isinstance(reason, EntryNotFoundError) and not isinstance(reason, LocalEntryNotFoundError)
        if reason is None or absent:
            return None
        raise ConnectionError(f"{error}; {name} would be missing from the adapted student; try again later") from error


def write_further(files: Mapping[str, Path], done: Adaptation, *, folder: Path) -> None:
    """Copies the further files of the student into `folder`, and writes the card with a note."""
    for name in COPIED:
        if name in files:
            shutil.copyfile(files[name], folder / name)
    card = files[CARD].read_text(encoding="utf-8") if CARD in files else ""
    write_text(folder / CARD, adapted_card(card, done))


def adapted_card(card: str, done: Adaptation) -> str:
    """The original student's card with a note on top, and without the results in its front matter."""
    import yaml

    front, body = "", card
    if card.startswith("---\n") and "\n---\n" in card:
        front, body = card.removeprefix("---\n").split("\n---\n", 1)
        entries = {key: value for key, value in (yaml.safe_load(front) or {}).items() if key != "model-index"}
        front = f"---\n{yaml.safe_dump(entries, sort_keys=False)}---\n\n" if entries else ""
    facts = {**asdict(done), "source": code(done.source), "sha256": done.sha256[:12]}
    return f"{front}{NOTE.format(**facts)}\n{body.lstrip()}"
