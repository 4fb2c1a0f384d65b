"""OneFormer (Jain et al. 2023): the states of its pixel decoder, and a soft mask of chosen classes.

From `transformers` folders and hub ids. The whole image is stretched to a square, of 800 pixels by default:
the processor of the published weights brings the shorter side to 800 and keeps the ratio.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cache.spec import MASK
from teachers.base import Teacher
from teachers.choice import Choice
from teachers.semantic import Family, assemble, named_states, soft_mask

# "the task is semantic" between start and end in CLIP's byte pairs, which the processor fills up with zeros. So no
# tokeniser is needed; of the tasks this is the one whose post-processing gives every pixel a class.
TASK = (49406, 518, 10549, 533, 29119, 1550, 49407)


def _strides(config: Any) -> dict[int, int]:  # noqa: ANN401
    return {config.common_stride: config.mask_dim} | dict.fromkeys(config.strides[-3:], config.conv_dim)


ONEFORMER = Family(
    name="oneformer",
    title="OneFormer",
    example="shi-labs/oneformer_coco_swin_large",
    licence="MIT",
    image_size=800,
    strides=_strides,
    library=("OneFormerConfig", "OneFormerForUniversalSegmentation"),
    sizes=("conv_dim", "mask_dim", "hidden_dim", "encoder_layers", "decoder_layers", "query_dec_layers", "num_queries"),
)


class OneFormerTeacher(Teacher):
    """Maps `pixel` (the mask features, 256 channels at stride 4), `pixel8`, `pixel16`, `pixel32`; and `mask`.

    Of these `pixel` unless strides choose others; the mask where classes are chosen. Without them the transformer
    decoder does not run.
    """

    example = ONEFORMER.example

    @classmethod
    def load(cls, weights: str | Path, choice: Choice) -> OneFormerTeacher:
        """Loads a folder of `OneFormerForUniversalSegmentation`; arguments and errors as in `teachers.load`."""
        return cls(**assemble(ONEFORMER, weights, choice))

    def maps(self, pixels: Tensor) -> dict[str, Tensor]:
        """See `Teacher.maps`."""
        network: Any = self.network
        strides = _strides(network.config)
        if MASK not in self.spec.names:
            states = network.model.pixel_level_module(pixels)
            maps = named_states(states.decoder_last_feature, states.decoder_features, strides)
        else:
            task = task_tokens(network.config.task_seq_len).to(pixels.device)
            outputs = network(pixels, task.expand(len(pixels), -1), output_hidden_states=True)
            fine, *coarse = outputs.pixel_decoder_hidden_states
            maps = named_states(fine, coarse, strides)
            grid, chosen = self.spec[MASK].grid, self._facts["classes"]
            maps[MASK] = soft_mask(outputs.class_queries_logits, outputs.masks_queries_logits, chosen, grid=grid)
        return {name: maps[name] for name in self.spec.names}


def task_tokens(length: int) -> Tensor:
    """The tokens of the task "semantic" as its processor gives them: int64 (1, length)."""
    tokens = torch.zeros(1, length, dtype=torch.int64)
    tokens[0, : len(TASK)] = torch.tensor(TASK)
    return tokens
