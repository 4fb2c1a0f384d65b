"""Schema of data, teachers and cache."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from cache.spec import VIEWS
from distill.config.field import require, require_choice, require_choices, setting
from distill.config.registry import DATA_NAMES, MADE, MASK_TEACHERS, PROMPTED
from distill.runtime.issues import nearest

JITTER, POINTS = 0.1, 16  # of prompts, where nothing is said
GROUPS = "sequences.csv"  # looked for where nothing is said


@dataclass(frozen=True)
class DataRecipe:
    """The data sets of images and masks, and how they are split."""

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
    test_only: list[str] = setting(
        [], "folder: data sets of which every image is tested, whatever the split says; none of them may be trained on"
    )
    labels: str = setting(
        "100%", "training images that keep their masks, as 10% or as a number; the others are unlabelled"
    )
    unlabelled: str | None = setting(None, "folder of images without masks, which join imitate_* and mean_teacher only")
    unlabelled_share: float = setting(
        0.5, "share of every batch that is unlabelled, in stages that imitate (others take labelled ones); 0: none"
    )
    validation: float = setting(
        0.1, "share of the training part held out for validation where the split has no val.csv"
    )
    max_validation: int = setting(
        2000, "validation images at most, whole groups chosen by content, since training scores them often; 0: no limit"
    )
    groups: str | None = setting(GROUPS, "in a data set's folder: columns stem,group; a group is never cut in two")
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
    memory_gb: float = setting(2.0, "decoded training images are kept in memory up to this size on each machine")

    def __post_init__(self) -> None:
        require(
            self.name in DATA_NAMES,
            f"unknown data.name {self.name!r}; choose from {', '.join(DATA_NAMES)}{nearest(self.name, DATA_NAMES)}",
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
                f"data.colours holds {colour!r}, but must hold six hexadecimal digits a class, as ff0000",
            )
        require(self.memory_gb >= 0, f"data.memory_gb is {self.memory_gb}, but must not be negative")

    @property
    def names_groups(self) -> bool:
        """Whether `groups` was asked for by name, so that it must be there."""
        return self.groups not in (None, GROUPS)


@dataclass(frozen=True)
class TeacherRecipe:
    """A foundation model to imitate."""

    adapter: str = setting(
        "sam",
        "sam, fpn (SAM 2, SAM 3, EdgeTAM), dinov2, oneformer, mask2former, timm, transformers (any vision model), "
        "student (a published one), ensemble (several), or importable class, my_module:MyTeacher: what loads it "
        "(teachers.TEACHERS); task: what recipe=adapt_teacher published",
    )
    weights: str | None = setting(
        None,
        "builtin, a hub id, a folder or a file; student: also RUN, zoo:NAME; task: one published; ensemble: A,B,...",
    )
    recipe: str | None = setting(
        None,
        "instead of weights: the recipe (a name or a YAML file) whose run makes them; extract does it first where it "
        "is missing. Its home and data are those of this recipe. timm, sam: the encoder of the student that it trains",
    )
    overrides: dict[str, Any] = setting({}, "recipe: changes to it, as overrides.student.encoder=FILE")
    seeds: list[int] = setting([], "recipe, ensemble: a run of each seed")
    of: str | None = setting(None, "task: the teacher of this recipe whose cached features it reads")
    model: str | None = setting(
        None, "timm: name of the backbone; student: class of a student of your own, my_nets:Net, whose code is run"
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
        "oneformer, mask2former: labels whose soft mask is kept too, by name or number; student of several classes: "
        "[all] for the soft masks of all",
    )
    image_size: int | None = setting(None, "side of the square the teacher sees, in pixels; empty: its own")
    norm: bool = setting(True, "timm, transformers: maps are taken under the network's final norm, where it has one")
    mean: list[float] = setting(
        [], "timm, transformers: mean of red, green, blue pixels in [0, 1]; empty: the weights' own"
    )
    std: list[float] = setting([], "timm, transformers: their standard deviation; empty: the weights' own")
    variant: str | None = setting(None, "sam: medsam, for weights of MedSAM: its own pixels, and one mask a prompt")
    views: list[str] = setting(list(VIEWS), "views of each image to extract")
    mirror: bool = setting(False, "views that are not extracted are made of identity by mirroring its features")
    licence: str | None = setting(None, "licence of the weights, where their files state none")
    cache: str | None = setting(None, "folder of a finished cache: trains from it without the teacher's weights")
    batch_size: int = setting(8, "images in one forward pass; halved where memory runs out")
    precision: str = setting("fp32", "of its arithmetic: fp32 (without TF32), or bf16: faster on a GPU, another cache")
    prompts: str | None = setting(
        None,
        "sam: prompts of its soft mask: boxes (of the training masks; a grid where there is none) or grid; "
        "empty: it has none",
    )
    jitter: float = setting(JITTER, "prompts=boxes: each edge of a box is moved by up to this share of the box's side")
    points: int = setting(POINTS, "points along each side of the grid of points")
    weight: float = setting(1.0, "factor on its imitation terms; 0: unused")
    drop: float = setting(
        0.0, "share of samples, drawn anew every epoch, without this teacher; each keeps one where shares allow"
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
            "teachers.NAME.precision is bf16, but a task teacher reads a cache, and prompts need coordinates of more "
            "bits; leave it out",
        )
        self.check_recipe()
        require(
            self.prompts is not None or (self.jitter, self.points) == (JITTER, POINTS),
            "teachers.NAME.jitter and teachers.NAME.points are of teachers.NAME.prompts, which is not given",
        )
        require(0 <= self.jitter <= 0.5, f"teachers.NAME.jitter is {self.jitter}, but must lie in [0, 0.5]")
        require(1 <= self.points <= 64, f"teachers.NAME.points is {self.points}, but must lie between 1 and 64")
        require(self.weight >= 0, f"teachers.NAME.weight is {self.weight}, but must not be negative")
        require(0 <= self.drop < 1, f"teachers.NAME.drop is {self.drop}, but must lie in [0, 1)")

    def check_recipe(self) -> None:
        """Raises ValueError where what makes the teacher does not fit it, or is changed and not there."""
        if self.recipe is None:
            given = [name for name in ("overrides", "seeds") if getattr(self, name)]
            require(not given, f"teachers.NAME.{''.join(given[:1])} is for teachers.NAME.recipe, which is not given")
            return
        require(
            self.adapter in MADE,
            f"teachers.NAME.recipe is {self.recipe}, but no recipe makes a teacher {self.adapter}, only "
            f"{', '.join(MADE)}; give its weights instead",
        )
        require(
            len(set(self.seeds)) == len(self.seeds) >= 2 if self.adapter == "ensemble" else not self.seeds,
            f"teachers.NAME.seeds is {self.seeds}, but must be two seeds or more where adapter is ensemble, each once, "
            "and none elsewhere",
        )

    @property
    def has_mask(self) -> bool:
        """Whether its cache holds soft masks beside features, or nothing else."""
        return self.adapter in MASK_TEACHERS or self.prompts is not None


@dataclass(frozen=True)
class CacheRecipe:
    """The fidelity of the frequency code."""

    fidelity: float = setting(0.8, "mean cosine of decoded and true features, centred and scaled, on held-out images")
    calibration: int = setting(256, "training images on which the code's statistics are fitted")
    shells: bool = setting(
        False, "whether each range of frequencies has axes of its own: a quarter fewer bytes, more work to decode"
    )

    def __post_init__(self) -> None:
        require(0.5 <= self.fidelity < 1, f"cache.fidelity is {self.fidelity}, but must lie in [0.5, 1)")
        require(self.calibration >= 8, f"cache.calibration is {self.calibration}, but must be at least 8")
