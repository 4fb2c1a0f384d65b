"""Calibration of a published student on images with masks of a new hospital or camera: thresholds and temperature."""

from __future__ import annotations

import hashlib
import logging
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch

import students
from distill.config.schema import DataRecipe
from distill.data.erase import erased_frames, shows_object
from distill.data.sample import Sample, keys_of
from distill.data.sources.open_data import open_data
from distill.inference.model import load_model
from distill.inference.thresholds import require_share
from distill.publishing.batch_norm import LEAST
from distill.publishing.derived import further_files, name_of, new_folder, require_new, write_further
from distill.publishing.markdown import code
from distill.publishing.operating_point import Choice, choose_thresholds
from distill.publishing.temperature import find_temperature
from distill.runtime.io import write_json
from distill.runtime.threads import use_all_cores
from students.config import locate
from students.published import LEARNED, learned_keys

logger = logging.getLogger("bandpass")

NOTE = """\
> **Calibrated anew.** This is {source} with thresholds and temperature fitted on {images} images with masks (sha256 of
> their digests {sha256}); no weight was changed. There its masks find something of the object in {found} of {shown}
> images and have a false alarm in {false_alarms} of {others}; mean Dice of all is {dice:.4f}. These figures are of
> the images that the thresholds were chosen on, and so too high. Thresholds, temperature and results further down are
> those of the student before. `distill publish student=THIS_FOLDER onnx=model.onnx` makes the ONNX file.
"""


class Inputs(NamedTuple):
    """The inputs of a calibration, all of them checked."""

    config: dict[str, Any]  # the student's config.json
    further: dict[str, Path]  # files beside it
    samples: tuple[Sample, ...]  # all images with masks
    shown: int  # those that show an object


def check_inputs(student: str | Path, data: DataRecipe, *, out: Path, home: Path) -> Inputs:
    """The checked inputs of a calibration; arguments and errors as of `calibrate`."""
    require_new(out)
    config = students.read_config(student)
    if config["classes"] > 1:
        raise ValueError(
            f"{student} has {config['classes']} classes, of which the most probable is taken; there is no threshold "
            "to choose"
        )
    further, splits = further_files(student), open_data(data, home=home)
    samples = (*splits.train, *splits.held_out)
    learned = (learned_keys(further[LEARNED].parent) if LEARNED in further else None) or ()
    if known := keys_of(samples).intersection(learned):
        raise ValueError(
            f"{student} was trained on {len(known)} of these {len(samples)} images, where it is surer than elsewhere; "
            "calibrate on other images"
        )
    shown = sum(shows_object(sample.read_mask()) for sample in samples)
    if shown < LEAST:
        raise ValueError(
            f"expected at least {LEAST} different images that show an object to calibrate on, got {shown} (and "
            f"{len(samples) - shown} without one); give more"
        )
    return Inputs(config, further, samples, shown)


def calibrate(
    student: str | Path,
    data: str | Path | DataRecipe,
    *,
    out: str | Path,
    sensitivity: float | None = None,
    home: str | Path = "artifacts",
    trust: str | None = None,
) -> Choice:
    """Writes a copy of a published student into `out`, with temperature and thresholds fitted on images with masks.

    If every image shows an object, frames made of them by covering it stand in for those without.

    Args:
        student: a published folder, a hub id or `zoo:NAME`; of one class.
        data: a folder with images/ and masks/, with and without an object, as the student will meet them; or what a
            recipe has under `data`, of which all parts are taken.
        out: a new or empty folder.
        sensitivity: the least share of images with an object in which something of it must be found; None: as many as
            at threshold 0.5.
        home: the folder that keeps an index of the files.
        trust: the class of a student of your own, `my_nets:Net`, whose code may run.

    Raises:
        FileNotFoundError: the student or the images do not exist.
        ConnectionError: the hub could not be asked which files lie beside the student.
        ValueError: `out` holds files, fewer than `LEAST` images show an object, the student has several classes, has
            learned from these images or finds no object in any, or no thresholds find so many.
    """
    if sensitivity is not None:
        require_share("sensitivity", sensitivity)
    out = Path(out).expanduser()
    recipe = data if isinstance(data, DataRecipe) else DataRecipe(name="folder", root=str(data))
    config, further, samples, shown = check_inputs(student, recipe, out=out, home=Path(home))
    erased = erased_frames(samples) if shown == len(samples) else ()
    if erased:
        told = "each of %d images shows an object, so %d made of them by covering it tell false alarms"
        logger.info(told, len(samples), len(erased))
    use_all_cores()
    model = load_model(student, trust=trust).to("cuda" if torch.cuda.is_available() else "cpu")
    model.temperature = 1.0
    calibration = find_temperature(model.predict, (*samples, *erased), classes=1)
    model.temperature = calibration.temperature
    choice = choose_thresholds(model.predict, (*samples, *erased), sensitivity=sensitivity)
    if not choice.chosen.found:
        raise ValueError(
            f"not calibrated: {student} finds no object in any of the {choice.shown} images that show one; train it "
            "further on such images (student.init=)"
        )
    point, digests = asdict(choice.chosen), "".join(sorted(sample.key for sample in samples))
    done = {
        "source": name_of(student, config),
        "images": len(samples),
        "shown": choice.shown,
        "erased": len(erased),
        "sha256": hashlib.sha256(digests.encode()).hexdigest(),
        **{name: point[name] for name in ("dice", "found", "false_alarms")},
        **({"earlier": config["calibrated"]} if "calibrated" in config else {}),
    }
    settings = {**choice.thresholds.entries(), "temperature": calibration.temperature, "calibrated": done}
    with new_folder(out) as folder:
        shutil.copyfile(locate(student, "model.safetensors"), folder / "model.safetensors")
        write_json(folder / "config.json", {**config, **settings})
        facts = {**done, "source": code(done["source"]), "sha256": done["sha256"][:12]}
        others = f"{len(erased)} made of them by covering it" if erased else f"the other {len(samples) - choice.shown}"
        write_further(further, NOTE.format(**facts, others=others), folder=folder)
    return choice
