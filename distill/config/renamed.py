"""Renamed and removed keys, terms and adapters: each is refused, and the message gives its replacement."""

from __future__ import annotations

import re

# Old -> new. NAME stands for a name that a recipe gives; KEY=VALUE renames one value of a key.
RENAMED = {
    "stages.NAME.learning_rate": "stages.NAME.lr_scale",
    "stages.NAME.rates": "stages.NAME.part_lr_scale",
    "stages.NAME.losses.imitate_all": "stages.NAME.losses.imitate_features",
    "data.whole": "data.test_only",
    "augment.scale": "augment.min_crop",
    "trials": "sweep",
    "teachers.NAME.adapter=network": "teachers.NAME.adapter=student",
    "teachers.NAME.adapter=dinov3": "teachers.NAME.adapter=transformers",
}
REMOVED = {
    "stages.NAME.losses.relate": "it was removed because it improved no measurement; "
    "stages.NAME.losses.imitate_features imitates the same maps",
}


def refuse_renamed(key: str, value: object = None) -> None:
    """Raises ValueError if a key, or a key with this value, was renamed or removed.

    Args:
        key: as written, `stages.semantic.rates`.
        value: the value of the key; only text is looked at.
    """
    for written in (key, f"{key}={value}") if isinstance(value, str) else (key,):
        for pattern, old, new in PATTERNS:
            if match := pattern.fullmatch(written):
                name = match.groupdict().get("name") or ""
                if old in REMOVED:
                    raise ValueError(f"a recipe has no key {written!r} any more: {new.replace('NAME', name)}")
                raise ValueError(f"{written} was renamed; write {new.replace('NAME', name)}")


def _pattern(old: str) -> re.Pattern[str]:
    return re.compile(re.escape(old).replace("NAME", "(?P<name>.+?)"))


PATTERNS = [(_pattern(old), old, new) for old, new in {**RENAMED, **REMOVED}.items()]
