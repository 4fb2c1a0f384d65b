from __future__ import annotations

import dataclasses

import pytest
import yaml

import recipes
from distill.config.files import load_layer
from distill.config.parse import build_recipe, dump_recipe, parse_overrides, read_recipe
from distill.config.registry import BAND_OF, FEATURE_LOSSES, LOSSES, MASK_LOSSES
from distill.config.schedule import spans_of
from distill.distillation.criterion import loss_function

NAMES = recipes.names()


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_valid_and_survives_being_written(name):
    recipe = read_recipe([f"recipe={name}"]) if "data.root" not in story_of(name) else None
    recipe = recipe or read_recipe([f"recipe={name}"])
    assert build_recipe(yaml.safe_load(dump_recipe(recipe))) == recipe
    assert recipe.name == name


def story_of(name: str) -> str:
    return (recipes.FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_has_its_story_on_top(name):
    story = [line for line in story_of(name).splitlines() if line.startswith("#")]
    assert len(story) >= 3
    assert "distill" in "\n".join(story)


def test_every_arm_of_every_recipe_is_a_valid_recipe_of_equal_steps():
    for name in NAMES:
        recipe = read_recipe([f"recipe={name}"])
        for overrides in recipe.arms.values():
            arm = build_recipe({**dataclasses.asdict(recipe), "arms": {}}, overrides or {})
            assert spans_of(arm, labelled=810)[-1].stop == spans_of(recipe, labelled=810)[-1].stop


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["student.widht=3"], r"no key 'student\.widht'; did you mean 'student\.width'"),
        (["lr=3"], r"no key 'lr'; did you mean 'optimiser\.learning_rate'"),
        (["learning_rate=3"], r"did you mean 'optimiser\.learning_rate'"),
        (["teachers.sam.veiws=identity"], r"no key 'teachers\.sam\.veiws'; did you mean 'teachers\.NAME\.views'"),
        (["student.width=wide"], r"student\.width is 'wide', but must be a whole number"),
        (["student.width=1.5"], r"student\.width is 1\.5, but must be a whole number"),
        (["optimiser.learning_rate=fast"], r"optimiser\.learning_rate is 'fast', but must be a finite number"),
        (["evaluate.every=.inf"], r"evaluate\.every is inf, but must be a finite number"),
        (["data.skip_bad=maybe"], r"data\.skip_bad is 'maybe', but must be true or false"),
        (["student.width=null"], r"student\.width is null, but must be a whole number"),
        (["student.width=[1,2]"], r"student\.width is \[1, 2\], but must be a whole number"),
        (["student=unet"], r"student is 'unet', but must be a mapping"),
        (["cache.fidelity=2"], r"cache\.fidelity is 2\.0, but must lie in \[0\.5, 1\)"),
        (["do=tran"], r"do is 'tran', but must be one of extract, train, evaluate, publish"),
        (
            ["stages.semantic.losses.imitate=1"],
            r"but must be one of segment, cross_entropy, dice, boundary, structure, imitate_mask",
        ),
        (["stages.semantic.freeze=encoder"], r"freezes the encoder, but its imitation terms train nothing else"),
        (["stages.semantic.freeze=encoder,decoder,head"], r"freezes"),
        (["teachers.sam.views=identity"], r"draws hflip, vflip, rot180, but teachers\.sam\.views does not hold it"),
        (["data.name=folder", "data.root=x"], r"teachers\.sam\.weights=builtin is for generated frames only"),
        (["data.fractions=[0.5,0.2,0.1]"], r"must be three shares"),
        (["stages.semantics.epochs=3"], r"no stages\.semantics; did you mean 'stages\.semantic'"),
        (["arms.baseline.stages.semantc.epochs=3"], r"arm 'baseline': the recipe has no stages\.semantc"),
        (["stages.boundry=null"], r"no stages\.boundry to remove; did you mean 'stages\.boundary'"),
        (["teachers.dino=null"], r"no teachers\.dino to remove; it has sam"),
        (["arms.base=null"], r"no arms\.base to remove; did you mean 'arms\.baseline'"),
        (["arms.baseline.stages.boundry=null"], r"arm 'baseline': the recipe has no stages\.boundry to remove"),
        (["stages.semantic.losses.segmnt=1"], r"is 'segmnt', but must be one of .*; did you mean 'segment'"),
        (["imitate.high=[]"], r"stages weigh imitate_high, but imitate\.high names no stride"),
        (["stages.semantic.steps=-1"], r"steps is -1, but must not be negative"),
        (
            ["stages.semantic.part_lr_scale={encodr: 0.1}"],
            r"a part of stages\.semantic\.part_lr_scale is 'encodr', but must be one of",
        ),
        (
            ["stages.semantic.part_lr_scale={encoder: 0}"],
            r"part_lr_scale\.encoder is 0\.0, but must be positive; stages\.semantic\.freeze",
        ),
        (
            ["stages.semantic.losses.imitate_mse=1", "imitate.all=[]"],
            r"stages weigh imitate_mse, but imitate\.all names no stride",
        ),
        (["optimiser.ema=1"], r"optimiser\.ema is 1\.0, but must lie in \[0, 1\)"),
        (["evaluate.patience=-2"], r"evaluate\.patience is -2, but must not be negative"),
        (["data.labels=some"], r"data\.labels is 'some', but must be a share as 10% or a number of images"),
        (["data.unlabelled_share=1"], r"data\.unlabelled_share is 1\.0, but must lie in \[0, 1\)"),
        (["seed=-1"], r"seed is -1, but must not be negative"),
        (["image_size"], r"expected key=value, got 'image_size'"),
        (["data.images=16,4,5"], r"data\.images is \[16, 4, 5\], but must be a mapping, as 'data\.images=\{NAME"),
        (["data.colours=000000,reddish"], r"data\.colours holds 'reddish', but must hold six hexadecimal digits"),
        (
            ["teachers.sam.recipe=unet_scratch"],
            r"teachers\.sam has weights builtin and a recipe that makes them, unet_scratch",
        ),
        (["image_size=8"], r"image_size is 8, but must lie between 32 and 4096"),
    ],
)
def test_a_wrong_word_is_told_in_a_sentence(words, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        read_recipe(["recipe=sam_to_unet", *words])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["teachers", "stages"])
def test_a_name_with_a_dot_is_refused_before_anything_is_extracted(key):
    stages = {"all.of": {"epochs": 1, "losses": {"segment": 1.0}}} if key == "stages" else {}
    with pytest.raises(ValueError, match=rf"{key} names '[a-z0-9.]+', but a dot separates the parts"):
        build_recipe({"teachers": {"sam2.1": {"weights": "builtin"}} if key == "teachers" else {}, "stages": stages})


