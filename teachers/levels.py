"""Chosen levels of a network of `transformers` as maps, and the calls that differ between families."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cache.spec import FeatureSpec, MapSpec

_NORMS = ("layernorm", "norm", "post_layernorm", "rms_norm", "layer_norm")  # names of the final norm


class Quirk(NamedTuple):
    """The call of a family that needs more than `network(pixels, output_hidden_states=True)`.

    Attributes:
        settings: settings that the configuration must have.
        call: further arguments of the forward pass.
        inputs: makes the arguments from pixels (N, 3, S, S) and the side of a patch.
        backbone: whether the network comes from `AutoBackbone`.
        last: whether states have their channels last.
        normalises: whether the network normalises pixels in [0, 1] itself.
    """

    settings: Mapping[str, Any] = {}
    call: Mapping[str, Any] = {}
    inputs: Callable[[Tensor, int], dict[str, Tensor]] | None = None
    backbone: bool = False
    last: bool = False
    normalises: bool = False


def _patches(pixels: Tensor, patch: int) -> dict[str, Tensor]:
    """The input of a NaFlex network: flattened patches, their mask, and the grid."""
    count, _, height, width = pixels.shape
    rows, columns = height // patch, width // patch
    cut = pixels.unflatten(3, (columns, patch)).unflatten(2, (rows, patch)).permute(0, 2, 4, 3, 5, 1)
    return {
        "pixel_values": cut.reshape(count, rows * columns, -1),
        "pixel_attention_mask": pixels.new_ones(count, rows * columns, dtype=torch.int64),
        "spatial_shapes": torch.tensor([[rows, columns]] * count, device=pixels.device),
    }


def _in_order(pixels: Tensor, patch: int) -> dict[str, Tensor]:
    """The pixels, and the noise by which a masked autoencoder sorts its tokens."""
    cells = (pixels.shape[-2] // patch) * (pixels.shape[-1] // patch)
    return {"pixel_values": pixels, "noise": torch.arange(cells, device=pixels.device).expand(len(pixels), -1).float()}


QUIRKS = {
    # It shuffles its tokens even if it masks none of them; sorted by this noise they keep their order.
    "vit_mae": Quirk(settings={"mask_ratio": 0.0}, inputs=_in_order),
    # For images of any aspect ratio: it takes patches, their mask and the grid. Its pooling head is not needed.
    "siglip2_vision_model": Quirk(settings={"vision_use_head": False}, inputs=_patches),
    # The pooling head is not needed.
    "siglip_vision_model": Quirk(settings={"vision_use_head": False}),
    "aimv2_vision_model": Quirk(settings={"use_head": False}),
    # By default its states are those after a stage's downsampling, and it drops windows in small images.
    "swin": Quirk(call={"output_hidden_states_before_downsampling": True, "always_partition": True}),
    # The same, but only the backbone returns the states before downsampling.
    "swinv2": Quirk(backbone=True),
    # There is only the backbone.
    "hgnet_v2": Quirk(backbone=True),
    # Its states are (N, rows, columns, C), unlike Swin's of the same name.
    "hiera": Quirk(last=True),
    "radio": Quirk(normalises=True),
}


class Levels(nn.Module):
    """Chosen levels of a network, from shallow to deep, as maps (N, C, rows, columns).

    Attributes:
        norm: the final norm of tokens; None if there is none, or if it is not wanted.
        running: the number of blocks or stages that run.
        ends: whether only the network's last output is needed; keeping the other states takes 2 to 3 % of the time.
    """

    def __init__(self, network: Any, levels: Sequence[int], *, norm: bool) -> None:  # noqa: ANN401
        super().__init__()
        self.network, self.quirk, self.levels = network.eval(), quirk_of(network.config), tuple(levels)
        self.staged, self.depth, self.patch = layout_of(network.config)
        self.wants_norm, self.norm, self.running, self.ends = norm, None, self.depth, False
        resizes = "interpolate_pos_encoding" in inspect.signature(network.forward).parameters
        self.call = {**self.quirk.call, **({"interpolate_pos_encoding": True} if resizes else {})}

    def run(self, pixels: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """The state after every level (none if only the last output is needed), and the `last_hidden_state`."""
        given = self.quirk.inputs(pixels, self.patch) if self.quirk.inputs else {"pixel_values": pixels}
        outputs = self.network(**given, **self.call, output_hidden_states=not self.ends)
        if self.quirk.backbone:
            return list(outputs.feature_maps), None
        if self.ends:
            return [], outputs.last_hidden_state
        states = outputs.get("reshaped_hidden_states") or outputs.hidden_states
        kept = states[len(states) - self.running :]  # before these is the embedding
        return list(kept), outputs.get("last_hidden_state")

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """The maps of pixels (N, 3, S, S)."""
        states, last = self.run(pixels)
        return [self.lay_out(self.value(states, last, level), pixels) for level in self.levels]

    def value(self, states: Sequence[Tensor], last: Tensor | None, level: int) -> Tensor:
        """The state of a level under the final norm, if that is wanted; at the last level the `last_hidden_state`."""
        if not self.wants_norm:
            return states[level]
        if level == self.depth - 1 and last is not None:
            return last
        return states[level] if self.norm is None else self.norm(states[level])

    def lay_out(self, value: Tensor, pixels: Tensor) -> Tensor:
        """Tokens (N, prefix + rows * columns, C), or a map in another layout, as (N, C, rows, columns)."""
        if value.ndim == 4:
            return value.permute(0, 3, 1, 2) if self.quirk.last else value
        cells = value.shape[1]
        side = int(cells**0.5) if self.staged else pixels.shape[-1] // self.patch  # stages have at most a class token
        return value[:, cells - side * side :].unflatten(1, (side, side)).permute(0, 3, 1, 2)

    def prepare(self, size: int) -> FeatureSpec:
        """Finds the final norm, drops everything deeper than the levels, and returns the levels' maps at this size."""
        probe, self.ends = torch.zeros(1, 3, size, size), False
        with torch.inference_mode():
            try:
                states, last = self.run(probe)
            except (RuntimeError, ValueError) as error:
                raise ValueError(
                    f"a {self.network.config.model_type} of these weights takes no images of {size} pixels: {error}; "
                    "leave image_size out, or choose another"
                ) from error
            self.norm = self._final_norm(states[-1], last) if self.wants_norm else None
            full = [self.lay_out(self.value(states, last, level), probe) for level in self.levels]
            if self.levels[-1] < self.depth - 1 and not self.quirk.backbone:
                self._cut()
                assert all(map(torch.equal, full, self(probe))), "without deeper blocks the network gives other maps"
            self.ends = self.wants_norm and last is not None and self.levels == (self.depth - 1,)
        kind = "stage" if self.staged else "block"
        maps = [(f"{kind}{level}", value) for level, value in zip(self.levels, full, strict=True)]
        return FeatureSpec(
            tuple(MapSpec(name, v.shape[1], (v.shape[2], v.shape[3]), size // v.shape[3]) for name, v in maps)
        )

    def _final_norm(self, state: Tensor, last: Tensor | None) -> Any:  # noqa: ANN401
        """The module that makes the last hidden state from the last block's; None if none does, and for stages."""
        if self.staged or last is None or torch.equal(state, last):
            return None
        norms = [getattr(self.network, name) for name in _NORMS if hasattr(self.network, name)]
        return next((norm for norm in norms if torch.equal(norm(state), last)), None)

    def _cut(self) -> None:
        """Deletes blocks or stages deeper than the last level, and a norm that would no longer fit in width."""
        lists = (module for module in self.network.modules() if isinstance(module, nn.ModuleList))
        blocks = next(module for module in lists if len(module) == self.depth)
        del blocks[self.levels[-1] + 1 :]
        for name in _NORMS if self.staged else ():
            if hasattr(self.network, name):
                setattr(self.network, name, nn.Identity())
        self.running = self.levels[-1] + 1


def quirk_of(config: Any) -> Quirk:  # noqa: ANN401
    """The call for the family that a configuration belongs to."""
    return QUIRKS.get(str(config.model_type), Quirk())


def layout_of(config: Any) -> tuple[bool, int, int]:  # noqa: ANN401
    """The layout: whether maps are halved from stage to stage, the number of stages or blocks, the side of a patch."""
    depth = len(config.depths) if (staged := hasattr(config, "depths")) else int(config.num_hidden_layers)
    return staged, depth, side_of(getattr(config, "patch_size", 1))


def side_of(size: int | Sequence[int]) -> int:
    """The side of a square, which a configuration gives once or twice."""
    return size if isinstance(size, int) else int(size[0])
