"""The machine that figures were measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any


def machine(threads: int) -> dict[str, Any]:
    """Processor, cores, threads used, GPU and library versions, for the head of a table of figures."""
    import torch

    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [line for line in info.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    libraries = {library: version(library) for library in ("torch", "onnxruntime")}
    return {"cpu": name, "cores": os.cpu_count(), "threads": threads, "gpu": device, **libraries}
