"""The machine: what figures were measured on, and whether it computes in bfloat16."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

CPU_INFO = Path("/proc/cpuinfo")
BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # instructions, by Linux's names: two of x86, one of ARM
WITHOUT = ("DEFAULT", "AVX2")  # of torch's classes of processors those that have none of them


def machine(threads: int) -> dict[str, Any]:
    """Processor and its vector instructions, cores, threads used, GPU, versions: the head of a table of figures."""
    import torch

    name = platform.processor() or platform.machine()
    if CPU_INFO.is_file():
        models = [line for line in CPU_INFO.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    libraries = {library: version(library) for library in ("torch", "onnxruntime")}
    name = f"{name} ({torch.backends.cpu.get_cpu_capability()})"  # AVX2 or AVX512: an "AMD EPYC" may be either
    return {"cpu": name, "cores": os.cpu_count(), "threads": threads, "gpu": device, **libraries}


def precision_here(asked: str) -> str:
    """The precision that is computed in here where fp32, bf16 or fp16 is asked for: fp32 where bf16 would be emulated.

    Emulated it is right as well, but on processors without AVX-512 a step of training takes ten times float32's time.
    """
    return "fp32" if asked == "bf16" and _emulates_bfloat16() else asked


def _emulates_bfloat16() -> bool:
    """Of the GPU, if there is one, or else of the processors."""
    import torch

    if torch.cuda.is_available():
        return not torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.accelerator.is_available():
        return False
    if CPU_INFO.is_file():
        return BFLOAT16.isdisjoint(CPU_INFO.read_text(encoding="utf-8").split())
    return torch.backends.cpu.get_cpu_capability() in WITHOUT
