"""Small random teachers on disk, as users have them: what the tests of every adapter load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import students
import teachers

SMALL_SAM = {
    "hidden_size": 32,
    "output_channels": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 80,
    "patch_size": 8,
    "window_size": 4,
    "global_attn_indexes": [1],
    "mlp_ratio": 2.0,
}


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(60, 120, (height, width, 3), dtype=np.uint8)


def random_pixels(size):
    """Two images as a network takes them."""
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def refusal_of(name, path, state_of):
    """A check that a teacher refuses a checkpoint whose state dict was changed, in these words."""

    def refused(change, message):
        state = state_of()
        change(state)
        torch.save(state, path)
        with pytest.raises(ValueError, match=message):
            teachers.load(name, weights=path)

    return refused


def named_in_readme(families, adapter):
    """Checks that the README of `teachers/` names every family beside an adapter."""
    lines = Path(teachers.__file__).with_name("README.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.endswith(f"| `{adapter}` |")]
    assert rows
    for family in families:
        assert family.split("'")[0].split(" ")[0] in " ".join(rows), family


def randomise(network, seed, *, attention=0.1):
    """Weights under which every part counts; the libraries' own initial values make most of SAM a constant.

    As in trained encoders, a token says more of its own place than `attention` adds from others.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if "norm" in name and name.endswith("weight"):
                value.copy_(1 + 0.1 * noise)
            elif "token" in name or "position" in name:
                value.copy_(0.2 * noise)
            else:
                last = "attn.proj" in name or "attention.o_proj" in name or "attention.output" in name
                inputs = value[0].numel() if value.ndim else 1
                value.copy_(noise * (attention if last else 0.5) / inputs**0.5)
    return network


def write_sam(folder, seed=0):
    from transformers import SamVisionConfig, SamVisionModel

    randomise(SamVisionModel(SamVisionConfig(**SMALL_SAM)), seed).save_pretrained(folder)
    return {"weights": folder}


def small_sam():
    """A whole SAM of `transformers`, with what answers prompts."""
    from transformers import SamConfig, SamModel

    config = SamConfig(
        vision_config={**SMALL_SAM, "num_pos_feats": 16},
        prompt_encoder_config={"hidden_size": 32, "image_size": 80, "patch_size": 8, "mask_input_channels": 16},
        mask_decoder_config={
            "hidden_size": 32,
            "mlp_dim": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 8,
            "iou_head_hidden_dim": 32,
        },
    )
    return randomise(SamModel(config), seed=5).eval()


def small_segment_anything():
    """`segment_anything`'s own encoder of the same size, with random weights."""
    from segment_anything.modeling import ImageEncoderViT

    official = ImageEncoderViT(
        img_size=80,
        patch_size=8,
        embed_dim=32,
        depth=2,
        num_heads=2,
        mlp_ratio=2.0,
        out_chans=32,
        norm_layer=lambda width: torch.nn.LayerNorm(width, eps=1e-6),  # as in build_sam.py
        use_rel_pos=True,
        window_size=4,
        global_attn_indexes=(1,),
    )
    return randomise(official, seed=3, attention=1).eval()


def write_timm(folder, seed=0):
    import timm

    torch.manual_seed(seed)
    network = timm.create_model("test_efficientnet", features_only=True)
    folder.mkdir(exist_ok=True)
    save_file(network.state_dict(), folder / "model.safetensors")
    file = folder / "model.safetensors"
    return {"weights": file, "model": "test_efficientnet", "strides": (8, 16), "image_size": 160}


def write_dinov2(folder, seed=0, *, registers=0):
    from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 140, "patch_size": 14}
    if registers:
        network = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**sizes, num_register_tokens=registers))
    else:
        network = Dinov2Model(Dinov2Config(**sizes))
    randomise(network, seed).save_pretrained(folder)
    return {"weights": folder, "levels": (0, 1)}


def write_dinov3(folder, seed=0):
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = DINOv3ViTConfig(**sizes, image_size=160, num_register_tokens=4)
    randomise(DINOv3ViTModel(config), seed).save_pretrained(folder)
    return {"weights": folder, "levels": (0, 1)}


SMALL_SWIN = {
    "model_type": "swin",
    "image_size": 64,
    "embed_dim": 16,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 2, 2, 4],
    "window_size": 4,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
SMALL_QUERIES = {
    "backbone_config": SMALL_SWIN,
    "hidden_dim": 64,
    "encoder_feedforward_dim": 64,
    "dim_feedforward": 64,
    "encoder_layers": 1,
    "decoder_layers": 3,
    "num_attention_heads": 2,
    "num_queries": 12,
    "id2label": {0: "person", 1: "bench", 2: "sky", 3: "grass", 4: "polyp"},
}