def test_a_student_begins_with_one_thing():
    with pytest.raises(ValueError, match=r"student\.init is zoo:polyp-small and student\.encoder hub"):
        build_recipe({"student": {"init": "zoo:polyp-small", "encoder": "hub"}})


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(FileNotFoundError, match=r"did you mean 'sam_to_unet'"):
        read_recipe(["recipe=sam_to_unett"])
    with pytest.raises(ValueError, match="more than once, by recipe=sam_to_unet and recipe=expert; take one of them"):
        read_recipe(["recipe=sam_to_unet", "recipe=expert"])
    with pytest.raises(ValueError, match="name a recipe with recipe=NAME"):
        read_recipe(["student.width=3"])


def test_later_words_win_and_commas_make_lists():
    recipe = read_recipe(["recipe=sam_to_unet", "student.width=4", "student.width=16", "do=extract,train"])
    assert recipe.student.width == 16
    assert recipe.do == ["extract", "train"]
    assert parse_overrides(["a.b=[1,2]", "a.c=x,y", "d=null"]) == {"a": {"b": [1, 2], "c": ["x", "y"]}, "d": None}


def test_colours_are_taken_as_they_are_written(tmp_path):
    typed = {"[000000,ff0000,00ff00]": ["000000", "ff0000", "00ff00"], "004000,000046": ["004000", "000046"]}
    typed |= {"['#1e1000', \"00ff00\"]": ["#1e1000", "00ff00"], "1e1000": ["1e1000"], "[]": []}
    for value, colours in typed.items():
        recipe = read_recipe(["recipe=sam_to_unet", f"data.colours={value}"])
        assert recipe.data.colours == colours
        assert build_recipe(yaml.safe_load(dump_recipe(recipe))) == recipe
    (tmp_path / "own.yaml").write_text("extends: sam_to_unet\ndata: {colours: [ff0000, 004000]}\n")
    assert read_recipe([f"recipe={tmp_path / 'own.yaml'}"]).data.colours == ["ff0000", "004000"]


def test_a_file_that_is_no_mapping_is_refused(tmp_path):
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ValueError, match="a recipe is a mapping of keys"):
        load_layer(tmp_path / "list.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    with pytest.raises(ValueError, match="is not YAML"):
        load_layer(tmp_path / "broken.yaml")


def test_a_recipe_lies_over_the_one_it_extends(tmp_path):
    (tmp_path / "own.yaml").write_text("extends: sam_to_unet\nname: own\nstages: {boundary: {epochs: 3}}\n")
    base, own = (read_recipe([f"recipe={name}"]) for name in ("sam_to_unet", tmp_path / "own.yaml"))
    assert own.stages["boundary"] == dataclasses.replace(base.stages["boundary"], epochs=3)
    assert (own.stages["semantic"], own.arms, own.name) == (base.stages["semantic"], base.arms, "own")
    (tmp_path / "less.yaml").write_text("extends: sam_to_unet\nstages: {boundary: null}\narms: null\n")
    assert list(read_recipe([f"recipe={tmp_path / 'less.yaml'}"]).stages) == ["semantic"]
    (tmp_path / "ring.yaml").write_text(f"extends: {tmp_path / 'ring.yaml'}\n")
    with pytest.raises(ValueError, match="extends itself, by way of"):
        load_layer(tmp_path / "ring.yaml")
    (tmp_path / "lost.yaml").write_text("extends: sam_to_unett\n")
    with pytest.raises(FileNotFoundError, match=r"did you mean 'sam_to_unet'"):
        load_layer(tmp_path / "lost.yaml")


def test_every_term_on_what_a_teacher_gives_names_its_band_and_every_term_is_a_function():
    assert set(BAND_OF) == {**MASK_LOSSES, **FEATURE_LOSSES}.keys()
    assert all(callable(loss_function(name)) for name in LOSSES)


@pytest.mark.parametrize("words", [["teachers.sam.jitter=0.2"], ["teachers.sam.points=8"]])
def test_settings_of_prompts_without_prompts_are_refused(words):
    with pytest.raises(ValueError, match=r"jitter and teachers\.NAME\.points need teachers\.NAME\.prompts"):
        read_recipe(["recipe=sam_to_unet", *words])


@pytest.mark.parametrize(("band", "strides"), [("low", "[16,16]"), ("high", "[0]"), ("all", "[-8]")])
def test_strides_that_are_none_or_stand_twice_are_refused(band, strides):
    with pytest.raises(
        ValueError, match=rf"imitate\.{band} is .* but must be strides of the student in pixels, each once"
    ):
        read_recipe(["recipe=sam_to_unet", f"imitate.{band}={strides}"])
