"""`distill weights`: lists the known weights of every teacher, fetches them, checks a file, tests real checkpoints."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

from distill.cli import weights_selftest as selftest
from distill.cli.options import Command, Option, names, one_of, path
from distill.cli.weights_check import check
from distill.cli.weights_fetch import fetch, fetch_release, local, page_of
from distill.runtime.issues import aligned, nearest
from teachers.weights.known import MEASURED, NEAREST, PUBLISHED, Published

SIZE = re.compile(r"([\d.]+) ?([MG])B", re.IGNORECASE)
CHECKED = ("weights", "adapter", "model", "variant", "image_size")  # options of do=check

logger = logging.getLogger("bandpass")


def run(given: SimpleNamespace, *, dry: bool) -> int:
    """Lists, fetches, checks or tests; dry: only says what would be fetched."""
    if given.do == "selftest":
        return run_selftest(given, dry=dry)
    chosen = choose(given)
    if given.do == "check":
        options = {name: value for name in CHECKED if (value := getattr(given, name))}
        sys.stdout.write(check(options) + "\n")
        return 0
    if given.do == "list":
        shown = "\n\n".join(map(describe, chosen)) if given.name else table(chosen)
        sys.stdout.write(shown + ("\nother checkpoints have no known size\n" if given.size else "\n"))
        return 0
    for entry in chosen:
        if dry:
            logger.info("would fetch %s%s", entry.hub_id or entry.release, f", {entry.size}" if entry.size else "")
            continue
        place = fetch_release(entry, getattr(given, "from")) if entry.release else fetch(entry)
        sys.stdout.write(f"{entry.name} is in {place}; type\n    {words_for(entry, place)}\n")
    return 0


def run_selftest(given: SimpleNamespace, *, dry: bool) -> int:
    """Tests checkpoints against stored summaries; returns 1 if one differs or a named one cannot be tested."""
    if dry:
        sys.stdout.write(selftest.describe(given.name) + "\n")
        return 0
    shown, well = selftest.selftest(given.name, source=getattr(given, "from"), golden=given.golden or selftest.GOLDEN)
    sys.stdout.write(shown + "\n")
    return 0 if well else 1


def choose(given: SimpleNamespace) -> tuple[Published, ...]:
    """The checkpoints that a command line names, or all; of these the ones of `licence` and up to `size`.

    Raises:
        ValueError: an unknown name, nothing to fetch or to check, or `from` beside anything but one released file.
    """
    do = given.do
    if do == "check" and not given.weights:
        raise ValueError(f"distill weights do=check needs weights=PATH, a file, folder or hub id; {COMMAND.usage}")
    chosen = tuple(dict.fromkeys(entry for name in given.name for entry in find(name, alone=do == "fetch")))
    if do == "fetch" and not chosen:
        raise ValueError(f"distill weights do=fetch needs name=NAME, of {names_of(PUBLISHED)}")
    source = getattr(given, "from")
    if source and not (do == "fetch" and len(chosen) == 1 and chosen[0].release):
        released = [entry for entry in PUBLISHED if entry.release]
        raise ValueError(
            f"from={source} is for a file of a project's release page, do=fetch name={names_of(released)}; leave it out"
        )
    return filtered(chosen or PUBLISHED, licence=given.licence, size=given.size)


def filtered(entries: Sequence[Published], *, licence: str, size: str) -> tuple[Published, ...]:
    """The checkpoints whose licence contains a text, up to a size; empty: any.

    Raises:
        ValueError: the size is invalid, or nothing is left.
    """
    if size and not SIZE.fullmatch(size):
        raise ValueError(f"size={size}, but must be a number with MB or GB, as 500MB")
    found = tuple(entry for entry in entries if licence.lower() in entry.licence.lower())
    if size:
        found = tuple(entry for entry in found if entry.size and bytes_of(entry.size) <= bytes_of(size))
    if not found:
        wanted = " and ".join(filter(None, (licence and f"licence {licence!r}", size and f"at most {size}")))
        raise ValueError(f"no known weights of {wanted} among {len(entries)}; do=list shows them all")
    return found


def bytes_of(size: str) -> float:
    """The number of bytes of a size as `375 MB`."""
    match = SIZE.fullmatch(size)
    assert match
    return float(match[1]) * {"M": 1e6, "G": 1e9}[match[2].upper()]


def names_of(entries: Sequence[Published]) -> str:
    """The names, separated by commas."""
    return ", ".join(entry.name for entry in entries)


def find(name: str, *, alone: bool) -> list[Published]:
    """The checkpoints with a name, a hub id or (unless one `alone` is wanted) a teacher.

    Raises:
        ValueError: there is none, or several where one is wanted.
    """
    found = [entry for entry in PUBLISHED if name in (entry.name, entry.hub_id)]
    several = [entry for entry in PUBLISHED if entry.teacher == name]
    if several and not found:
        if alone:
            raise ValueError(f"name={name} is a teacher with several weights; choose from {names_of(several)}")
        return several
    if not found:
        names = [entry.name for entry in PUBLISHED]
        raise ValueError(
            f"no known weights {name!r}{nearest(name, names)}; do=list shows the known ones; give any other hub id "
            "to teachers.NAME.weights directly"
        )
    return found


def table(entries: Sequence[Published]) -> str:
    """A line for each checkpoint."""
    cells = [("name", "teacher", "hub id or page", "size", "licence", "sha256")]
    cells += [(e.name, e.teacher, e.hub_id or page_of(e), e.size, license_of(e), e.sha256[:12]) for e in entries]
    lines = [
        *(line.rstrip() for line in aligned(cells)),
        "",
        "size and sha256 are of the safetensors file, if its page gives them; do=list name=NAME shows all of one",
        f"measured here on real images: {MEASURED}; the nearest that a hub serves is {NEAREST}, not measured",
        "do=fetch name=NAME downloads one; timm has hundreds more: teachers.NAME.adapter=timm, weights=timm/...",
    ]
    return "\n".join(lines)


def license_of(entry: Published) -> str:
    """The licence, and whether it must be accepted first."""
    return f"{entry.licence} (gated)" if entry.gated else entry.licence


def describe(entry: Published) -> str:
    """The known facts of one checkpoint, one line each."""
    facts: Mapping[str, str] = {
        "teacher": entry.teacher,
        "hub id": entry.hub_id,
        "page": page_of(entry) if entry.release else "",
        "revision": entry.revision or "",
        "size": entry.size,
        "licence": entry.licence,
        "sha256": entry.sha256,
        "gated": f"accept its terms at {page_of(entry)}, then `hf auth login`" if entry.gated else "",
        "note": entry.note,
        "here": str(local(entry) or "no"),
        "type": words_for(entry, local(entry)),
    }
    return "\n".join([entry.name, *(f"  {key:<9}{value}" for key, value in facts.items() if value)])


def words_for(entry: Published, place: Path | None) -> str:
    """The recipe keys that make a checkpoint a teacher."""
    weights = entry.hub_id if entry.hub_id and not entry.revision else str(place or "PLACE, which do=fetch prints")
    more = f" teachers.NAME.model={entry.model} teachers.NAME.licence={entry.licence}" if entry.release else ""
    more += f" teachers.NAME.variant={entry.variant}" if entry.variant else ""
    for name, values in (("mean", entry.mean), ("std", entry.std)):
        more += f" teachers.NAME.{name}=[{','.join(map(str, values))}]" if values else ""
    return f"teachers.NAME.adapter={entry.teacher}{more} teachers.NAME.weights={weights}"


COMMAND = Command(
    "weights",
    run,
    does="Lists the known weights of every teacher, with size, licence and checksum; downloads them; checks a file; "
    "tests real checkpoints.",
    writes=("the hub's cache, with do=fetch or selftest; golden=FILE.json, with do=selftest, if figures are missing",),
    options=(
        Option(
            "do",
            "list, fetch, check; selftest: the smallest of each adapter on a generated image, against stored figures",
            "list|fetch|check|selftest",
            "list",
            one_of(("list", "fetch", "check", "selftest")),
        ),
        Option("name", "checkpoints, with commas: a name, a hub id, or for do=list a teacher", "NAME,...", (), names),
        Option("licence", "do=list: only those whose licence contains this text", "TEXT", ""),
        Option("size", "do=list: only those of at most this size", "500MB", ""),
        Option("weights", "do=check: loads these strictly, says what they are, and runs them on one image", "PATH", ""),
        Option("adapter", "do=check: the teacher that loads them, if no config.json says it", "NAME", ""),
        Option("model", "do=check: as teachers.NAME.model", "NAME", ""),
        Option("variant", "do=check: as teachers.NAME.variant", "NAME", ""),
        Option("image_size", "do=check: as teachers.NAME.image_size", "PIXELS", ""),
        Option(
            "from",
            "do=fetch of a file from a release page: your copy of it, instead of a download; do=selftest: the file or "
            "folder of the checkpoint, or a folder with several by name",
            "FILE.pth|DIR",
            "",
        ),
        Option("golden", "do=selftest: the stored figures (default: those in teachers/)", "FILE.json", read=path),
    ),
    examples=(
        "distill weights do=list",
        "distill weights do=fetch name=tracer-te0-efficientnet-b0     # the weights that results/ was measured with",
        "distill weights do=fetch name=sam-vit-base",
        "distill weights do=check weights=facebook/sam-vit-base",
        "distill weights do=selftest                                  # fetches them; exit status 1 on a difference",
        "distill weights do=selftest name=dinov2-small from=DIR",
    ),
)
