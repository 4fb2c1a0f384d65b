"""Known checkpoints of every teacher: where they are, how large, under which licence.

Facts of the hub's own pages and of timm's configurations, read on 2026-11-20 and 2026-11-28; unknown ones are left
empty. Sizes and digests are of the safetensors file.
"""

from __future__ import annotations

from dataclasses import dataclass

MEASURED, NEAREST = "tracer-te0-efficientnet-b0", "timm/tf_efficientnet_b0.in1k"  # recommended in messages
_APACHE, _MIT, _DINOV3 = "Apache-2.0", "MIT", "DINOv3 License"
_MASK2FORMER, _SAM3, _FAIR = "other: see its card", "SAM License", "FAIR Noncommercial Research License"
_NVIDIA = "NVIDIA Open Model License"
UNKNOWN_LICENCE = "unknown: see the weights"


@dataclass(frozen=True)
class Published:
    """One checkpoint, on the Hugging Face Hub or on a project's release page.

    Attributes:
        name: its name in `distill weights`.
        teacher: the adapter that loads it.
        hub_id: owner/name; empty for a file of a release page.
        licence: SPDX identifier, or its own name.
        size: as its page gives it; empty where that is not known.
        sha256: of the safetensors file, where its page gives it or it was measured.
        gated: whether terms must be accepted, and a token given, before a download.
        revision: the commit with model.safetensors where the main branch has none; such weights are given by folder.
        release: URL of a file of a project's release page, which `do=fetch` translates.
        model: the backbone's name in timm, where the weights do not say it.
        mean: mean of red, green and blue pixels in [0, 1], where the weights were trained with their own.
        std: their standard deviation.
        variant: the recipe's word for weights whose files do not tell them from others of their kind.
        note: for the user.
    """

    name: str
    teacher: str
    hub_id: str
    licence: str
    size: str = ""
    sha256: str = ""
    gated: bool = False
    revision: str | None = None
    release: str = ""
    model: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    variant: str = ""
    note: str = ""


