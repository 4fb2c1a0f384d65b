"""SAM's soft foreground: the masks of its decoder for boxes or points, joined into one map.

For each prompt SAM returns three masks with a predicted IoU. The best of the three is kept, and the maximum is taken
over all prompts (MedSAM is asked for one mask). A grid of points has no information on the object. Of its masks those
are kept that segment_anything's automatic generator would keep (by quality and stability), unless they cover more than
half of the square and so are background. A grid finds objects of any kind, not the class that a student learns.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cache.spec import LOGIT_CLIP
from teachers.weights.locate import WeightFiles, require_config
from teachers.weights.names import renamed, rest_of
from teachers.weights.originals import PROMPT_POSITIONS, sam_decoder_config
from teachers.weights.tensors import build_network, read_shapes

QUALITY, STABILITY, OFFSET = 0.88, 0.95, 1.0  # of segment_anything's SamAutomaticMaskGenerator
LARGEST = 0.5  # share of the square
TOGETHER = 32  # prompts per pass of the decoder
SCALE = 4  # cells of the decoder's masks per cell of the embedding, along each side
RULE = (
    f"soft mask 1: best of three, maximum over prompts, logits within {LOGIT_CLIP}; of points those of quality "
    f"{QUALITY} and stability {STABILITY} that cover at most {LARGEST}"
)
RULE_OF_ONE = RULE.replace("best of three", "one mask")
_SHARED = "shared_image_embedding.positional_embedding"  # the same tensor; a file may hold only this one


class Prompted(nn.Module):
    """A whole SAM of `transformers`; with `single` it is asked for one mask per prompt instead of three."""

    def __init__(self, sam: Any, *, single: bool) -> None:  # noqa: ANN401
        super().__init__()
        self.sam, self.single = sam, single

    def forward(self, embedding: Tensor, prompt: Tensor) -> Tensor:
        """The logits (1, 1, 4 rows, 4 columns) of the soft foreground of one image, within `LOGIT_CLIP`.

        Args:
            embedding: SAM's embedding of the image, (1, C, rows, columns).
            prompt: boxes (B, 4) as x0, y0, x1, y1, or points (P, 2) as x, y, in pixels of the input square. No box
                means no foreground. If no point finds anything, the foreground is unknown: 0 everywhere.
        """
        size = (1, 1, SCALE * embedding.shape[-2], SCALE * embedding.shape[-1])
        boxes = prompt.shape[-1] == 4
        found = embedding.new_full(size[-2:], -torch.inf)
        for part in prompt.split(TOGETHER) if len(prompt) else ():
            masks, quality = self.masks(embedding, part)
            kept = masks if boxes else masks[is_kept(masks, quality)]
            if len(kept):
                found = torch.maximum(found, kept.amax(dim=0))
        nothing = -LOGIT_CLIP if boxes else 0.0
        found = torch.where(torch.isfinite(found), found, nothing)
        return found.clamp(-LOGIT_CLIP, LOGIT_CLIP).view(size)

    def masks(self, embedding: Tensor, prompt: Tensor) -> tuple[Tensor, Tensor]:
        """The best mask for each prompt: logits (N, 4 rows, 4 columns), and the IoU (N,) that SAM predicts for it."""
        prompt = prompt.to(embedding.device, torch.float32)[None]
        given = {"input_boxes": prompt} if prompt.shape[-1] == 4 else {"input_points": prompt[:, :, None]}
        found = self.sam(image_embeddings=embedding, multimask_output=not self.single, **given)
        quality, best = found.iou_scores[0].max(dim=1)
        index = torch.arange(len(best), device=best.device)
        return found.pred_masks[0, index, best].float(), quality.float()


def is_kept(masks: Tensor, quality: Tensor) -> Tensor:
    """Whether the mask (N, H, W) of each point is kept, bool (N,); quality (N,) is the IoU that SAM predicts for it."""
    inner, outer = ((masks > offset).sum(dim=(1, 2)) for offset in (OFFSET, -OFFSET))
    stability = inner / outer.clamp(min=1)
    area = (masks > 0).float().mean(dim=(1, 2))
    return (quality >= QUALITY) & (stability >= STABILITY) & (area <= LARGEST)


def with_prompts(encoder: Any, files: WeightFiles, *, single: bool) -> Prompted:  # noqa: ANN401
    """SAM's vision encoder together with the prompt encoder and mask decoder of the same files, in float32.

    Raises:
        ValueError: if the file holds no prompt encoder and mask decoder, or others than its configuration describes.
    """
    from transformers import SamConfig, SamModel

    found = read_shapes(files.model)
    if not any(name.startswith("mask_decoder.") for name in found):
        raise ValueError(
            f"{files.model} holds SAM's vision encoder alone, but prompts need its prompt encoder and mask decoder; "
            "give a whole SAM, such as weights=facebook/sam-vit-base, or leave prompts out"
        )
    if original := renamed(PROMPT_POSITIONS, "sam_decoder") in found:
        config = sam_decoder_config(found, encoder.config)
    else:
        config = SamConfig.from_dict(require_config(files))
    places = {PROMPT_POSITIONS: _SHARED} if _SHARED in found and PROMPT_POSITIONS not in found else {}

    def build() -> SamModel:
        sam = SamModel(config)
        del sam.vision_encoder, sam.shared_image_embedding  # the latter is the prompt encoder's own
        return sam

    sam = build_network(
        build,
        files.model,
        network="SAM's prompt encoder and mask decoder",
        name_of=lambda name: renamed(name, "sam_decoder") if original else places.get(name, name),
        rest=rest_of("sam_decoder"),
    )
    sam.vision_encoder, sam.shared_image_embedding = encoder, sam.prompt_encoder.shared_embedding
    return Prompted(sam, single=single)
