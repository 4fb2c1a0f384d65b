"""Images without masks: the training images whose masks are put away, and a folder of further ones.

A folder of unlabelled images may hold pictures in any of these places; masks/ beside them are not opened:

    DIR/a.jpg ...            DIR/images/a.jpg ...            DIR/NAME/images/a.jpg ...   (several data sets)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import numpy as np

from distill.config.schema import DataRecipe
from distill.data.file_names import RENAME, first_names, is_utf8
from distill.data.image_io import SUFFIXES, read_image
from distill.data.sample import Reader, Sample, Splits, by_dataset, keys_of
from distill.data.scan import scan
from distill.data.sources.data_sets import name_of, require_folder
from distill.data.splits import Parts, bundle, ordered
from distill.metrics.overlap import IGNORED
from distill.runtime.issues import Problems, printable, several

PLACES = f"expected pictures ({' '.join(SUFFIXES)}) in it, in images/ in it, or in NAME/images/ (several data sets)"


@dataclass(frozen=True)
class Picture:
    """A picture of the unlabelled part, before it is read."""

    dataset: str
    path: Path
    name: str  # as messages call it


@dataclass(frozen=True)
class Pictures:
    """The files of `data.unlabelled`, and sentences on what lies beside them."""

    files: tuple[Picture, ...]
    notes: tuple[str, ...]


def nothing_known(size: tuple[int, int]) -> np.ndarray:
    """The mask of an unlabelled image of a height and width: uint8 (H, W), `IGNORED` everywhere."""
    return np.full(size, IGNORED, np.uint8)


def parse_labels(labels: str) -> float | int:
    """Reads `data.labels`: a share in (0, 1] from `10%`, or a number of training images from `80`.

    Raises:
        ValueError: no image would keep its mask, or more than all.
    """
    share = float(labels.removesuffix("%")) / 100 if labels.endswith("%") else None
    if share is None and int(labels) >= 1:
        return int(labels)
    if share is not None and 0 < share <= 1:
        return share
    raise ValueError(f"data.labels is {labels!r}, but must be over 0% and at most 100%, or at least 1 image")


def withhold_labels(splits: Splits, data: DataRecipe) -> Splits:
    """Leaves masks to a share of the training images; the others become unlabelled, and are never asked for a mask.

    Validation is cut by the same share, since who has few labels has few to validate on. What it loses is not used at
    all, so that the images that a teacher's code is fitted on, and with them its cache, are those of the full run. The
    test stays as it is.

    Args:
        splits: after training, validation and test are settled.
        data: for `labels` and `seed`.

    Raises:
        ValueError: `data.labels` asks for more images than there are.
    """
    asked, available = parse_labels(data.labels), len(splits.train)
    if isinstance(asked, int) and asked > available:
        raise ValueError(f"data.labels is {asked}, but there are {several(available, 'training image')}; ask for fewer")
    share = asked / available if isinstance(asked, int) else asked
    if share == 1:
        return splits
    (train, rest), (val, others) = (keep_share(p, share=share, seed=data.seed) for p in (splits.train, splits.val))
    left_out = f", and {len(others)} validation images are left out" if others else ""
    note = (
        f"data.labels={data.labels}: {len(train)} of {several(available, 'training image')} and {len(val)} of "
        f"{len(splits.val)} for validation keep their masks; the other {len(rest)} for training are "
        f"unlabelled{left_out}"
    )
    unlabelled = ordered(map(unlabel, rest))
    return replace(splits, train=train, val=val, unlabelled=unlabelled, notes=(*splits.notes, note))


def keep_share(samples: Sequence[Sample], *, share: float, seed: int) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Cuts a part into the share that keeps its masks, at least one group, and the rest; both in the order given.

    Each data set's groups are put in random order by content; these orders are merged by how much of its data set lies
    before the middle of each group, and the beginning of the merged order whose number of images comes closest is kept.
    So every data set gives its share (to one group), and a smaller share is contained in a larger one.
    """
    ranked: list[tuple[float, str, list[Sample]]] = []
    for mine in by_dataset(samples).values():
        before = 0
        for group in bundle(mine, purpose="labels", seed=seed):
            ranked.append(((before + len(group) / 2) / len(mine), min(s.key for s in group), group))
            before += len(group)
    groups = [group for _, _, group in sorted(ranked, key=lambda entry: entry[:2])]
    totals = list(accumulate(map(len, groups)))
    wanted = round(share * len(samples))
    count = 1 + min(range(len(totals)), key=lambda place: abs(totals[place] - wanted))
    chosen = {sample.key for group in groups[:count] for sample in group}
    kept = tuple(sample for sample in samples if sample.key in chosen)
    return kept, tuple(sample for sample in samples if sample.key not in chosen)


def unlabel(sample: Sample) -> Sample:
    """The same image, whose mask is unknown from here on."""
    return replace(sample, mask_key="", read_mask=Reader(nothing_known, sample.size))


