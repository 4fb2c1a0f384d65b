"""Task teachers: a published decoder that reads another teacher's cache, and the cache of its soft masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

import cache
from cache.shard import Record
from cache.spec import LOGIT_CLIP, MASK, FeatureSpec, MapSpec, flip
from distill.config.command import command_for
from distill.extraction.encode import encode, write_coded
from distill.runs.fingerprint import digest_file
from distill.runtime.io import read_json
from students.base import whole
from students.published import require_published
from students.task_decoder import TaskDecoder

CURE = "publish the task teacher again with distill publish"
FACTS = "task.json"  # in the published folder: the cache that the decoder reads, and its training images
FIDELITY = 0.99  # at least; a one-channel mask is cheap, and its contour must be kept


@dataclass(frozen=True)
class TaskTeacher:
    """A published decoder together with the cache that it reads."""

    folder: Path
    source: cache.Cache
    origin: Mapping[str, Any] = field(default_factory=dict)  # what made it, for the record of its cache

    @cached_property
    def facts(self) -> dict[str, Any]:
        """task.json: `reads` (digest of the cache's manifest), `maps` in the order read, `labelled` keys, `licence`.

        Raises:
            FileNotFoundError: the folder holds no published task teacher.
            ValueError: it was trained on another cache, or the file is damaged.
        """
        path = self.folder / FACTS
        if not path.is_file():
            raise FileNotFoundError(
                f"expected a task teacher in {self.folder} ({FACTS}, config.json, model.safetensors), found none; "
                "recipe=adapt_teacher publishes one"
            )
        facts = read_json(path, cure=CURE)
        if lacks := {"reads", "maps", "labelled", "licence"} - facts.keys():
            raise ValueError(f"{path} is damaged (it lacks {', '.join(sorted(lacks))}); {CURE}")
        if facts["reads"] != self.source.manifest.digest:
            raise ValueError(
                f"the task teacher in {self.folder} was trained on another cache than {self.source.path}; train it "
                "with the same teacher, image_size, cache.fidelity and data"
            )
        require_published(path)
        return facts

    @cached_property
    def decoder(self) -> TaskDecoder:
        """The network, frozen and in eval mode."""
        decoder = TaskDecoder(**read_json(self.folder / "config.json", cure=CURE))
        if decoder.classes != 1:
            raise ValueError(
                f"the task teacher in {self.folder} has {decoder.classes} classes, but a soft mask is of one class; "
                "train it with student.classes=1"
            )
        path = self.folder / "model.safetensors"
        with whole(path):
            decoder.load_state_dict(load_file(path))
        for file in (path, self.folder / "config.json"):
            require_published(file)
        return decoder.eval().requires_grad_(False)

    @property
    def identity(self) -> dict[str, Any]:
        """Everything on which the masks depend, as JSON data."""
        weights = digest_file(self.folder / "model.safetensors")
        facts = {"teacher": "task", "weights": weights, "reads": self.facts["reads"], "of": self.source.identity}
        return {**facts, **self.origin}

    @property
    def spec(self) -> FeatureSpec:
        """One map of one channel: the logit of the foreground."""
        finest = max(self.source.spec, key=lambda entry: entry.grid[0] * entry.grid[1])
        stride = max(1, finest.stride * finest.grid[0] // self.decoder.grid[0])
        return FeatureSpec((MapSpec(MASK, 1, self.decoder.grid, stride),))

    def logits(self, key: str) -> Tensor:
        """The logits (1, rows, columns) of an image in its plain view, averaged over the views in the cache.

        Raises:
            FileNotFoundError: the cache has no view of the image.
        """
        views = [view for view in self.source.views if (key, view) in self.source]
        if not views:
            raise FileNotFoundError(
                f"{self.source.path} lacks image {key[:12]}, which the task teacher in {self.folder} should read; give "
                f"a cache of all training images, or leave teachers.NAME.cache out and type {command_for('extract')}"
            )
        maps = tuple(
            torch.stack([self.source.decode(key, view, map=name) for view in views]) for name in self.facts["maps"]
        )
        with torch.inference_mode():
            logits = self.decoder(maps, self.decoder.grid).clamp(-LOGIT_CLIP, LOGIT_CLIP)
        return torch.stack([flip(one, view) for one, view in zip(logits, views, strict=True)]).mean(dim=0)


def initialise_masks(folder: Path, teacher: TaskTeacher, *, fidelity: float, batch_size: int) -> None:
    """Fits the codec on masks of images on which the decoder was trained, and writes the manifest.

    The manifest's calibration keys are all images whose masks the decoder was trained on. A run that tests or validates
    on one of them, or has no mask for it, is then refused.
    """
    labelled = sorted(teacher.facts["labelled"])
    masks = torch.stack([teacher.logits(key) for key in labelled[:256]])
    fidelity = max(FIDELITY, fidelity)
    cache.create(
        folder,
        spec=teacher.spec,
        codecs={MASK: cache.fit(masks, fidelity=fidelity)},
        identity=teacher.identity,
        licence=teacher.facts["licence"],
        fidelity=fidelity,
        batch_size=batch_size,
        views=teacher.source.views,
        calibration=labelled,
        terms=teacher.source.manifest.terms,
    )


def write_masks(store: cache.Cache, shard: Sequence[Record], teacher: TaskTeacher) -> None:
    """Writes the masks of the records of a shard."""
    plain = {key: teacher.logits(key) for key in dict.fromkeys(key for key, _ in shard)}
    write_coded(store, [encode(store, (key, view), {MASK: flip(plain[key], view)}) for key, view in shard])
