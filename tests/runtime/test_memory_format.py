"""The order of tensors in memory: the fast one, unless torch's gradient is wrong there."""

from __future__ import annotations

import pytest
import torch

import students
from distill.runtime.memory_format import memory_format_of

CPU = torch.device("cpu")


def leave_nan_behind() -> None:
    """Fills blocks that the allocator hands out again, so that whoever reads before writing is found out."""
    blocks = [torch.full((1 << power,), float("nan")) for power in range(6, 20) for _ in range(4)]
    del blocks


@pytest.mark.parametrize("name", ["microaunet", "malunet"])
def test_a_gradient_in_bf16_is_the_same_at_every_call(name):
    torch.manual_seed(0)
    student = students.create(name, width=8).train()
    layout = memory_format_of(student, device=CPU, precision="bf16")
    assert layout == torch.contiguous_format
    student.to(memory_format=layout)
    images = torch.randn(2, 3, 128, 128)
    found = []
    for _ in range(4):
        leave_nan_behind()
        student.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            logits = student(images)
        logits.float().square().mean().backward()
        found.append(torch.cat([parameter.grad.flatten() for parameter in student.parameters()]))
    assert torch.isfinite(found[0]).all()
    assert all(torch.equal(gradient, found[0]) for gradient in found)


def test_channels_come_last_where_that_is_right():
    unet, dilated = students.create("unet", width=4), students.create("microaunet", width=8)
    assert memory_format_of(unet, device=CPU, precision="bf16") == torch.channels_last
    assert memory_format_of(dilated, device=CPU, precision="fp32") == torch.channels_last
    assert memory_format_of(dilated, device=torch.device("cuda"), precision="bf16") == torch.channels_last
