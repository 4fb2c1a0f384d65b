"""The words that a recipe may use for parts of a student, for what it imitates, and for the terms of a loss."""

from __future__ import annotations

STEPS = ("extract", "train", "evaluate", "publish")  # of a run, in this order
DATA_NAMES = (  # the keys of distill.data.sources.open_data.DATASETS, so that a slip is told before anything is loaded
    "builtin",
    "folder",
    "datasets",
    "kvasir-seg",
    "cvc-clinicdb",
    "cvc-colondb",
    "etis",
    "cvc-300",
    "polypgen",
    "pranet",
)
PARTS = ("encoder", "decoder", "head")
SPLITS = ("cosine", "fourier")  # by which the low and the high band part
TASK_LOSSES = {
    "segment": "distill.distillation.losses:segment",
    "cross_entropy": "distill.distillation.losses:cross_entropy",
    "dice": "distill.distillation.losses:dice",
    "boundary": "distill.distillation.losses:boundary",
    "structure": "distill.distillation.losses:structure",
}
MASK_TEACHERS = (
    "task",
    "student",
    "ensemble",
    "mask2former",
    "oneformer",
)  # the adapters whose caches can hold soft masks
PROMPTED = ("sam",)  # the adapters that can be asked for soft masks
MASK_LOSSES = {"imitate_mask": "distill.distillation.losses:imitate_mask"}
FEATURE_LOSSES = {
    "imitate_low": "distill.distillation.losses:imitate_features",
    "imitate_high": "distill.distillation.losses:imitate_high",
    "imitate_features": "distill.distillation.losses:imitate_features",
    "imitate_mse": "distill.distillation.losses:imitate_mse",
}
TASK_DECODER = "task_decoder"  # the student's name where it is a task teacher's decoder
LOSSES = {**TASK_LOSSES, **MASK_LOSSES, **FEATURE_LOSSES}  # a new term: distill/README.md says what it needs
BAND_OF = {  # what a term imitates: a band of a teacher's features, both at once, or its soft mask
    "imitate_mask": "mask",
    "imitate_low": "low",
    "imitate_high": "high",
    "imitate_features": "all",
    "imitate_mse": "all",
}
