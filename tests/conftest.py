"""Fixtures that every test file may ask for."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from hypothesis import settings
from small_run import write_features

REPOSITORY = Path(__file__).resolve().parents[1]

# The same examples in every run, so that a red run is somebody's change; HYPOTHESIS_PROFILE=default looks for new ones.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(autouse=True, scope="session")
def _offline_and_single_threaded():
    """Hub libraries must not wait for a network that tests never have; two cores are shared by the workers."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # of the processes that tests start
    constants.HF_HUB_OFFLINE = True  # of this one, which has read the environment already
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_logging():
    """A command line logs to the standard error of its test, which is closed when the next one runs."""
    logger = logging.getLogger("bandpass")
    before = logger.handlers[:], logger.propagate
    yield
    logger.handlers[:], logger.propagate = before


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data, weights and fixtures, or a skip that says where it was looked for."""
    folder = Path(os.environ.get("BANDPASS_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set BANDPASS_SHARED to the folder that holds data/ and weights/")
    return folder


@pytest.fixture(scope="session")
def features(tmp_path_factory) -> Path:
    """A cache of drawn maps for the eight training discs, as a teacher would have left them."""
    folder = tmp_path_factory.mktemp("features") / "drawn"
    write_features(folder)
    return folder
