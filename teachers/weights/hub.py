"""Files of the Hugging Face Hub, from its local cache or else over the network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


class NotOnHubError(FileNotFoundError):
    """The files are not in the hub's cache, and no request was made or the request failed."""


def is_offline() -> bool:
    """Whether the user forbids the network."""
    # Read now, not at the import of huggingface_hub, so that setting it later still counts.
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def cached(hub_id: str, filenames: Sequence[str], *, revision: str | None = None) -> list[Path]:
    """The files in the hub's local cache; no socket is opened.

    Raises:
        NotOnHubError: if one of them is not there.
    """
    # Not hf_hub_download(local_files_only=True): even then huggingface_hub 2.4 asks the hub for a list.
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(hub_id, filename, revision=revision) for filename in filenames]
    paths = [Path(path) for path in found if isinstance(path, str)]
    if len(paths) < len(found):
        raise NotOnHubError("the hub was not asked")
    return paths


def download(hub_id: str, filenames: Sequence[str], *, revision: str | None = None) -> list[Path]:
    """The files from the hub's local cache, or downloaded into it.

    No socket is opened if the user is offline (`HF_HUB_OFFLINE=1`) or the files are already here.

    Args:
        hub_id: owner/name.
        filenames: paths within the repository.
        revision: a commit or a branch, the main branch if None.

    Raises:
        NotOnHubError: if they are not here and cannot be downloaded; the message is a clause that gives the reason.
    """
    try:
        return cached(hub_id, filenames, revision=revision)
    except NotOnHubError as failure:
        if is_offline():
            raise NotOnHubError(f"{failure}, because HF_HUB_OFFLINE is set") from failure
    from huggingface_hub import hf_hub_download

    try:
        return [Path(hf_hub_download(hub_id, filename, revision=revision)) for filename in filenames]
    except Exception as failure:  # every version of the client has other errors
        raise NotOnHubError(_reason(hub_id, failure)) from failure


def download_file(url: str, path: Path) -> None:
    """Downloads a file of a project's release page, whole or not at all.

    Raises:
        NotOnHubError: if the user forbids the network, or the request failed.
    """
    if is_offline():
        raise NotOnHubError("no request was made, because HF_HUB_OFFLINE is set")
    from torch.hub import download_url_to_file

    try:
        download_url_to_file(url, str(path))
    except Exception as failure:  # of the socket, of HTTP, of the disk
        raise NotOnHubError(f"the request failed: {' '.join(str(failure).split())[:200]}") from failure


def _reason(hub_id: str, failure: Exception) -> str:
    """The hub's error as a clause, with the remedy if a licence must be accepted first."""
    from huggingface_hub.errors import GatedRepoError

    if isinstance(failure, GatedRepoError):
        return (
            f"the hub said that it is gated: accept its terms at https://huggingface.co/{hub_id}, then log in with "
            "`hf auth login` (or set HF_TOKEN)"
        )
    return f"the hub said: {' '.join(str(failure).split())[:200] or type(failure).__name__}"
