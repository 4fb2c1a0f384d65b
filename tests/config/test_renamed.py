"""Keys that were renamed or removed, and names that are slips: each is refused with what to write."""

from __future__ import annotations

import pytest

from distill.config.keys import annotation_at, known_keys
from distill.config.parse import read_recipe
from distill.config.registry import LOSSES
from distill.config.renamed import REMOVED, RENAMED
from distill.config.schema import Recipe
from teachers import TEACHERS


@pytest.mark.parametrize("old", RENAMED)
def test_a_renamed_key_is_refused_with_its_new_name(old, tmp_path):
    new = RENAMED[old]
    written = {"stages": "semantic", "teachers": "sam"}.get(old.split(".")[0], "")
    word, wanted = (text.replace("NAME", written) for text in (old, new))
    sentence = f"{word} was renamed; write {wanted}"
    with pytest.raises(ValueError, match=sentence.replace(".", r"\.")):
        read_recipe(["recipe=sam_to_unet", word if "=" in word else f"{word}=0.5"])
    *outer, last = word.partition("=")[0].split(".")
    value = word.partition("=")[2] or "0.5"
    lines = [f"{'  ' * depth}{part}:" for depth, part in enumerate(outer)]
    (tmp_path / "old.yaml").write_text(
        "\n".join(["extends: sam_to_unet", *lines, f"{'  ' * len(outer)}{last}: {value}"])
    )
    with pytest.raises(ValueError, match=sentence.replace(".", r"\.")):
        read_recipe([f"recipe={tmp_path / 'old.yaml'}"])


def test_the_new_names_are_there_and_the_old_ones_are_not():
    for old, new in RENAMED.items():
        key, _, value = new.partition("=")
        if value:
            assert value in TEACHERS and old.partition("=")[2] not in TEACHERS
        elif ".losses." in key:
            assert key.rpartition(".")[2] in LOSSES and old.rpartition(".")[2] not in LOSSES
        else:
            assert key in known_keys() and old not in known_keys()
    assert not {old.rpartition(".")[2] for old in REMOVED} & LOSSES.keys()


def test_a_renamed_key_of_an_arm_is_refused_too():
    with pytest.raises(ValueError, match=r"arm 'distilled': augment\.scale was renamed; write augment\.min_crop"):
        read_recipe(["recipe=sam_to_unet", "arms.distilled.augment.scale=1"])


def test_a_term_that_was_removed_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match=r"no key 'stages\.semantic\.losses\.relate' any more: it was removed"):
        read_recipe(["recipe=sam_to_unet", "stages.semantic.losses.relate=1"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["teachers.sma.weight=2"],
            r"no teachers\.sma; did you mean 'teachers\.sam'\? A new one needs teachers\.sma\.ad",
        ),
        (["teachers.other={weights: x}"], r"no teachers\.other; it has sam\. A new one needs teachers\.other\.adapter"),
        (["stages.sematnic.epochs=2"], r"no stages\.sematnic; did you mean 'stages\.semantic'"),
        (["data.name=kvasir"], r"unknown data\.name 'kvasir'; choose from .*; did you mean 'kvasir-seg'\?"),
        (["optimizer.learning_rate=1"], r"no key 'optimizer'; did you mean 'optimiser"),
    ],
)
def test_a_slip_in_a_name_is_told(words, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_recipe(["recipe=sam_to_unet", *words])


def test_a_slip_in_a_file_that_extends_another_is_told(tmp_path):
    (tmp_path / "own.yaml").write_text("extends: sam_to_unet\nteachers: {sma: {weight: 2}}\n")
    with pytest.raises(ValueError, match=r"no teachers\.sma; did you mean 'teachers\.sam'"):
        read_recipe([f"recipe={tmp_path / 'own.yaml'}"])


def test_a_new_teacher_that_says_what_it_is_may_have_any_name():
    recipe = read_recipe(["recipe=sam_to_unet", "teachers.sam2={adapter: sam2, weights: builtin}"])
    assert recipe.teachers["sam2"].adapter == "sam2"


def test_the_name_of_a_data_set_is_text():
    assert annotation_at(Recipe, "data.name") is str
