"""Names of the parts of a split, in folders and in the `datasets` library."""

from __future__ import annotations

import re
import unicodedata

PARTS = {  # plain name of a folder, or of a split of the `datasets` library -> the part
    **dict.fromkeys(("train", "training", "trainset", "traindataset"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "valset"), "val"),
    **dict.fromkeys(("test", "testing", "testset", "testdataset"), "test"),
}


def plain(name: str) -> str:
    """The letters and digits of a name, in lower case."""
    return re.sub("[^a-z0-9]", "", unicodedata.normalize("NFKD", name).lower())


def without_part(name: str) -> str:
    """The name of a data set without a leading part name: `train-polyps` and `test-polyps` are one data set.

    `train` and `test` themselves are one data set without a name.
    """
    first, _, rest = name.partition("-")
    return rest if plain(first) in PARTS else name
