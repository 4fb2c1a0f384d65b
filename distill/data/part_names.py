"""Names of the parts of a split, as folders have them and splits of the `datasets` library."""

from __future__ import annotations

import re
import unicodedata

PARTS = {  # what a folder, or a split of the `datasets` library, may be called, plain -> the part that it is
    **dict.fromkeys(("train", "training", "trainset", "traindataset"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "valset"), "val"),
    **dict.fromkeys(("test", "testing", "testset", "testdataset"), "test"),
}


def plain(name: str) -> str:
    """The letters and digits of a name, in lower case."""
    return re.sub("[^a-z0-9]", "", unicodedata.normalize("NFKD", name).lower())


def without_part(name: str) -> str:
    """The name of a data set without the part of a split that it begins with: `train-polyps` and `test-polyps` are one.

    `train` and `test` themselves are one too, of no name.
    """
    first, _, rest = name.partition("-")
    return rest if plain(first) in PARTS else name
