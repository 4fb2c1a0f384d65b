"""The known checkpoints of every teacher, and facts about families of networks, from `known.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

MEASURED, NEAREST = "tracer-te0-efficientnet-b0", "timm/tf_efficientnet_b0.in1k"  # recommended in messages
UNKNOWN_LICENCE = "unknown: see the weights"


@dataclass(frozen=True, eq=False)
class Published:
    """One checkpoint, on the Hugging Face Hub or on a project's release page.

    Attributes:
        name: its name in `distill weights`.
        teacher: the adapter that loads it.
        licence: SPDX identifier, or the licence's own name.
        hub_id: owner/name; empty for a file of a release page.
        size: as its page states it; empty if that is not known.
        sha256: digest of the safetensors file, if its page states it or it was measured.
        gated: whether a download needs accepted terms and a token.
        revision: the commit with model.safetensors if the main branch has none; such weights are given by folder.
        release: URL of a file of a project's release page, which `do=fetch` translates.
        model: the backbone's name in timm, if the weights do not state it.
        mean: mean of red, green and blue pixels in [0, 1], if the weights were trained with their own statistics.
        std: their standard deviation.
        variant: the recipe's value for weights whose files do not differ from others of their kind.
        note: a note for the user.
    """

    name: str
    teacher: str
    licence: str
    hub_id: str = ""
    size: str = ""
    sha256: str = ""
    gated: bool = False
    revision: str | None = None
    release: str = ""
    model: str = ""
    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    variant: str = ""
    note: str = ""


_TABLE = yaml.safe_load(Path(__file__).with_name("known.yaml").read_text(encoding="utf-8"))
PUBLISHED = tuple(Published(name, **facts) for name, facts in _TABLE["checkpoints"].items())
SETTINGS = _TABLE["settings"]  # names of the settings that distinguish networks of a kind
FAMILIES = _TABLE["families"]  # licence, mean and std, as far as known, by `model_type` in config.json
ENDOSCOPIC = tuple(entry for entry in PUBLISHED if entry.release and entry.name != MEASURED)


def licence_by_digest(sha256: str) -> str:
    """The licence of known weights by the sha256 of their file; empty if they are not known."""
    return next((entry.licence for entry in PUBLISHED if entry.sha256 and entry.sha256 == sha256), "")


def license_of(weights: str, family: str) -> str:
    """The licence of known weights by hub id, or of their whole family; else a phrase that it is not known."""
    named = {entry.hub_id: entry.licence for entry in PUBLISHED if entry.hub_id}
    return named.get(weights) or FAMILIES.get(family, {}).get("licence", UNKNOWN_LICENCE)
