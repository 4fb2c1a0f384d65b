"""The task teacher's network: every level reads every level, and its mask is finer than the maps it reads."""

from __future__ import annotations

import json

import pytest
import torch

from students.task_decoder import ChannelAttention, TaskDecoder, resized

CHANNELS = (5, 7, 11)
GRIDS = ((12, 16), (6, 8), (3, 4))
SIZE = (50, 61)


def build(**options) -> TaskDecoder:
    torch.manual_seed(0)
    return TaskDecoder(**{"channels": CHANNELS, "grids": GRIDS, "width": 8, **options})


def teacher_maps(network: TaskDecoder, batch: int = 2) -> tuple[torch.Tensor, ...]:
    random = torch.Generator().manual_seed(1)
    shapes = zip(network.channels, network.grids, strict=True)
    return tuple(torch.randn(batch, channels, *grid, generator=random) for channels, grid in shapes)


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize(
    ("channels", "grids"),
    [
        (CHANNELS, GRIDS),
        ((6,), ((8, 8),)),  # SAM's neck
        ((4, 4, 4), ((5, 7), (5, 7), (5, 7))),  # a plain transformer's last blocks
        ((4, 4, 4, 4), ((10, 14), (5, 7), (3, 4), (2, 2))),  # no whole ratios
        ((3, 3), ((1, 1), (1, 1))),
    ],
)
def test_logits_have_the_size_asked_for_and_levels_stay_on_their_grids(channels, grids, classes):
    network = build(channels=channels, grids=grids, classes=classes).eval()
    features = network.features(teacher_maps(network))
    assert [tuple(x.shape) for x in features] == [(2, 8, *grid) for grid in grids]
    assert [x.shape for x in network.decoder.levels(features)] == [x.shape for x in features]
    for size in (SIZE, network.grid, (1, 1)):
        assert network.decode(features, size).shape == (2, classes, *size)


def test_the_mask_has_twice_the_rows_and_columns_of_the_finest_map():
    network = build().eval()
    maps = teacher_maps(network)
    assert network.grid == (24, 32)
    assert torch.equal(network(maps, network.grid), network.head(network.decoder(network.features(maps))))


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("source", [0, 1, 2])
def test_every_decoder_level_reads_every_map(level, source):
    network = build().eval()
    maps = teacher_maps(network)
    maps[source].requires_grad_()
    found = network.decoder.levels(network.features(maps))[level]
    found.square().mean().backward()
    assert maps[source].grad.abs().amax(dim=(0, 2, 3)).min() > 0  # through every channel
    without = [torch.zeros_like(x) if index == source else x for index, x in enumerate(maps)]
    assert not torch.allclose(network.decoder.levels(network.features(tuple(without)))[level], found)


def test_a_finer_level_reads_what_the_coarser_level_made_and_not_the_reverse():
    network = build().eval()
    features = network.features(teacher_maps(network))
    before = network.decoder.levels(features)
    with torch.no_grad():
        network.decoder.mix[1][0].weight.mul_(2)
    after = network.decoder.levels(features)
    assert torch.equal(before[2], after[2])
    assert not torch.allclose(before[0], after[0])


def test_shrinking_averages_cells_and_enlarging_keeps_their_centres():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert torch.equal(resized(x, (2, 2)), torch.tensor([[[[2.5, 4.5], [10.5, 12.5]]]]))
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    expected = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.25, 2.75])
    assert torch.allclose(resized(ramp, (8, 8))[0, 0, 3, 1:-1], expected)
    assert resized(x, (4, 4)) is x


def test_channel_attention_is_one_weight_from_0_to_1_for_each_channel_of_each_image():
    torch.manual_seed(0)
    attention = ChannelAttention(12)
    x = torch.randn(3, 12, 4, 5) + torch.randn(3, 12, 1, 1)
    weights = attention.weights(x)
    assert weights.shape == (3, 12)
    assert weights.min() > 0
    assert weights.max() < 1
    assert weights.std(dim=0).min() > 0  # images differ
    assert torch.equal(attention(x), x * weights.view(3, 12, 1, 1))
    assert torch.allclose(attention.weights(x.flip(-1)), weights)  # only the mean counts, not the place


