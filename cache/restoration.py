"""Rewriting a damaged manifest or codec file, if the result is the one that the cache was made with.

Digests in the other files decide this: every shard carries the manifest's digest, and the manifest the sha256 of each
codec.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

from cache.codec import Codec
from cache.files import read_inside, write_whole
from cache.manifest import NAME, DamagedError, Manifest
from cache.reader import LARGEST_CODEC, Cache, check_codecs, read_codec
from cache.schema import codec_file
from cache.shard import Shard
from cache.spec import FeatureSpec

logger = logging.getLogger("bandpass")


def restore_codecs(existing: Cache, codecs: Mapping[str, Codec]) -> None:
    """Writes damaged codec files again, if `codecs` are the ones that the manifest names.

    Raises:
        DamagedError: they are not.
    """
    for name, entry in existing.manifest.codecs.items():
        try:
            read_codec(existing.path, existing.manifest, name)
        except DamagedError as error:  # noqa: PERF203 - a file a map
            data = codecs[name].to_bytes() if name in codecs else b""
            if hashlib.sha256(data).hexdigest() != entry["sha256"]:
                raise DamagedError(_cannot(existing.path, codec_file(name))) from error
            logger.warning("%s was damaged or missing and is written again", existing.path / codec_file(name))
            write_whole(existing.path, codec_file(name), data)


def codecs_in(folder: Path, spec: FeatureSpec) -> dict[str, bytes]:
    """{map: bytes} of the codec files in a folder whose manifest is damaged; `check_shards` decides if they are right.

    Raises:
        DamagedError: they are damaged or missing, or there is no shard to decide.
        OSError: they cannot be read.
    """
    try:
        files = {name: read_inside(folder, codec_file(name), limit=LARGEST_CODEC) for name in spec.names}
        check_codecs(spec, {name: Codec.from_bytes(data) for name, data in files.items()})
    except (ValueError, FileNotFoundError) as error:
        raise DamagedError(_cannot(folder, NAME)) from error
    if not any(folder.glob("shard-*")):
        raise DamagedError(_cannot(folder, NAME))
    return files


def check_shards(folder: Path, manifest: Manifest) -> None:
    """Raises DamagedError if a folder holds shards and all of them belong to another manifest."""
    digests = set()
    for file in folder.glob("shard-*.safetensors"):
        with contextlib.suppress(ValueError, OSError):  # a damaged shard proves nothing; `repair` removes it
            digests.add(Shard.read(file).facts["manifest"])
    if digests and manifest.digest not in digests:
        raise DamagedError(_cannot(folder, NAME))


def _cannot(folder: Path, file: str) -> str:
    return (
        f"{folder / file} is damaged or missing, and its replacement would not be what the rest of the cache was made "
        f"with (other settings, or a machine that rounds differently); restore it from a copy, or remove {folder} and "
        f"extract again"
    )
