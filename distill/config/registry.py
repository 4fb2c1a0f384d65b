"""The words that a recipe may use for parts of a student, for what it imitates, and for the terms of a loss."""

from __future__ import annotations

STEPS = {  # of a run, in this order; each is called with the run, and returns at once where its output is complete
    "extract": "distill.extraction.extract:extract",
    "train": "distill.training.train:train",
    "evaluate": "distill.evaluation.evaluate:evaluate",
    "publish": "distill.publishing.publish:publish",
}
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
MADE = ("student", "ensemble", "task", "timm", "sam")  # the adapters whose weights a recipe can make
PROMPTED = ("sam",)  # the adapters that can be asked for soft masks
MASK_LOSSES = {
    "imitate_mask": "distill.distillation.losses:imitate_mask",
    "imitate_mask_mse": "distill.distillation.losses:imitate_mask_mse",
}
FEATURE_LOSSES = {
    "imitate_low": "distill.distillation.losses:imitate_features",
    "imitate_high": "distill.distillation.losses:imitate_high",
    "imitate_features": "distill.distillation.losses:imitate_features",
    "imitate_mse": "distill.distillation.losses:imitate_mse",
    "imitate_low_mse": "distill.distillation.losses:imitate_mse",
    "imitate_high_mse": "distill.distillation.losses:imitate_mse",
}
AVERAGE_LOSSES = {"mean_teacher": "distill.distillation.losses:imitate_mask"}  # by the student's moving average
WEIGHT_LOSSES = {"weight_norm": "distill.distillation.losses:weight_norm"}
TASK_DECODER = "task_decoder"  # the student's name where it is a task teacher's decoder
LOSSES = {
    **TASK_LOSSES,
    **MASK_LOSSES,
    **FEATURE_LOSSES,
    **AVERAGE_LOSSES,
    **WEIGHT_LOSSES,
}  # a new term: distill/README.md says what it needs
BAND_OF = {  # what a term imitates: a band of a teacher's features, both at once, or its soft mask
    "imitate_mask": "mask",
    "imitate_mask_mse": "mask",
    "imitate_low": "low",
    "imitate_high": "high",
    "imitate_features": "all",
    "imitate_mse": "all",
    "imitate_low_mse": "low",
    "imitate_high_mse": "high",
}
