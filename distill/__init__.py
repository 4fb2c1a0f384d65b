"""Bandpass: distil vision foundation models into light segmentation networks, from a frequency-coded cache.

Every verb of the command line is a function of a recipe:

    recipe = distill.read_recipe(["recipe=sam_to_unet", "student.width=16"])
    distill.extract(recipe); distill.train(recipe); distill.evaluate(recipe); distill.publish(recipe)

`distill.predict`, `distill.calibrate` and `distill.adapt(student, images, out=...)` use published students.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill.cli.run import run
    from distill.comparison.compare import compare
    from distill.config.parse import read_recipe
    from distill.config.schema import Recipe
    from distill.inference.predict import predict
    from distill.publishing.adapt import adapt
    from distill.publishing.calibrate import calibrate
    from distill.verbs import evaluate, extract, publish, report, train

__all__ = [
    "Recipe",
    "adapt",
    "calibrate",
    "compare",
    "evaluate",
    "extract",
    "predict",
    "publish",
    "read_recipe",
    "report",
    "run",
    "train",
]

_PLACES = {  # imported on use: `distill --help` needs no torch
    "Recipe": "distill.config.schema",
    "adapt": "distill.publishing.adapt",
    "calibrate": "distill.publishing.calibrate",
    "compare": "distill.comparison.compare",
    "evaluate": "distill.verbs",
    "extract": "distill.verbs",
    "predict": "distill.inference.predict",
    "publish": "distill.verbs",
    "read_recipe": "distill.config.parse",
    "report": "distill.verbs",
    "run": "distill.cli.run",
    "train": "distill.verbs",
}


class _Package(ModuleType):
    """The type of this package: verbs stay functions even when modules of the same names are imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _PLACES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _PLACES:
        raise AttributeError(f"module 'distill' has no attribute {name!r}")
    value = getattr(import_module(_PLACES[name]), name)
    setattr(sys.modules[__name__], name, value)
    return value
