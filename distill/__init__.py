"""Bandpass: distil vision foundation models into light segmentation networks, from a frequency-coded cache.

Every verb of the command line is a function of a recipe:

    recipe = distill.read_recipe(["recipe=sam_to_unet", "student.width=16"])
    distill.extract(recipe); distill.train(recipe); distill.evaluate(recipe); distill.publish(recipe)

and what was published is used by `distill.predict(student, images, out=...)`.
"""

from __future__ import annotations

from distill.compare import compare
from distill.evaluate import evaluate
from distill.extract import extract
from distill.grammar import read_recipe
from distill.predict import predict
from distill.publish import publish
from distill.recipe import Recipe
from distill.run import run
from distill.train import train

__all__ = ["Recipe", "compare", "evaluate", "extract", "predict", "publish", "read_recipe", "run", "train"]
