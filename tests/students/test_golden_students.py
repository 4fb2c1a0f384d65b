"""Published weights in our modules give the published outputs; and what our students mend in the published code."""

from __future__ import annotations

import re

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from students import create
from students.onnx import fuse_for_inference
from students.scrnet import warp

PAIR = {"conv1": "0", "bn1": "1", "conv2": "3", "bn2": "4"}  # the published names in our double convolution
DEPTHWISE = {"depthwise": "0", "bn1": "1", "pointwise": "3", "bn2": "4"}
SEPARABLE = {"conv1": "0", "norm_layer": "1", "conv2": "2"}

UNETPP = (
    (r"conv(\d)_0\.(\w+)", lambda m: f"encoder.levels.{m[1]}.{PAIR[m[2]]}"),
    (r"conv(\d_\d)\.(\w+)", lambda m: f"decoder.nodes.{m[1]}.{PAIR[m[2]]}"),
    (r"final", "head.0"),
)
SKELETON = (
    (r"ebn(\d)", lambda m: f"encoder.norms.{int(m[1]) - 1}"),
    (r"dbn(\d)", lambda m: f"decoder.norms.{int(m[1]) - 1}"),
    (r"encoder(\d)", lambda m: f"encoder.stages.{int(m[1]) - 1}"),
    (r"decoder(\d)", lambda m: f"decoder.steps.{int(m[1]) - 1}"),
    (r"final", "head"),
)
MICROAUNET = (
    *SKELETON,
    (r"\b(depthwise|bn1|pointwise|bn2)\b", lambda m: DEPTHWISE[m[1]]),
    (r"\.conv1\.", ".wide."),
    (r"\.conv2\.", ".near."),
    (r"\.dwconv\.net", ".refine"),
    (r"\.spatial_attention\.0", ".gate"),
    (r"\.output_conv\.net", ".project"),
    (r"\.residual_conv\.net", ".shortcut"),
    (r"lscab\.catt\.get_all_att", "encoder.bridge.neighbours"),
    (r"lscab\.catt\.shared_fc", "encoder.bridge.mix"),
    (r"lscab\.satt\.shared_conv2d\.0", "encoder.bridge.spatial"),
    (r"lscab", "encoder.bridge"),
)
MALUNET = (
    *SKELETON,
    (r"encoder\.stages\.([012])\.0", r"encoder.stages.\1"),
    (r"decoder\.steps\.([34])\.0", r"decoder.steps.\1"),
    (r"gau\.(w1|w2|wo)\.0\.(\w+)", lambda m: f"gau.{m[1]}.{SEPARABLE[m[2]]}"),
    (r"gau\.w1", "gate.near"),
    (r"gau\.w2", "gate.wide"),
    (r"gau\.wo", "gate.out"),
    (r"gau\.cw", "gate.shortcut"),
    (r"mda(\d)", r"dilated.\1"),
    (r"\.conv\.", ".mix.1."),
    (r"(stages\.\d\.1|steps\.\d\.0)\.norm_layer", r"\1.mix.0"),
    (r"\.norm_layer", ".out.1"),
    (r"\.conv1\.", ".query."),
    (r"\.conv2\.", ".out.0."),
    (r"\.linear_0", ".keys"),
    (r"\.linear_1", ".values"),
    (r"scab\.catt\.att(\d)", lambda m: f"encoder.bridge.mix.{int(m[1]) - 1}"),
    (r"scab\.catt\.get_all_att", "encoder.bridge.neighbours"),
    (r"scab\.satt\.shared_conv2d\.0", "encoder.bridge.spatial"),
)
SCRNET = (
    (r"Conv([1-5])\.conv", lambda m: f"encoder.levels.levels.{int(m[1]) - 1}"),
    (r"Conv([6-9])\.conv", lambda m: f"decoder.levels.{int(m[1]) - 6}"),
    (r"DeConv1x1_(\d)", lambda m: f"head.levels.{int(m[1]) - 1}"),
    (r"SCM(\d)\.down_h", lambda m: f"decoder.calibrations.{int(m[1]) - 1}.reduce"),
    (r"SCM(\d)\.flow_make", lambda m: f"decoder.calibrations.{int(m[1]) - 1}.flow"),
    (r"SRM(\d)\.conv1x1_h", lambda m: f"decoder.refinements.{int(m[1]) - 1}.expand"),
)


def published(shared, name):
    """(weights, input, output) of a fixture."""
    tensors = load_file(shared / "golden" / f"{name}.safetensors")
    weights = {key.removeprefix("weights/"): value for key, value in tensors.items() if key.startswith("weights/")}
    return weights, tensors["input"], tensors["output"]


def renamed(weights, names):
    """The weights under our names: every (pattern, replacement) in turn."""
    found = {}
    for key, value in weights.items():
        for pattern, replacement in names:
            key = re.sub(pattern, replacement, key)
        found[key] = value
    return found


def parameters(name, width):
    return sum(p.numel() for p in create(name, width=width).parameters())


