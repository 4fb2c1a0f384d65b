"""bfloat16 where the machine has it, and float32 where it would be emulated."""

from __future__ import annotations

import pytest
import torch
from small_run import recipe_of

from distill.runs.accelerator import start_accelerator
from distill.runtime import hardware
from distill.runtime.hardware import precision_here

X86 = "processor : 0\nflags : fpu avx2 avx512f{}\n"
ARM = "processor : 0\nFeatures : fp asimd{}\n"


@pytest.fixture
def processors(monkeypatch, tmp_path):
    """Sets what Linux says of the processors, without a GPU; None is a system that says nothing."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(hardware, "CPU_INFO", tmp_path / "cpuinfo")

    def write(text: str | None) -> None:
        if text is not None:
            (tmp_path / "cpuinfo").write_text(text, encoding="utf-8")

    return write


@pytest.mark.parametrize(
    ("said", "computed"),
    [
        (X86.format(""), "fp32"),
        (X86.format(" avx512_bf16"), "bf16"),
        (X86.format(" amx_bf16"), "bf16"),
        (ARM.format(""), "fp32"),
        (ARM.format(" bf16"), "bf16"),
    ],
)
def test_bf16_needs_a_processor_with_instructions_for_it(processors, said, computed):
    processors(said)
    assert precision_here("bf16") == computed
    assert precision_here("fp32") == "fp32"
    assert precision_here("fp16") == "fp16"


@pytest.mark.parametrize(("capability", "computed"), [("AVX2", "fp32"), ("DEFAULT", "fp32"), ("AVX512", "bf16")])
def test_elsewhere_torch_is_asked(processors, monkeypatch, capability, computed):
    processors(None)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert precision_here("bf16") == computed


@pytest.mark.parametrize(("native", "computed"), [(True, "bf16"), (False, "fp32")])
def test_a_gpu_is_asked_for_what_it_does_not_emulate(monkeypatch, native, computed):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert precision_here("bf16") == computed


@pytest.mark.parametrize(("said", "mixed"), [(X86.format(""), "no"), (X86.format(" avx512_bf16"), "bf16")])
def test_the_accelerator_computes_in_it(processors, said, mixed):
    processors(said)
    assert start_accelerator(recipe_of(precision="bf16")).mixed_precision == mixed
