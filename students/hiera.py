"""SAM 2's Hiera trunk (Ravi et al. 2024) as a frozen encoder with a small trainable adapter before every block.

The adapters are those of SAM2-UNet (Xiong et al. 2024): x + GELU(W_up GELU(W_down x)) with a bottleneck. Here W_up is
initialised to zero, so a new encoder computes exactly SAM 2's maps.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from students.base import whole
from students.config import is_hub_id

# The sizes in sam2/configs/sam2.1/*.yaml, under the names of `transformers`.
TRUNKS: dict[str, dict[str, Any]] = {
    "tiny": {"width": 96, "blocks": (1, 2, 7, 2), "everywhere": (5, 7, 9)},
    "small": {"width": 96, "blocks": (1, 2, 11, 2), "everywhere": (7, 10, 13)},
    "base_plus": {"width": 112, "heads": 2, "blocks": (2, 3, 16, 3), "everywhere": (12, 16, 20), "background": 14},
    "large": {"width": 144, "heads": 2, "blocks": (2, 6, 36, 4), "everywhere": (23, 33, 43), "windows": (8, 4, 16, 8)},
}
EXAMPLE = "facebook/sam2.1-hiera-large"
_PREFIXES = ("vision_encoder.backbone.", "backbone.")  # in files of Sam2Model and of Sam2VisionModel


def configuration(trunk: str | Mapping[str, Any]) -> Any:  # noqa: ANN401
    """`transformers`' configuration of a published trunk by name, or of one that is described as in `TRUNKS`.

    Raises:
        ValueError: there is none of that name, or the description is incomplete.
    """
    from transformers import Sam2HieraDetConfig

    known = TRUNKS.get(trunk) if isinstance(trunk, str) else dict(trunk)
    if known is None or not {"width", "blocks", "everywhere"} <= known.keys():
        raise ValueError(
            f"student.options.trunk is {trunk!r}, but must be one of {', '.join(TRUNKS)}, or describe one by width, "
            "blocks, everywhere, and perhaps heads, windows, background"
        )
    heads, background = known.get("heads", 1), known.get("background", 7)
    return Sam2HieraDetConfig(
        hidden_size=known["width"],
        num_attention_heads=heads,
        blocks_per_stage=list(known["blocks"]),
        embed_dim_per_stage=[known["width"] * 2**stage for stage in range(4)],
        num_attention_heads_per_stage=[heads * 2**stage for stage in range(4)],
        window_size_per_stage=list(known.get("windows", (8, 4, 14, 7))),
        global_attention_blocks=list(known["everywhere"]),
        window_positional_embedding_background_size=[background, background],
    )


class Adapter(nn.Module):
    """x + GELU(W_up GELU(W_down x)) over channels last; initialised to the identity."""

    def __init__(self, channels: int, bottleneck: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(channels, bottleneck), nn.Linear(bottleneck, channels)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, h, w, C) -> (N, h, w, C)."""
        return x + functional.gelu(self.up(functional.gelu(self.down(x))))


