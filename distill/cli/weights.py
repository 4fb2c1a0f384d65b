"""`distill weights`: which weights there are for every teacher, and how they come onto this machine."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.cli.options import Command, Option
from distill.runtime.issues import nearest
from distill.runtime.progress import Progress
from teachers import TEACHERS
from teachers.hub import NotOnHubError, cached, download, is_offline
from teachers.published import PUBLISHED, Published
from teachers.weights import CONFIG, MODEL

BLOCK = 16_000_000  # bytes, whole megabytes

logger = logging.getLogger("bandpass")


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        do: list or fetch.
        chosen: the checkpoints that are meant; all where no name was given.
        named: whether names were given.
    """

    do: str
    chosen: tuple[Published, ...]
    named: bool


def weights_command(words: Sequence[str], *, dry: bool) -> int:
    """Lists or fetches; dry: only says what would be fetched."""
    request = read_request(words)
    if request.do == "list":
        told = "\n\n".join(map(describe, request.chosen)) if request.named else table(request.chosen)
        sys.stdout.write(told + "\n")
        return 0
    for entry in request.chosen:
        if dry:
            logger.info("would fetch %s%s", entry.hub_id, f", {entry.size}" if entry.size else "")
            continue
        folder = fetch(entry)
        sys.stdout.write(f"{entry.name} is in {folder}; type\n    {words_for(entry, folder)}\n")
    return 0


def read_request(words: Sequence[str]) -> Request:
    """The request of a command line's `key=value` words.

    Raises:
        ValueError: wrong words, an unknown verb or name, or nothing to fetch.
    """
    given = COMMAND.read(words)
    do = given.do
    if do not in ("list", "fetch"):
        raise ValueError(f"distill weights do={do}, but must be list or fetch; {COMMAND.usage}")
    names = [name for name in given.name.strip("[]").replace(" ", "").split(",") if name]
    known = loadable()
    chosen = tuple(dict.fromkeys(entry for name in names for entry in find(name, known, alone=do == "fetch")))
    if do == "fetch" and not chosen:
        raise ValueError(f"distill weights do=fetch needs name=NAME, of {names_of(known)}")
    return Request(do, chosen or known, bool(names))


def loadable() -> tuple[Published, ...]:
    """The known checkpoints whose teacher there is."""
    return tuple(entry for entry in PUBLISHED if entry.teacher in TEACHERS)


def names_of(entries: Sequence[Published]) -> str:
    """The names, as a list in words."""
    return ", ".join(entry.name for entry in entries)


def find(name: str, known: Sequence[Published], *, alone: bool) -> list[Published]:
    """The checkpoints that a word means: a name, a hub id, or (unless one `alone` is wanted) all of a teacher.

    Raises:
        ValueError: there is none, or it names several.
    """
    found = [entry for entry in known if name in (entry.name, entry.hub_id)]
    several = [entry for entry in known if entry.teacher == name]
    if several and not found:
        if alone:
            raise ValueError(f"name={name} is a teacher with several weights; choose from {names_of(several)}")
        return several
    if not found:
        names = [entry.name for entry in known]
        raise ValueError(
            f"no known weights {name!r}{nearest(name, names)}; do=list shows those that are; any other hub id can be "
            "given to teachers.NAME.weights itself"
        )
    return found


