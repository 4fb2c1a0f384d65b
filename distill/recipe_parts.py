"""The parts of a recipe, each checked for itself; what a setting says of itself is what `--help` prints."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from cache.spec import VIEWS
from distill.setting import require, require_choice, require_choices, setting
from distill.vocabulary import FEATURE_LOSSES, LOSSES, MASK_LOSSES, MASK_TEACHERS, PARTS, PROMPTED, SPLITS


@dataclass(frozen=True)
class DataRecipe:
    """Where images and masks come from, and how they are split."""

    name: str = setting(
        "builtin",
        "builtin (generated), folder (images/ and masks/), datasets (the datasets library loads it), or of the field: "
        "kvasir-seg, cvc-clinicdb, cvc-colondb, etis, cvc-300, polypgen, pranet (five of these, cut as PraNet does)",
    )
    root: str | None = setting(
        None,
        "folder: one data set, or a folder of several; datasets: path or hub id; of the field: where it was unpacked",
    )
    train: list[str] = setting([], "data sets under root to train on; empty: all")
    test: list[str] = setting([], "data sets under root to test on; empty: all")
    split: str | None = setting(
        None, "folder with train.csv, test.csv and perhaps val.csv (columns dataset,stem or stem)"
    )
    fractions: list[float] = setting([0.8, 0.1, 0.1], "train, val, test where no split is given")
    whole: list[str] = setting(
        [], "folder: data sets of which every image is tested, whatever the split says; none of them may be trained on"
    )
    labels: str = setting(
        "100%", "training images that keep their masks, as 10% or as a number; the others are unlabelled"
    )
    unlabelled: str | None = setting(None, "folder of images without masks, which join the imitation terms only")
    unlabelled_share: float = setting(0.5, "share of every batch that is unlabelled, where there are such images")
    validation: float = setting(
        0.1, "share of the training part held out for validation where the split has no val.csv"
    )
    groups: str | None = setting(
        "sequences.csv", "in a data set's folder: columns stem,group; a group is never cut in two"
    )
    fold: str | None = setting(None, "k/n: the k-th of n cross-validation folds of the training part is the validation")
    image_column: str = setting("image", "datasets: the column with images")
    mask_column: str = setting("mask", "datasets: the column with masks")
    colours: list[str] = setting(
        [],
        "several classes: the colour of each in the masks, background first, as [000000,ff0000,00ff00]; empty: levels "
        "or palette indices are class numbers",
    )
    images: dict[str, int] = setting({"train": 160, "val": 40, "test": 120}, "builtin: frames in each split")
    size: list[int] = setting([128, 128], "builtin: height and width of a frame, in pixels")
    seed: int = setting(0, "of the generated frames and of random splits; not of the training")
    skip_bad: bool = setting(False, "go on without the images that cannot be used, instead of stopping")
    memory_gb: float = setting(2.0, "decoded training images are kept in memory up to this size")

    def __post_init__(self) -> None:
        require(0 < self.validation < 1, f"data.validation is {self.validation}, but must lie between 0 and 1")
        require(
            len(self.fractions) == 3 and min(self.fractions) >= 0 and abs(sum(self.fractions) - 1) < 1e-6,
            f"data.fractions is {self.fractions}, but must be three shares (train, val, test) that sum to 1",
        )
        require(
            len(self.size) == 2 and min(self.size) >= 32,
            f"data.size is {self.size}, but must be [height, width], each at least 32",
        )
        require(
            set(self.images) == {"train", "val", "test"} and min(self.images.values()) >= 1,
            f"data.images is {self.images}, but must give train, val and test at least one frame each",
        )
        require(self.seed >= 0, f"data.seed is {self.seed}, but must not be negative")
        require(
            self.name != "builtin" or self.root is None,
            f"data.root is {self.root}, but data.name is builtin, which is generated; add data.name=folder",
        )
        require(
            0 < self.unlabelled_share < 1,
            f"data.unlabelled_share is {self.unlabelled_share}, but must lie between 0 and 1",
        )
        require(
            re.fullmatch(r"\d+(\.\d+)?%|\d+", self.labels) is not None,
            f"data.labels is {self.labels!r}, but must be a share as 10% or a number of images",
        )
        require(self.memory_gb >= 0, f"data.memory_gb is {self.memory_gb}, but must not be negative")


@dataclass(frozen=True)
class TeacherRecipe:
    """A foundation model to imitate."""

    adapter: str = setting(
        "sam",
        "sam, sam2, dinov2, dinov3, oneformer, mask2former, timm, network (a published student), or importable class, "
        "my_module:MyTeacher: what loads it (teachers.TEACHERS); task: what recipe=adapt_teacher published",
    )
    weights: str | None = setting(None, "builtin, a hub id, a folder or a file; task: the published folder")
    of: str | None = setting(None, "task: the teacher of this recipe whose cached features it reads")
    model: str | None = setting(None, "timm: name of the backbone")
    strides: list[int] = setting(
        [],
        "timm, sam, sam2, network, oneformer, mask2former: strides of the maps to keep; empty: 16 (timm), all (sam2), "
        "4 (oneformer, mask2former)",
    )
    levels: list[int] = setting(
        [], "timm: levels instead of strides; sam, dinov2, dinov3: blocks or stages; sam2: stages of the trunk"
    )
    classes: list[str] = setting([], "oneformer, mask2former: labels whose soft mask is kept too, by name or number")
    image_size: int | None = setting(None, "side of the square the teacher sees, in pixels; empty: its own")
    views: list[str] = setting(list(VIEWS), "views of each image that the teacher is shown")
    licence: str | None = setting(None, "licence of the weights, where they do not say it themselves")
    cache: str | None = setting(None, "folder of a finished cache: trains from it without the teacher's weights")
    batch_size: int = setting(8, "images in one forward pass; halved where memory runs out")
    prompts: str | None = setting(
        None,
        "sam: how its soft mask is asked for: boxes (of the training masks; a grid where there is none) or grid; "
        "empty: it has none",
    )
    jitter: float = setting(0.1, "prompts=boxes: each edge of a box is moved by up to this share of the box's side")
    points: int = setting(16, "points along each side of the grid of points")
    weight: float = setting(1.0, "factor on what its maps have to say in every imitation term; 0: it is not heard")
    drop: float = setting(
        0.0, "share of the samples, drawn anew every epoch, that do not hear it; of several teachers at least one stays"
    )

    def __post_init__(self) -> None:
        require_choices("teachers.NAME.views", self.views, VIEWS)
        require("identity" in self.views, "teachers.NAME.views must contain identity")
        require(self.batch_size >= 1, f"teachers.NAME.batch_size is {self.batch_size}, but must be at least 1")
        require(
            self.image_size is None or self.image_size >= 32,
            f"teachers.NAME.image_size is {self.image_size}, but must be at least 32",
        )
        if self.prompts is not None:
            require_choice("teachers.NAME.prompts", self.prompts, ("boxes", "grid"))
            require(
                self.adapter in PROMPTED or ":" in self.adapter,
                f"teachers.NAME.prompts is {self.prompts}, but teacher {self.adapter} takes no prompts, only "
                f"{', '.join(PROMPTED)} does; leave it out",
            )
        require(0 <= self.jitter <= 0.5, f"teachers.NAME.jitter is {self.jitter}, but must lie in [0, 0.5]")
        require(1 <= self.points <= 64, f"teachers.NAME.points is {self.points}, but must lie between 1 and 64")
        require(self.weight >= 0, f"teachers.NAME.weight is {self.weight}, but must not be negative")
        require(0 <= self.drop < 1, f"teachers.NAME.drop is {self.drop}, but must lie in [0, 1)")

    @property
    def says_masks(self) -> bool:
        """Whether its cache holds soft masks beside features, or nothing else."""
        return self.adapter in MASK_TEACHERS or self.prompts is not None


@dataclass(frozen=True)
class CacheRecipe:
    """How faithful the frequency code is."""

    fidelity: float = setting(0.95, "mean cosine of decoded and true features, centred and scaled, on held-out images")
    calibration: int = setting(256, "training images on which the code's statistics are fitted")

    def __post_init__(self) -> None:
        require(0.5 <= self.fidelity < 1, f"cache.fidelity is {self.fidelity}, but must lie in [0.5, 1)")
        require(self.calibration >= 8, f"cache.calibration is {self.calibration}, but must be at least 8")


@dataclass(frozen=True)
class StudentRecipe:
    """The network that learns."""

    name: str = setting("unet", "a student (students.STUDENTS) or importable class, my_package.nets:MyNet")
    width: int = setting(8, "channels of the first level")
    classes: int = setting(
        1, "1: one foreground class (sigmoid); more: softmax over class numbers, 0 is background, 255 ignored"
    )
    init: str | None = setting(None, "start from a published student: folder or hub id")
    encoder: str | None = setting(
        None,
        "pretrained weights of the encoder: a file of its backbone, or one that publish.encoder wrote; sam2_adapted: a "
        "folder or hub id too",
    )
    options: dict[str, Any] = setting({}, "further arguments of the student's class")

    def __post_init__(self) -> None:
        require(self.width >= 1, f"student.width is {self.width}, but must be at least 1")
        require(self.classes >= 1, f"student.classes is {self.classes}, but must be at least 1")


@dataclass(frozen=True)
class ImitateRecipe:
    """Where in the student the teacher is imitated."""

    low: list[int] = setting([16, 8], "strides of the encoder maps that imitate the low band")
    high: list[int] = setting([8], "strides that imitate the high band")
    all: list[int] = setting([16, 8], "strides that imitate both bands at once: imitate_all, imitate_mse, relate")
    bands: str = setting("cosine", "what parts low from high: cosine (the code's own), or fourier (Polyp-DiFoM's box)")

    def __post_init__(self) -> None:
        require_choice("imitate.bands", self.bands, SPLITS)


@dataclass(frozen=True)
class AugmentRecipe:
    """What is done to a training image; every draw depends on (seed, epoch, sample) alone."""

    views: list[str] = setting(list(VIEWS), "flips to draw from; each must be in the cache")
    scale: float = setting(0.6, "smallest side of a random crop as a share of the image's side; 1: no crop")
    colour: float = setting(0.1, "strength of brightness, contrast, saturation and hue changes; 0: none")
    sizes: list[float] = setting([1.0], "factors on image_size, one drawn for each batch, to the next multiple of 32")

    def __post_init__(self) -> None:
        require_choices("augment.views", self.views, VIEWS)
        require(len(self.views) >= 1, "augment.views is empty, but must name at least identity")
        require(0.1 <= self.scale <= 1, f"augment.scale is {self.scale}, but must lie in [0.1, 1]")
        require(0 <= self.colour <= 1, f"augment.colour is {self.colour}, but must lie in [0, 1]")
        require(
            bool(self.sizes) and all(0.25 <= factor <= 4 for factor in self.sizes),
            f"augment.sizes is {self.sizes}, but must name factors from 0.25 to 4, as [0.75, 1, 1.25]",
        )


@dataclass(frozen=True)
class OptimiserRecipe:
    """AdamW and its schedule over all stages together."""

    learning_rate: float = setting(2e-3, "largest step size, after the warm-up")
    weight_decay: float = setting(1e-2, "AdamW's decoupled decay")
    batch_size: int = setting(16, "images a step over all processes")
    warmup: float = setting(0.05, "share of all steps in which the learning rate rises from zero")
    schedule: str = setting("cosine", "cosine, polynomial (power 0.9) or constant, after the warm-up")
    gradient_clip: float = setting(1.0, "largest norm of the gradient; 0: not clipped")
    ema: float = setting(
        0.0, "decay a step of the averaged weights that are scored and published, as 0.99; 0: the weights themselves"
    )

    def __post_init__(self) -> None:
        require(
            0 < self.learning_rate < 1,
            f"optimiser.learning_rate is {self.learning_rate}, but must lie between 0 and 1",
        )
        require(self.weight_decay >= 0, f"optimiser.weight_decay is {self.weight_decay}, but must not be negative")
        require(self.batch_size >= 1, f"optimiser.batch_size is {self.batch_size}, but must be at least 1")
        require(0 <= self.warmup < 1, f"optimiser.warmup is {self.warmup}, but must lie in [0, 1)")
        require_choice("optimiser.schedule", self.schedule, ("cosine", "polynomial", "constant"))
        require(
            self.gradient_clip >= 0,
            f"optimiser.gradient_clip is {self.gradient_clip}, but must not be negative",
        )
        require(0 <= self.ema < 1, f"optimiser.ema is {self.ema}, but must lie in [0, 1)")


@dataclass(frozen=True)
class StageRecipe:
    """One stage of training: how long, which terms with which weight, what rests."""

    epochs: int = setting(10, "length in passes over the labelled images, in batches of these alone")
    steps: int | None = setting(None, "length in steps of the optimiser instead of epochs")
    losses: dict[str, float] = setting({}, f"weight of each term, 0 is off: {', '.join(LOSSES)}")
    freeze: list[str] = setting([], "encoder, decoder, head: parts that do not learn")
    learning_rate: float = setting(1.0, "factor on the schedule's learning rate")
    rates: dict[str, float] = setting({}, "further factors for encoder, decoder or head, as {encoder: 0.1}")

    def __post_init__(self) -> None:
        require(self.epochs >= 0, f"stages.NAME.epochs is {self.epochs}, but must not be negative")
        require((self.steps or 0) >= 0, f"stages.NAME.steps is {self.steps}, but must not be negative")
        for term, weight in self.losses.items():
            require_choice("a term of stages.NAME.losses", term, tuple(LOSSES))
            require(weight >= 0, f"stages.NAME.losses.{term} is {weight}, but must not be negative")
        require(any(self.losses.values()), "stages.NAME.losses has no term of positive weight")
        require_choices("stages.NAME.freeze", self.freeze, PARTS)
        require(
            not ("encoder" in self.freeze and any(self.losses.get(term) for term in FEATURE_LOSSES)),
            "stages.NAME freezes the encoder, but its imitation terms reach nothing else; unfreeze it or drop "
            + " and ".join(term for term in self.losses if term in FEATURE_LOSSES and self.losses[term]),
        )
        require(len(self.freeze) < len(PARTS), "stages.NAME freezes the whole student; nothing would learn")
        require(self.learning_rate > 0, f"stages.NAME.learning_rate is {self.learning_rate}, but must be positive")
        for part, rate in self.rates.items():
            require_choice("a part of stages.NAME.rates", part, PARTS)
            require(rate > 0, f"stages.NAME.rates.{part} is {rate}, but must be positive; stages.NAME.freeze stops it")

    @property
    def runs(self) -> bool:
        """Whether the stage has any step."""
        return (self.epochs if self.steps is None else self.steps) > 0

    @property
    def imitates(self) -> bool:
        """Whether any term of this stage needs a teacher."""
        return any(self.losses.get(term, 0) > 0 for term in {**FEATURE_LOSSES, **MASK_LOSSES})


@dataclass(frozen=True)
class EvaluateRecipe:
    """How the student is scored."""

    bootstrap: int = setting(2000, "resamples for the 95 % intervals")
    every: float = setting(5.0, "epochs between two scores on the validation images; a fraction is allowed")
    patience: int = setting(
        0, "a stage ends after so many scores on validation without a better one; 0: it runs to its end"
    )

    def __post_init__(self) -> None:
        require(self.bootstrap >= 100, f"evaluate.bootstrap is {self.bootstrap}, but must be at least 100")
        require(self.every > 0, f"evaluate.every is {self.every}, but must be positive")
        require(self.patience >= 0, f"evaluate.patience is {self.patience}, but must not be negative")


@dataclass(frozen=True)
class PublishRecipe:
    """What is written for others to use."""

    encoder: bool = setting(False, "also write the trained encoder alone, which student.encoder=FILE starts from")
    examples: int = setting(4, "example pictures in the folder")
    int8: bool = setting(
        False, "also write model.int8.onnx, if it is faster and loses at most 0.5 points of Dice on validation images"
    )
    hub: str | None = setting(None, "hub id to push the published folder to")
    licence: str | None = setting(None, "licence of the student; empty: derived from teacher and data")

    def __post_init__(self) -> None:
        require(self.examples >= 0, f"publish.examples is {self.examples}, but must not be negative")
