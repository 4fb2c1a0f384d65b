"""SAM: the image embedding of Segment Anything (Kirillov et al. 2023), blocks of its trunk, and its soft masks.

Loaded from `transformers` folders and hub ids, and from the checkpoints of `segment_anything`. MedSAM (Ma et al. 2024)
has the same network and names, but other preprocessing and one mask per prompt; `variant=medsam` selects it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cache.spec import MASK, FeatureSpec, MapSpec
from teachers.base import Teacher
from teachers.choice import Choice, choose_levels, require_strides, require_unset
from teachers.preprocess import IMAGENET_MEAN, IMAGENET_STD, Letterbox, MinMaxResize
from teachers.sam_masks import RULE, RULE_OF_ONE, SCALE, Prompted, with_prompts
from teachers.weights.known import SETTINGS
from teachers.weights.locate import MODEL, locate, sides_of, vision_config
from teachers.weights.names import renamed, rest_of
from teachers.weights.originals import PREFIX, sam_settings
from teachers.weights.tensors import build_network, read_shapes, sha256

BUILTIN = Path(__file__).parent / "builtin"
MEDSAM, MEDSAM_EXAMPLE = "medsam", "wanglab/medsam-vit-base"
NECK, BLOCK = "neck", "block"


class SamTeacher(Teacher):
    """The vision encoder of SAM with its neck, and its soft masks for prompts.

    Maps: `neck`, output_channels (256) on a grid of image_size / patch_size (64 x 64) cells that cover the image, by
    default alone; `block0`, `block1`, ...: the output of that block of the trunk (base: 768 channels), on the same
    grid. A `prompted` teacher also has `mask`: the logit of a soft foreground, with four times as many cells per side.
    Otherwise the prompt encoder and the mask decoder are never read.
    """

    example = "facebook/sam-vit-base"
    _with_prompts: Callable[[], Prompted]

    @classmethod
    def load(cls, weights: str | Path, choice: Choice) -> SamTeacher:
        """Loads a folder of `SamModel` or `SamVisionModel`, or an original checkpoint, of any size.

        Arguments and errors as in `teachers.load`; `levels` choose blocks, `strides` (the patches' 16) the neck.
        """
        from transformers import SamVisionConfig
        from transformers.models.sam.modeling_sam import SamVisionEncoder

        require_unset(choice, "model", teacher="sam")
        if choice.variant not in (None, MEDSAM):
            raise ValueError(f"teacher 'sam' has no variant {choice.variant!r}; leave it out, or choose {MEDSAM}")
        medsam = choice.variant == MEDSAM
        if builtin := str(weights) == "builtin":
            _require_builtin()
        try:
            example = MEDSAM_EXAMPLE if medsam else cls.example
            files = locate(BUILTIN if builtin else weights, teacher="sam", example=example, originals=True)
        except FileNotFoundError as error:
            if not medsam:
                raise
            raise FileNotFoundError(
                f"no weights of MedSAM at '{weights}': looked for an original checkpoint or a folder with {MODEL} at "
                f"{Path(weights).expanduser().absolute()}; get medsam_vit_b.pth from github.com/bowang-lab/MedSAM and "
                "give its path (the weights of SAM are different)"
            ) from error
        found = read_shapes(files.model)
        if original := any(name.startswith(PREFIX) for name in found):
            settings = sam_settings(found, files.model)
        else:
            kinds = ("sam", "sam_vision_model")
            _, settings = vision_config(
                files, kinds, checkpoint="medsam_vit_b.pth" if medsam else "sam_vit_b_01ec64.pth"
            )
        config = SamVisionConfig.from_dict(settings)
        size, _ = sides_of(config, "SAM's config.json")
        if choice.image_size not in (None, size):
            raise ValueError(
                f"these SAM weights take images of {size} pixels, got image_size={choice.image_size}; leave it out"
            )
        network = build_network(
            lambda: SamVisionEncoder(config),
            files.model,
            network=f"SAM's vision encoder as {'its own shapes describe' if original else 'config.json describes'} it",
            name_of=lambda name: renamed(name, "sam_encoder") if original else f"vision_encoder.{name}",
            rest=rest_of("sam_encoder"),
        )
        teacher = cls(
            "sam",
            network,
            spec=_choose(config, choice),
            preprocessing=MinMaxResize(size) if medsam else Letterbox(size, IMAGENET_MEAN, IMAGENET_STD),
            facts={
                **({"variant": MEDSAM} if medsam else {}),
                "model": {key: getattr(config, key) for key in SETTINGS["sam"]},
                "weights": sha256(files.model),
            },
            licence="Apache-2.0",
        )
        teacher._with_prompts = partial(with_prompts, network, files, single=medsam)
        return teacher

    def prompted(self, policy: str) -> SamTeacher:
        """This teacher with a further map `mask`; see `Teacher.prompted` and `teachers.sam_masks`.

        Raises:
            ValueError: if the weights hold only the vision encoder.
        """
        (rows, columns), patch = self.spec.maps[0].grid, self.spec.maps[0].stride
        mask = MapSpec(MASK, 1, (SCALE * rows, SCALE * columns), max(1, patch // SCALE))
        network = self._with_prompts()
        return SamTeacher(
            self.name,
            network,
            spec=FeatureSpec((*self.spec.maps, mask)),
            preprocessing=self.preprocessing,
            facts={**self._facts, "prompts": f"{policy}; {RULE_OF_ONE if network.single else RULE}"},
            licence=self.licence,
        ).to(self.device, self.dtype)

    def maps(self, pixels: Tensor) -> dict[str, Tensor]:
        """See `Teacher.maps`."""
        if isinstance(self.network, Prompted):
            raise ValueError("a teacher 'sam' that is prompted needs a prompt for each image, got none; give prompts")
        return _run(self.network, pixels, self.spec.names)

    def prompted_maps(self, pixels: Tensor, prompts: Sequence[Tensor]) -> dict[str, Tensor]:
        """See `Teacher.prompted_maps`."""
        if not isinstance(self.network, Prompted):
            return super().prompted_maps(pixels, prompts)
        names = [name for name in self.spec.names if name != MASK]
        maps = _run(self.network.sam.vision_encoder, pixels, (*names, NECK))
        masks = [self.network(one[None], prompt) for one, prompt in zip(maps[NECK], prompts, strict=True)]
        return {name: maps[name] for name in names} | {MASK: torch.cat(masks)}


def _run(encoder: nn.Module, pixels: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """The named maps (N, C, rows, columns) of the encoder: the neck, and blocks (their states follow the embedding)."""
    blocks = {name: int(name.removeprefix(BLOCK)) for name in names if name.startswith(BLOCK)}
    outputs = encoder(pixels, output_hidden_states=True) if blocks else encoder(pixels)
    maps = {name: outputs.hidden_states[block + 1].permute(0, 3, 1, 2) for name, block in blocks.items()}
    return {name: maps.get(name, outputs.last_hidden_state) for name in names}


def _choose(config: Any, choice: Choice) -> FeatureSpec:  # noqa: ANN401
    """The chosen blocks, from shallow to deep, and the neck if it or nothing is chosen."""
    patch, strides = config.patch_size, choice.strides or ()
    grid = (config.image_size // patch,) * 2
    require_strides(strides, (patch,), network="the neck of these SAM weights")
    chosen = choose_levels(choice.levels, config.num_hidden_layers, weights="SAM")
    maps = [MapSpec(f"{BLOCK}{block}", config.hidden_size, grid, patch) for block in chosen]
    if strides or not chosen:
        maps.append(MapSpec(NECK, config.output_channels, grid, patch))
    return FeatureSpec(tuple(maps))


def _require_builtin() -> None:
    if not (BUILTIN / MODEL).is_file():
        raise FileNotFoundError(
            f"no built-in teacher: looked for {BUILTIN / MODEL}; install the package again from its repository, or "
            "train one with `distill run recipe=builtin_teacher`"
        )
