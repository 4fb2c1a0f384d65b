"""Students: light segmentation networks that pass one contract (`students.base.Student`)."""

from students.base import MEAN, STD, Student
from students.published import learned_keys, load, read_config, resolve_published, said_licence
from students.registry import STUDENTS, create, resolve

__all__ = [
    "MEAN",
    "STD",
    "STUDENTS",
    "Student",
    "create",
    "learned_keys",
    "load",
    "read_config",
    "resolve",
    "resolve_published",
    "said_licence",
]