class AdaptedHiera(nn.Module):
    """The four stages of a trunk that is always frozen, and trainable adapters.

    Args:
        trunk: a name or description; see `configuration`.
        bottleneck: channels inside an adapter.
    """

    def __init__(self, trunk: str | Mapping[str, Any], bottleneck: int) -> None:
        super().__init__()
        from transformers import Sam2HieraDetModel

        self.trunk: Any = Sam2HieraDetModel(configuration(trunk))
        blocks: Any = self.trunk.blocks
        config: Any = self.trunk.config
        self.adapters = nn.ModuleList(Adapter(block.dim, bottleneck) for block in blocks)
        self.channels = tuple(config.embed_dim_per_stage)
        self.strides = tuple(config.patch_stride[0] * 2**stage for stage in range(len(self.channels)))
        self.multiple = config.patch_stride[0] * config.window_size_per_stage[0]  # whole windows of positions
        self.requires_grad_()

    def requires_grad_(self, requires_grad: bool = True) -> AdaptedHiera:
        """Switches the adapters' gradients on or off; the trunk's are always off."""
        self.adapters.requires_grad_(requires_grad)
        self.trunk.requires_grad_(False)
        return self

    def positions(self, rows: int, columns: int) -> Tensor:
        """Position embeddings (1, rows, columns, C), as SAM 2 makes them: a resized background and repeated windows."""
        window = self.trunk.pos_embed_window
        background = functional.interpolate(self.trunk.pos_embed, size=(rows, columns), mode="bicubic")
        tiles = window.tile(1, 1, rows // window.shape[-2], columns // window.shape[-1])
        return (background + tiles).permute(0, 2, 3, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps (N, channels[i], H / strides[i], W / strides[i]) of (N, 3, H, W), multiples of `multiple`."""
        x = self.trunk.patch_embed(images)
        x = x + self.positions(x.shape[1], x.shape[2])
        maps = []
        for number, (adapter, block) in enumerate(zip(self.adapters, self.trunk.blocks, strict=True)):
            x = block(adapter(x))
            if number in self.trunk.stage_ends:
                maps.append(x.permute(0, 3, 1, 2))
        return tuple(maps)

    def load(self, weights: str | Path) -> None:
        """Puts SAM 2's weights into the trunk.

        Args:
            weights: a folder of `transformers` (`Sam2Model`, `Sam2VideoModel` or `Sam2VisionModel`), its
                model.safetensors, or a hub id.

        Raises:
            FileNotFoundError: there are none; the message says how to get them.
            ValueError: they are not this trunk's; nothing is loaded then.
        """
        path = _locate(weights)
        found = _read(path)
        own = self.trunk.state_dict()
        wrong = [name for name in own if name not in found or found[name].shape != own[name].shape]
        wrong += sorted(found.keys() - own.keys())
        if wrong:
            expected = f"expected {tuple(own[wrong[0]].shape)}" if wrong[0] in own else "expected none"
            got = f"got {tuple(found[wrong[0]].shape)}" if wrong[0] in found else "got none"
            raise ValueError(
                f"{path} is not the weights of this SAM 2 trunk: {len(wrong)} of {len(own)} tensors are missing, left "
                f"over or of another shape, the first is {wrong[0]}, {expected}, {got}; choose the trunk with "
                f"student.options.trunk, one of {', '.join(TRUNKS)}"
            )
        self.trunk.load_state_dict({name: value.float() for name, value in found.items()})


def has_adapters(path: Path) -> bool:
    """Whether a file holds an adapted trunk, as `Student.export_encoder` writes it, rather than only SAM 2."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
        return any(name.startswith("adapters.") for name in names)
    except SafetensorError:  # `AdaptedHiera.load` raises it with a message
        return False


def _locate(weights: str | Path) -> Path:
    """The safetensors file behind a folder, a file or a hub id; errors as in `AdaptedHiera.load`."""
    path = Path(weights).expanduser()
    file = path / "model.safetensors" if path.is_dir() else path
    if path.suffix in (".pt", ".pth", ".bin"):
        raise ValueError(
            f"student.encoder={weights} is an original checkpoint, but the trunk reads files of transformers; "
            f"`hf download {EXAMPLE}` gets one, then student.encoder={EXAMPLE}"
        )
    if file.is_file():
        return file
    tried = f"looked for a file at {file.resolve()}"
    if is_hub_id(str(weights)) and not path.exists():
        from huggingface_hub import hf_hub_download

        # Read now, not when huggingface_hub was imported, so that it can still be set later.
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
        try:
            return Path(hf_hub_download(str(weights), "model.safetensors", local_files_only=offline))
        except Exception as error:  # the hub's client raises a different family of errors in each version
            reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
            tried += f" and on the hub, which answered: {reason}"
    raise FileNotFoundError(
        f"no weights of SAM 2 at student.encoder={weights}: {tried}; get them on a machine with network access by "
        f"`hf download {EXAMPLE}`, or give a folder with model.safetensors"
    )


def _read(path: Path) -> dict[str, Tensor]:
    """The trunk's tensors in a file, of any shape, by their names in the trunk."""
    from safetensors import safe_open

    with whole(path), safe_open(path, framework="pt") as file:
        names = list(file.keys())
        prefix = next((p for p in _PREFIXES if any(name.startswith(p) for name in names)), None)
        if prefix is None:
            raise ValueError(
                f"{path} holds no trunk of SAM 2: expected tensors {' or '.join(p + '*' for p in _PREFIXES)}, got "
                f"{', '.join(names[:2]) or 'none'}; `hf download {EXAMPLE}` gets one"
            )
        return {name.removeprefix(prefix): file.get_tensor(name) for name in names if name.startswith(prefix)}
