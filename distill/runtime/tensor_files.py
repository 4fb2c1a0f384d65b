"""Safetensors files with a digest of their own content, so that a flipped bit is found."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from distill.runtime.io import write_bytes

RECORD = "state"  # the only key of the metadata: safetensors writes several keys in random order
DIGEST = "sha256"
LIKE_A_DIGEST = re.compile("[0-9a-f]{64}")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any] | None = None) -> None:
    """Writes tensors of any shape by name, a JSON-able record and the digest of both; a reader never sees half a file.

    Tensors that share memory, as those of a module with two names in a network, are each written out.
    """
    written: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        place = own.untyped_storage().data_ptr()
        written[name] = own.clone() if place in places else own
        places.add(place)
    content = {**(record or {}), DIGEST: digest_tensors(written, record)}
    write_bytes(path, save(written, {RECORD: json.dumps(content, sort_keys=True)}))


def read_tensors(path: Path, *, cure: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors (any shape) by name, and the record of a file; a file without a digest is not checked.

    Args:
        path: of the file.
        cure: what to do about a damaged file, as the end of a sentence.

    Raises:
        ValueError: the file cannot be read, or its content is not what was written.
    """
    try:
        tensors = load_file(path)
        with safe_open(path, framework="pt") as stream:
            metadata = stream.metadata() or {}
        record = json.loads(metadata[RECORD]) if RECORD in metadata else dict(metadata)  # a file of another writer
    except Exception as error:  # truncated, not safetensors, not JSON: the libraries raise many unrelated types
        raise ValueError(f"cannot read {path} ({error}); {cure}") from error
    if DIGEST in record:
        expected, found = str(record.pop(DIGEST)), digest_tensors(tensors, record)
        if expected != found:
            raise ValueError(f"{path} is damaged (expected sha256 {expected[:12]}, got {found[:12]}); {cure}")
    elif LIKE_A_DIGEST.search(json.dumps(record)):  # the key of the digest itself was damaged
        raise ValueError(f"{path} is damaged (it has a sha256 under another key); {cure}")
    return tensors, record


def digest_tensors(tensors: Mapping[str, Tensor], record: Mapping[str, Any] | None = None) -> str:
    """The sha256 (hex) of tensors (any shape) by name, type, shape and bytes, and of a JSON-able record."""
    digest = hashlib.sha256(json.dumps(record or {}, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
