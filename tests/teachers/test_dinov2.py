"""DINOv2 as published: the original network, its three kinds of files, its positions at any size."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_teachers import noise, random_pixels, refusal_of, write_dinov2
from torch.nn import functional as F

import teachers
from teachers.dinov2 import resize_positions, shapes_in
from teachers.weights.originals import dinov2_config, dinov2_names
from teachers.weights.tensors import layout

WIDTH, HEADS, DEPTH, PATCH, GRID = 192, 3, 2, 14, 5


def official_state(*, registers=0, gated=False):
    """A random state dict under the names of dinov2_vit*14_pretrain.pth, spelled out."""
    generator = torch.Generator().manual_seed(5)

    def draw(*shape, scale=0.2):
        return scale * torch.randn(shape, generator=generator)

    state = {
        "cls_token": draw(1, 1, WIDTH),
        "pos_embed": draw(1, 1 + GRID**2, WIDTH, scale=0.5),
        "mask_token": torch.zeros(1, WIDTH),
        "patch_embed.proj.weight": draw(WIDTH, 3, PATCH, PATCH, scale=0.05),
        "patch_embed.proj.bias": draw(WIDTH),
    }
    if registers:
        state["register_tokens"] = draw(1, registers, WIDTH)
    for block in range(DEPTH):
        inner = 512 if gated else 4 * WIDTH  # two thirds of 768
        first, second = ("w12", "w3") if gated else ("fc1", "fc2")
        linears = {
            "attn.qkv": (3 * WIDTH, WIDTH),
            "attn.proj": (WIDTH, WIDTH),
            f"mlp.{first}": (2 * inner if gated else inner, WIDTH),
            f"mlp.{second}": (WIDTH, inner),
        }
        for name, shape in linears.items():
            state[f"blocks.{block}.{name}.weight"] = draw(*shape, scale=shape[1] ** -0.5)
            state[f"blocks.{block}.{name}.bias"] = draw(shape[0])
        for name in ("norm1", "norm2"):
            state[f"blocks.{block}.{name}.weight"], state[f"blocks.{block}.{name}.bias"] = 1 + draw(WIDTH), draw(WIDTH)
        for name in ("ls1", "ls2"):
            state[f"blocks.{block}.{name}.gamma"] = draw(WIDTH, scale=1)
    return state | {"norm.weight": 1 + draw(WIDTH), "norm.bias": draw(WIDTH)}


def official_forward(state, pixels, positions):
    """The published forward pass, on the state dict itself: normed patch tokens of every block as maps."""

    def norm(x, name):
        return F.layer_norm(x, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    def linear(x, name):
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    patches = F.conv2d(pixels, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=PATCH)
    batch, cells = len(pixels), patches.shape[-2:]
    x = torch.cat([state["cls_token"].expand(batch, -1, -1), patches.flatten(2).transpose(1, 2)], 1) + positions
    if "register_tokens" in state:
        x = torch.cat([x[:, :1], state["register_tokens"].expand(batch, -1, -1), x[:, 1:]], 1)
    maps = []
    for block in (f"blocks.{index}" for index in range(DEPTH)):
        qkv = linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv").unflatten(-1, (3, HEADS, WIDTH // HEADS))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attention = (query @ key.transpose(-2, -1) * (WIDTH // HEADS) ** -0.5).softmax(-1)
        mixed = linear((attention @ value).transpose(1, 2).flatten(2), f"{block}.attn.proj")
        x = x + state[f"{block}.ls1.gamma"] * mixed
        y = norm(x, f"{block}.norm2")
        if f"{block}.mlp.w12.weight" in state:
            gate, up = linear(y, f"{block}.mlp.w12").chunk(2, -1)
            y = linear(F.silu(gate) * up, f"{block}.mlp.w3")
        else:
            y = linear(F.gelu(linear(y, f"{block}.mlp.fc1")), f"{block}.mlp.fc2")
        x = x + state[f"{block}.ls2.gamma"] * y
        tokens = norm(x, "norm")[:, -cells[0] * cells[1] :]
        maps.append(tokens.transpose(1, 2).unflatten(2, cells))
    return maps


def cubic(distance):
    """Keys' kernel with a = -0.75."""
    near = 1.25 * distance**3 - 2.25 * distance**2 + 1
    far = -0.75 * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, 0))


def sampled(positions, cells):
    """Positions for another grid as the original takes them: at (i + 1/2) * m / (n + 0.1) - 1/2, edges repeated."""
    source = (torch.arange(cells, dtype=torch.float64) + 0.5) * GRID / (cells + 0.1) - 0.5
    taps = source.floor()[:, None] + torch.arange(-1, 3)
    weights = cubic((source[:, None] - taps).abs())
    matrix = torch.zeros(cells, GRID, dtype=torch.float64)
    matrix.scatter_add_(1, taps.clamp(0, GRID - 1).long(), weights)
    patches = positions[0, 1:].double().unflatten(0, (GRID, GRID))
    patches = torch.einsum("iy,jx,yxc->ijc", matrix, matrix, patches).flatten(0, 1)
    return torch.cat([positions[0, :1], patches.float()])[None]


