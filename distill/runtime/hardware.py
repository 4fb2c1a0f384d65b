"""The machine on which figures are measured, and whether it computes in bfloat16."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

CPU_INFO = Path("/proc/cpuinfo")
BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # instructions, by Linux's names: two for x86, one for ARM
WITHOUT = ("DEFAULT", "AVX2")  # torch's classes of processors that have none of these


def machine(threads: int) -> dict[str, Any]:
    """Processor with vector instructions, cores, threads, GPU and versions: the head of a table of figures."""
    import torch

    name = platform.processor() or platform.machine()
    if CPU_INFO.is_file():
        models = [line for line in CPU_INFO.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    libraries = {library: version(library) for library in ("torch", "onnxruntime")}
    name = f"{name} ({torch.backends.cpu.get_cpu_capability()})"  # AVX2 or AVX512: an "AMD EPYC" may have either
    return {"cpu": name, "cores": os.cpu_count(), "threads": threads, "gpu": device, **libraries}


def precision_here(asked: str) -> str:
    """The precision used on this machine if fp32, bf16 or fp16 is asked for: fp32 if bf16 would be emulated.

    Emulation is correct, but on processors without AVX-512 a training step takes ten times as long as in float32.
    """
    return "fp32" if asked == "bf16" and _emulates_bfloat16() else asked


def _emulates_bfloat16() -> bool:
    """Whether the GPU, or the processor if there is no GPU, emulates bfloat16."""
    import torch

    if torch.cuda.is_available():
        return not torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.accelerator.is_available():
        return False
    if CPU_INFO.is_file():
        return BFLOAT16.isdisjoint(CPU_INFO.read_text(encoding="utf-8").split())
    return torch.backends.cpu.get_cpu_capability() in WITHOUT
