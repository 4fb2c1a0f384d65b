"""Fetching known weights: into the hub's cache, or from a project's release page into the working folder."""

from __future__ import annotations

import logging
from pathlib import Path

from distill.runtime.progress import Progress
from teachers.weights import CONFIG, MODEL, releases
from teachers.weights.hub import NotOnHubError, cached, download, download_file, is_offline
from teachers.weights.known import ENDOSCOPIC, Published

BLOCK = 16_000_000  # bytes, whole megabytes

logger = logging.getLogger("bandpass")


def fetch(entry: Published) -> Path:
    """Downloads a checkpoint into the hub's cache, with progress bars, and compares its sha256 with the published one.

    Returns:
        The folder that holds it.

    Raises:
        FileNotFoundError: it cannot be fetched; the message says why and what to do.
        ValueError: the file differs from the published one.
    """
    before = local(entry)
    if before is None and not is_offline():
        size = f", {entry.size}" if entry.size else ""
        logger.info("fetching %s%s, licence %s", entry.hub_id, size, entry.licence)
    try:
        model, _ = download(entry.hub_id, (MODEL, CONFIG), revision=entry.revision)
    except NotOnHubError as failure:
        raise FileNotFoundError(
            f"{entry.hub_id} is not in the hub's cache, and {failure}; fetch it where there is a network, copy the "
            f"folder, and set teachers.NAME.weights=FOLDER"
        ) from failure
    if before is not None:
        logger.info("%s is already here", entry.hub_id)
    digest = sha256_shown(model)
    if entry.sha256 and digest != entry.sha256:
        raise ValueError(
            f"{model} has sha256 {digest}, but {entry.sha256} was published; if "
            f"https://huggingface.co/{entry.hub_id}/commits/main shows that its owner changed it, you can give it to "
            "teachers.NAME.weights; else delete the file and fetch it again"
        )
    logger.info("sha256 %s%s", digest, ", as published" if entry.sha256 else "")
    return model.parent


def fetch_release(entry: Published, source: str = "") -> Path:
    """Writes a checkpoint of a project's release page as NAME.safetensors to the working folder, if it is missing.

    Args:
        entry: the checkpoint.
        source: the release's file; if empty, the file of that name in the working folder, else it is downloaded.

    Returns:
        The safetensors file.

    Raises:
        FileNotFoundError: there is no such file, or it cannot be downloaded; the message says what to type next.
        ValueError: it is another file, or is damaged.
    """
    if (before := local(entry)) and not source:
        logger.info("%s is already here", before)
        return before
    target, page = Path(f"{entry.name}.safetensors").resolve(), page_of(entry)
    checkpoint = Path(source or entry.release.rpartition("/")[2]).expanduser()
    again = f"distill weights do=fetch name={entry.name} from={checkpoint.name}"
    if source and not checkpoint.is_file():
        raise FileNotFoundError(
            f"no file at from={source}; download {entry.release} (page: {page}), then type `{again}`"
        )
    if not checkpoint.is_file():
        try:
            download_file(entry.release, checkpoint)
        except NotOnHubError as failure:
            raise FileNotFoundError(
                f"{entry.name} is a file of the release page {page}, and {failure}; download {entry.release} where "
                f"there is a network, then type `{again}`"
            ) from failure
    if entry in ENDOSCOPIC:
        releases.convert(checkpoint, target, model=entry.model, title=entry.name)
    else:
        releases.convert_tracer(checkpoint, target)
    digest = sha256_shown(target)
    known = ", as measured" if digest == entry.sha256 else f", not the file that was measured, {entry.sha256}"
    logger.info("sha256 %s%s", digest, known if entry.sha256 else "")
    return target


def sha256_shown(path: Path) -> str:
    """The sha256 of a file (hex), with a progress bar for large files."""
    import hashlib

    digest = hashlib.sha256()
    with path.open("rb") as file, Progress("sha256", total=path.stat().st_size // 1_000_000 + 1, unit="MB") as bar:
        while block := file.read(BLOCK):
            digest.update(block)
            bar.update(len(block) // 1_000_000)
    return digest.hexdigest()


def local(entry: Published) -> Path | None:
    """The folder in the hub's cache, or file in the working folder, that holds a checkpoint; opens no socket."""
    if entry.release:
        file = Path(f"{entry.name}.safetensors")
        return file.resolve() if file.is_file() else None
    try:
        return cached(entry.hub_id, (MODEL, CONFIG), revision=entry.revision)[0].parent
    except NotOnHubError:
        return None


def page_of(entry: Published) -> str:
    """The page that holds a checkpoint."""
    if entry.hub_id:
        return f"https://huggingface.co/{entry.hub_id}"
    page, of_hub, _ = entry.release.partition("/resolve/")
    return page if of_hub else entry.release.replace("/download/", "/tag/").rpartition("/")[0]
