"""A backbone of timm by name: the pixels it expects, and the file of its weights."""

from __future__ import annotations

from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from teachers.weights.known import NEAREST, UNKNOWN_LICENCE
from teachers.weights.locate import WeightFiles, locate, other_kind, read_config

NOT_OF_THE_NETWORK = {  # arguments of timm.create_model that no file may set; checkpoint_path would open any pickle
    *("checkpoint_path", "cache_dir", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "model_name"),
    *("features_only", "out_indices", "num_classes", "scriptable", "exportable", "no_jit"),
}


@dataclass(frozen=True)
class Backbone:
    """A backbone by name, and a file of its weights."""

    architecture: str
    path: Path
    settings: dict[str, Any]  # timm's pretrained_cfg: mean, std, input_size, num_classes, ...
    arguments: dict[str, Any]  # of its constructor
    licence: str


def find_backbone(weights: str | Path, model: str | None) -> Backbone:
    """The backbone's name, settings and file, before anything is loaded.

    Args:
        weights: a folder or hub id with a timm config.json, a safetensors file, or "hub" for timm's own of `model`.
        model: name in timm, with or without the tag of its weights; may be left out if a config.json names it.

    Raises:
        FileNotFoundError: if there are no weights; the message names the command that gets them.
        ValueError: if the backbone is unknown, not named, or not the one of the weights.
    """
    import timm

    if model is not None:
        _require_known(model)
    default = timm.get_pretrained_cfg(model) if model else None
    if str(weights) == "hub":
        if model is None:
            raise ValueError("weights=hub needs the name of a backbone, e.g. model=tf_efficientnet_b0; got none")
        if default is None or default.hf_hub_id is None:
            raise ValueError(f"timm publishes no weights for '{model}'; give a safetensors file")
        weights = default.hf_hub_id
    files = locate(weights, teacher="timm", example=NEAREST)
    if files.config is not None:
        return _from_config(files, model)
    if model is None:
        raise ValueError(
            f"{files.model} does not say which backbone it belongs to: no config.json beside it; give its name, "
            "e.g. model=tf_efficientnet_b0"
        )
    if default is None:
        raise ValueError(f"timm does not say which pixels '{model}' expects; give a folder with its config.json")
    return Backbone(model, files.model, default.to_dict(), {}, UNKNOWN_LICENCE)


def _require_known(model: str) -> None:
    import timm

    architecture, _, tag = model.partition(".")
    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
    if timm.is_model(architecture) and tag and tag not in tags:
        raise ValueError(f"timm has no weights '{tag}' for '{architecture}'; choose from {', '.join(tags) or 'none'}")
    if not timm.is_model(architecture):
        near = get_close_matches(model, timm.list_models(), n=3)
        remedy = f"did you mean {' or '.join(near)}?" if near else "timm.list_models() lists them"
        raise ValueError(f"timm has no backbone '{model}'; {remedy}")


def _from_config(files: WeightFiles, model: str | None) -> Backbone:
    """A backbone as the config.json of a timm repository describes it."""
    from timm.models import PretrainedCfg

    raw = read_config(files.config)
    architecture, settings = raw.get("architecture"), raw.get("pretrained_cfg")
    if not isinstance(architecture, str) or not isinstance(settings, dict):
        raise other_kind(files, raw, "the config.json of a timm repository, with architecture and pretrained_cfg")
    _require_known(architecture)
    if model is not None and model.split(".")[0] != architecture.split(".")[0]:
        raise ValueError(
            f"{files.config} describes '{architecture}', got model={model}; leave model out, or give its weights"
        )
    arguments = raw.get("model_args") or {}
    if not isinstance(arguments, dict) or (foreign := sorted(NOT_OF_THE_NETWORK & arguments.keys())):
        named = f"model_args has {', '.join(foreign)}" if isinstance(arguments, dict) else "model_args is not a mapping"
        raise ValueError(f"in {files.config} {named}; expected only arguments of the architecture, remove the rest")
    if lacking := [name for name in ("input_size", "mean", "std") if name not in settings]:
        raise ValueError(f"pretrained_cfg of {files.config} lacks {', '.join(lacking)}; add what the weights expect")
    known = {field.name for field in fields(PretrainedCfg)}
    kept = {key: value for key, value in settings.items() if key in known}
    settings = {"num_classes": raw.get("num_classes", 1000), **kept}
    licence = settings.get("license") or UNKNOWN_LICENCE
    return Backbone(architecture, files.model, settings, dict(arguments), licence)
