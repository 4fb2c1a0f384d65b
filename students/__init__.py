"""Students: light segmentation networks that pass one contract (`students.base.Student`)."""

from students.base import MEAN, STD, Student
from students.catalogue import place_of
from students.config import check_config, read_config
from students.published import build, check_finite, learned_keys, licence_of, load, resolve_published
from students.registry import STUDENTS, create, resolve

__all__ = [
    "MEAN",
    "STD",
    "STUDENTS",
    "Student",
    "build",
    "check_config",
    "check_finite",
    "create",
    "learned_keys",
    "licence_of",
    "load",
    "place_of",
    "read_config",
    "resolve",
    "resolve_published",
]
