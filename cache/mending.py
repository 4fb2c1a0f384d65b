"""Writing a damaged manifest or damaged statistics again, if they come out as those the cache was made with.

Nothing is believed: every shard carries the manifest's digest, and the manifest the sha256 of the statistics.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

from cache.codec import Codec
from cache.files import write_whole
from cache.manifest import NAME, DamagedError, Manifest
from cache.reader import Cache, codec_bytes
from cache.shard import Shard
from cache.spec import FeatureSpec

logger = logging.getLogger("bandpass")


def file_of(name: str) -> str:
    """The file of a map's statistics."""
    return f"codec-{name}.safetensors"


def mend_statistics(existing: Cache, codecs: Mapping[str, Codec]) -> None:
    """Write damaged statistics again, if `codecs` are the ones that the manifest names.

    Raises:
        DamagedError: they are not.
    """
    for name, entry in existing.manifest.codecs.items():
        try:
            codec_bytes(existing.path, existing.manifest, name)
        except DamagedError as error:  # noqa: PERF203 - a file a map
            data = codecs[name].to_bytes() if name in codecs else b""
            if hashlib.sha256(data).hexdigest() != entry["sha256"]:
                raise DamagedError(_cannot(existing.path, entry["file"])) from error
            logger.warning("%s was damaged or missing and is written again", existing.path / entry["file"])
            write_whole(existing.path, entry["file"], data)


def statistics_in(folder: Path, spec: FeatureSpec) -> dict[str, bytes]:
    """The statistics in a folder whose manifest is damaged; whether they are whole, its shards will tell.

    Raises:
        DamagedError: they cannot be read, or there is no shard to tell.
    """
    try:
        files = {name: (folder / file_of(name)).read_bytes() for name in spec.names}
        check_codecs(spec, {name: Codec.from_bytes(data) for name, data in files.items()})
    except Exception as error:  # there is no telling what reading damaged bytes raises
        raise DamagedError(_cannot(folder, NAME)) from error
    if not any(folder.glob("shard-*")):
        raise DamagedError(_cannot(folder, NAME))
    return files


def check_shards(folder: Path, manifest: Manifest) -> None:
    """Raise DamagedError if a folder holds shards, and all of them are of another manifest."""
    digests = set()
    for file in folder.glob("shard-*.safetensors"):
        with contextlib.suppress(ValueError, OSError):  # a damaged shard says nothing; `repair` removes it
            digests.add(Shard.read(file).facts["manifest"])
    if digests and manifest.digest not in digests:
        raise DamagedError(_cannot(folder, NAME))


def _cannot(folder: Path, file: str) -> str:
    return (
        f"{folder / file} is damaged or missing, and what would be written in its place is not what the rest of the "
        f"cache was made with (other settings, or a machine that rounds otherwise); restore it from a copy, or remove "
        f"{folder} and extract again"
    )


def check_codecs(spec: FeatureSpec, codecs: Mapping[str, Codec]) -> None:
    """Raise ValueError unless the codecs are for the maps of a spec."""
    got = {name: (len(codec.mean), *codec.grid) for name, codec in codecs.items()}
    expected = {map_.name: (map_.channels, *map_.grid) for map_ in spec}
    if got != expected:
        raise ValueError(
            f"expected codecs for maps of (channels, rows, columns) {expected}, got {got}; fit them on this spec"
        )
