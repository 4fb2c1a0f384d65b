"""The place of a stage, and that the studies' resolved runs are what they were before stages of 0 epochs went."""

from __future__ import annotations

import dataclasses

import pytest

import recipes
from distill.config.parse import build_recipe, read_recipe

NEW = "{epochs: 1, losses: {segment: 1.0}}"


def order(tmp_path, stages, *words):
    (tmp_path / "own.yaml").write_text(f"extends: sam_to_unet\nstages:\n{stages}")
    return list(read_recipe([f"recipe={tmp_path / 'own.yaml'}", *words]).stages)


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        (f"  warm: {NEW}\n", ["semantic", "boundary", "warm"]),
        (f"  warm: {NEW}\n  semantic: {{epochs: 3}}\n", ["warm", "semantic", "boundary"]),
        (f"  semantic: {{epochs: 3}}\n  warm: {NEW}\n", ["semantic", "warm", "boundary"]),
        (f"  warm: {NEW}\n  boundary: {{epochs: 3}}\n", ["semantic", "warm", "boundary"]),
        ("  boundary: {epochs: 3}\n  semantic: {epochs: 3}\n", ["boundary", "semantic"]),
        (f"  boundary: {{}}\n  warm: {NEW}\n  semantic: {{}}\n", ["boundary", "warm", "semantic"]),
        (f"  semantic: null\n  warm: {NEW}\n  boundary: {{}}\n", ["warm", "boundary"]),
        (f"  a: {NEW}\n  b: {NEW}\n  boundary: {{}}\n  c: {NEW}\n", ["semantic", "a", "b", "boundary", "c"]),
        (f"  warm: {{before: semantic, {NEW[1:]}\n", ["warm", "semantic", "boundary"]),
        (f"  warm: {{before: [boundary, semantic], {NEW[1:]}\n", ["warm", "semantic", "boundary"]),
    ],
)
def test_a_new_stage_lands_where_the_child_recipe_writes_it(tmp_path, stages, expected):
    assert order(tmp_path, stages) == expected


def test_on_the_command_line_order_is_not_meant_and_before_says_it(tmp_path):
    swapped = read_recipe(["recipe=sam_to_unet", "stages.boundary.epochs=3", "stages.semantic.epochs=2"])
    assert list(swapped.stages) == ["semantic", "boundary"]
    new = ["recipe=sam_to_unet", "stages.warm={epochs: 1, losses: {segment: 1}}"]
    assert list(read_recipe(new).stages) == ["semantic", "boundary", "warm"]
    assert list(read_recipe([*new, "stages.warm.before=boundary"]).stages) == ["semantic", "warm", "boundary"]
    assert list(read_recipe(["recipe=sam_to_unet", "stages.boundary.before=semantic"]).stages) == [
        "boundary",
        "semantic",
    ]
    assert list(read_recipe(["recipe=sam_to_unet", "stages.semantic=null"]).stages) == ["boundary"]
    assert all(not stage.before for stage in read_recipe([*new, "stages.warm.before=boundary"]).stages.values())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["stages.boundary.before=semantics"],
            r"stages\.boundary\.before is 'semantics', but must name another stage, of s",
        ),
        (["stages.boundary.before={a: b}"], r"must name another stage, of semantic"),
        (["stages.boundary.before=boundary"], r"must name another stage, of semantic"),
        (["stages.boundary.before=semantic", "stages.semantic.before=boundary"], "contradict each other"),
    ],
)
def test_a_before_that_cannot_be_is_told(words, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_recipe(["recipe=sam_to_unet", *words])


FEATURES = "imitate_features 1.0"
JOINT = [("joint", 20, "segment 1.0", FEATURES, "imitate_mask 1.0")]
IMITATION = [("joint", 20, "segment 1.0", FEATURES)]
ALONE = [("joint", 20, "segment 1.0")]
BEFORE = {  # what ran of each arm when the protocol still had five stages, four of them of 0 epochs
    "study_protocol": {"baseline": ALONE, "imitation": IMITATION},
    "study_small": {
        "baseline": ALONE,
        "imitation": IMITATION,
        "masks": [("joint", 20, "segment 1.0", "imitate_mask 1.0")],
        "both": JOINT,
    },
    "study_full": {"baseline": ALONE, "imitation": IMITATION},
    "study_long": {"baseline": [("joint", 60, "segment 1.0")], "imitation": [("joint", 60, "segment 1.0", FEATURES)]},
    "study_students": {
        "baseline": [("joint", 40, "segment 1.0")], "imitation": [("joint", 40, "segment 1.0", FEATURES)]
    },
    "study_fidelity": {
        "raw": IMITATION, "fidelity 0.95": IMITATION, "fidelity 0.90": IMITATION, "fidelity 0.80": IMITATION
    },
    "study_pretrained": {"pretrained": ALONE, "pretrained_imitation": IMITATION},
    "study_schedule": {
        "imitation": IMITATION,
        "low": [("joint", 20, "segment 1.0", "imitate_low 1.0")],
        "high": [("joint", 20, "segment 1.0", "imitate_high 1.0")],
        "semantic_boundary": [
            ("joint", 13, "segment 1.0", "imitate_low 1.0"),
            ("boundary", 7, "segment 1.0", "boundary 0.5", "imitate_low 0.5", "imitate_high 0.5"),
        ],
        "distil_then_slow": [("distil", 8, FEATURES), ("task", 12, "segment 1.0", "encoder at 0.1")],
        "distil_then_frozen": [("distil", 8, FEATURES), ("task", 12, "segment 1.0", "encoder frozen")],
        "segment_joint_freeze": [
            ("segment", 7, "segment 1.0"),
            ("joint", 7, "segment 1.0", FEATURES),
            ("task", 6, "segment 1.0", "encoder frozen"),
        ],
    },
}  # fmt: skip


@pytest.mark.parametrize("name", BEFORE)
def test_the_studies_run_what_they_ran(name):
    recipe = read_recipe([f"recipe={name}"])
    assert list(recipe.arms) == list(BEFORE[name])
    for arm, changes in recipe.arms.items():
        own = build_recipe({**dataclasses.asdict(recipe), "arms": {}, "sweep": {}}, changes or {})
        ran = []
        for stage, entry in own.stages.items():
            said = [f"{term} {weight}" for term, weight in entry.losses.items() if weight > 0]
            said += [f"{part} frozen" for part in entry.freeze]
            said += [f"{part} at {rate}" for part, rate in entry.part_lr_scale.items()]
            ran.append((stage, entry.epochs, *said))
        assert ran == BEFORE[name][arm]


def test_no_recipe_has_a_stage_that_does_not_run():
    for name in recipes.names():
        assert all(stage.runs for stage in read_recipe([f"recipe={name}"]).stages.values()), name