@pytest.mark.parametrize("maps", [1, 3])
def test_every_parameter_gets_a_gradient_and_belongs_to_a_part_that_can_be_frozen(maps):
    network = build(channels=CHANNELS[:maps], grids=GRIDS[:maps]).train()
    network(teacher_maps(network, batch=8), SIZE).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())
    parts = [p for part in (network.encoder, network.decoder, network.head) for p in part.parameters()]
    assert {id(p) for p in parts} == {id(p) for p in network.parameters()}


def test_dropout_zeroes_whole_channels_of_the_encoder_in_training_only():
    network = build(dropout=0.5).train()
    maps = teacher_maps(network, batch=8)
    empty = network.features(maps)[0].flatten(2).amax(dim=-1) == 0
    assert 0.3 < empty.float().mean() < 0.7
    network.eval()
    assert (network.features(maps)[0].flatten(2).amax(dim=-1) > 0).float().mean() > 0.9
    assert torch.equal(network(maps, SIZE), network(maps, SIZE))


def test_a_batch_of_one_equals_its_part_of_a_larger_batch():
    network = build().eval()
    maps = teacher_maps(network, batch=3)
    assert (network(maps, SIZE)[1:2] - network(tuple(x[1:2] for x in maps), SIZE)).abs().max() < 1e-5


def test_a_saved_network_loads_with_equal_output(tmp_path):
    network = build(classes=2, dropout=0.2).train()
    maps = teacher_maps(network)
    network(maps, SIZE)  # statistics that are not those of a fresh network
    network.eval().save_pretrained(tmp_path)
    expected = {"channels": [5, 7, 11], "grids": [[12, 16], [6, 8], [3, 4]], "width": 8, "classes": 2, "dropout": 0.2}
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8")) == expected
    loaded = TaskDecoder.from_pretrained(tmp_path).eval()
    assert (loaded.channels, loaded.grids, loaded.grid) == (CHANNELS, GRIDS, network.grid)
    assert torch.equal(loaded(maps, SIZE), network(maps, SIZE))


def test_maps_of_another_teacher_are_refused():
    network = build()
    fine, middle, coarse = teacher_maps(network)
    with pytest.raises(ValueError, match=r"expected 3 map\(s\) of .*, got 2 map\(s\) of .*finest first"):
        network((fine, middle), SIZE)
    with pytest.raises(ValueError, match=r"expected .*\(7, 6, 8\), \(11, 3, 4\), got .*\(6, 6, 8\), \(11, 3, 4\)"):
        network((fine, middle[:, :6], coarse), SIZE)
    with pytest.raises(ValueError, match=r"expected .*\(5, 12, 16\), .*, got .*\(5, 12, 15\), "):
        network((fine[..., :15], middle, coarse), SIZE)
    with pytest.raises(ValueError, match=r"expected .*, got 3 map\(s\) .* \(11, 3, 4\), \(7, 6, 8\), \(5, 12, 16\)"):
        network((coarse, middle, fine), SIZE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": CHANNELS[:2]}, r"expected channels and a grid .* got channels \(5, 7\) and grids "),
        ({"channels": (), "grids": ()}, r"at least one map, got channels \(\) and grids \(\)"),
        ({"grids": ((12, 16), (0, 8), (3, 4))}, r"expected channels and a grid .*\(0, 8\)"),
        ({"grids": GRIDS[::-1]}, r"expected the finest grid first .* got \(\(3, 4\), .*; reorder the maps"),
        ({"width": 0}, r"expected width and classes of at least 1 .* got a width of 0"),
        ({"dropout": 1.0}, r"a dropout from 0 to below 1, got .* a dropout of 1\.0"),
    ],
)
def test_what_is_no_pyramid_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_the_network_for_an_efficientnet_stays_small():
    network = TaskDecoder(channels=(40, 112, 320), grids=((40, 40), (20, 20), (10, 10)))
    assert sum(p.numel() for p in network.parameters()) == 117_273
