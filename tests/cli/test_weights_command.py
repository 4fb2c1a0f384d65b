"""`distill weights`: what it knows, what it fetches, and that nothing opens a socket where the user forbids it."""

from __future__ import annotations

import hashlib
import re
import socket
from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import load_file
from small_teachers import write_network, write_sam, write_timm

import teachers
from distill.cli import weights as weights_command
from distill.run import main
from distill.runs.checks import EXAMPLE_WEIGHTS as PREPARE
from teachers.weights import releases
from teachers.weights.known import MEASURED, NEAREST, PUBLISHED
from teachers.weights.names import renamed

COMMIT = "0" * 40


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of the hub, and no way out: a socket that is opened fails the test."""
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    for name in ("getaddrinfo", "create_connection", "socket"):
        monkeypatch.setattr(socket, name, lambda *_, **__: pytest.fail("a socket was opened"))
    return cache


def put(cache, hub_id, folder):
    """A folder as a download would have left it in the hub's cache."""
    place = cache / f"models--{hub_id.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT)
    snapshot = place / "snapshots" / COMMIT
    snapshot.parent.mkdir()
    folder.rename(snapshot)
    return snapshot


def entry_of(name):
    return next(entry for entry in PUBLISHED if entry.name == name)


def test_the_table_is_sound_and_covers_every_teacher_that_is_downloaded():
    names = [entry.name for entry in PUBLISHED]
    assert len(set(names)) == len(names)
    assert {entry.teacher for entry in PUBLISHED} == teachers.TEACHERS.keys() - {"student", "ensemble"}
    for entry in PUBLISHED:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", entry.hub_id) or entry.release, entry
        assert bool(entry.release) == bool(entry.model) == (not entry.hub_id), entry
        assert re.fullmatch(r"([\d.]+ [MG]B)?", entry.size), entry
        assert re.fullmatch(r"([0-9a-f]{64})?", entry.sha256), entry
        assert entry.licence
        agreed = ("DINOv3 License", "SAM License", "CC-BY-NC-ND-4.0")  # timm's copies have no gate
        assert entry.gated == (entry.licence in agreed and not entry.hub_id.startswith("timm/")), entry


def test_what_is_known_is_shown_without_asking_anybody(hub, capsys):
    assert main(["weights"]) == 0
    shown = capsys.readouterr().out
    assert "sam-vit-base" in shown
    assert "375 MB" in shown
    assert main(["weights", "do=list", "name=sam-vit-base,sam2"]) == 0
    shown = capsys.readouterr().out
    assert entry_of("sam-vit-base").sha256 in shown
    assert "teachers.NAME.adapter=sam2 teachers.NAME.weights=facebook/sam2.1-hiera-large" in shown


def test_the_list_is_filtered_by_licence_and_by_size(capsys):
    assert main(["weights", "do=list", "licence=apache", "size=100MB"]) == 0
    shown = capsys.readouterr().out
    assert "dinov2-small" in shown and MEASURED in shown
    assert "dinov2-base" not in shown  # 346 MB
    assert "DINOv3 License" not in shown
    assert "other checkpoints have no known size" in shown


def test_what_is_known_of_new_families_has_its_words(capsys):
    assert main(["weights", "name=medsam-vit-base,endovit,sam3"]) == 0
    shown = capsys.readouterr().out
    assert (
        "teachers.NAME.adapter=sam teachers.NAME.variant=medsam teachers.NAME.weights=wanglab/medsam-vit-base" in shown
    )
    assert "teachers.NAME.mean=[0.3464,0.228,0.2228] teachers.NAME.std=[0.252,0.2128,0.2093]" in shown
    assert "accept its terms at https://huggingface.co/facebook/sam3, then `hf auth login`" in shown


