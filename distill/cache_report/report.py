"""The cost and fidelity of a cache, from the cache alone: no teacher, no image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cache import Cache
from cache.quality import reference_bytes
from cache.spec import BANDS

FIDELITY = "mean cosine over the channels of a cell (of one channel: of the map), in the centred and scaled space"


@dataclass(frozen=True)
class MapReport:
    """One map of a cache; all bytes are per record (one image in one view).

    Attributes:
        name: of the map.
        shape: channels, rows, columns.
        components: number of principal components kept.
        coder: the entropy coder.
        asked: the fidelity asked for.
        held_out: the cosine reached on maps held out of the calibration, its deviation between maps, their number.
        written: the cosine reached by the records of the cache: mean over records, worst and best shard; None for an
            empty cache.
        bytes: of the low band, the high band, and the index of both ("index").
        raw: of the map as fp32, fp16 and int8.
        energy: expected shares of the variance: low, high, "not coded".
        error: expected share of the variance that decoding misses.
        reference: bytes by the Gaussian rate-distortion function at that error.
    """

    name: str
    shape: tuple[int, int, int]
    components: int
    coder: str
    asked: float
    held_out: tuple[float, float, int]
    written: tuple[float, float, float] | None
    bytes: dict[str, float]
    raw: dict[str, int]
    energy: dict[str, float]
    error: float
    reference: float

    @property
    def code(self) -> float:
        """Bytes of the codes of both bands."""
        return self.bytes["low"] + self.bytes["high"]

    @property
    def total(self) -> float:
        """Bytes of the codes and of their index."""
        return sum(self.bytes.values())

    @property
    def smaller(self) -> float:
        """Bytes in half precision over bytes of the codes and their index."""
        return self.raw["fp16"] / self.total if self.total else float("nan")

    @property
    def ratio(self) -> float:
        """The codes' bytes over the Gaussian reference."""
        return self.code / self.reference if self.reference else float("nan")


@dataclass(frozen=True)
class CacheReport:
    """Contents, bytes and fidelity of a cache."""

    folder: str
    teacher: str
    licence: str
    asked: float
    images: int
    views: dict[str, int]  # records by view
    nbytes: int
    maps: tuple[MapReport, ...]

    @property
    def records(self) -> int:
        """The number of records: images, each in one view."""
        return sum(self.views.values())

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data, including the ratios."""
        data = asdict(self)
        for entry, map_ in zip(data["maps"], self.maps, strict=True):
            if self.records:
                entry |= {"smaller_than_fp16": map_.smaller, "ratio_to_reference": map_.ratio}
        return {**data, "records": self.records, "fidelity_is": FIDELITY}


def report(store: Cache) -> CacheReport:
    """The report of an open cache, from heads and statistics, without reading codes.

    Raises:
        ValueError: statistics are damaged.
    """
    views = Counter(view for _, view in store)
    return CacheReport(
        folder=store.path.name,
        teacher=describe(store),
        licence=store.licence,
        asked=store.fidelity,
        images=len({key for key, _ in store}),
        views={view: views[view] for view in store.views},
        nbytes=store.nbytes,
        maps=tuple(report_map(store, name) for name in store.spec.names),
    )


def describe(store: Cache) -> str:
    """The teacher in a few words, from the cache's identity."""
    identity = store.identity
    model = identity.get("model")
    words = [str(identity.get("teacher", "unknown")), *([model] if isinstance(model, str) else [])]
    if identity.get("image_size"):
        words.append(f"at {identity['image_size']} pixels")
    if identity.get("weights"):
        words.append(f"weights {str(identity['weights'])[:12]}")
    return ", ".join(words)