_SURGENET = "https://huggingface.co/TimJaspersTue/SurgeNetModels/resolve/main/"
_GASTRONET = "https://huggingface.co/tgwboers/GastroNet-5M_Pretrained_Weights/resolve/main/"
_MOVED = "the page now names cortex.thetavision.nl as the place of the file: get it there, then from=FILE"
ENDOSCOPIC = (
    Published(
        "endovit", "timm", "", _APACHE, "1.34 GB", model="vit_base_patch16_224.mae",
        release="https://huggingface.co/egeozsoy/EndoViT/resolve/main/pytorch_model.bin",
        mean=(0.3464, 0.2280, 0.2228), std=(0.2520, 0.2128, 0.2093), note="endoscopic videos, masked autoencoder",
    ),
    Published(
        "surgenetxl-caformer-s18", "timm", "", "CC-BY-NC-4.0", model="caformer_s18",
        release=f"{_SURGENET}SurgeNetXL_checkpoint_epoch0050_teacher.pth",
        note="surgical videos, DINO; not commercially",
    ),
    Published(
        "surgenet-convnextv2-tiny", "timm", "", "CC-BY-NC-4.0", model="convnextv2_tiny",
        release=f"{_SURGENET}SurgeNet_ConvNextv2_checkpoint_epoch0050_teacher.pth", note="as surgenetxl-caformer-s18",
    ),
    Published(
        "surgenet-pvtv2-b2", "timm", "", "CC-BY-NC-4.0", model="pvt_v2_b2",
        release=f"{_SURGENET}SurgeNet_PVTv2_checkpoint_epoch0050_teacher.pth", note="as surgenetxl-caformer-s18",
    ),
    Published(
        "gastronet5m-resnet50", "timm", "", "CC-BY-NC-ND-4.0", "94.4 MB", gated=True, model="resnet50",
        release=f"{_GASTRONET}RN50_GastroNet-5M_DINOv1.pth", note=f"gastroscopy, DINO; not commercially; {_MOVED}",
    ),
    Published(
        "gastronet5m-vit-small", "timm", "", "CC-BY-NC-ND-4.0", gated=True, model="vit_small_patch16_224.dino",
        release=f"{_GASTRONET}VITS_GastroNet-5M_DINOv1.pth", note=f"gastroscopy, DINO; not commercially; {_MOVED}",
    ),
)  # fmt: skip
PUBLISHED = (
    Published(
        "sam-vit-base", "sam", "facebook/sam-vit-base", _APACHE, "375 MB",
        "892c410e496344e527255ccdcb2cb7244a609acb5389c7c4fdba1288f861c579",
    ),
    Published(
        "sam-vit-large", "sam", "facebook/sam-vit-large", _APACHE, "1.25 GB",
        "a57e1b13cd1545938dfcbc9fb26df7f60de6650237a9383382a874a623564b81",
    ),
    Published(
        "sam-vit-huge", "sam", "facebook/sam-vit-huge", _APACHE, "2.56 GB",
        "edfb0462392541fca9af44ff039bfb32dbd0c939997f3abb77a26e23af7afd7c",
    ),
    Published(
        "medsam-vit-base", "sam", "wanglab/medsam-vit-base", _APACHE, variant="medsam",
        note="the hub holds pytorch_model.bin alone; medsam_vit_b.pth of github.com/bowang-lab/MedSAM will do",
    ),
    Published("sam3", "fpn", "facebook/sam3", _SAM3, gated=True),
    Published("edgetam", "fpn", "yonigozlan/EdgeTAM-hf", "see its card"),
    Published("sam2.1-hiera-tiny", "sam2", "facebook/sam2.1-hiera-tiny", _APACHE),
    Published("sam2.1-hiera-small", "sam2", "facebook/sam2.1-hiera-small", _APACHE),
    Published("sam2.1-hiera-base-plus", "sam2", "facebook/sam2.1-hiera-base-plus", _APACHE),
    Published("sam2.1-hiera-large", "sam2", "facebook/sam2.1-hiera-large", _APACHE),
    Published(
        "dinov2-small", "dinov2", "facebook/dinov2-small", _APACHE, "88.2 MB",
        "ae1e99fcefd534ed978cdeb8326f08030c96e28b7a81ffcbc98a857c84d14be1",
    ),
    Published(
        "dinov2-base", "dinov2", "facebook/dinov2-base", _APACHE, "346 MB",
        "d73036b56966966d07975d696bde331762f37297e2f095de8cea0040c3aa0841",
    ),
    Published(
        "dinov2-large", "dinov2", "facebook/dinov2-large", _APACHE, "1.22 GB",
        "399fba97a95f22c36834418bc69373364a99af3a1153da1c0fb31db567c92e23",
    ),
    Published(
        "dinov2-giant", "dinov2", "facebook/dinov2-giant", _APACHE, "4.55 GB",
        "917d3c470db999d32a312f8542149be91c7cbac61ee8fb4b67ae3d82b79ce21f",
    ),
    Published("dinov2-with-registers-base", "dinov2", "facebook/dinov2-with-registers-base", _APACHE),
    Published("vit_small_patch14_dinov2", "dinov2", "timm/vit_small_patch14_dinov2.lvd142m", _APACHE),
    Published(
        "dinov3-vits16", "transformers", "facebook/dinov3-vits16-pretrain-lvd1689m", _DINOV3, gated=True,
        note="21.6 million parameters",
    ),
    Published(
        "dinov3-vitb16", "transformers", "facebook/dinov3-vitb16-pretrain-lvd1689m", _DINOV3, gated=True,
        note="85.7 million parameters",
    ),
    Published(
        "dinov3-convnext-tiny", "transformers", "facebook/dinov3-convnext-tiny-pretrain-lvd1689m", _DINOV3, gated=True,
        note="27.8 million parameters",
    ),
    Published(
        "oneformer-coco-swin-large", "oneformer", "shi-labs/oneformer_coco_swin_large", _MIT, "879 MB",
        revision="3a79bee4670e109b164c020beb56678a8ba26e2f",
        note="its safetensors file lies in a pull request, not on the main branch",
    ),
    Published(
        "mask2former-swin-tiny", "mask2former", "facebook/mask2former-swin-tiny-coco-panoptic", _MASK2FORMER, "190 MB",
    ),
    Published(
        "mask2former-swin-small", "mask2former", "facebook/mask2former-swin-small-coco-panoptic", _MASK2FORMER,
        "276 MB",
    ),
    Published(
        MEASURED, "timm", "", _APACHE, "14.6 MB", "d2538f49ac77982210c0f1bf5c384e0ea6764cc4f8c75e890dfa39a7f77b8407",
        release="https://github.com/Karel911/TRACER/releases/download/v1.0/TRACER-Efficient-0.pth",
        model="tf_efficientnet_b0",
        note="measured here: all figures on real images; AdvProp ImageNet, then salient objects (TRACER)",
    ),
    *ENDOSCOPIC,
    Published("tf_efficientnet_b0.ns_jft", "timm", "timm/tf_efficientnet_b0.ns_jft_in1k", _APACHE),
    Published(
        "tf_efficientnet_b0", "timm", NEAREST, _APACHE,
        note=f"the nearest to {MEASURED} that a hub serves; not measured here",
    ),
    Published(
        "vit_small_patch16_dinov3", "timm", "timm/vit_small_patch16_dinov3.lvd1689m", _DINOV3, "86.4 MB",
        note="the same network as dinov3-vits16, without its gate",
    ),
    Published("convnext_tiny.dinov3", "timm", "timm/convnext_tiny.dinov3_lvd1689m", _DINOV3),
    Published("pe-spatial-tiny", "timm", "timm/vit_pe_spatial_tiny_patch16_512.fb", _APACHE),
    Published("pe-spatial-base", "timm", "timm/vit_pe_spatial_base_patch16_512.fb", _APACHE),
    Published("c-radio-v3-base", "timm", "timm/vit_base_patch16_radio_v3.c_radio", _NVIDIA),
    Published("c-radio-v4-so400m", "timm", "timm/vit_so400m_patch16_radio_v4.c_radio", _NVIDIA),
    Published("siglip2-base", "timm", "timm/vit_base_patch16_siglip_512.v2_webli", _APACHE),
    Published("tipsv2-base", "timm", "timm/vit_base_patch14_reg1_tipsv2.webli", _APACHE),
    Published("eupe-vit-tiny", "timm", "timm/vit_tiny_patch16_dinov3_qkvb.eupe_lvd1689m", _FAIR),
    Published("eupe-vit-small", "timm", "timm/vit_small_patch16_dinov3_qkvb.eupe_lvd1689m", _FAIR),
    Published("eupe-convnext-tiny", "timm", "timm/convnext_tiny.eupe_lvd1689m", _FAIR),
    Published("resnet50", "timm", "timm/resnet50.a1_in1k", _APACHE),
    Published("swinv2-tiny", "timm", "timm/swinv2_tiny_window8_256.ms_in1k", _MIT),
    Published(
        "convnextv2-tiny", "timm", "timm/convnextv2_tiny.fcmae_ft_in22k_in1k", "CC-BY-NC-4.0", note="not commercially",
    ),
)  # fmt: skip

_OF_FAMILY = {  # licences of families whose published weights share one, by `model_type`
    **dict.fromkeys(("dinov2", "dinov2_with_registers"), _APACHE),
    **dict.fromkeys(("dinov3_vit", "dinov3_convnext"), _DINOV3),
}


def license_of(weights: str, family: str) -> str:
    """The licence of known weights by hub id, or of their whole family; else a phrase that says it is not known."""
    named = {entry.hub_id: entry.licence for entry in PUBLISHED if entry.hub_id}
    return named.get(weights) or _OF_FAMILY.get(family, UNKNOWN_LICENCE)