PIXELS = random_pixels(70)
KINDS = pytest.mark.parametrize(
    ("registers", "gated"), [(0, False), (4, False), (0, True), (4, True)], ids=["plain", "reg4", "giant", "giant_reg4"]
)


def difference(maps, expected):
    assert all(value.std() > 0.1 for value in expected)
    assert len(maps) == len(expected)
    return max(float((found - value).abs().max()) for found, value in zip(maps.values(), expected, strict=True))


@KINDS
def test_an_original_checkpoint_gives_what_the_published_network_gives(tmp_path, registers, gated):
    state = official_state(registers=registers, gated=gated)
    torch.save(state, tmp_path / "dinov2_vits14_pretrain.pth")
    teacher = teachers.load("dinov2", weights=tmp_path / "dinov2_vits14_pretrain.pth", levels=(0, 1))
    assert teacher.spec.names == ("block0", "block1")
    assert (teacher.spec["block1"].grid, teacher.spec["block1"].stride) == ((5, 5), 14)
    assert difference(teacher.embed(PIXELS), official_forward(state, PIXELS, state["pos_embed"])) <= 1e-5
    assert teacher.licence == "Apache-2.0"


@KINDS
def test_files_of_transformers_and_of_timm_hold_the_same_network(tmp_path, registers, gated):
    import timm
    from timm.models.vision_transformer import checkpoint_filter_fn

    state = official_state(registers=registers, gated=gated)
    expected = official_forward(state, PIXELS, state["pos_embed"])
    torch.save(state, tmp_path / "original.pth")
    teacher = teachers.load("dinov2", weights=tmp_path / "original.pth", levels=(0, 1))
    teacher.network.network.save_pretrained(tmp_path / "transformers")
    library = type(teacher.network.network).from_pretrained(tmp_path / "transformers").eval()
    again = teachers.load("dinov2", weights=tmp_path / "transformers", levels=(0, 1))
    with torch.inference_mode():
        tokens = library(PIXELS).last_hidden_state[:, 1 + registers :]
    assert (again.embed(PIXELS)["block1"] - tokens.transpose(1, 2).unflatten(2, (5, 5))).abs().max() <= 1e-5
    assert difference(again.embed(PIXELS), expected) <= 1e-5

    name = f"vit_{'giant' if gated else 'small'}_patch14_{'reg4_' if registers else ''}dinov2"
    sizes = {"img_size": 70, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    other = timm.create_model(name, num_classes=0, **sizes)
    other.load_state_dict(checkpoint_filter_fn(dict(state), other), strict=True)
    (tmp_path / "timm").mkdir()
    save_file(other.state_dict(), tmp_path / "timm" / "model.safetensors")
    (tmp_path / "timm" / "config.json").write_text(json.dumps({"architecture": name, "pretrained_cfg": {}}))
    assert difference(teachers.load("dinov2", weights=tmp_path / "timm", levels=(0, 1)).embed(PIXELS), expected) <= 1e-5


@pytest.mark.parametrize("registers", ["", "reg4_"])
@pytest.mark.parametrize(
    ("size", "width", "depth", "heads"),
    [("small", 384, 12, 6), ("base", 768, 12, 12), ("large", 1024, 24, 16), ("giant", 1536, 40, 24)],
)
def test_every_published_size_is_told_from_its_shapes(size, width, depth, heads, registers):
    import timm

    with torch.device("meta"):
        network = timm.create_model(f"vit_{size}_patch14_{registers}dinov2", num_classes=0)
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = dinov2_config(shapes, "model.safetensors")
    assert (found.hidden_size, found.num_hidden_layers, found.num_attention_heads) == (width, depth, heads)
    assert (found.image_size, found.patch_size) == (518, 14)
    assert getattr(found, "num_register_tokens", 0) == (4 if registers else 0)
    assert found.use_swiglu_ffn == (size == "giant")
    assert layout(shapes_in(shapes, found), dinov2_names(shapes))[1] == shapes


@pytest.mark.parametrize("cells", [3, 4, 7])
def test_positions_at_another_size_are_sampled_where_the_original_samples_them(tmp_path, cells):
    state, size = official_state(), 14 * cells
    torch.save(state, tmp_path / "vits14.pth")
    pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(cells))
    found = teachers.load("dinov2", weights=tmp_path / "vits14.pth", image_size=size).embed(pixels)
    (_, expected) = official_forward(state, pixels, sampled(state["pos_embed"], cells))
    assert difference(found, [expected]) <= 1e-5
    plain = F.interpolate(
        state["pos_embed"][:, 1:].unflatten(1, (5, 5)).permute(0, 3, 1, 2), (cells, cells), mode="bicubic"
    )
    shifted = resize_positions(state["pos_embed"], cells, antialias=False)[:, 1:]
    assert (shifted - plain.permute(0, 2, 3, 1).flatten(1, 2)).abs().max() > 0.01  # what leaving out the 0.1 would do


