"""`distill bench what=cache,train` at a size for tests: every row is there, measured on what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from small_extraction import CellTeacher, noisy

import cache
from cache.spec import MapSpec
from distill.bench import decoding, delivery, sizes, training
from distill.bench.extraction import rows_of
from distill.bench.inputs import drawn_maps, images_of, write_cache
from distill.bench.request import Request
from distill.cli.bench import read_request
from distill.runtime.timing import told

TINY = MapSpec("stride16", 6, (20, 20), 16)


def asked(**options):
    return Request(("cache",), 2, 1, None, options)


class BareTeacher(CellTeacher):
    """With what a benchmark reads of a teacher beside its maps: the bare forward pass, and where it runs."""

    device = torch.device("cpu")

    def embed(self, pixels):
        return self.forward(pixels, None)


def test_bytes_are_counted_on_maps_that_were_not_fitted_on():
    maps = drawn_maps(40, TINY)
    rows = told(sizes.map_rows("drawn", maps[:30], maps[30:], deep=True))
    assert [row.wanted for row in rows] == ["", "", "<= 0.95", "", ">= 10", "", "<= 1.5", "", "<= 1.05"]
    against, below, shells = rows[6:]
    assert "with cache.shells" in shells.figure and "fidelity reached 0.9" in shells.note
    assert 1 < against.value < 2 and "fidelity reached 0.9" in against.note
    size = float(against.note.split(" bytes")[0].split()[-1].replace(",", ""))
    assert below.value == pytest.approx(2 * maps[0].numel() / size, rel=0.01)
    assert "energy low" in below.note and "statistics" in against.note


def test_decoding_is_compared_with_a_pickle_and_a_mapped_file(monkeypatch):
    small = {"SMALL": TINY, "RECORDS": 4, "PICKLED": (3, 4, 4), "RESIZED": (8, 8)}
    for name, value in small.items():
        monkeypatch.setattr(decoding, name, value)
    monkeypatch.setattr(decoding, "LARGE", MapSpec("neck", 4, (24, 24), 16))
    rows = list(decoding.decode_rows(asked()))
    assert [row.at_least for row in rows] == [3, None, None] * 4
    assert "DiFoM's pickle takes" in rows[0].figure and "a mapped fp16 file takes" in rows[1].figure
    assert "with cache.shells" in rows[2].figure
    assert all(row.value > 0 for row in rows)


def test_the_sides_of_the_decoding_see_the_same_map(tmp_path):
    """Of the same box, as far as a coarse bilinear resize of whole cells can agree with the series."""
    maps = drawn_maps(decoding.RECORDS, TINY)
    keys = [f"{number:064x}" for number in range(decoding.RECORDS)]
    store = write_cache(tmp_path / "cache", {TINY: maps}, keys=keys)
    boxes = [(0.25, 0.25, 0.75, 0.75)] * decoding.RECORDS
    ours = torch.stack(decoding.decode(store, TINY, keys, boxes, grid=(10, 10)))
    theirs = torch.stack(decoding.crop_mapped(decoding.write_mapped(tmp_path, maps), boxes, grid=(10, 10)))
    decoded = store.codecs["stride16"].inverse(ours)
    centre = maps.mean((0, 2, 3))[:, None, None]
    agreement = torch.nn.functional.cosine_similarity((decoded - centre).flatten(1), (theirs - centre).flatten(1))
    assert agreement.min() > 0.9


@pytest.mark.parametrize("images", [2, 20])
def test_extraction_is_measured_against_the_bare_forward_pass(tmp_path, images):
    shown = [noisy(number) for number in range(images)]
    (row,) = rows_of("cells", BareTeacher(), shown, folder=tmp_path / "c", size=4, at_least=0.9, rounds=1)
    assert row.value > 0 and row.at_least == 0.9
    assert f"{images} images, 4 a pass, cpu" in row.note
    assert len(list((tmp_path / "c").glob("shard-*"))) == 2  # of the fit, and the one that was extracted


def test_a_training_step_is_measured_with_and_without_targets():
    case = training.Case("unet", 2, 64, 2, MapSpec("stride16", 4, (10, 10), 16), 1e3)
    (row,) = training.case_rows(Request(("train",), 1, 1, None, {"precision": "fp32"}), case)
    assert row.met and "batch 2, fp32" in row.note
    assert "unet of width 2 at 64 px, targets from 4 x 10 x 10" in row.figure


def test_a_live_teacher_is_measured_against_the_cached_one(monkeypatch):
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1, "image_size": 64, "patch_size": 8,
             "window_size": 4, "global_attn_indexes": [0], "mlp_dim": 32, "output_channels": 4}  # fmt: skip
    whole = training.sam_vit_base
    monkeypatch.setattr(training, "sam_vit_base", lambda folder: whole(folder, **sizes))
    case = training.Case("unet", 2, 64, 2, MapSpec("neck", 4, (8, 8), 8), None)
    (row,) = training.live_rows(Request(("train",), 1, 1, None, {}), case)
    assert row.value > 0 and "a live SAM ViT-B against the cached one" in row.figure


def test_images_are_those_given_or_generated_and_too_few_are_told(tmp_path):
    assert images_of(asked(), 2, size=(32, 40))[1].shape == (32, 40, 3)
    for number in range(2):
        Image.fromarray(np.full((9, 8, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    assert [int(image[0, 0, 0]) for image in images_of(asked(images=str(tmp_path)), 2)] == [0, 1]
    with pytest.raises(ValueError, match=r"images=.* holds 2 pictures, but the benchmark needs 3; give more"):
        images_of(asked(images=str(tmp_path)), 3)
    with pytest.raises(FileNotFoundError, match="images=/nowhere is not a folder; give one with pictures"):
        images_of(asked(images="/nowhere"), 1)


def test_the_command_knows_their_keys():
    assert read_request(["what=cache,train", "sam=0", "live=0", "images=DIR"]).options == {
        "sam": "0", "live": "0", "images": "DIR"}  # fmt: skip
    with pytest.raises(ValueError, match="sam is 'two', but must be a whole number of at least 0"):
        asked(sam="two").whole("sam", 2)
    with pytest.raises(ValueError, match=r"bench what=cache has no key 'live'; choose from images, out, rounds, sam"):
        read_request(["what=cache", "live=0"])


def test_a_drawn_cache_holds_its_maps(tmp_path):
    maps = drawn_maps(6, TINY)
    keys = [f"{number:064x}" for number in range(6)]
    store = write_cache(tmp_path, {TINY: maps}, keys=keys)
    assert set(cache.open(tmp_path)) == {(key, "identity") for key in keys}
    codes = [store.read(key, "identity", map="stride16") for key in keys]
    assert store.codecs["stride16"].fidelity(maps, codes) > 0.9


def test_a_batch_of_integers_is_measured_beside_one_of_features():
    case = training.Case("unet", 2, 64, 2, MapSpec("stride16", 4, (10, 10), 16), None)
    rows = list(delivery.delivery_rows(Request(("train",), 2, 1, None, {"precision": "fp32"}), case))
    assert [row.at_most for row in rows] == [None, None, 5.0]
    assert all(row.value > 0 for row in rows)
    assert "3 targets" in rows[0].figure
