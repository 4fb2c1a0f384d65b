"""The names that a recipe may use: steps, data sets, parts of a student, teachers and loss terms."""

from __future__ import annotations

STEPS = {  # of a run, in this order; each is called with the run, and returns at once if its output is complete
    "extract": "distill.extraction.extract:extract",
    "train": "distill.training.train:train",
    "evaluate": "distill.evaluation.evaluate:evaluate",
    "publish": "distill.publishing.publish:publish",
}
DATASETS = {
    "builtin": "distill.data.sources.builtin:open_builtin",
    "folder": "distill.data.sources.folder:open_folder",
    "datasets": "distill.data.sources.hf_datasets:open_hub",
    "kvasir-seg": "distill.data.sources.folder:open_folder",
    "cvc-clinicdb": "distill.data.sources.folder:open_folder",
    "cvc-colondb": "distill.data.sources.folder:open_folder",
    "etis": "distill.data.sources.folder:open_folder",
    "cvc-300": "distill.data.sources.folder:open_folder",
    "polypgen": "distill.data.sources.folder:open_folder",
    "pranet": "distill.data.sources.folder:open_folder",
}
PARTS = ("encoder", "decoder", "head")
BAND_SPLITS = ("cosine", "fourier")  # what separates the low from the high band
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
PROMPTED = ("sam",)  # the adapters that take prompts for soft masks
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
TASK_DECODER = "task_decoder"  # the student's name if it is a task teacher's decoder
LOSSES = {
    **TASK_LOSSES,
    **MASK_LOSSES,
    **FEATURE_LOSSES,
    **AVERAGE_LOSSES,
    **WEIGHT_LOSSES,
}  # distill/README.md says what a new term needs
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
