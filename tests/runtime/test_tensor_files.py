"""Tensor files: a flipped bit or a missing end is a sentence with the cure, and equal content is equal bytes."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from safetensors.torch import save_file

from distill.runtime.tensor_files import read_tensors, write_tensors

CURE = "delete it to begin again"


def tensors() -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return {
        "weight": torch.randn(3, 4, generator=random),
        "half": torch.randn(5, generator=random).bfloat16(),
        "count": torch.tensor(7),
        "empty": torch.zeros(0, 2),
        "flags": torch.tensor([True, False]),
    }


def test_tensors_and_record_come_back(tmp_path):
    write_tensors(tmp_path / "t", tensors(), {"step": 3})
    found, record = read_tensors(tmp_path / "t", cure=CURE)
    assert record == {"step": 3}
    assert all(torch.equal(tensor, found[name]) for name, tensor in tensors().items())


def test_equal_content_is_equal_bytes(tmp_path):
    record = {name: len(name) for name in ("step", "validation_dice", "best", "more")}
    for name in "ab":
        write_tensors(tmp_path / name, tensors(), dict(reversed(record.items())) if name == "b" else record)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_flipped_byte_is_found(tmp_path):
    write_tensors(tmp_path / "t", tensors(), {"step": 3})
    whole = (tmp_path / "t").read_bytes()
    for place, bit in product(range(len(whole)), (0, 2, 5)):
        broken = bytearray(whole)
        broken[place] ^= 1 << bit
        (tmp_path / "t").write_bytes(broken)
        with pytest.raises(ValueError, match=r"(cannot read .*t |t is damaged).*; delete it to begin again"):
            read_tensors(tmp_path / "t", cure=CURE)


@pytest.mark.parametrize("length", [0, 5, 40, 400, -1])
def test_a_truncated_file_is_a_sentence(tmp_path, length):
    write_tensors(tmp_path / "t", tensors())
    (tmp_path / "t").write_bytes((tmp_path / "t").read_bytes()[:length])
    with pytest.raises(ValueError, match=r"cannot read .*; delete it to begin again"):
        read_tensors(tmp_path / "t", cure=CURE)


def test_a_file_without_a_digest_is_believed(tmp_path):
    save_file(tensors(), tmp_path / "t", metadata={"step": "4"})
    assert read_tensors(tmp_path / "t", cure=CURE)[1] == {"step": "4"}
