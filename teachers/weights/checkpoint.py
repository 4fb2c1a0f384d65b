"""Original checkpoints, `.pth` and `.pt`: files of `torch.save`, of which only named tensors are read.

Such a file is a pickle, and a pickle can call any function. `torch.load(weights_only=True)` reads only tensors and
plain containers and stops at everything else. This is safe from torch 2.6 on, the oldest version that this project
installs with (in 2.5 it could be circumvented: CVE-2025-32434).
"""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SUFFIXES = (".pth", ".pt")


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, on the CPU; mapped into memory, so that only those that are used are read.

    A state dict under the key `model`, perhaps beside an optimiser's, is taken out (SAM 2).

    Raises:
        ValueError: if it holds anything that could run code, is damaged, or is not a state dict; nothing is executed.
    """
    try:
        # Namespace is a plain container of settings, which training scripts store beside the tensors (EndoViT).
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # about foreign pickles; the messages below say it
            # Before torch 1.6 the format is not a zip file and cannot be mapped.
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than tensors{_culprit(error)} or is damaged; a pickle can run code when it is opened, "
            "so nothing in it was executed: expected a state dict; download the published file again"
        ) from error
    except Exception as error:  # a damaged file fails in many ways
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(f"{path} is not a whole file of torch.save ({reason}); download it again") from error
    return _state_dict(path, loaded)


def _state_dict(path: Path, loaded: Any) -> dict[str, Tensor]:  # noqa: ANN401
    if isinstance(loaded, dict) and isinstance(loaded.get("model"), dict):
        loaded = loaded["model"]
    wrong = None if isinstance(loaded, dict) and loaded else type(loaded).__name__
    for name, value in () if wrong else loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            wrong = f"{type(value).__name__} under {name!r}"
    if wrong:
        raise ValueError(f"expected a state dict in {path}, tensors by name, got {wrong}; give the published file")
    return {name: value.detach() for name, value in loaded.items()}


def _culprit(error: Exception) -> str:
    """The function or class that a pickle asked for, if torch's message names it."""
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f" ({named[1]})" if named else ""