def table(entries: Sequence[Published]) -> str:
    """A line for each checkpoint."""
    cells = [("name", "teacher", "hub id", "size", "licence", "sha256")]
    cells += [(e.name, e.teacher, e.hub_id, e.size, terms_of(e), e.sha256[:12]) for e in entries]
    widths = [max(len(line[column]) for line in cells) for column in range(6)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    lines += [
        "",
        "size and sha256 are of model.safetensors, where its page gives them; do=list name=NAME shows all of one",
    ]
    lines += ["do=fetch name=NAME downloads one; timm has hundreds more: teachers.NAME.adapter=timm, weights=timm/..."]
    return "\n".join(lines)


def terms_of(entry: Published) -> str:
    """The licence, and whether it must be accepted first."""
    return f"{entry.licence} (gated)" if entry.gated else entry.licence


def describe(entry: Published) -> str:
    """All that is known of one checkpoint."""
    facts: Mapping[str, str] = {
        "teacher": entry.teacher,
        "hub id": entry.hub_id,
        "revision": entry.revision or "",
        "size": entry.size,
        "licence": entry.licence,
        "sha256": entry.sha256,
        "gated": f"accept its terms at https://huggingface.co/{entry.hub_id}, then `hf auth login`"
        if entry.gated
        else "",
        "remark": entry.remark,
        "here": str(local(entry) or "no"),
        "type": words_for(entry, local(entry)),
    }
    return "\n".join([entry.name, *(f"  {key:<9}{value}" for key, value in facts.items() if value)])


def local(entry: Published) -> Path | None:
    """The folder in the hub's cache that holds a checkpoint, if it is there; no socket is opened."""
    try:
        return cached(entry.hub_id, (MODEL, CONFIG), revision=entry.revision)[0].parent
    except NotOnHubError:
        return None


def words_for(entry: Published, folder: Path | None) -> str:
    """What to type to be taught by it."""
    weights = entry.hub_id if entry.revision is None else str(folder or "FOLDER, which do=fetch prints")
    return f"teachers.NAME.adapter={entry.teacher} teachers.NAME.weights={weights}"


def fetch(entry: Published) -> Path:
    """Downloads a checkpoint into the hub's cache, with its bars, and looks whether it is the one published.

    Returns:
        The folder that holds it.

    Raises:
        FileNotFoundError: it is not to be had; the message says why and what to do.
        ValueError: it is another file than was published.
    """
    before = local(entry)
    if before is None and not is_offline():
        size = f", {entry.size}" if entry.size else ""
        logger.info("fetching %s%s, licence %s", entry.hub_id, size, entry.licence)
    try:
        model, _ = download(entry.hub_id, (MODEL, CONFIG), revision=entry.revision)
    except NotOnHubError as failure:
        raise FileNotFoundError(
            f"{entry.hub_id} is not in the hub's cache, and {failure}; fetch it where there is a network and copy the "
            f"folder, then teachers.NAME.weights=FOLDER"
        ) from failure
    if before is not None:
        logger.info("%s was here already", entry.hub_id)
    digest = sha256_shown(model)
    if entry.sha256 and digest != entry.sha256:
        raise ValueError(
            f"{model} has sha256 {digest}, but {entry.sha256} was published; if its owner has changed it, "
            f"https://huggingface.co/{entry.hub_id}/commits/main says so, and teachers.NAME.weights takes it all the "
            "same; else delete the file and fetch it again"
        )
    logger.info("sha256 %s%s", digest, ", as published" if entry.sha256 else "")
    return model.parent


def sha256_shown(path: Path) -> str:
    """The sha256 of a file's bytes (hex), with a bar: some are of gigabytes."""
    import hashlib

    digest = hashlib.sha256()
    with path.open("rb") as file, Progress("sha256", total=path.stat().st_size // 1_000_000 + 1, unit="MB") as bar:
        while block := file.read(BLOCK):
            digest.update(block)
            bar.update(len(block) // 1_000_000)
    return digest.hexdigest()


COMMAND = Command(
    "weights",
    lambda given, *, dry: weights_command(given.words, dry=dry),
    does="Lists the known weights of every teacher, with size, licence and checksum, and downloads them.",
    writes=("the hub's cache, with do=fetch",),
    options=(
        Option("do", "list, or fetch", "list|fetch", "list"),
        Option("name", "which, with commas: a name, a hub id, or for do=list a teacher", "NAME,...", ""),
    ),
    examples=(
        "distill weights do=list",
        "distill weights do=fetch name=sam-vit-base",
    ),
)