@pytest.mark.parametrize(
    ("name", "names", "as_published"),
    [
        ("unetpp", UNETPP, torch.nn.Identity()),
        ("microaunet", MICROAUNET, torch.sigmoid),
        ("malunet", MALUNET, torch.sigmoid),
    ],
)
@torch.inference_mode()
def test_published_weights_give_the_published_output_golden(shared, name, names, as_published):
    weights, images, expected = published(shared, name)
    student = create(name, width=8).eval()
    student.load_state_dict(renamed(weights, names))
    assert (as_published(student(images)) - expected).abs().max() <= 1e-5
    assert (as_published(fuse_for_inference(student)(images)) - expected).abs().max() <= 1e-5


def skewed_warp(x, flow):
    """The published warp: a grid from corner to corner, read as one of cell centres, in half cells of flow."""
    height, width = flow.shape[-2:]
    down, right = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    grid = torch.stack([right, down], dim=-1) + flow.permute(0, 2, 3, 1) / torch.tensor([width, height])
    return functional.grid_sample(x, grid, align_corners=False)


def published_scrnet(student, down, images):
    """Our blocks as the published code joins them: no pyramid, no ReLU, deep map warped unreduced, nearest heads."""
    *skips, deep = student.encoder.levels(images)
    total = 0
    parts = zip(*(getattr(student.decoder, name) for name in ("calibrations", "levels", "refinements")), strict=True)
    for (scm, level, srm), head, skip, weight in zip(parts, student.head.levels, skips[::-1], down, strict=True):
        raised = functional.interpolate(scm.reduce(deep), scale_factor=2, mode="bilinear")
        flow = scm.flow(torch.cat([raised, functional.conv2d(skip, weight)], dim=1))
        fine = level(skip + skewed_warp(deep, flow))
        refined = fine * torch.sigmoid(srm.expand(deep.mean(dim=(2, 3), keepdim=True)) + fine)
        total = total + functional.interpolate(head(refined), size=images.shape[-2:])
        deep = fine
    return total


@torch.inference_mode()
def test_scrnet_s_blocks_joined_as_published_give_the_published_output_golden(shared):
    weights, images, expected = published(shared, "scrnet")
    down = [weights.pop(f"SCM{level}.down_l.weight") for level in (1, 2, 3, 4)]
    dead = [weights.pop(f"Conv1x1_{level}.{part}").numel() for level in (2, 3, 4) for part in ("weight", "bias")]
    assert sum(dead) == 10_864
    student = create("scrnet", width=16).eval()
    missing, unexpected = student.load_state_dict(renamed(weights, SCRNET), strict=False)
    assert not unexpected and all(name.startswith("encoder.pyramid.") for name in missing)
    # In double precision, so that it is the same on all processors; what was kept is float32, 1.2e-5 from it.
    found = published_scrnet(student.double(), [weight.double() for weight in down], images.double())
    assert (found - expected).abs().max() <= 1.5e-5


@pytest.mark.parametrize(
    ("name", "width", "count"),
    [
        ("unetpp", 32, 9_163_329),
        ("unetpp", 8, 574_929),
        ("microaunet", 8, 84_281),
        ("microaunet", 4, 24_881),
        ("malunet", 8, 177_943),
        ("scrnet", 16, 800_924 - 21_760 + 147_584),  # used as published, less the reduction of X_i, plus the pyramid
    ],
)
def test_students_have_the_published_number_of_parameters(name, width, count):
    assert parameters(name, width) == count


def test_warping_by_nothing_is_the_identity_and_by_one_cell_is_a_shift():
    x, flow = torch.randn(2, 3, 5, 8), torch.zeros(2, 2, 5, 8)
    assert torch.allclose(warp(x, flow), x, atol=1e-5)
    flow[:, 0] = 1
    assert torch.allclose(warp(x, flow)[..., :-1], x[..., 1:], atol=1e-5)


@torch.inference_mode()
def test_a_pruned_unetpp_gives_what_its_head_gave():
    torch.manual_seed(0)
    full, images = create("unetpp", width=4, deep_supervision=True).eval(), torch.randn(1, 3, 32, 48)
    heads = [full.pruned(depth)(images) for depth in (1, 2, 3, 4)]
    assert torch.allclose(full(images), torch.stack(heads).mean(dim=0), atol=1e-5)
    assert parameters("unetpp", 4) == sum(p.numel() for p in full.pruned(4).parameters())
    with pytest.raises(ValueError, match=r"cannot prune to depth 2: expected a network trained with deep_supervision"):
        create("unetpp", width=4).pruned(2)


def test_microaunet_refuses_sizes_that_it_does_not_take():
    with pytest.raises(ValueError, match=r"at least 97 x 97 pixels, got 96 x 200; choose a larger image_size"):
        create("microaunet", width=4)(torch.zeros(1, 3, 96, 200))
    with pytest.raises(ValueError, match=r"microaunet has a width of 6, but it must be a multiple of 4"):
        create("microaunet", width=6)
