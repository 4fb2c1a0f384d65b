"""Schema of student, stages, optimiser, evaluation and publishing."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from cache.spec import VIEWS
from distill.config.field import require, require_choice, require_choices, setting
from distill.config.registry import AVERAGE_LOSSES, BAND_SPLITS, FEATURE_LOSSES, LOSSES, MASK_LOSSES, PARTS


@dataclass(frozen=True)
class StudentRecipe:
    """The student."""

    name: str = setting("unet", "a student (students.STUDENTS) or your own class, my_package.nets:MyNet")
    width: int = setting(8, "channels of the first level")
    classes: int = setting(
        1, "1: one foreground class (sigmoid); more: softmax over class numbers; 0 is background, 255 is ignored"
    )
    class_weights: list[float] = setting(
        [], "weight of each class in the terms on masks, as [1, 4, 2]; one class: [background, foreground]; empty: 1"
    )
    init: str | None = setting(None, "start from a published student: folder, run, hub id or zoo:NAME")
    init_share: float = setting(
        0.0,
        "share of the weights of student.init in those that are scored and published (WiSE-FT, arXiv 2109.01903), "
        "such as 0.5; 0: the trained weights alone",
    )
    encoder: str | None = setting(
        None,
        "pretrained encoder: a file of its backbone, a file that publish.encoder wrote, or hub (what timm "
        "publishes); sam2_adapted: a folder or hub id",
    )
    options: dict[str, Any] = setting({}, "further arguments of the student's class")

    def __post_init__(self) -> None:
        require(self.width >= 1, f"student.width is {self.width}, but must be at least 1")
        require(
            self.init is None or self.encoder is None,
            f"student.init is {self.init} and student.encoder {self.encoder}, but a student starts from one of them, "
            "and a published student has an encoder; take one out",
        )
        require(0 <= self.init_share < 1, f"student.init_share is {self.init_share}, but must lie in [0, 1)")
        require(
            not self.init_share or self.init is not None,
            f"student.init_share is {self.init_share}, but there is no student.init whose weights could be mixed in",
        )
        require(self.classes >= 1, f"student.classes is {self.classes}, but must be at least 1")
        wanted = max(2, self.classes)
        require(
            not self.class_weights or (len(self.class_weights) == wanted and min(self.class_weights) > 0),
            f"student.class_weights is {self.class_weights}, but must be {wanted} positive numbers, background first",
        )
        require(
            re.fullmatch(r"[\w.-]+(:[\w.]+)?", self.name) is not None,
            f"student.name is {self.name!r}, but must be a student's name, or module:Class",
        )
        for key in ("width", "classes"):
            require(
                key not in self.options,
                f"student.options.{key} is {self.options.get(key)!r}, but student.{key} sets it; write student.{key}=",
            )


@dataclass(frozen=True)
class ImitateRecipe:
    """The places in the student at which it imitates a teacher."""

    low: list[int] = setting([16, 8], "strides of the encoder maps that imitate the low band")
    high: list[int] = setting([8], "strides of the encoder maps that imitate the high band")
    all: list[int] = setting([16, 8], "strides that imitate both bands at once: imitate_features, imitate_mse")
    temperature: float = setting(1.0, "imitate_mask: divides the logits; the term is multiplied by its square")
    bands: str = setting(
        "cosine", "what separates low from high: cosine (the code's own), or fourier (Polyp-DiFoM's box)"
    )

    fuse: int = setting(
        0, "channels to which a fixed random 1x1 convolution brings the maps of all teachers together; 0: no fusion"
    )
    gradient_share: float = setting(
        0.0,
        "norm of the gradient of all imitate_* terms, as a share of that of the other terms; a common factor holds it; "
        "0: no factor",
    )

    def __post_init__(self) -> None:
        require_choice("imitate.bands", self.bands, BAND_SPLITS)
        for band in ("low", "high", "all"):
            strides = getattr(self, band)
            require(
                len(set(strides)) == len(strides) and min(strides, default=1) >= 1,
                f"imitate.{band} is {strides}, but must be strides of the student in pixels, each once",
            )
        require(self.fuse >= 0, f"imitate.fuse is {self.fuse}, but must not be negative")
        require(
            0 <= self.gradient_share < math.inf,
            f"imitate.gradient_share is {self.gradient_share}, but must not be negative",
        )
        require(self.temperature > 0, f"imitate.temperature is {self.temperature}, but must be positive")


@dataclass(frozen=True)
class AugmentRecipe:
    """Augmentation of the training images; every draw depends on (seed, epoch, sample) alone."""

    views: list[str] = setting(list(VIEWS), "flips to draw from, each in the cache or mirrored (teachers.NAME.mirror)")
    min_crop: float = setting(0.6, "smallest crop: geometric mean of its sides as a share of the image's; 1: no crop")
    empty: float = setting(0.0, "share of labelled images that are cropped to an object-free region, if one is found")
    erase: float = setting(
        0.0,
        "share of labelled images whose objects are covered by another part of the image, if one fits; as many others "
        "get such a patch beside their objects; neither have a teacher",
    )
    colour: float = setting(0.1, "strength of brightness, contrast, saturation and hue changes; 0: none")
    camera: float = setting(
        0.0,
        "0 to 1: factor on the chance (0.3 each) of changes that another camera makes: gamma, white balance, blur, "
        "noise, JPEG, light, highlights, borders",
    )
    amplitudes: float = setting(
        0.0, "share of images whose low frequencies take the amplitudes (colour, light) of another training image"
    )
    cutmix: float = setting(
        0.0, "share of images without masks that are half covered by another one, in stages with mean_teacher"
    )
    sizes: list[float] = setting([1.0], "factors on image_size, one drawn per batch, rounded to a multiple of 32")

    def __post_init__(self) -> None:
        require_choices("augment.views", self.views, VIEWS)
        require(len(self.views) >= 1, "augment.views is empty, but must name at least identity")
        require(0.1 <= self.min_crop <= 1, f"augment.min_crop is {self.min_crop}, but must lie in [0.1, 1]")
        for key in ("empty", "colour", "camera", "amplitudes", "cutmix"):
            require(0 <= getattr(self, key) <= 1, f"augment.{key} is {getattr(self, key)}, but must lie in [0, 1]")
        require(0 <= self.erase <= 0.5, f"augment.erase is {self.erase}, but must lie in [0, 0.5]")
        require(
            bool(self.sizes) and all(0.25 <= factor <= 4 for factor in self.sizes),
            f"augment.sizes is {self.sizes}, but must hold factors from 0.25 to 4, as [0.75, 1, 1.25]",
        )


@dataclass(frozen=True)
class OptimiserRecipe:
    """AdamW and its schedule, which spans all stages, or those from one with `restart` to the next."""

    learning_rate: float = setting(2e-3, "highest learning rate, reached after the warm-up")
    weight_decay: float = setting(1e-2, "AdamW's decoupled weight decay")
    batch_size: int = setting(16, "images per step, over all processes")
    warmup: float = setting(0.05, "share of all steps during which the learning rate rises from zero")
    schedule: str = setting("cosine", "learning rate after the warm-up: cosine, polynomial (power 0.9) or constant")
    gradient_clip: float = setting(1.0, "largest norm of the gradient; 0: no clipping")
    ema: float = setting(
        0.0, "decay per step of averaged weights, which are then scored and published, such as 0.99; 0: no averaging"
    )
    sync_batchnorm: bool = setting(True, "several GPUs: batch norm uses the images of all GPUs, not of each alone")
    ema_warmup: bool = setting(False, "limit the decay of step n to (1 + n) / (10 + n), so that the first weights fade")
    decay_norms: bool = setting(True, "apply weight_decay to the weights of norms and to biases too")
    accumulate: int = setting(
        1, "process a batch in so many parts, one after the other, to save memory; losses are of the whole batch"
    )

    def __post_init__(self) -> None:
        require(0 < self.learning_rate < 1, f"optimiser.learning_rate is {self.learning_rate}, but must lie in (0, 1)")
        require(self.weight_decay >= 0, f"optimiser.weight_decay is {self.weight_decay}, but must not be negative")
        require(self.batch_size >= 1, f"optimiser.batch_size is {self.batch_size}, but must be at least 1")
        require(
            self.accumulate >= 1 and self.batch_size % self.accumulate == 0,
            f"optimiser.accumulate is {self.accumulate}, but must be a divisor of optimiser.batch_size "
            f"({self.batch_size}), the number of images of a step",
        )
        require(0 <= self.warmup < 1, f"optimiser.warmup is {self.warmup}, but must lie in [0, 1)")
        require_choice("optimiser.schedule", self.schedule, ("cosine", "polynomial", "constant"))
        require(self.gradient_clip >= 0, f"optimiser.gradient_clip is {self.gradient_clip}, but must not be negative")
        require(0 <= self.ema < 1, f"optimiser.ema is {self.ema}, but must lie in [0, 1)")


@dataclass(frozen=True)
class StageRecipe:
    """One stage of training: its length, the weights of its loss terms, and what is frozen."""

    epochs: int = setting(10, "length in passes over the labelled images, in batches of these alone")
    steps: int | None = setting(None, "length in steps of the optimiser, instead of epochs")
    losses: dict[str, float] = setting({}, f"weight of each term (0: off): {', '.join(LOSSES)}")
    freeze: list[str] = setting([], "parts that are not trained: encoder, decoder, head")
    lr_scale: float = setting(1.0, "factor on the schedule's learning rate")
    part_lr_scale: dict[str, float] = setting({}, "further factors for encoder, decoder or head, as {encoder: 0.1}")
    restart: bool = setting(
        False, "begin the schedule anew: warm-up and decay over this stage and those after it, up to the next restart"
    )
    before: list[str] = setting(
        [], "stages that this one must precede; empty: where it is written, or last if the command line adds it"
    )

    def __post_init__(self) -> None:
        require(self.epochs >= 0, f"stages.NAME.epochs is {self.epochs}, but must not be negative")
        require((self.steps or 0) >= 0, f"stages.NAME.steps is {self.steps}, but must not be negative")
        for term, weight in self.losses.items():
            require_choice("a term of stages.NAME.losses", term, tuple(LOSSES))
            require(weight >= 0, f"stages.NAME.losses.{term} is {weight}, but must not be negative")
        require(bool(self.terms), "stages.NAME.losses has no term of positive weight")
        require_choices("stages.NAME.freeze", self.freeze, PARTS)
        imitated = [term for term in self.terms if term in FEATURE_LOSSES]
        require(
            "encoder" not in self.freeze or not imitated,
            "stages.NAME freezes the encoder, but its imitation terms train nothing else; unfreeze it or drop "
            + " and ".join(imitated),
        )
        require(len(self.freeze) < len(PARTS), "stages.NAME freezes the whole student, so nothing would be trained")
        require(self.lr_scale > 0, f"stages.NAME.lr_scale is {self.lr_scale}, but must be positive")
        for part, rate in self.part_lr_scale.items():
            require_choice("a part of stages.NAME.part_lr_scale", part, PARTS)
            require(
                rate > 0,
                f"stages.NAME.part_lr_scale.{part} is {rate}, but must be positive; stages.NAME.freeze stops training",
            )

    @property
    def runs(self) -> bool:
        """Whether the stage has any step."""
        return (self.epochs if self.steps is None else self.steps) > 0

    @property
    def terms(self) -> list[str]:
        """The loss terms of positive weight."""
        return [term for term, weight in self.losses.items() if weight > 0]

    @property
    def imitates(self) -> bool:
        """Whether any term of this stage needs a teacher."""
        return any(term in FEATURE_LOSSES or term in MASK_LOSSES for term in self.terms)

    @property
    def averages(self) -> bool:
        """Whether the student's own moving average is the teacher of any term of this stage."""
        return any(term in AVERAGE_LOSSES for term in self.terms)

    @property
    def takes_unlabelled(self) -> bool:
        """Whether any term of this stage learns from images without masks."""
        return self.imitates or self.averages


