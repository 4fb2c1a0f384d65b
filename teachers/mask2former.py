"""Mask2Former (Cheng et al. 2022): the states of its pixel decoder, and a soft mask of chosen classes.

From `transformers` folders and hub ids. The whole image is stretched to a square, 384 pixels by default, as
the processor of the published weights does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from cache.spec import MASK
from teachers.base import Teacher
from teachers.choice import Choice
from teachers.semantic import Family, assemble, named_states, soft_mask


def _strides(config: Any) -> dict[int, int]:  # noqa: ANN401
    return {config.common_stride: config.mask_feature_size} | dict.fromkeys(
        config.feature_strides[-3:], config.feature_size
    )


MASK2FORMER = Family(
    name="mask2former",
    title="Mask2Former",
    example="facebook/mask2former-swin-small-coco-panoptic",
    licence="see the card of the weights",
    image_size=384,
    strides=_strides,
    library=("Mask2FormerConfig", "Mask2FormerForUniversalSegmentation"),
    sizes=("feature_size", "mask_feature_size", "hidden_dim", "encoder_layers", "decoder_layers", "num_queries"),
)


class Mask2FormerTeacher(Teacher):
    """Maps `pixel` (the mask features, 256 channels at stride 4), `pixel8`, `pixel16`, `pixel32`; and `mask`.

    Of these `pixel` unless strides choose others; the mask where classes are chosen. Without them the transformer
    decoder does not run.
    """

    example = MASK2FORMER.example

    @classmethod
    def load(cls, weights: str | Path, choice: Choice) -> Mask2FormerTeacher:
        """Loads a folder of `Mask2FormerForUniversalSegmentation`; arguments and errors as in `teachers.load`."""
        return cls(**assemble(MASK2FORMER, weights, choice))

    def maps(self, pixels: Tensor) -> dict[str, Tensor]:
        """See `Teacher.maps`."""
        network: Any = self.network
        strides = _strides(network.config)
        if MASK not in self.spec.names:
            states = network.model.pixel_level_module(pixels)
            maps = named_states(states.decoder_last_hidden_state, states.decoder_hidden_states, strides)
        else:
            outputs = network(pixels, output_hidden_states=True)
            maps = named_states(outputs.pixel_decoder_last_hidden_state, outputs.pixel_decoder_hidden_states, strides)
            grid, chosen = self.spec[MASK].grid, self._facts["classes"]
            maps[MASK] = soft_mask(outputs.class_queries_logits, outputs.masks_queries_logits, chosen, grid=grid)
        return {name: maps[name] for name in self.spec.names}
