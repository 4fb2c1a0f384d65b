"""Settings of text stay text; a recipe's possible values, and those that are refused in a sentence."""

from __future__ import annotations

import dataclasses

import pytest
import yaml

from distill.config.parse import build_recipe, dump_recipe, read_recipe
from distill.config.values import NODES

ASIS = [
    "data #2",
    "2024_01_15",
    "007",
    "1.10",
    "on",
    "1e3",
    "0x10",
    "no",
    "12:30",
    "polyps, second",
    "{a: b}",
    "@x",
    "- a",
]


def read(*words):
    return read_recipe(["recipe=sam_to_unet", *words])


def file(tmp_path, text):
    (tmp_path / "own.yaml").write_text(text)
    return read_recipe([f"recipe={tmp_path / 'own.yaml'}"])


@pytest.mark.parametrize("text", ASIS)
def test_text_of_the_command_line_stays_as_it_was_typed(text):
    recipe = read(f"data.split={text}", "publish.licence=x")
    assert recipe.data.split == text
    assert read(f'data.split="{text}"').data.split == text
    assert build_recipe(yaml.safe_load(dump_recipe(recipe))) == recipe


@pytest.mark.parametrize("text", ["2024_01_15", "007", "1.10", "on", "1e3", "0x10", "no", "12:30", "2024-01-15"])
def test_text_of_a_file_stays_as_it_was_written(text, tmp_path):
    recipe = file(tmp_path, f"extends: sam_to_unet\ndata: {{split: {text}, test: [{text}]}}\n")
    assert recipe.data.split == text
    assert recipe.data.test == [text]
    arm = file(tmp_path, f"extends: sam_to_unet\narms: {{distilled: {{data: {{split: {text}}}}}}}\n").arms["distilled"]
    assert arm == {"data": {"split": text}}


def test_nothing_is_given_by_null_or_by_an_empty_value():
    assert [read(f"data.split={text}").data.split for text in ("null", "~", "")] == [None] * 3


def test_numbers_are_numbers_in_files_and_on_the_command_line(tmp_path):
    assert read("optimiser.learning_rate=1e-3", "student.width=16").optimiser.learning_rate == 1e-3
    recipe = file(tmp_path, "extends: sam_to_unet\noptimiser: {learning_rate: 1e-3, weight_decay: 0}\n")
    assert (recipe.optimiser.learning_rate, recipe.optimiser.weight_decay) == (1e-3, 0.0)
    assert read("student.options={rate: 1e-3, day: 2024-01-15}").student.options == {"rate": 1e-3, "day": "2024-01-15"}


def test_part_of_a_mapping_leaves_the_rest_as_it_is():
    assert read("data.images={train: 12}").data.images == {"train": 12, "val": 40, "test": 120}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["do=[train"], r"cannot read 'do=\[train': a bracket has no partner"),
        (["imitate.low=[16"], r"cannot read 'imitate\.low=\[16': a bracket has no partner"),
        (["stages={a: [}"], r"cannot read 'stages=\{a: \[\}': it is not YAML"),
        (["name=@x"], r"name is '@x', but must be at most 100 letters, digits"),
        (["stages=3"], r"stages is 3, but must be a mapping"),
        (["arms=[1]"], r"arms is \[1\], but must be a mapping"),
        (["arms={a: 3}"], r"arm 'a': it is 3, but must be a mapping of keys"),
        (["sweep={a: {optimiser: {learning_rat: 1}}}"], r"sweep 'a': a recipe has no key"),
        (["name=../../x"], r"name is '\.\./\.\./x', but must be at most 100 letters"),
        (["name=a/b"], r"name is 'a/b'"),
        (["name=<script>"], r"name is '<script>'"),
        (["name=" + "x" * 101], r"name is 'x+', but must be at most 100"),
        (
            ["data.test_only=null"],
            r"data\.test_only is null, but must be a list; data\.test_only=\[\] is the empty one",
        ),
        (["name=a\nb"], r"name is 'a\\nb', but must be text of at most 4000 characters, without line breaks"),
        (
            ["publish.licence=a\x1b[2J"],
            r"publish\.licence is .*, but must be text of at most 4000 characters, without line breaks",
        ),
        (["teachers={../x: {adapter: sam, weights: builtin}}"], r"teachers names '\.\./x'"),
        (["student.name=../unet"], r"student\.name is '\.\./unet', but must be a student's name, or module:Class"),
        (["student.options.classes=3"], r"student\.options\.classes is 3, but student\.classes sets it"),
        (["student.options.width=3"], r"student\.options\.width is 3, but student\.width sets it"),
        (["student=unet", "student.width=3"], r"student is 'unet' already, but must be a mapping"),
        (["a..b=1"], r"expected key=value, got 'a\.\.b=1'"),
        ([".".join("a" * 30) + "=1"], r"has 30 levels, more than any key"),
        (["seed=" + "9" * 5000], r"cannot be read as a number|must be a whole number"),
        (["student.options={a: !!python/name:os.system x}"], r"the tag .* is not allowed"),
    ],
)
def test_what_no_recipe_may_hold_is_told_in_a_sentence(words, sentence):
    with pytest.raises(ValueError, match=sentence):
        read(*words)