@dataclass(frozen=True)
class EvaluateRecipe:
    """The scoring of the student."""

    bootstrap: int = setting(2000, "bootstrap resamples for the 95 % intervals")
    every: float = setting(5.0, "epochs between two validations; a fraction is allowed")
    patience: int = setting(0, "end a stage after so many validations without a better score; 0: never")
    select: str = setting(
        "dice",
        "metric by which validation chooses the weights to keep and the setting of a sweep: dice, iou, hd95, ...",
    )
    select_from: str = setting("all", "stages whose weights may be kept: all, or only the last")
    empty_regions: bool = setting(
        False,
        "also validate on an object-free region of each image, if one is found: false alarms then count, also for "
        "the threshold",
    )
    erased: bool = setting(
        False,
        "also validate on each image with its objects covered by another part of it, if one fits: more like a frame "
        "without an object than a region is",
    )

    def __post_init__(self) -> None:
        require(self.bootstrap >= 100, f"evaluate.bootstrap is {self.bootstrap}, but must be at least 100")
        require(self.every > 0, f"evaluate.every is {self.every}, but must be positive")
        require(self.patience >= 0, f"evaluate.patience is {self.patience}, but must not be negative")
        require_choice("evaluate.select_from", self.select_from, ("all", "last"))


@dataclass(frozen=True)
class PublishRecipe:
    """The published files."""

    encoder: bool = setting(False, "also write the trained encoder alone, to start from with student.encoder=FILE")
    examples: int = setting(4, "number of example pictures in the folder")
    int8: bool = setting(
        False,
        "also write model.int8.onnx, if it is faster and loses at most 0.5 percentage points of Dice on "
        "validation images",
    )
    hub: str | None = setting(None, "hub id to push the published folder to")
    zoo: str | None = setting(
        None,
        "also write the student in the form that ships with Bandpass, to students/zoo/NAME or any folder: at most "
        "10 MB, no ONNX file, no pictures, float16 if masks or Dice on validation images stay equal",
    )
    licence: str | None = setting(None, "licence of the student; empty: derived from teachers and data")

    def __post_init__(self) -> None:
        require(self.examples >= 0, f"publish.examples is {self.examples}, but must not be negative")
