"""A published student adapted to images of a new kind without masks: its batch-norm statistics, estimated anew.

No weight is trained (Li et al., 2017, "Revisiting batch normalization for practical domain adaptation",
arXiv:1603.04779; Schneider et al., 2020, "Improving robustness against common corruptions by covariate shift
adaptation", NeurIPS). What is measured on such images afterwards is adaptation, not generalisation.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import students
from distill.inference.inputs import find_inputs
from distill.inference.model import InferenceModel, load_model
from distill.inference.regions import image_score
from distill.metrics.overlap import THRESHOLD, labels
from distill.publishing.batch_norm import estimate_statistics, norms_of, read, readable
from distill.publishing.folder import replaced
from distill.publishing.markdown import code
from distill.publishing.student import save_weights
from distill.runtime.io import write_text
from distill.runtime.threads import use_all_cores
from students.config import locate
from students.published import LEARNED

COPIED = ("recipe.yaml", LEARNED)  # not results.json: its figures are those of the student before
NOTE = """\
> **Adapted.** This is {source} with the statistics of its batch norms estimated anew from {images} images without
> masks (sha256 of their digests {sha256}); no weight was trained. The mean image score of findings was
> {score_before:.3f} and is {score:.3f}, images with a finding were {found_before} and are {found}. The figures below
> are those of the student before. What is measured on images of this origin is adaptation, not generalisation; on
> others it may be worse. `distill publish student=THIS_FOLDER onnx=model.onnx` makes the ONNX file.
"""


@dataclass(frozen=True)
class Adaptation:
    """What was done, as `adapted` of config.json says.

    Attributes:
        source: the student that was adapted.
        images: how many the statistics are of.
        sha256: of the sorted digests of their files.
        score_before: mean image score of the student as it was, over the images in which it found something; 0 of none.
        score: that of the adapted one, where a finding that was lost counts 0.
        found_before: images with a finding by the student as it was.
        found: by the adapted one.
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
        images: a folder, a pattern or a picture, as `distill predict` takes them; videos are passed over.
        out: a new or empty folder.
        trust: the class of a student of your own, `my_nets:Net`, whose code may run.

    Raises:
        FileNotFoundError: the student or the images are not there.
        ValueError: `out` holds files, the student has no batch norm, there are fewer than `LEAST` images, or the mean
            image score fell; then nothing is written.
    """
    out = Path(out).expanduser()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"out={out} is there already; choose an empty or a new folder")
    use_all_cores()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(student, trust=trust).to(device)
    if not norms_of(model):
        raise ValueError(
            f"{student} has no batch norm with running statistics, so that there is nothing to estimate anew; train it "
            "further on such images instead (student.init=, data.unlabelled=)"
        )
    frames = readable([one for one in find_inputs(str(images), out=out)[0] if not one.video])
    config = students.read_config(student)
    threshold = config.get("threshold", THRESHOLD)
    before = [answer_of(model, image, threshold=threshold) for image in read(frames, "image scores before")]
    adapted = estimate_statistics(model, frames)
    after = [answer_of(adapted, image, threshold=threshold) for image in read(frames, "image scores after")]
    place = Path(student).expanduser()
    source = config.get("run", place.name) if place.is_dir() else str(student)
    found = compare(before, after, source=source, digests=[digest for _, digest in frames])
    if found.score < found.score_before:
        raise ValueError(
            f"not adapted: with statistics of these {found.images} images the mean image score of findings fell "
            f"from {found.score_before:.3f} to {found.score:.3f} (images with a finding: {found.found_before}, then "
            f"{found.found}), so that nothing was written; keep {student} as it is"
        )
    write(adapted.cpu(), student, found, out=out)
    return found


class Answer(NamedTuple):
    """A student's answer to one image: its image score, and whether it found something."""

    score: float
    found: bool


def answer_of(model: InferenceModel, image: np.ndarray, *, threshold: float) -> Answer:
    """The answer of a model to an RGB image uint8 (H, W, 3)."""
    probability = model.predict(image)
    mask = labels(probability, threshold=threshold)
    return Answer(image_score(mask, probability), bool(mask.any()))


def compare(before: Sequence[Answer], after: Sequence[Answer], *, source: str, digests: Sequence[str]) -> Adaptation:
    """The mean image scores of both, over images with a finding.

    Images without any are left out: of an empty mask the score is another quantity, and one that finds nothing is sure.
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


def write(model: InferenceModel, source: str | Path, found: Adaptation, *, out: Path) -> None:
    """Writes the folder: weights, config with `adapted`, the card with a note, and what lay beside them."""
    config: dict[str, Any] = {**students.read_config(source), "adapted": asdict(found)}
    with replaced(out) as folder:
        save_weights(model.student, folder, config=config)
        for name in COPIED:
            if (file := beside(source, name)) is not None:
                shutil.copyfile(file, folder / name)
        card = beside(source, "README.md")
        write_text(folder / "README.md", adapted_card(card.read_text(encoding="utf-8") if card else "", found))


def beside(source: str | Path, name: str) -> Path | None:
    """A further file of a published student; None where it has none."""
    try:
        return locate(source, name)
    except FileNotFoundError:
        return None


def adapted_card(card: str, found: Adaptation) -> str:
    """The card of the student before with a note on top, and without its figures in the front matter."""
    import yaml

    front, body = "", card
    if card.startswith("---\n") and "\n---\n" in card:
        front, body = card.removeprefix("---\n").split("\n---\n", 1)
        facts = {key: value for key, value in yaml.safe_load(front).items() if key != "model-index"}
        front = f"---\n{yaml.safe_dump(facts, sort_keys=False)}---\n\n"
    facts = {**asdict(found), "source": code(found.source), "sha256": found.sha256[:12]}
    return f"{front}{NOTE.format(**facts)}\n{body.lstrip()}"