def test_a_file_is_checked_and_told(tmp_path, capsys):
    sam, timm_file = write_sam(tmp_path / "sam")["weights"], write_timm(tmp_path / "timm")["weights"]
    write_network(tmp_path / "student")
    assert main(["weights", "do=check", f"weights={sam}"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"adapter +sam\n", shown)
    assert re.search(r"tensors +\d+ of float32, 0\.\d+ million parameters", shown)
    assert "neck" in shown and "32 channels on 10 x 10 cells of stride 8" in shown
    digest = hashlib.sha256((sam / "model.safetensors").read_bytes()).hexdigest()
    assert f"{digest}, of no known weights" in shown
    assert "teachers.NAME.adapter=sam" in shown
    words = ["weights", "do=check", f"weights={timm_file}", "adapter=timm", "model=test_efficientnet", "image_size=96"]
    assert main(words) == 0
    assert "  map stride16  " in capsys.readouterr().out
    assert main(["weights", "do=check", f"weights={tmp_path / 'student'}"]) == 0
    assert "mask" in capsys.readouterr().out


def test_a_file_that_cannot_be_checked_says_why(tmp_path, capsys):
    file = write_timm(tmp_path / "timm")["weights"]
    assert main(["weights", "do=check", f"weights={file}"]) == 1
    assert "does not say which network it belongs to: give adapter=NAME, of dinov2" in capsys.readouterr().err
    assert main(["weights", "do=check", f"weights={file}", "adapter=timm", "model=test_vit"]) == 1
    assert "is not the weights of" in capsys.readouterr().err


def test_what_is_here_already_is_found_and_its_words_work(hub, tmp_path, monkeypatch, capfd):
    write_sam(tmp_path / "sam")
    snapshot = put(hub, "facebook/sam-vit-base", tmp_path / "sam")
    digest = hashlib.sha256((snapshot / "model.safetensors").read_bytes()).hexdigest()
    small = replace(entry_of("sam-vit-base"), sha256=digest)
    monkeypatch.setattr(weights_command, "PUBLISHED", (small,))
    assert main(["weights", "do=fetch", "name=sam-vit-base"]) == 0
    out, err = capfd.readouterr()
    assert "teachers.NAME.adapter=sam teachers.NAME.weights=facebook/sam-vit-base" in out
    assert "is already here" in err
    assert "as published" in err
    assert teachers.load("sam", weights="facebook/sam-vit-base").identity["weights"] == digest
    monkeypatch.setattr(weights_command, "PUBLISHED", (replace(small, sha256="f" * 64),))
    assert main(["weights", "do=fetch", "name=sam-vit-base"]) == 1
    assert "but " + "f" * 64 + " was published" in capfd.readouterr().err


def test_weights_at_a_path_open_no_socket(hub, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert teachers.load("sam", **write_sam(tmp_path / "sam")).name == "sam"


def test_offline_nothing_is_asked_and_the_sentence_says_so(hub, monkeypatch, capfd):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["weights", "do=fetch", "name=dinov2-base"]) == 1
    said = capfd.readouterr().err
    assert "facebook/dinov2-base is not in the hub's cache, and the hub was not asked, because HF_HUB_OFFLINE" in said
    assert "fetch it where there is a network, copy the folder" in said
    with pytest.raises(FileNotFoundError, match="the hub was not asked, because HF_HUB_OFFLINE is set"):
        teachers.load("sam2", weights="facebook/sam2.1-hiera-tiny")


def test_gated_weights_say_how_to_get_in(hub, monkeypatch):
    from huggingface_hub.errors import GatedRepoError

    def gated(hub_id, filename, *, revision):
        raise GatedRepoError.__new__(GatedRepoError)  # its arguments are another library's in each version

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", gated)
    way = (
        r"it is gated: accept its terms at https://huggingface\.co/facebook/dinov3-x, then log in with `hf auth login`"
    )
    with pytest.raises(FileNotFoundError, match=way):
        teachers.load("dinov2", weights="facebook/dinov3-x")
    with pytest.raises(FileNotFoundError, match=way):
        weights_command.fetch(replace(entry_of("dinov3-vitb16"), hub_id="facebook/dinov3-x"))


def test_what_cannot_be_meant_is_refused():
    for words, message in (
        (["do=fetch"], "do=fetch needs name=NAME, of sam-vit-base"),
        (["do=fetch", "name=sam"], "name=sam is a teacher with several weights; choose from sam-vit-base"),
        (["name=sam-vit-bse"], r"no known weights 'sam-vit-bse'; did you mean 'sam-vit-base'\?; do=list shows"),
        (
            ["do=fetch", "name=sam-vit-base", "from=x.pth"],
            f"from=x.pth is for a file of .* do=fetch name={MEASURED}, endovit, .*; leave",
        ),
        (["from=x.pth"], "leave it out"),
        (["do=get"], "do is 'get', but must be one of list, fetch, check, selftest"),
        (["do=list", "size=many"], "size=many, but must be a number with MB or GB, as 500MB"),
        (["do=list", "licence=beer"], "no known weights of licence 'beer' .*do=list shows them all"),
        (["do=check"], "do=check needs weights=PATH"),
        (["fetch"], "expected key=value, got 'fetch'"),
        (["nam=x"], r"has no key 'nam'; .*did you mean 'name'"),
    ):
        with pytest.raises(ValueError, match=message):
            weights_command.COMMAND(words, dry=True)


def release_of(state):
    """The tensors of timm's `tf_efficientnet_b0` as TRACER's release holds them, with something of its decoder."""
    named = {renamed(name, "tracer"): value for name, value in state.items()}
    assert len(named) == len(state)
    decoder = ("module.rfb2.conv_res.conv.weight", "module.agg.conv_cat1.weight", "module.ObjectAttention1.pw.bias")
    edges = ("module.model.Frequency_Edge_Module1.weight", "module.model._conv_head.weight")
    return named | dict.fromkeys((*decoder, *edges), torch.zeros(2))


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return timm.create_model("tf_efficientnet_b0", features_only=True).state_dict()


def test_the_release_of_tracer_becomes_a_file_that_timm_loads(hub, backbone, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    torch.save(release_of(backbone), "TE-0.pth")
    assert main(["weights", "do=fetch", f"name={MEASURED}", "from=TE-0.pth"]) == 0
    out, err = capfd.readouterr()
    file = tmp_path / f"{MEASURED}.safetensors"
    assert (
        f"teachers.NAME.model=tf_efficientnet_b0 teachers.NAME.licence=Apache-2.0 teachers.NAME.weights={file}" in out
    )
    assert "not the file that was measured" in err
    found = load_file(file)
    assert found.keys() == backbone.keys()
    assert all(torch.equal(found[name], value) for name, value in backbone.items())
    teacher = teachers.load("timm", weights=file, model="tf_efficientnet_b0", strides=(8, 16), image_size=64)
    assert teacher.spec.names == ("stride8", "stride16")
    monkeypatch.setattr(releases, "convert_tracer", lambda *_: pytest.fail("it was converted again"))
    assert main(["weights", "do=fetch", f"name={MEASURED}"]) == 0
    assert "is already here" in capfd.readouterr().err
    assert main(["weights", f"name={MEASURED}"]) == 0
    assert f"here     {file}" in capfd.readouterr().out


def test_the_real_release_becomes_the_measured_file_byte_for_byte(shared, tmp_path):
    measured = shared / "weights" / "tf_efficientnet_b0.tracer.safetensors"
    torch.save(release_of(load_file(measured)), tmp_path / "TE-0.pth")
    releases.convert_tracer(tmp_path / "TE-0.pth", tmp_path / "out.safetensors")
    assert (tmp_path / "out.safetensors").read_bytes() == measured.read_bytes()
    assert hashlib.sha256(measured.read_bytes()).hexdigest() == entry_of(MEASURED).sha256


def test_a_release_that_lacks_or_holds_other_tensors_is_refused_and_nothing_is_written(backbone, tmp_path):
    path, target = tmp_path / "TE-0.pth", tmp_path / "out.safetensors"
    lost = "module.model._blocks.15._se_expand.bias"
    for change, message in (
        (lambda state: state.pop(lost), rf"is not the weights of TRACER TE-0: it lacks 1 tensor \({lost}\); give"),
        (
            lambda state: state.update({"module.extra.weight": torch.ones(2)}),
            r"unknown 1 tensor \(module\.extra\.weight",
        ),
        (lambda state: state.update({lost: torch.ones(2)}), rf"expected {lost} of shape \(1152,\), got \(2,\)"),
    ):
        state = release_of(backbone)
        change(state)
        torch.save(state, path)
        with pytest.raises(ValueError, match=message):
            releases.convert_tracer(path, target)
    assert [entry.name for entry in tmp_path.iterdir()] == ["TE-0.pth"]


def test_a_release_is_downloaded_or_the_message_says_what_to_type_next(hub, backbone, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    words = ["weights", "do=fetch", f"name={MEASURED}"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    page = "https://github.com/Karel911/TRACER/releases"
    next_words = f"type `distill weights do=fetch name={MEASURED} from=TRACER-Efficient-0.pth`"
    assert main(words) == 1
    shown = capfd.readouterr().err
    assert f"of the release page {page}/tag/v1.0, and no request was made, because HF_HUB_OFFLINE is set" in shown
    assert f"download {page}/download/v1.0/TRACER-Efficient-0.pth where there is a network, then {next_words}" in shown
    monkeypatch.delenv("HF_HUB_OFFLINE")

    def refused(url, path):
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr("torch.hub.download_url_to_file", refused)
    assert main(words) == 1
    shown = capfd.readouterr().err
    assert "the request failed: Name or service not known" in shown
    assert next_words in shown
    assert main([*words, "from=nowhere.pth"]) == 1
    assert f"no file at from=nowhere.pth; download {page}/download/v1.0/" in capfd.readouterr().err
    assert main([*words, "--dry-run"]) == 0
    assert f"would fetch {page}/download/v1.0/TRACER-Efficient-0.pth, 14.6 MB" in capfd.readouterr().err
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda url, path: torch.save(release_of(backbone), path))
    assert main(words) == 0
    assert load_file(f"{MEASURED}.safetensors").keys() == backbone.keys()


def test_the_two_recommended_weights_are_named_with_what_was_measured(capsys):
    assert main(["weights"]) == 0
    shown = capsys.readouterr().out
    assert (
        f"measured here on real images: {MEASURED}; the nearest that a hub serves is {NEAREST}, not measured" in shown
    )
    assert re.search(rf"{MEASURED} +timm +https://github.com/Karel911/TRACER/releases/\S+ +14.6 MB +Apache-2.0", shown)
    assert NEAREST in PREPARE["timm"] and MEASURED in PREPARE["timm"]
    assert main(["weights", f"name={MEASURED},{NEAREST}"]) == 0
    shown = capsys.readouterr().out
    assert "measured here: all figures on real images" in shown
    assert f"the nearest to {MEASURED} that a hub serves; not measured here" in shown


def test_a_published_student_teaches_under_the_licence_on_its_card(tmp_path):
    arguments = write_network(tmp_path / "student")
    card = tmp_path / "student" / "README.md"
    for front, licence in (
        ("---\nlicense: other\nlicense_name: terms-of-kvasir-seg\n---\n# Card", "terms-of-kvasir-seg"),
        ("---\nlicense: apache-2.0\n---\n", "apache-2.0"),
        ("# A card without a front", "see the student's card"),
    ):
        card.write_text(front)
        assert teachers.load("student", **arguments).licence == licence
