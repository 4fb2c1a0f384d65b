"""The checkpoints of segment_anything load as they were published, and nothing in them is executed."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from small_teachers import noise, random_pixels, refusal_of, small_segment_anything, write_sam

import teachers
from teachers.weights.names import renamed
from teachers.weights.originals import sam_settings


def checkpoint(official):
    """The state dict of a whole SAM: the encoder, and something of what nobody reads."""
    rest = {
        "prompt_encoder.no_mask_embed.weight": torch.zeros(1, 32),
        "mask_decoder.iou_token.weight": torch.ones(1, 32),
    }
    return rest | {f"image_encoder.{name}": value for name, value in official.state_dict().items()}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "sam_vit_b_01ec64.pth"
    torch.save(checkpoint(small_segment_anything()), path)
    return path


def test_an_original_checkpoint_equals_segment_anything_and_transformers(file, tmp_path):
    from transformers import SamVisionConfig, SamVisionModel

    official, teacher = small_segment_anything(), teachers.load("sam", weights=file)
    pixels = random_pixels(80)
    found = teacher.embed(pixels)["neck"]
    settings = sam_settings({name: tuple(value.shape) for name, value in torch.load(file).items()}, file)
    library = SamVisionModel(SamVisionConfig(**settings)).eval()
    library.vision_encoder.load_state_dict(teacher.network.state_dict())
    with torch.inference_mode():
        expected, likewise = official(pixels), library(pixels).last_hidden_state
    assert expected.std() > 0.1
    assert (found - expected).abs().max() <= 1e-5
    assert (found - likewise).abs().max() <= 1e-5
    assert teacher.licence == "Apache-2.0"


def test_it_is_the_teacher_of_the_same_weights_in_a_folder(tmp_path):
    arguments = write_sam(tmp_path / "folder")
    folder = teachers.load("sam", **arguments)
    official = small_segment_anything()
    named = {renamed(name, "sam_encoder"): value for name, value in folder.network.state_dict().items()}
    official.load_state_dict({name.removeprefix("image_encoder."): value for name, value in named.items()})
    torch.save(checkpoint(official), tmp_path / "sam_vit_b_01ec64.pth")
    original = teachers.load("sam", weights=tmp_path / "sam_vit_b_01ec64.pth")
    differing = {key for key in folder.identity if folder.identity[key] != original.identity[key]}
    assert differing == {"weights"}
    assert torch.equal(original([noise(50, 80)])["neck"], folder([noise(50, 80)])["neck"])


@pytest.mark.parametrize("kind", ["old format", "under model", "safetensors"])
def test_it_may_have_been_saved_in_other_ways(file, tmp_path, kind):
    state, path = checkpoint(small_segment_anything()), tmp_path / "other.pth"
    if kind == "safetensors":
        path = tmp_path / "other.safetensors"
        save_file(state, path)
    elif kind == "old format":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    else:
        torch.save({"model": state, "optimizer": {"state": {}}, "epoch": 7}, path)
    pixels = torch.randn(1, 3, 80, 80)
    expected = teachers.load("sam", weights=file).embed(pixels)["neck"]
    assert torch.equal(teachers.load("sam", weights=path).embed(pixels)["neck"], expected)


@pytest.mark.parametrize(
    ("width", "depth", "heads", "everywhere"),
    [(768, 12, 12, (2, 5, 8, 11)), (1024, 24, 16, (5, 11, 17, 23)), (1280, 32, 16, (7, 15, 23, 31))],
)
def test_base_large_and_huge_are_told_from_their_shapes(width, depth, heads, everywhere):
    from segment_anything.build_sam import ImageEncoderViT
    from transformers import SamVisionConfig

    with torch.device("meta"):
        official = ImageEncoderViT(
            img_size=1024,
            embed_dim=width,
            depth=depth,
            num_heads=heads,
            use_rel_pos=True,
            window_size=14,
            global_attn_indexes=everywhere,
        )
    shapes = {f"image_encoder.{name}": tuple(value.shape) for name, value in official.state_dict().items()}
    config = SamVisionConfig(**sam_settings(shapes, "sam.pth"))
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (width, depth, heads)
    assert (config.image_size, config.patch_size, config.output_channels) == (1024, 16, 256)
    assert (config.window_size, tuple(config.global_attn_indexes), config.mlp_dim) == (14, everywhere, 4 * width)


def test_what_an_original_checkpoint_lacks_or_has_too_much_is_named(tmp_path):
    refused = refusal_of("sam", tmp_path / "changed.pth", lambda: checkpoint(small_segment_anything()))
    first = "image_encoder.blocks.1.mlp.lin2.bias"
    refused(lambda state: state.pop(first), rf"lacks 1 tensor \({first}\); give the matching file")
    refused(
        lambda state: state.pop("image_encoder.pos_embed"),
        r"expected image_encoder\.pos_embed of 4 dimensions, from which .*, got none; give",
    )
    refused(
        lambda state: state.update({"image_encoder.blocks.1.adapter.weight": torch.zeros(2)}),
        r"holds unknown 1 tensor \(image_encoder\.blocks\.1\.adapter\.weight\)",
    )
    refused(
        lambda state: state.update({"image_encoder.neck.2.weight": torch.zeros(32, 32, 1, 1)}),
        r"expected image_encoder\.neck\.2\.weight of shape \(32, 32, 3, 3\), got \(32, 32, 1, 1\)",
    )
    refused(
        lambda state: state.update({"image_encoder.patch_embed.proj.weight": torch.zeros(32)}),
        r"expected image_encoder\.patch_embed\.proj\.weight of 4 dimensions, from which .*, got \(32,\)",
    )
    refused(lambda state: state.update({"head.weight": torch.zeros(2)}), r"holds unknown 1 tensor \(head\.weight\)")
    refused(
        lambda state: [state.pop(name) for name in list(state) if name.startswith("image")],
        r"not an original checkpoint of teacher 'sam': it holds no tensor image_encoder\.\*; give sam_vit_b_01ec64",
    )


def test_what_is_no_checkpoint_is_refused_and_nothing_in_it_runs(file, tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was executed",))

    path = tmp_path / "trap.pth"
    torch.save(checkpoint(small_segment_anything()) | {"image_encoder.extra": Trap()}, path)
    with pytest.raises(ValueError, match=r"more than tensors \([\w.]*[Ff]ail\) or is damaged; .*nothing .*executed"):
        teachers.load("sam", weights=path)
    path.write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(ValueError, match=r"trap\.pth .*(is not a whole file of torch\.save|is damaged).*download"):
        teachers.load("sam", weights=path)
    torch.save([torch.zeros(2)], path)
    with pytest.raises(ValueError, match=r"expected a state dict in .*, tensors by name, got list; give the published"):
        teachers.load("sam", weights=path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(ValueError, match=r"tensors by name, got int under 'epoch'"):
        teachers.load("sam", weights=path)
    with pytest.raises(FileNotFoundError, match=r"no weights at .*nowhere/sam\.pth.*looked for a file or folder"):
        teachers.load("sam", weights="nowhere/sam.pth")
