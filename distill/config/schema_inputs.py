"""Schema of data, teachers and cache."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from cache.spec import VIEWS
from distill.config.field import require, require_choice, require_choices, setting
from distill.config.registry import DATASETS, MADE, MASK_TEACHERS, PROMPTED
from distill.runtime.issues import nearest

JITTER, POINTS = 0.1, 16  # of prompts, where nothing is said
GROUPS = "sequences.csv"  # looked for where nothing is said


@dataclass(frozen=True)
class DataRecipe:
    """The data sets of images and masks, and how they are split."""

    name: str = setting(
        "builtin",
        "builtin (generated), folder (images/ and masks/), datasets (loaded by the datasets library), or a public "
        "one: kvasir-seg, cvc-clinicdb, cvc-colondb, etis, cvc-300, polypgen, pranet (five of these, in PraNet's "
        "split)",
    )
    root: str | None = setting(
        None, "folder: one data set, or a folder of several; datasets: path or hub id; public: where it was unpacked"
    )
    train: list[str] = setting([], "data sets under root to train on; empty: all")
    test: list[str] = setting([], "data sets under root to test on; empty: all")
    split: str | None = setting(
        None, "folder with train.csv, test.csv and optionally val.csv (columns dataset,stem or stem)"
    )
    fractions: list[float] = setting([0.8, 0.1, 0.1], "shares of train, val and test if no split is given")
    test_only: list[str] = setting(
        [], "folder: data sets used for testing alone: all their images are test images, whatever the split says"
    )
    labels: str = setting(
        "100%", "training images that keep their masks, as a share (10%) or a number; the others count as unlabelled"
    )
    unlabelled: str | None = setting(None, "folder of images without masks, used by imitate_* and mean_teacher only")
    unlabelled_share: float = setting(
        0.5, "share of every batch that is unlabelled, in stages with imitate_* or mean_teacher; 0: none"
    )
    validation: float = setting(0.1, "share of the training part held out for validation, if the split has no val.csv")
    max_validation: int = setting(
        2000, "most validation images, in whole groups chosen by content (training scores them often); 0: no limit"
    )
    groups: str | None = setting(GROUPS, "file in a data set's folder: columns stem,group; a group is never divided")
    fold: str | None = setting(None, "k/n: validate on the k-th of n cross-validation folds of the training part")
    image_column: str = setting("image", "datasets: column of the images")
    mask_column: str = setting("mask", "datasets: column of the masks")
    colours: list[str] = setting(
        [],
        "several classes: colour of each class in the masks, background first, such as [000000,ff0000,00ff00]; "
        "empty: levels or palette indices are class numbers",
    )
    images: dict[str, int] = setting({"train": 160, "val": 40, "test": 120}, "builtin: number of frames in each part")
    size: list[int] = setting([128, 128], "builtin: height and width of a frame, in pixels")
    seed: int = setting(0, "seed of generated frames and of random splits, not of training")
    skip_bad: bool = setting(False, "leave out images that cannot be used, instead of stopping")
    memory_gb: float = setting(2.0, "keep decoded training images in memory if all fit into this size, on each machine")

    def __post_init__(self) -> None:
        require(
            self.name in DATASETS,
            f"unknown data.name {self.name!r}; choose from {', '.join(DATASETS)}{nearest(self.name, DATASETS)}",
        )
        require(0 < self.validation < 1, f"data.validation is {self.validation}, but must lie in (0, 1)")
        require(self.max_validation >= 0, f"data.max_validation is {self.max_validation}, but must not be negative")
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
            0 <= self.unlabelled_share < 1,
            f"data.unlabelled_share is {self.unlabelled_share}, but must lie in [0, 1)",
        )
        require(
            re.fullmatch(r"\d+(\.\d+)?%|\d+", self.labels) is not None,
            f"data.labels is {self.labels!r}, but must be a share as 10% or a number of images",
        )
        for colour in self.colours:
            require(
                re.fullmatch(r"#?[0-9a-fA-F]{6}", colour) is not None,
                f"data.colours holds {colour!r}, but must hold six hexadecimal digits for each class, as ff0000",
            )
        require(self.memory_gb >= 0, f"data.memory_gb is {self.memory_gb}, but must not be negative")

    @property
    def names_groups(self) -> bool:
        """Whether the user named `groups`, so that the file must exist."""
        return self.groups not in (None, GROUPS)


@dataclass(frozen=True)
class TeacherRecipe:
    """A foundation model to imitate."""

    adapter: str = setting(
        "sam",
        "what loads the teacher (teachers.TEACHERS): sam, fpn (SAM 2, SAM 3, EdgeTAM), dinov2, oneformer, "
        "mask2former, timm, transformers (any vision model), student (a published one), ensemble (several students), "
        "task (what recipe=adapt_teacher published), or your own class, my_module:MyTeacher",
    )
    weights: str | None = setting(
        None, "builtin, hub id, folder or file; student: also RUN or zoo:NAME; task: a published one; ensemble: A,B,..."
    )
    recipe: str | None = setting(
        None,
        "instead of weights: a recipe (name or YAML file) whose run makes them, with home and data of this recipe; "
        "extract runs it first if it is missing. timm, sam: the encoder of the student that it trains",
    )
    overrides: dict[str, Any] = setting({}, "recipe: changes to it, such as overrides.student.encoder=FILE")
    seeds: list[int] = setting([], "ensemble made by a recipe: a run for each of these seeds")
    of: str | None = setting(None, "task: the teacher of this recipe whose cached features it reads")
    model: str | None = setting(
        None, "timm: name of the backbone; student: your own student class, my_nets:Net, whose code is then run"
    )
    strides: list[int] = setting(
        [],
        "timm, sam, fpn, student, ensemble, oneformer, mask2former: strides of the maps to keep; empty: 16 (timm), "
        "all (fpn), 4 (oneformer, mask2former)",
    )
    levels: list[int] = setting(
        [], "timm: levels instead of strides; sam, dinov2, transformers: blocks or stages; fpn: stages of SAM 2's trunk"
    )
    classes: list[str] = setting(
        [],
        "oneformer, mask2former: labels whose soft masks are kept too, by name or number; student of several "
        "classes: [all] keeps the soft masks of all",
    )
    image_size: int | None = setting(None, "side of the square that the teacher sees, in pixels; empty: its own")
    norm: bool = setting(True, "timm, transformers: apply the network's final norm, if it has one, to the maps")
    mean: list[float] = setting(
        [], "timm, transformers: mean of red, green and blue, for pixels in [0, 1]; empty: the weights' own"
    )
    std: list[float] = setting([], "timm, transformers: their standard deviation; empty: the weights' own")
    variant: str | None = setting(None, "sam: medsam, for weights of MedSAM (other pixels, one mask per prompt)")
    views: list[str] = setting(list(VIEWS), "views of each image to extract")
    mirror: bool = setting(False, "make views that are not extracted by mirroring the features of identity")
    licence: str | None = setting(None, "licence of the weights, if their files state none")
    cache: str | None = setting(None, "folder of a finished cache, to train from it without the teacher's weights")
    batch_size: int = setting(8, "images in one forward pass; halved if memory runs out")
    precision: str = setting("fp32", "arithmetic: fp32 (without TF32), or bf16 (faster on a GPU, but another cache)")
    prompts: str | None = setting(
        None,
        "sam: prompts for its soft mask: boxes (of the training masks; a grid for images without a mask) or grid; "
        "empty: no soft mask",
    )
    jitter: float = setting(JITTER, "prompts=boxes: each edge of a box moves by up to this share of the box's side")
    points: int = setting(POINTS, "points along each side of the grid of prompts")
    weight: float = setting(1.0, "factor on its imitation terms; 0: not imitated")
    drop: float = setting(
        0.0, "share of samples without this teacher, drawn anew every epoch; each keeps one if the shares allow it"
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
        require_choice("teachers.NAME.precision", self.precision, ("fp32", "bf16"))
        require(
            self.precision == "fp32" or (self.adapter != "task" and self.prompts is None),
            "teachers.NAME.precision is bf16, but a task teacher reads a cache, and coordinates of prompts need more "
            "bits; leave it out",
        )
        self.check_recipe()
        require(
            self.prompts is not None or (self.jitter, self.points) == (JITTER, POINTS),
            "teachers.NAME.jitter and teachers.NAME.points need teachers.NAME.prompts, which is not given",
        )
        require(0 <= self.jitter <= 0.5, f"teachers.NAME.jitter is {self.jitter}, but must lie in [0, 0.5]")
        require(1 <= self.points <= 64, f"teachers.NAME.points is {self.points}, but must lie between 1 and 64")
        require(self.weight >= 0, f"teachers.NAME.weight is {self.weight}, but must not be negative")
        require(0 <= self.drop < 1, f"teachers.NAME.drop is {self.drop}, but must lie in [0, 1)")

    def check_recipe(self) -> None:
        """Raises ValueError if the teacher's recipe does not fit it, or has changes or seeds but is not given."""
        if self.recipe is None:
            given = [name for name in ("overrides", "seeds") if getattr(self, name)]
            require(not given, f"teachers.NAME.{''.join(given[:1])} is for teachers.NAME.recipe, which is not given")
            return
        require(
            self.adapter in MADE,
            f"teachers.NAME.recipe is {self.recipe}, but a recipe makes teachers {', '.join(MADE)}, not "
            f"{self.adapter}; give its weights instead",
        )
        require(
            len(set(self.seeds)) == len(self.seeds) >= 2 if self.adapter == "ensemble" else not self.seeds,
            f"teachers.NAME.seeds is {self.seeds}, but must be at least two different seeds if adapter is ensemble, "
            "and empty otherwise",
        )

    @property
    def has_mask(self) -> bool:
        """Whether its cache holds soft masks, with or without features."""
        return self.adapter in MASK_TEACHERS or self.prompts is not None


@dataclass(frozen=True)
class CacheRecipe:
    """The fidelity of the frequency code."""

    fidelity: float = setting(
        0.8, "wanted mean cosine of decoded and true features, centred and scaled, on held-out images"
    )
    calibration: int = setting(256, "training images on which the code's statistics are fitted")
    shells: bool = setting(
        False, "separate axes for each range of frequencies: a quarter fewer bytes, more work to decode"
    )

    def __post_init__(self) -> None:
        require(0.5 <= self.fidelity < 1, f"cache.fidelity is {self.fidelity}, but must lie in [0.5, 1)")
        require(self.calibration >= 8, f"cache.calibration is {self.calibration}, but must be at least 8")
