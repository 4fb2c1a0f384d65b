"""The frequency-coded feature cache: a teacher's feature maps in a few kilobytes per image, for any number of students.

    import cache
    features = cache.open("artifacts/features/sam-1f3a")
    code = features.read(key, "identity", map="neck", bands=("low",))
    target = features.codecs["neck"].decode(code, box=(0.1, 0.2, 0.9, 1.0), grid=(16, 16), band="low")

The package stands alone: it needs numpy, torch, safetensors, constriction and zstandard, and nothing else of this
repository. README.md explains its use, FORMAT.md its files.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cache.spec import VIEWS, FeatureSpec, MapSpec, flip

if TYPE_CHECKING:
    from cache.calibration import fit as fit
    from cache.codec import Codec as Codec
    from cache.files import lock as lock
    from cache.manifest import DamagedError as DamagedError
    from cache.reader import Cache as Cache
    from cache.reader import exists as exists
    from cache.reader import open as open
    from cache.store import create as create
    from cache.store import plan as plan
    from cache.store import write_shard as write_shard
    from cache.verification import repair as repair
    from cache.verification import verify as verify

_PLACES = {
    "Cache": "cache.reader",
    "Codec": "cache.codec",
    "DamagedError": "cache.manifest",
    "create": "cache.store",
    "exists": "cache.reader",
    "fit": "cache.calibration",
    "lock": "cache.files",
    "open": "cache.reader",
    "plan": "cache.store",
    "repair": "cache.verification",
    "verify": "cache.verification",
    "write_shard": "cache.store",
}

__all__ = ["VIEWS", "FeatureSpec", "MapSpec", "flip", *sorted(_PLACES)]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - torch is imported only with the modules that need it
    if name not in _PLACES:
        raise AttributeError(f"module 'cache' has no attribute {name!r}; choose from {', '.join(__all__)}")
    return getattr(import_module(_PLACES[name]), name)