def report_map(store: Cache, name: str) -> MapReport:
    """The figures of one map of an open cache."""
    codec, spec = store.codecs[name], store.spec[name]
    size = spec.channels * spec.grid[0] * spec.grid[1]
    energies = codec.energies()
    whole = sum(energies.values())
    index = sum(_bytes(store, f"table/{name}/{band}") for band in BANDS)
    return MapReport(
        name=name,
        shape=(spec.channels, *spec.grid),
        components=codec.components,
        coder=codec.entropy,
        asked=codec.asked,
        held_out=(codec.reached, codec.spread, codec.held_out),
        written=_written(store, name),
        bytes={**store.band_bytes()[name], "index": index},
        raw={"fp32": 4 * size, "fp16": 2 * size, "int8": size},
        energy={band: energy / whole for band, energy in energies.items()},
        error=(codec.expected_error + codec.lost) / whole,
        reference=reference_bytes(codec.variances.numpy(), codec.expected_error),
    )


def _bytes(store: Cache, tensor: str) -> float:
    lengths = [stop - start for start, stop in (shard.places[tensor] for shard in store.shards)]
    return sum(lengths) / max(1, len(store))


def _written(store: Cache, name: str) -> tuple[float, float, float] | None:
    reached = [shard.facts["fidelity"][name] for shard in store.shards]
    if not reached:
        return None
    mean = float(np.average(reached, weights=[shard.facts["records"] for shard in store.shards]))
    return mean, min(reached), max(reached)


def markdown(found: CacheReport) -> str:
    """The report as Markdown, also fit for a terminal."""
    views = ", ".join(f"{count:,} {view}" for view, count in found.views.items())
    lines = [
        f"# {found.folder}",
        "",
        f"Teacher: {found.teacher}. Licence of its weights: {found.licence}.",
        f"{found.records:,} records of {found.images:,} images ({views}); {found.nbytes / 1e6:,.1f} MB on disk, "
        f"{found.nbytes / max(1, found.records):,.0f} bytes per record with all files.",
        "",
    ]
    if not found.records:
        return "\n".join([*lines, "It holds no records yet: distill extract fills it.", ""])
    rows = [_size_row(map_) for map_ in found.maps]
    lines += table(("map", "shape", "low", "high", "index", "all", "fp16", "smaller", "reference", "ratio"), rows)
    lines += [
        "",
        "Bytes per record. The reference is the Gaussian rate-distortion function at the expected error; the ratio is "
        "that of the codes (low + high) to it.",
        "",
    ]
    rows = [_faith_row(map_) for map_ in found.maps]
    heads = ("map", "coder", "asked", "held out", "written", "worst shard", "energy low", "high", "not coded", "error")
    lines += table(heads, rows, words=2)
    return "\n".join([*lines, "", f"Fidelity: {FIDELITY}. Energy and error: expected shares of the variance.", ""])


def _size_row(map_: MapReport) -> tuple[str, ...]:
    numbers = (map_.bytes["low"], map_.bytes["high"], map_.bytes["index"], map_.total, map_.raw["fp16"])
    sizes = [f"{number:,.0f}" for number in numbers]
    shape = " x ".join(map(str, map_.shape))
    return (map_.name, shape, *sizes, f"{map_.smaller:.1f} x", f"{map_.reference:,.0f}", f"{map_.ratio:.2f} x")


def _faith_row(map_: MapReport) -> tuple[str, ...]:
    mean, worst, _ = map_.written or (float("nan"),) * 3
    reached, spread, count = map_.held_out
    energy = [f"{100 * share:.1f} %" for share in map_.energy.values()]
    held_out = f"{reached:.4f} ± {spread:.4f} ({count})"
    return (map_.name, map_.coder, f"{map_.asked:g}", held_out, f"{mean:.4f}", f"{worst:.4f}", *energy,
            f"{100 * map_.error:.1f} %")  # fmt: skip


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> list[str]:
    """The lines of a Markdown table, aligned for a terminal; columns after the first `words` are right-aligned."""
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]

    def line(row: Sequence[str]) -> str:
        pairs = list(zip(row, widths, strict=True))
        cells = [cell.ljust(width) for cell, width in pairs[:words]] + [
            cell.rjust(width) for cell, width in pairs[words:]
        ]
        return "| " + " | ".join(cells) + " |"

    rule = ["-" * width for width in widths[:words]] + ["-" * (width - 1) + ":" for width in widths[words:]]
    return [line(heads), line(rule), *(line(row) for row in rows)]
