"""manifest.json: the maps, identity and codecs of a cache, written once and checked at every opening."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.entropy import CODERS
from cache.files import read_inside
from cache.schema import check_depth, check_manifest, codec_file, parse
from cache.spec import FeatureSpec

if TYPE_CHECKING:
    from cache.codec import Codec

logger = logging.getLogger("bandpass")

NAME = "manifest.json"
FORMAT = "bandpass-cache"
VERSIONS = (1, 2)  # of the format: 2 if a codec has shells
LIBRARIES = ("constriction", "numpy", "safetensors", "torch", "zstandard")
LARGEST = 1 << 24
"""The largest manifest in bytes; a quarter of a million calibration images fit."""


class DamagedError(ValueError):
    """The manifest or a codec file is not what was written; an extraction can write it again (`cache.create`)."""


class OtherVersionError(ValueError):
    """A cache of another format version, or with an entropy coder that this version lacks."""


@dataclass(frozen=True, eq=False)
class Manifest:
    """The content of manifest.json.

    Attributes:
        spec: the maps.
        identity: how the maps were made, as plain JSON data: teacher, sha256 of its weights, preprocessing, layers.
        views: the views that records may have.
        fidelity: the cosine required of every shard.
        codecs: for each map its codec's `file`, the file's `sha256`, the `entropy` coder, and the number `held_out`
            of maps on which the fidelity was measured, with the standard deviation `spread` of a single one.
        calibration: keys of the images on which the codecs were fitted.
        batch_size: images per forward pass of the teacher; the bytes of a shard depend on it.
        licence: the licence of the teacher's weights.
        terms: the terms of the images, by data set; empty if none were given.
        version: of the format.
        versions: the libraries that wrote the cache.
    """

    spec: FeatureSpec
    identity: dict[str, Any]
    views: tuple[str, ...]
    fidelity: float
    codecs: dict[str, dict[str, Any]]
    calibration: tuple[str, ...]
    batch_size: int
    licence: str
    versions: dict[str, str]
    terms: dict[str, str] = field(default_factory=dict)
    version: int = 1

    @cached_property
    def digest(self) -> str:
        """The sha256 of every field that decoding depends on; every shard carries it."""
        unessential = ("batch_size", "licence", "terms", "versions")
        part = {name: value for name, value in self.data().items() if name not in unessential}
        return _sha256(canonical(part))

    def data(self) -> dict[str, Any]:
        """The fields of the file except its checksum, as plain JSON data."""
        return {
            "format": FORMAT,
            "version": self.version,
            "spec": self.spec.to_json(),
            "identity": self.identity,
            "views": list(self.views),
            "fidelity": self.fidelity,
            "codecs": self.codecs,
            "calibration": list(self.calibration),
            "batch_size": self.batch_size,
            "licence": self.licence,
            "versions": self.versions,
            **({"terms": self.terms} if self.terms else {}),
        }

    def to_bytes(self) -> bytes:
        """The file: indented JSON with sorted keys, and the sha256 of everything else under "checksum"."""
        data = self.data()
        return _file({**data, "checksum": _sha256(canonical(data))})

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Reads and checks the manifest of a cache folder.

        Raises:
            FileNotFoundError: the folder, or the manifest in it, does not exist.
            DamagedError: the manifest is not what was written.
            ValueError: it is of another version.
        """
        path = folder / NAME
        if not path.is_file():
            raise FileNotFoundError(f"{folder} is not a feature cache: it has no {NAME}; extract with distill extract")
        try:
            return cls._parse(read_inside(folder, NAME, limit=LARGEST), folder)
        except OtherVersionError:
            raise
        except ValueError as error:
            reason = f" ({error})" if error.args else ""
            raise DamagedError(
                f"{path} is damaged{reason}; distill extract with the recipe that made it writes it again"
            ) from error

    @classmethod
    def _parse(cls, raw: bytes, folder: Path) -> Manifest:
        data = parse(raw)
        check_depth(data)
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ValueError("it is not the manifest of a feature cache")
        if _sha256(canonical(_without_checksum(data))) != data.get("checksum"):
            raise ValueError
        if type(data.get("version")) is int and data["version"] not in VERSIONS:
            known = " and ".join(map(str, VERSIONS))
            raise OtherVersionError(
                f"{folder} is a cache of format version {data['version']}, but this library reads versions {known}; "
                "use the library that wrote it, or extract again into another folder"
            )
        if _file(data) != raw:
            raise ValueError
        manifest = cls.from_data(data)
        for entry in manifest.codecs.values():
            if entry["entropy"] not in CODERS:
                raise OtherVersionError(
                    f"{folder} was written with the entropy coder {entry['entropy']!r}, but this library knows "
                    f"{', '.join(sorted(CODERS))}; use the library that wrote it, or extract again into another folder"
                )
        return manifest

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Manifest:
        """The manifest from the fields of the file; a ValueError names a field that the format does not allow."""
        check_manifest(data)
        fields = {
            name: data[name]
            for name in ("identity", "fidelity", "codecs", "batch_size", "licence", "versions", "version")
        }
        return cls(
            spec=FeatureSpec.from_json(data["spec"]),
            views=tuple(data["views"]),
            calibration=tuple(data["calibration"]),
            terms=data.get("terms") or {},
            **fields,
        )

    def check(self, asked: Mapping[str, Any], *, folder: Path) -> None:
        """Raises ValueError, naming the first difference, unless the cache was made with the requested identity."""
        for place, old, new in differences(self.identity, plain(asked)):
            raise ValueError(
                f"{folder} was written with {place}={old}, but {place}={new} is requested; "
                "remove this folder and extract again"
            )

    def warn_of_other_versions(self, folder: Path) -> None:
        """Logs which libraries have changed: existing codes decode as before, new ones may differ by a step."""
        now = versions()
        changed = [f"{name} {old} (now {now.get(name)})" for name, old in self.versions.items() if now.get(name) != old]
        if changed:
            logger.warning("%s was written with %s; new records may differ in the last bit", folder, ", ".join(changed))


def codec_entry(name: str, codec: Codec, data: bytes) -> dict[str, Any]:
    """The manifest's entry of a map's codec; `data` are the bytes of the codec's file."""
    return {
        "file": codec_file(name),
        "sha256": hashlib.sha256(data).hexdigest(),
        "entropy": codec.entropy,
        "spread": codec.spread,
        "held_out": codec.held_out,
    }


def versions() -> dict[str, str]:
    """The versions of the libraries on which the bytes of a code may depend."""
    return {name: _version(name) for name in LIBRARIES}


@cache
def _version(library: str) -> str:
    return version(library)  # parses a file on every call


def plain(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data as it looks after a round trip through JSON (tuples become lists)."""
    return json.loads(canonical(data))


def canonical(data: Any) -> str:  # noqa: ANN401 - any JSON value
    """The one JSON text of a value: sorted keys, no spaces."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def differences(old: Any, new: Any, place: str = "") -> Iterator[tuple[str, str, str]]:  # noqa: ANN401
    """(place, old, new) wherever two JSON values differ: a dotted place, and values as JSON, or "nothing" if absent."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            yield from differences(
                old.get(name, _NOTHING), new.get(name, _NOTHING), f"{place}.{name}" if place else name
            )
    elif old != new:
        before, after = ("nothing" if value is _NOTHING else canonical(value) for value in (old, new))
        yield place, before, after


_NOTHING = object()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _without_checksum(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name != "checksum"}


def _file(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()
