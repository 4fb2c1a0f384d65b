"""manifest.json: what a cache holds and how it was made, written once, checked at every opening."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cache.spec import FeatureSpec

logger = logging.getLogger("bandpass")

NAME = "manifest.json"
FORMAT = "bandpass-cache"
VERSION = 1
LIBRARIES = ("constriction", "numpy", "safetensors", "torch", "zstandard")


class DamagedError(ValueError):
    """Manifest or statistics are not what was written; an extraction can write them again (`cache.create`)."""


@dataclass(frozen=True, eq=False)
class Manifest:
    """The content of manifest.json.

    Attributes:
        spec: the maps.
        identity: who looked and how, as plain JSON data: teacher, sha256 of its weights, preprocessing, layers.
        views: the views that records may have.
        fidelity: the cosine asked of every shard.
        codecs: for each map the file of its statistics, the file's sha256, the entropy coder,
            and on how many maps held out, with which deviation of one, the fidelity was found.
        calibration: keys of the images on which the codecs were fitted.
        batch_size: images a forward pass of the teacher; the bytes of a shard depend on it.
        licence: the licence of the teacher's weights.
        terms: the terms of the images, by data set; empty where nothing was said.
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

    @cached_property
    def digest(self) -> str:
        """The sha256 of all that decides what a code means; every shard carries it."""
        unessential = ("batch_size", "licence", "terms", "versions")
        part = {name: value for name, value in self._data().items() if name not in unessential}
        return _sha256(canonical(part))

    def _data(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
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
        data = self._data()
        return _file({**data, "checksum": _sha256(canonical(data))})

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read and check the manifest of a cache folder.

        Raises:
            FileNotFoundError: the folder, or the manifest in it, does not exist.
            DamagedError: the manifest is not what was written.
            ValueError: it is of another version.
        """
        path = folder / NAME
        if not path.is_file():
            raise FileNotFoundError(f"{folder} is no feature cache: it has no {NAME}; extract with do=extract")
        raw = path.read_bytes()
        damaged = f"{path} is damaged; do=extract with the recipe that made it writes it again"
        try:
            data = json.loads(raw)
        except ValueError as error:
            raise DamagedError(damaged) from error
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise DamagedError(
                f"{path} is not the manifest of a feature cache, or is damaged; {damaged.partition('; ')[2]}"
            )
        if data.get("version") != VERSION and _sha256(canonical(_without_checksum(data))) == data.get("checksum"):
            raise ValueError(
                f"{folder} is a cache of format version {data['version']}, but this library reads version {VERSION}; "
                "use the library that wrote it, or extract again into another folder"
            )
        if _sha256(canonical(_without_checksum(data))) != data.get("checksum") or _file(data) != raw:
            raise DamagedError(damaged)
        return cls._from(data)

    @classmethod
    def _from(cls, data: Mapping[str, Any]) -> Manifest:
        fields = {name: data[name] for name in ("identity", "fidelity", "codecs", "batch_size", "licence", "versions")}
        return cls(
            spec=FeatureSpec.from_json(data["spec"]),
            views=tuple(data["views"]),
            calibration=tuple(data["calibration"]),
            terms=data.get("terms", {}),
            **fields,
        )

    def check(self, asked: Mapping[str, Any], *, folder: Path) -> None:
        """Raise ValueError, naming the first difference, unless the cache was made with the `asked` identity."""
        for place, old, new in differences(self.identity, plain(asked)):
            raise ValueError(
                f"{folder} was written with {place}={old}, but {place}={new} is asked; "
                "extract again with do=extract into another folder"
            )

    def warn_of_other_versions(self, folder: Path) -> None:
        """Say once which libraries have changed since: old codes decode as ever, new ones may differ by a step."""
        now = versions()
        changed = [f"{name} {old} (now {now.get(name)})" for name, old in self.versions.items() if now.get(name) != old]
        if changed:
            logger.warning("%s was written with %s; new records may differ in the last bit", folder, ", ".join(changed))


def versions() -> dict[str, str]:
    """The versions of the libraries on which the bytes of a code may depend."""
    return {name: version(name) for name in LIBRARIES}


def plain(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data as it looks after a round trip through JSON (tuples become lists)."""
    return json.loads(canonical(data))


def canonical(data: Any) -> str:  # noqa: ANN401 - any JSON value
    """One text for one value: sorted keys, no spaces."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def differences(old: Any, new: Any, place: str = "") -> Iterator[tuple[str, str, str]]:  # noqa: ANN401
    """(place, old, new) wherever two JSON values differ; places are dotted, values as JSON, "nothing" where absent."""
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