@pytest.mark.parametrize(
    "text", ["${oc.env:HOME}", "${oc.decode:x}", "a ${env:X} b", "${", "${${name}}", "${.name}", "${a b}"]
)
@pytest.mark.parametrize(
    "key", ["name", "data.root", "publish.licence", "student.options.x", "arms.distilled.student.encoder"]
)
def test_resolvers_are_refused(key, text, tmp_path):
    with pytest.raises(ValueError, match=r"may only hold a key of the recipe|cannot read|but must be"):
        read(f"{key}={text}")
    *outer, last = key.split(".")
    lines = [f"{'  ' * depth}{part}:" for depth, part in enumerate(outer)]
    text = "\n".join(["extends: sam_to_unet", *lines, f"{'  ' * len(outer)}{last}: '{text}'"])
    with pytest.raises(ValueError, match=r"may only hold a key of the recipe"):
        file(tmp_path, text)


def test_a_key_may_name_another_key_of_the_recipe():
    recipe = read_recipe(["recipe=study_pretrained", "teachers.efficientnet.weights=FILE"])
    assert recipe.student.encoder == "FILE"
    assert (
        read("teachers.sam.weights=W", "student.encoder=${teachers.sam.weights}/${student.name}").student.encoder
        == "W/unet"
    )
    assert read("image_size=96", "teachers.sam.image_size=${image_size}").teachers["sam"].image_size == 96
    assert read("optimiser.batch_size=4${evaluate.patience}").optimiser.batch_size == 40
    for text, sentence in (
        ("${student.encoder}", r"refers to itself"),
        ("${student.nam}", r"refers to student\.nam, but a recipe has no such key"),
        ("${student}", r"refers to student, which is a mapping of keys, not"),
        ("${student.options.x}${data.root}" * 400, r"refers to student\.options\.x, which is not set"),
        ("out-${data.split}/x", r"refers to data\.split, which is not set"),
    ):
        with pytest.raises(ValueError, match=sentence):
            read(f"student.encoder={text}")


def test_numbers_of_base_8_and_60_are_refused():
    for word in ("seed=010", "seed=08", "image_size=0200", "data.size=[0100,0100]", "evaluate.every=1:30"):
        with pytest.raises(ValueError, match=r"is not a decimal number|but must be a whole number"):
            read(word)
    assert read("optimiser.learning_rate=0.01", "seed=0").optimiser.learning_rate == 0.01
    assert read("name='010'").name == "010"


def test_aliases_of_aliases_and_deep_nests_end_in_a_sentence(tmp_path):
    bomb = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]
    options = "\n".join(f"    {line}" for line in bomb)
    with pytest.raises(ValueError, match=rf"own\.yaml cannot be read: it has more than {NODES} values"):
        file(tmp_path, f"extends: sam_to_unet\nstudent:\n  options:\n{options}\n")
    merges = ["m0: &m0 {k: 1}", *(f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}]}}" for n in range(1, 12))]
    with pytest.raises(ValueError, match=rf"more than {NODES} values"):
        file(tmp_path, "extends: sam_to_unet\nstudent:\n  options:\n" + "\n".join(f"    {line}" for line in merges))
    for text in ("student: {options: {a: " + "[" * 3000 + "]" * 3000 + "}}", "student: {options: &a {b: *a}}"):
        with pytest.raises(ValueError, match=r"cannot be read: it (has more than|is not YAML)"):
            file(tmp_path, text)
    with pytest.raises(ValueError, match=r"holds 1,000,0\d\d bytes, but a recipe has at most"):
        file(tmp_path, "# " + "x" * 1_000_000)
    (tmp_path / "own.yaml").write_bytes(b"name: \xff\xfe\n")
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        read_recipe([f"recipe={tmp_path / 'own.yaml'}"])


def test_merge_keys_lie_beneath_what_is_written(tmp_path):
    recipe = file(
        tmp_path,
        "extends: sam_to_unet\nstages:\n  semantic: &s {epochs: 3, losses: {segment: 1.0}}\n"
        "  boundary: {<<: *s, epochs: 2}\n",
    )
    assert (recipe.stages["semantic"].epochs, recipe.stages["boundary"].epochs) == (3, 2)


def test_a_key_that_is_written_twice_is_told(tmp_path):
    with pytest.raises(ValueError, match="line 4 has the key 'a' a second time"):
        file(tmp_path, "extends: sam_to_unet\nteachers:\n  a: {adapter: sam}\n  a: {adapter: timm}\n")
    with pytest.raises(ValueError, match="line 1 has the key 'x' a second time"):
        read("student.options={x: 1, x: 2}")


def test_a_fault_of_a_stage_names_the_stage():
    with pytest.raises(ValueError, match=r"a term of stages\.semantic\.losses is 'tverski'"):
        read("stages.semantic.losses.tverski=1")
    with pytest.raises(ValueError, match=r"names no stride; name one, or set stages\.NAME\.losses\.imitate_high=0"):
        read("imitate.high=[]")


def test_every_key_of_a_recipe_survives_being_written():
    recipe = read("data.split=007", "student.options={a: '1e3', b: 1e3, c: ['on', true, null], d: {e: '~'}}")
    again = build_recipe(yaml.safe_load(dump_recipe(recipe)))
    assert dataclasses.asdict(again)["data"] == dataclasses.asdict(recipe)["data"]
