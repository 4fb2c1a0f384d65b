"""A timm backbone as a student's encoder: its feature pyramid, and where pretrained weights come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from students.base import MEAN, STD, write_encoder
from students.first_stages import FirstStages
from students.folded_norm import folded_norms, unfold

EXAMPLES = "tf_efficientnet_b0, resnet18 or convnext_atto"


class OnBackbone:
    """The methods of a `Student` whose encoder is a `Backbone`."""

    encoder: Backbone

    def load_encoder(self, weights: str | Path) -> None:
        """Puts pretrained weights into the backbone; arguments and errors as in `Backbone.load`."""
        self.encoder.load(weights)

    def calibrate(self, images: Iterable[Tensor]) -> None:
        """See `Student.calibrate`: batch norms folded in the weights get the statistics of images (n, 3, H, W)."""
        self.encoder.calibrate(images)

    def export_encoder(self, folder: Path) -> None:
        """Writes only the trained backbone, as encoder.safetensors with timm's names."""
        write_encoder(self.encoder.network, folder)


class Backbone(nn.Module):
    """The pyramid of a timm backbone with random weights: a map at each of its strides, channels first.

    Args:
        backbone: a name in timm, with or without the tag of its weights (which may have other pixel statistics).
        stages: the number of its first stages (groups of blocks) to keep, for an EfficientNet or a MobileNet of timm;
            MobileNetV2 has seven. None keeps all.
        padding: "same" for weights trained in TensorFlow, which pads at the bottom and right first; None is timm's own.
        pixel_range: the values of black and white that the weights expect, such as (-1, 1); None is timm's own
            statistics of the backbone.

    Raises:
        ValueError: timm has no such backbone, it has no pyramid, it does not take images of any size, it does not have
            these stages, or its padding cannot be chosen.
    """

    scale: Tensor | None
    shift: Tensor | None

    def __init__(
        self,
        backbone: str,
        *,
        stages: int | None = None,
        padding: str | None = None,
        pixel_range: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.network = backbone, _create(backbone, padding=padding)
        reductions = self.network.feature_info.reduction()
        if stages is not None:
            self.network = FirstStages(self.network, stages, backbone=backbone)
            reductions = self.network.strides
        self.folded: list[nn.BatchNorm2d] = []  # of the weights that were loaded
        deepest = {int(stride): level for level, stride in enumerate(reductions)}
        self.strides = tuple(sorted(deepest))
        self.levels = tuple(deepest[stride] for stride in self.strides)
        if len(self.strides) < 2 or any(stride.bit_count() > 1 for stride in self.strides):
            raise ValueError(
                f"backbone {backbone!r} has maps at stride {', '.join(map(str, self.strides))}, but a student needs a "
                f"pyramid of several strides that are powers of two; choose a convolutional one such as {EXAMPLES}"
            )
        scale, shift = _change_of_statistics(backbone, pixel_range)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)
        self.channels = self._probe()

    def _probe(self) -> tuple[int, ...]:
        """The channels of every map, found with a small oblong image of a size that no network is made for."""
        sides = (2 * self.strides[-1], 3 * self.strides[-1])
        expected = [(sides[0] // stride, sides[1] // stride) for stride in self.strides]
        self.eval()
        try:
            with torch.no_grad():
                maps = self(torch.zeros(1, 3, *sides))
            found: Any = [tuple(value.shape[-2:]) for value in maps]
        except (RuntimeError, AssertionError) as error:  # raised by timm's networks that refuse a size
            maps, found = (), str(error) or type(error).__name__
        if found != expected:
            raise ValueError(
                f"backbone {self.backbone!r} does not take images of any size: expected maps of {expected} cells for "
                f"{sides[0]} x {sides[1]} pixels, got {found}; choose another one, such as {EXAMPLES}"
            )
        self.train()
        return tuple(value.shape[1] for value in maps)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps (N, channels[i], H / strides[i], W / strides[i]) of (N, 3, H, W), multiples of the coarsest stride."""
        if self.scale is not None and self.shift is not None:
            images = images * self.scale + self.shift
        maps = self.network(images)
        if str(getattr(self.network, "output_fmt", "NCHW")).endswith("NHWC"):
            maps = [value.permute(0, 3, 1, 2) for value in maps]
        return tuple(maps[level] for level in self.levels)

    def load(self, weights: str | Path) -> None:
        """Puts pretrained weights into the backbone.

        Args:
            weights: a safetensors file or a pickle of only tensors, with timm's names of the whole network or of its
                pyramid (tensors that the pyramid does not have are ignored); or "hub" for timm's published weights.

        Raises:
            FileNotFoundError: the file or the hub's weights do not exist; the message says how to get them.
            ValueError: the file does not hold all tensors of the encoder; nothing is loaded then.
        """
        backbone = self.backbone
        found = _published(backbone) if str(weights) == "hub" else _read(Path(weights).expanduser())
        found = {alias: value for name, value in found.items() for alias in _aliases(name)} | dict(found)
        own = self.network.state_dict()
        # Old files lack the count of batches, which is not used if batch norm has a momentum.
        needed = [name for name in own if not name.endswith(".num_batches_tracked")]
        wrong = [name for name in needed if name not in found or found[name].shape != own[name].shape]
        if wrong:
            first = wrong[0]
            got = f"got {tuple(found[first].shape)}" if first in found else "got none"
            raise ValueError(
                f"{weights} is not the weights of backbone {backbone!r}: {len(wrong)} of {len(needed)} tensors are "
                f"missing or of another shape, the first is {first}, expected {tuple(own[first].shape)}, {got}; give "
                "the matching file, or name the backbone that it belongs to as student.options.backbone"
            )
        self.network.load_state_dict({name: found.get(name, value) for name, value in own.items()})
        self.folded = folded_norms(self.network)

    def calibrate(self, images: Iterable[Tensor]) -> None:
        """Gives batch norms folded in the loaded weights the statistics of `images`; maps in eval mode do not change.

        Args:
            images: batches (n, 3, H, W), normalised as a student's input; none is read if no norm is folded.
        """
        if self.folded:
            self.eval()
            unfold(self.folded, self, images)
            self.folded = []
            self.train()


def _create(backbone: str, *, padding: str | None) -> Any:  # noqa: ANN401
    """The backbone as a pyramid of features, with random weights."""
    import timm

    if padding not in (None, "same"):
        raise ValueError(f"padding of a backbone is {padding!r}, but must be same, or null for timm's own")

    architecture, _, tag = backbone.partition(".")
    of_tags = bool(tag) and timm.is_model(architecture)
    names = timm.list_pretrained(f"{architecture}.*") if of_tags else timm.list_models()
    if backbone not in names and (tag or not timm.is_model(backbone)):
        near = get_close_matches(backbone, names, n=3)
        remedy = f"did you mean {' or '.join(near)}?" if near else f"timm.list_models() lists them, such as {EXAMPLES}"
        raise ValueError(f"timm has no backbone {backbone!r}; {remedy}")
    settings = timm.get_pretrained_cfg(backbone)
    arguments: dict[str, Any] = {"pad_type": padding} if padding else {}
    if settings is not None and settings.fixed_input_size:
        try:  # with this argument Swin takes any size
            return timm.create_model(backbone, features_only=True, strict_img_size=False, **arguments)
        except TypeError:  # others have no such argument
            pass
    try:
        return timm.create_model(backbone, features_only=True, **arguments)
    except TypeError as error:
        if padding is None:
            raise
        raise ValueError(
            f"backbone {backbone!r} has no choice of padding, got padding={padding}; leave it out, or choose an "
            "EfficientNet or a MobileNetV2 of timm"
        ) from error


def _change_of_statistics(backbone: str, pixel_range: Sequence[float] | None) -> tuple[Tensor | None, Tensor | None]:
    """Factor and summand (1, 3, 1, 1) from ImageNet's statistics to the backbone's; None if they are the same."""
    import timm

    settings = timm.get_pretrained_cfg(backbone)
    if pixel_range is not None:
        if len(pixel_range) != 2 or not pixel_range[0] < pixel_range[1]:
            raise ValueError(
                f"pixel_range is {list(pixel_range)}, but must be the values of black and white, as [-1, 1]"
            )
        std = torch.full((1, 3, 1, 1), 1 / (pixel_range[1] - pixel_range[0]))
        mean = -pixel_range[0] * std
    elif settings is None or (tuple(settings.mean), tuple(settings.std)) == (MEAN, STD):
        return None, None
    else:
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (settings.mean, settings.std))
    return torch.tensor(STD).view(1, 3, 1, 1) / std, (torch.tensor(MEAN).view(1, 3, 1, 1) - mean) / std


def _aliases(name: str) -> tuple[str, ...]:
    """The names that a tensor of the whole network has in timm's three kinds of pyramid."""
    return name.replace(".", "_", 1), f"model.{name}", f"body.{name}"


def _read(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a file, of any shape, by name."""
    from timm.models import load_state_dict

    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path.resolve()}; give a safetensors or .pth file, or hub for timm's")
    try:
        found = load_state_dict(str(path), weights_only=True)
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}
    except Exception as error:  # files that are no pickle, cut short or without tensors fail in different ways
        raise ValueError(
            f"{path} cannot be read as weights: expected a safetensors file or a pickle of only tensors, got "
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason'}; download it again"
        ) from error


def _published(backbone: str) -> Mapping[str, Tensor]:
    """The weights that timm publishes for a whole network, tensors of any shape by name, from the hub or its cache."""
    import timm

    settings = timm.get_pretrained_cfg(backbone)
    if settings is None or not (settings.hf_hub_id or settings.url):
        raise ValueError(f"timm publishes no weights for {backbone!r}; give a safetensors or .pth file")
    try:
        with torch.random.fork_rng(devices=[]):  # so that later random numbers are the same as with a file
            return timm.create_model(backbone, pretrained=True).state_dict()
    except Exception as error:  # the hub's client raises a different family of errors in each version
        remedy = f"`hf download {settings.hf_hub_id}`" if settings.hf_hub_id else f"a browser at {settings.url}"
        raise FileNotFoundError(
            f"no weights of {backbone!r} from the hub: {' '.join(str(error).split())[:200]}; get them on a machine "
            f"with network access by {remedy}, or give a safetensors or .pth file"
        ) from error
