"""`distill weights`: what it knows, what it fetches, and that nothing opens a socket where the user forbids it."""

from __future__ import annotations

import hashlib
import re
import socket
from dataclasses import replace

import pytest
from small_teachers import write_network, write_sam

import teachers
from distill.cli import weights as weights_command
from distill.run import main
from teachers.published import PUBLISHED

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
    assert {entry.teacher for entry in PUBLISHED} >= teachers.TEACHERS.keys() - {"student"}
    for entry in PUBLISHED:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", entry.hub_id), entry
        assert re.fullmatch(r"([\d.]+ [MG]B)?", entry.size), entry
        assert re.fullmatch(r"([0-9a-f]{64})?", entry.sha256), entry
        assert entry.licence
        assert entry.gated == (entry.licence == "DINOv3 License"), entry


def test_what_is_known_is_shown_without_asking_anybody(hub, capsys):
    assert main(["weights"]) == 0
    shown = capsys.readouterr().out
    assert "sam-vit-base" in shown
    assert "375 MB" in shown
    assert main(["weights", "do=list", "name=sam-vit-base,sam2"]) == 0
    shown = capsys.readouterr().out
    assert entry_of("sam-vit-base").sha256 in shown
    assert "teachers.NAME.adapter=sam2 teachers.NAME.weights=facebook/sam2.1-hiera-large" in shown


def test_what_is_here_already_is_found_and_its_words_work(hub, tmp_path, monkeypatch, capfd):
    write_sam(tmp_path / "sam")
    snapshot = put(hub, "facebook/sam-vit-base", tmp_path / "sam")
    digest = hashlib.sha256((snapshot / "model.safetensors").read_bytes()).hexdigest()
    small = replace(entry_of("sam-vit-base"), sha256=digest)
    monkeypatch.setattr(weights_command, "PUBLISHED", (small,))
    assert main(["weights", "do=fetch", "name=sam-vit-base"]) == 0
    out, err = capfd.readouterr()
    assert "teachers.NAME.adapter=sam teachers.NAME.weights=facebook/sam-vit-base" in out
    assert "was here already" in err
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
    assert "fetch it where there is a network and copy the folder" in said
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
        (["do=get"], "do=get, but must be list or fetch"),
        (["fetch"], "expected key=value, got 'fetch'"),
        (["nam=x"], r"has no key 'nam'; .*did you mean 'name'"),
    ):
        with pytest.raises(ValueError, match=message):
            weights_command.read_request(words)


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