def list_pictures(given: str) -> Pictures:
    """Lists the pictures of `data.unlabelled`, in the places that the head of this module draws.

    Raises:
        FileNotFoundError: there is no such folder, or no picture in these places.
    """
    root = Path(given).expanduser()
    require_folder(root, f"data.unlabelled={given}", expected=PLACES)
    sets = {root: name_of(root)}
    sets.update({path: path.name for path in _visible(root) if (path / "images").is_dir()})
    files = [Picture(sets[root], path, f"{sets[root]}/{path.name}") for path in _visible(root) if _is_picture(path)]
    for folder, name in sets.items():
        inside = _visible(folder / "images") if (folder / "images").is_dir() else []
        files += [Picture(name, path, f"{name}/images/{path.name}") for path in inside if _is_picture(path)]
    if not files:
        found = first_names(_visible(root))
        raise FileNotFoundError(f"data.unlabelled={given} holds no picture: {PLACES}; found {found}")
    return Pictures(tuple(files), tuple(_note_unused(root, sets)))


def join_pictures(splits: Splits, pictures: Pictures, data: DataRecipe, *, home: Path) -> Splits:
    """Adds pictures to the unlabelled part, each once, without those that another part holds.

    Args:
        splits: what the recipe's other data gave.
        pictures: the files of `data.unlabelled`.
        data: for the folder's name and `skip_bad`.
        home: the folder that keeps the file index.

    Raises:
        ValueError: pictures that cannot be read (unless `data.skip_bad`), or none that can.
    """
    given, said = examine_pictures(pictures, data, home=home)
    parts = Parts([], None, {}, [*splits.notes, *pictures.notes, *said], splits.dropped)
    images = [*splits.unlabelled, *given]
    for by, part in (("test", splits.tested), ("validation", splits.val), ("training", splits.train)):
        images = parts.take_out("the unlabelled part", images, held=keys_of(part), by=by)
    added = len(images) - len(splits.unlabelled)
    parts.notes += _note_tested(splits, keys_of(given)) if added else []
    if not added:
        parts.notes.append("data.unlabelled adds no image: each of its images is there already")
    return replace(splits, unlabelled=ordered(images), dropped=parts.dropped, notes=tuple(parts.notes))


def examine_pictures(pictures: Pictures, data: DataRecipe, *, home: Path) -> tuple[list[Sample], list[str]]:
    """Reads every picture once; good ones become samples without a mask, bad ones problems.

    Returns:
        The samples, and notes on what was left out.

    Raises:
        ValueError: pictures that cannot be read (unless `data.skip_bad`), or none that can.
    """
    problems = Problems(f"data.unlabelled={data.unlabelled}")
    samples: list[Sample] = []
    found = scan([("image", picture.path) for picture in pictures.files], home=home)
    for picture, facts in zip(pictures.files, found, strict=True):
        if not is_utf8(picture.name):
            problems.add("file name", f"{picture.name} has a name that is not UTF-8; {RENAME}")
            continue
        if isinstance(facts, str):
            problems.add("unreadable image", f"{picture.name} {facts}")
            continue
        samples.append(
            Sample(
                dataset=picture.dataset,
                stem=picture.path.stem,
                key=facts.key,
                mask_key="",
                size=facts.size,
                group=None,
                read_image=Reader(read_image, str(picture.path), facts.key),
                read_mask=Reader(nothing_known, facts.size),
            )
        )
    if not samples:
        problems.add("no picture", "none of the pictures can be read; give other ones", fatal=True)
    return samples, problems.settle(skip=data.skip_bad)


def _note_unused(root: Path, sets: Mapping[Path, str]) -> list[str]:
    """Notes on masks, which are not opened, and on what `list_pictures` has no use for."""
    masks = [name for folder, name in sets.items() if (folder / "masks").is_dir()]
    notes = [f"data.unlabelled: masks/ of {', '.join(masks)} not opened"] if masks else []
    known = {root / "images", root / "masks", *sets}
    inside = [path for path in _visible(root) if path not in known]
    inside += [path for folder in sets if (folder / "images").is_dir() for path in _visible(folder / "images")]
    others = [printable(path.relative_to(root).as_posix()) for path in inside if not _is_picture(path)]
    if others:
        shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        notes.append(f"data.unlabelled: passed over what is neither a picture nor a folder with images/: {shown}")
    return notes


def _note_tested(splits: Splits, given: set[str]) -> list[str]:
    """Notes on tested data sets whose images are also in the folder: they are out of it, but not their neighbours."""
    counts = {name: sum(sample.key in given for sample in part) for name, part in splits.test.items()}
    return [
        f"data.unlabelled holds {count} of {several(len(splits.test[name]), 'test image')} of {name}: these are "
        f"dropped, but others of that folder may show the same patients"
        for name, count in counts.items()
        if count
    ]


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _visible(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir(), key=lambda path: path.name) if not path.name.startswith(".")]