def with_distinct_queries(network, seed):
    """Random weights under which queries say different classes and masks; else their soft mask is a constant."""
    generator = torch.Generator().manual_seed(seed + 100)
    with torch.no_grad():
        for name, value in randomise(network, seed).named_parameters():
            if ".queries_" in name:
                value.copy_(torch.randn(value.shape, generator=generator))
            elif "class_predictor" in name or "class_embed" in name:
                value.mul_(8 if name.endswith("weight") else 0)
            elif "mask_projection.weight" in name:
                value.sub_(value.mean(1, keepdim=True))  # what it reads is positive
            elif "mask_embed" in name or "mask_projection" in name:
                value.mul_(3 if name.endswith("weight") else 0)
            elif "query_transformer" in name and "_proj" in name:
                value.mul_(8)  # OneFormer's queries differ by whom they attend to
            elif "transformer_module" in name and ("out_proj" in name or "fc2" in name or "linear2" in name):
                value.mul_(0.1)  # a query stays what it is
    return network


def write_mask2former(folder, seed=0):
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation

    config = Mask2FormerConfig(**SMALL_QUERIES, feature_size=64, mask_feature_size=64)
    with_distinct_queries(Mask2FormerForUniversalSegmentation(config), seed).save_pretrained(folder)
    return {"weights": folder, "image_size": 64, "strides": (4, 8, 16), "classes": ("polyp", "Sky")}


def write_oneformer(folder, seed=0):
    from transformers import OneFormerConfig, OneFormerForUniversalSegmentation

    config = OneFormerConfig(**SMALL_QUERIES, conv_dim=64, mask_dim=64)
    with_distinct_queries(OneFormerForUniversalSegmentation(config), seed).save_pretrained(folder)
    return {"weights": folder, "image_size": 64, "strides": (4, 8, 16), "classes": ("polyp", "Sky")}


SMALL_TRUNK = {
    "model_type": "sam2_hiera_det_model",
    "hidden_size": 16,
    "num_attention_heads": 1,
    "image_size": [128, 128],
    "blocks_per_stage": [1, 1, 2, 1],
    "embed_dim_per_stage": [16, 32, 64, 128],
    "num_attention_heads_per_stage": [1, 2, 4, 8],
    "window_size_per_stage": [8, 4, 4, 2],
    "global_attention_blocks": [3],
    "window_positional_embedding_background_size": [4, 4],
}
SMALL_SAM2 = {"backbone_config": SMALL_TRUNK, "backbone_channel_list": [128, 64, 32, 16], "fpn_hidden_size": 32}


def write_sam2(folder, seed=0):
    from transformers import Sam2VisionConfig, Sam2VisionModel

    randomise(Sam2VisionModel(Sam2VisionConfig(**SMALL_SAM2)), seed).save_pretrained(folder)
    return {"weights": folder, "strides": (4, 8, 16), "levels": (0, 1, 2, 3)}


def write_edgetam(folder, seed=0):
    from transformers import EdgeTamVisionConfig, EdgeTamVisionModel

    widths = [16, 24, 32, 48]
    small = {"features_only": True, "out_indices": [0, 1, 2, 3], "depth": [1, 1, 1, 1], "embed_dim": widths}
    trunk = {"model_type": "timm_wrapper", "architecture": "repvit_m1", "num_classes": 2, "model_args": small}
    config = EdgeTamVisionConfig(backbone_config=trunk, backbone_channel_list=widths[::-1], fpn_hidden_size=32)
    randomise(EdgeTamVisionModel(config), seed).save_pretrained(folder)
    return {"weights": folder, "image_size": 128}


def write_sam3(folder, seed=0):
    from transformers import Sam3VisionConfig, Sam3VisionModel

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    places = {"image_size": 112, "pretrain_image_size": 56, "window_size": 4, "global_attn_indexes": [1]}
    trunk = {"model_type": "sam3_vit_model", **sizes, **places}
    config = Sam3VisionConfig(backbone_config=trunk, fpn_hidden_size=32)
    randomise(Sam3VisionModel(config), seed).save_pretrained(folder)
    return {"weights": folder}


def write_network(folder, seed=0):
    """A published student, as far as a teacher reads it."""
    torch.manual_seed(seed)
    student = students.create("unet", width=4).eval()
    torch.nn.init.normal_(student.head.weight, std=20)  # of a fresh network the mask is all but constant
    save_student(folder, student)
    return {"weights": folder}


def save_student(folder, network, **config):
    """A student of width 4 in a folder, with a config.json."""
    whole = {"width": 4, "classes": 1, "student": "unet", "image_size": 96, "mean": students.MEAN, "std": students.STD}
    network.save_pretrained(folder, config={**whole, **config})


def write_ensemble(folder, seed=0):
    """Two published students, equal ones: where masks contradict one another, a mean's logit is near 0, and rough."""
    first, second = (write_network(folder / name, seed)["weights"] for name in "ab")
    return {"weights": f"{first},{second}"}


WRITERS = {
    "dinov2": write_dinov2,
    "ensemble": write_ensemble,
    "fpn": write_sam2,
    "mask2former": write_mask2former,
    "student": write_network,
    "oneformer": write_oneformer,
    "sam": write_sam,
    "sam2": write_sam2,
    "timm": write_timm,
    "transformers": write_dinov3,
}