@pytest.mark.parametrize("cells", [6, 13])
def test_with_registers_positions_at_another_size_are_those_of_transformers(tmp_path, cells):
    from transformers import Dinov2WithRegistersModel

    arguments = write_dinov2(tmp_path / "registers", registers=4)
    pixels = torch.randn(1, 3, 14 * cells, 14 * cells, generator=torch.Generator().manual_seed(0))
    teacher = teachers.load("dinov2", **arguments, image_size=14 * cells)
    network = Dinov2WithRegistersModel.from_pretrained(arguments["weights"]).eval()
    with torch.inference_mode():
        tokens = network(pixels).last_hidden_state[:, 5:]
    found = teacher.embed(pixels)["block1"]
    assert (found - tokens.transpose(1, 2).unflatten(2, (cells, cells))).abs().max() <= 1e-5


def test_no_block_runs_that_is_deeper_than_asked_for(tmp_path):
    arguments = write_dinov2(tmp_path / "small")
    both, last = (teachers.load("dinov2", weights=arguments["weights"], levels=levels) for levels in ((1, 0), None))
    first = teachers.load("dinov2", weights=arguments["weights"], levels=(0,))
    assert (both.spec.names, last.spec.names, first.spec.names) == (("block0", "block1"), ("block1",), ("block0",))
    assert len(first.network.network.encoder.layer) == 1
    image = noise(60, 90)
    for single in (first, last):
        for name, value in single([image]).items():
            torch.testing.assert_close(value, both([image])[name], atol=1e-6, rtol=0)


def test_the_whole_image_is_seen_and_not_its_centre(tmp_path):
    teacher = teachers.load("dinov2", **write_dinov2(tmp_path / "small"))
    image = noise(60, 120)
    image[:, :12] = 255  # a centre crop would not hold it
    prepared = teacher.prepare(image)
    assert prepared.pixels.shape == (3, 140, 140)
    assert prepared.valid == (1.0, 1.0)
    assert prepared.pixels[:, :, :13].min() > 2 > prepared.pixels[:, :, 15:].max()


def test_dinov2_says_what_does_not_fit(tmp_path):
    arguments = write_dinov2(tmp_path / "small")
    for change, message in [
        ({"image_size": 512}, r"multiple of 14, so that DINOv2's patches cover .*, got 512; choose 504 or 518"),
        ({"image_size": 5}, r"got 5; choose 14$"),
        ({"levels": (2,)}, r"have blocks 0 to 1, got levels=\[2\]"),
        ({"levels": (-1,)}, r"have blocks 0 to 1, got levels=\[-1\]"),
        (
            {"strides": (14,)},
            r"'dinov2' has no option strides: leave out strides=\(14,\); its maps are chosen by levels$",
        ),
        ({"model": "dinov2_vits14"}, r"has no option model: leave out model=dinov2_vits14$"),
    ]:
        with pytest.raises(ValueError, match=message):
            teachers.load("dinov2", **{**arguments, **change})
    (tmp_path / "small" / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no config\.json beside .*`hf download facebook/dinov2-base` gets"):
        teachers.load("dinov2", **arguments)
    config = {"model_type": "dinov2", "image_size": 150}
    (tmp_path / "small" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"image_size in .*config\.json to be .* multiple of patch_size 14, got 150"):
        teachers.load("dinov2", **arguments)


def test_what_an_original_checkpoint_lacks_or_has_too_much_is_named(tmp_path):
    refused = refusal_of("dinov2", tmp_path / "changed.pth", official_state)
    refused(
        lambda state: state.pop("blocks.1.ls2.gamma"), r"lacks 1 tensor \(blocks\.1\.ls2\.gamma\); give the matching"
    )
    refused(lambda state: state.pop("cls_token"), r"expected cls_token of 3 dimensions, from which .*, got none; give")
    refused(
        lambda state: [state.pop(name) for name in list(state) if name.startswith("blocks.")],
        r"expected blocks\.0\.norm1\.weight of 1 dimensions, from which .*, got none",
    )
    refused(lambda state: state.update({"head.weight": torch.zeros(2)}), r"holds unknown 1 tensor \(head\.weight\)")
    refused(
        lambda state: state.update({"blocks.0.attn.qkv.weight": torch.zeros(WIDTH, WIDTH)}),
        r"expected blocks\.0\.attn\.qkv\.weight of shape \(576, 192\), got \(192, 192\)",
    )
    refused(
        lambda state: (state.clear(), state.update({"conv1.weight": torch.zeros(2)})), r"cls_token .*got none; give"
    )


def test_the_mask_token_may_be_missing_because_nothing_reads_it(tmp_path):
    arguments = write_dinov2(tmp_path / "small")
    whole = teachers.load("dinov2", **arguments)
    state = load_file(tmp_path / "small" / "model.safetensors")
    del state["embeddings.mask_token"]
    save_file(state, tmp_path / "small" / "model.safetensors")
    image = noise(40, 40)
    assert torch.equal(teachers.load("dinov2", **arguments)([image])["block1"], whole([image])["block1"])
