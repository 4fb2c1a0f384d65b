"""The files that a user means, and the names of their results."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.data.image_io import SUFFIXES
from distill.data.sources.folder_names import visible_folders
from distill.inference.output_dir import KINDS
from distill.runtime.issues import printable, several

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".ts")
MAGIC = "*?["


@dataclass(frozen=True)
class Input:
    """A picture or a video.

    Attributes:
        path: of the file.
        name: its path relative to `images`, used in tables: `sub/a.jpg`; bytes that are not UTF-8 are surrogates, as
            in every path of Python.
        video: whether it is a video.
    """

    path: Path
    name: str
    video: bool

    @property
    def stem(self) -> str:
        """The name without its suffix, which names the files of its results."""
        return str(Path(self.name).with_suffix(""))


def find_inputs(images: str, *, out: Path) -> tuple[list[Input], list[str]]:
    """The pictures and videos that `images` means, ordered by name.

    Args:
        images: a file, a folder (only files directly in it are taken), or a pattern with `*`, `?`, `[...]`, or `**` for
            any folders between.
        out: the folder of results; masks and overlays in it are not taken.

    Returns:
        The inputs; and the names of files that were skipped because of their suffix, and of folders in the folder, with
        a slash at the end.

    Raises:
        FileNotFoundError: there is nothing of that name.
        ValueError: there is no picture or video, or the results of two would have the same name.
    """
    path = Path(images).expanduser()
    if path.is_dir():
        root, files = path, sorted(file for file in path.iterdir() if not file.is_dir())
    elif path.is_file():
        return [_input(path, path.parent)], []
    elif any(sign in images for sign in MAGIC):
        root = _root(path)
        files = sorted(file for file in root.glob(str(path.relative_to(root))) if not file.is_dir())
    else:
        raise FileNotFoundError(f"expected a file, a folder or a pattern at images={images}, found none")
    results = [real(out / kind) for kind in KINDS]
    files = [
        file
        for file in files
        if not file.name.startswith(".") and not any(made in real(file).parents for made in results)
    ]
    taken = [_input(file, root) for file in files if file.suffix.lower() in SUFFIXES + VIDEO_SUFFIXES]
    inner = [f"{one.name}/" for one in visible_folders(path) if real(one) not in {real(out), *results}]
    if not taken:
        raise ValueError(_nothing(images, path, len(files), inner=inner))
    _require_own_names(taken)
    chosen = {one.path for one in taken}
    return taken, [*(file.name for file in files if file not in chosen), *inner]


def real(path: Path) -> Path:
    """A path without links; unlike `Path.resolve`, it takes a link that leads to itself."""
    return Path(os.path.realpath(path))


def _input(path: Path, root: Path) -> Input:
    return Input(path, path.relative_to(root).as_posix(), path.suffix.lower() in VIDEO_SUFFIXES)


def _root(pattern: Path) -> Path:
    """The folders of a pattern before its first special character."""
    parts: list[str] = []
    for part in pattern.parts[:-1]:
        if any(sign in part for sign in MAGIC):
            break
        parts.append(part)
    return Path(*parts)


def _nothing(images: str, path: Path, count: int, *, inner: Sequence[str]) -> str:
    kinds = f"neither a picture ({' '.join(SUFFIXES)}) nor a video ({' '.join(VIDEO_SUFFIXES)})"
    found = f"{several(count, 'other file')}, " if count else ""
    said = f"images={images} means {found}{kinds}"
    if not inner:
        return said
    hint = f"images={path / 'images'}" if "images/" in inner else f"images='{path}/**/*.*'"
    return f"{said}; folders inside it are searched only if you ask for it, as by {hint}"


def _require_own_names(inputs: Iterable[Input]) -> None:
    taken: dict[tuple[bool, str], Input] = {}
    for one in inputs:
        other = taken.setdefault((one.video, one.stem), one)
        if other is not one:
            raise ValueError(
                f"{printable(other.name)} and {printable(one.name)} have the same stem, so their masks would have one "
                "name; rename or remove one, or choose one by a pattern, as images='DIR/*.png'"
            )
