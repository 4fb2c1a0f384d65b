"""The arithmetic of teachers: float32 without TF32, and the flags that PyTorch had before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_teachers import write_timm

import teachers
from teachers.base import without_tf32


def flags() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.fixture
def tf32():
    before = flags()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_tf32_is_off_within_and_as_it_was_afterwards(tf32):
    with without_tf32():
        assert flags() == (False, False)
    with pytest.raises(RuntimeError, match="inside"), without_tf32():
        raise RuntimeError("inside")
    assert flags() == (True, True)


def test_the_newer_settings_of_torch_are_kept_too():
    matmul = torch.backends.cuda.matmul
    if not hasattr(matmul, "fp32_precision"):
        pytest.skip("this torch has the older settings alone")
    before = matmul.fp32_precision
    matmul.fp32_precision = "tf32"
    try:
        with without_tf32():
            assert matmul.fp32_precision == "ieee"
        assert matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision = before


def test_a_teacher_s_forward_pass_is_without_tf32(tmp_path, tf32, monkeypatch):
    teacher = teachers.load("timm", **write_timm(tmp_path))
    seen, maps = [], teacher.maps
    monkeypatch.setattr(teacher, "maps", lambda pixels: seen.append(flags()) or maps(pixels))
    teacher([np.zeros((64, 64, 3), dtype=np.uint8)])
    assert seen == [(False, False)]
    assert flags() == (True, True)
