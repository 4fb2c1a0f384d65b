"""`distill bench what=teachers`: every adapter against the bare official forward pass: the cost of frame and checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

import teachers
from distill.bench.request import Request
from distill.runtime.issues import nearest
from distill.runtime.timing import Row, interleaved, ratio, settle, work_ratio

KEYS = {
    "adapters": "teachers: adapters to measure; empty: all",
    "weights": "teachers: a folder or hub id of transformers, for one adapter, instead of a small random network",
    "efficientnet": "teachers: a file of EfficientNet-B0's weights in timm's names, measured beside the random ones",
    "batch": "teachers: images per forward pass",
    "device": "teachers: cpu, cuda, ...",
}
LEAST = 0.95  # of the official throughput
VIT: dict[str, Any] = {"hidden_size": 192, "num_hidden_layers": 6, "num_attention_heads": 3}


@dataclass(frozen=True)
class Subject:
    """An adapter and its reference.

    Attributes:
        write: writes a small random network into a folder and returns it, in eval mode: the official one.
        run: the bare forward pass of that network.
        arguments: of `teachers.load`, besides the weights.
    """

    write: Callable[[Path], nn.Module]
    run: Callable[[Any, Tensor], Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)


def write_sam(folder: Path) -> nn.Module:
    """SAM's vision encoder at 256 px, 6 blocks of 192 channels."""
    from transformers import SamVisionConfig, SamVisionModel

    sizes = {**VIT, "mlp_dim": 768, "window_size": 7, "image_size": 256, "global_attn_indexes": [2, 5]}
    return saved(SamVisionModel(SamVisionConfig(**sizes)), folder)


def write_sam2(folder: Path) -> nn.Module:
    """SAM 2's vision encoder at 256 px, a Hiera with 8 blocks and half the widths of the tiny one."""
    from transformers import Sam2VisionConfig, Sam2VisionModel

    widths = [48, 96, 192, 384]
    trunk = {
        "model_type": "sam2_hiera_det_model",
        "image_size": [256, 256],
        "hidden_size": widths[0],
        "blocks_per_stage": [1, 2, 4, 1],
        "embed_dim_per_stage": widths,
        "global_attention_blocks": [5],
    }
    sizes: dict[str, Any] = {"backbone_channel_list": widths[::-1], "fpn_hidden_size": 128}
    return saved(Sam2VisionModel(Sam2VisionConfig(backbone_config=trunk, **sizes)), folder)


def write_dinov2(folder: Path) -> nn.Module:
    """DINOv2 at 224 px, 6 blocks of 192 channels."""
    from transformers import Dinov2Config, Dinov2Model

    return saved(Dinov2Model(Dinov2Config(**VIT, image_size=224, patch_size=14)), folder)


def write_dinov3(folder: Path) -> nn.Module:
    """DINOv3 at 256 px, 6 blocks of 192 channels."""
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    config = DINOv3ViTConfig(**VIT, intermediate_size=768, image_size=256, num_register_tokens=4)
    return saved(DINOv3ViTModel(config), folder)


def write_mask2former(folder: Path) -> nn.Module:
    """Mask2Former with the smallest Swin that its library knows, and few queries."""
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation

    config = Mask2FormerConfig(backbone_config=swin(), encoder_layers=2, decoder_layers=2, num_queries=10)
    return saved(Mask2FormerForUniversalSegmentation(config), folder)


def write_oneformer(folder: Path) -> nn.Module:
    """OneFormer with the same Swin, and few queries."""
    from transformers import OneFormerConfig, OneFormerForUniversalSegmentation

    config = OneFormerConfig(backbone_config=swin(), encoder_layers=2, decoder_layers=2, num_queries=10)
    return saved(OneFormerForUniversalSegmentation(config), folder)


def swin() -> dict[str, Any]:
    """A Swin with four stages, beginning with 48 channels."""
    stages = [f"stage{number}" for number in range(1, 5)]
    return {"model_type": "swin", "embed_dim": 48, "depths": [1, 1, 2, 1], "num_heads": [2, 4, 8, 16],
            "out_features": stages}  # fmt: skip


def write_timm(folder: Path) -> nn.Module:
    """EfficientNet-B0's levels at strides 8, 16, 32."""
    import timm
    from safetensors.torch import save_file

    network = timm.create_model("tf_efficientnet_b0", features_only=True, out_indices=(2, 3, 4))
    whole_network = timm.create_model("tf_efficientnet_b0", features_only=True)
    whole_network.load_state_dict(network.state_dict(), strict=False)
    folder.mkdir(exist_ok=True)
    save_file(whole_network.state_dict(), folder / "model.safetensors")
    return network.eval()


def write_student(folder: Path) -> nn.Module:
    """A U-Net of width 16 at 256 px, as it is published."""
    import students

    student = students.create("unet", width=16)
    config = {"width": 16, "classes": 1, "student": "unet", "image_size": 256}
    student.save_pretrained(folder, config={**config, "mean": students.MEAN, "std": students.STD})
    return student.eval()


def write_pair(folder: Path) -> nn.Module:
    """Two such students, in sub-folders."""
    folder.mkdir(exist_ok=True)
    return nn.ModuleList([write_student(folder / name) for name in "ab"])


def both(networks: Any, pixels: Tensor) -> Any:  # noqa: ANN401
    """The forward passes of all networks of a list on pixels (N, 3, H, W)."""
    return [network(pixels) for network in networks]


def saved(network: Any, folder: Path) -> nn.Module:  # noqa: ANN401
    """Saves a network of transformers and loads it as its library does."""
    network.save_pretrained(folder)
    return type(network).from_pretrained(folder).eval()


def call(network: nn.Module, pixels: Tensor) -> Any:  # noqa: ANN401
    """The network's own forward pass on pixels (N, 3, H, W)."""
    return network(pixels)


def pixel_decoder(network: Any, pixels: Tensor) -> Any:  # noqa: ANN401
    """Backbone and pixel decoder on pixels (N, 3, H, W), without the queries that a soft mask would need."""
    return network.model.pixel_level_module(pixels)


SUBJECTS: dict[str, Subject] = {  # measured if there is an adapter
    "sam": Subject(write_sam, call),
    "fpn": Subject(write_sam2, call),
    "sam2": Subject(write_sam2, call),
    "dinov2": Subject(write_dinov2, call),
    "transformers": Subject(write_dinov3, call),
    "mask2former": Subject(write_mask2former, pixel_decoder, {"image_size": 256}),
    "oneformer": Subject(write_oneformer, pixel_decoder, {"image_size": 256}),
    "timm": Subject(write_timm, call, {"model": "tf_efficientnet_b0", "levels": (2, 3, 4), "image_size": 256}),
    "student": Subject(write_student, call),
    "ensemble": Subject(write_pair, both),
}


def measure(request: Request) -> list[Row]:
    """A row for each adapter: its throughput over that of the bare forward pass, by interleaved runs."""
    options = request.options
    names = chosen(options)
    batch, device = request.whole("batch", 4, least=1), options.get("device", "cpu")
    rows = []
    for name in names:
        with TemporaryDirectory() as folder:
            torch.manual_seed(0)
            subject = SUBJECTS[name]
            place = Path(options.get("weights") or Path(folder) / "weights")
            official = subject.write(place) if "weights" not in options else published(name, options["weights"])
            weights = place / "model.safetensors" if name == "timm" else options.get("weights", place)
            teacher = teachers.load(name, weights=weights, **subject.arguments).to(device)
            rows.append(row_of(name, subject, teacher, official.to(device), request=request, batch=batch))
    if file := options.get("efficientnet"):
        teacher = teachers.load("timm", weights=file, **SUBJECTS["timm"].arguments).to(device)
        official, title = efficientnet(file).to(device), f"timm with {Path(file).name}"
        rows.append(row_of(title, SUBJECTS["timm"], teacher, official, request=request, batch=batch))
    return rows


def chosen(options: Mapping[str, str]) -> list[str]:
    """The adapters to measure.

    Raises:
        ValueError: an adapter is unknown, or weights are given for several.
    """
    known = [name for name in SUBJECTS if name in teachers.TEACHERS]
    names = [name for name in options.get("adapters", "").strip("[]").replace(" ", "").split(",") if name] or known
    for name in names:
        if name not in known:
            raise ValueError(f"no adapter {name!r} to measure; choose from {', '.join(known)}{nearest(name, known)}")
    if "weights" in options and (len(names) != 1 or names[0] in ("timm", "student", "ensemble")):
        raise ValueError(
            f"weights={options['weights']} are for one adapter of transformers, but adapters={','.join(names)}; "
            "name it, as in adapters=sam"
        )
    return names


def published(name: str, weights: str) -> nn.Module:
    """The official network behind weights in transformers' format.

    Raises:
        OSError: the weights do not exist.
    """
    from transformers import AutoModel

    model = AutoModel.from_pretrained(weights).eval()
    return getattr(model, "vision_encoder", model) if name in ("sam", "sam2", "fpn") else model


def efficientnet(file: str) -> nn.Module:
    """The EfficientNet-B0 of timm itself at strides 8, 16, 32; the file holds further levels."""
    import timm
    from safetensors.torch import load_file

    network, state = timm.create_model("tf_efficientnet_b0", features_only=True, out_indices=(2, 3, 4)), load_file(file)
    network.load_state_dict({name: state[name] for name in network.state_dict()}, strict=True)
    return network.eval()


def row_of(name: str, subject: Subject, teacher: Any, official: nn.Module, *, request: Request, batch: int) -> Row:  # noqa: ANN401
    """Measures one adapter against its network, on the same pixels."""
    size = teacher.preprocessing.size
    pixels = torch.randn(batch, 3, size, size).to(teacher.device)
    valid = torch.ones(batch, 2)

    def bare() -> None:
        with torch.inference_mode():
            subject.run(official, pixels)
        settle()

    def adapted() -> None:
        teacher.forward(pixels, valid)
        settle()

    timings = interleaved({"official": bare, "adapter": adapted}, rounds=request.rounds, what=f"bench {name}")
    spent = work_ratio(timings, "official", "adapter")
    millions = sum(parameter.numel() for parameter in official.parameters()) / 1e6
    return Row(
        f"{name}: throughput against the official forward pass",
        ratio(timings, "official", "adapter"),
        "x",
        at_least=LEAST,
        note=f"{millions:.1f} M parameters, {batch} images of {size} px on {teacher.device}, "
        f"{batch / timings['adapter'].median:.1f} images/s; in processor time {spent:.3f} x",
    )
