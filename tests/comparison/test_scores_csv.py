"""Kept scores: written by every comparison, read from any table, and judged as the comparison itself was."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from distill.cli.compare import COMMAND
from distill.comparison.compare_files import compare_files
from distill.comparison.result import HELPS, compare_scores
from distill.comparison.scores_csv import read_scores, write_scores
from distill.comparison.write import markdown
from distill.evaluation.predictions_csv import Score

STUDIES = sorted(
    path.parent for path in Path("results").glob("*/compare.json") if (path.parent / "scores.csv").exists()
)


def drawn(arms=("baseline", "distilled"), seeds=(0, 1, 2), lift: float = 0.05):
    random = np.random.default_rng(0)
    base = random.uniform(0.4, 0.8, 40)
    return {
        (arm, "unet", seed): [
            Score("d", f"{i}", f"{99 - i}", float(dice), 0.5, f"sequence {i // 2}", share=0.0 if i < 4 else 1 / 3)
            for i, dice in enumerate(base + place * lift + random.normal(0, 0.02, 40))
        ]
        for place, arm in enumerate(arms)
        for seed in seeds
    }


def table(path, lines, columns=("arm", "seed", "dataset", "stem", "dice")):
    path.write_text("\n".join([",".join(columns), *lines]) + "\n")
    return path


def test_kept_scores_give_the_table_that_the_comparison_gave(tmp_path):
    scores = drawn()
    write_scores(tmp_path / "scores.csv", scores)
    text = markdown(compare_scores(scores, resamples=2000), title="t").splitlines()
    again = markdown(compare_files([tmp_path / "scores.csv"]), title="t").splitlines()
    assert [line for line in again if line.startswith("|")] == [line for line in text if line.startswith("|")]
    assert any("| d (40 in 20 sequences) | unet | distilled |" in line and HELPS in line for line in again)
    assert sum("| 4 |" in line for line in again) == 2, "frames without foreground stand apart"


def test_seeds_of_two_machines_make_one_table(tmp_path):
    scores = drawn()
    parts = [{key: one for key, one in scores.items() if (key[2] == 2) == last} for last in (False, True)]
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path, part in zip(paths, parts, strict=True):
        write_scores(path, part)
    both = compare_files(paths, out=tmp_path / "both")
    assert both.seeds == (0, 1, 2)
    assert both.rows == compare_files([tmp_path / "both" / "scores.csv"]).rows
    assert {path.name for path in (tmp_path / "both").iterdir()} == {
        "compare.json", "compare.md", "compare.png", "scores.csv",
    }  # fmt: skip
    assert "teacher_forwards" not in json.loads((tmp_path / "both" / "compare.json").read_text())


def test_a_group_that_one_file_knows_holds_for_all(tmp_path):
    def lines(arm, end):
        return [f"{arm},{seed},d,{i},{0.5 + i / 100}{end(i)}" for seed in (0, 1) for i in range(24)]

    grouped_columns = ("arm", "seed", "dataset", "stem", "dice", "group")
    plain = table(tmp_path / "plain.csv", lines("a", lambda i: ""))
    grouped = table(tmp_path / "grouped.csv", lines("b", lambda i: f",s{i // 2}"), grouped_columns)
    assert [row.sequences for row in compare_files([plain, grouped]).rows] == [12] * 2
    other = table(tmp_path / "other.csv", lines("c", lambda i: f",s{i // 3}"), grouped_columns)
    with pytest.raises(ValueError, match="line 4: d/2 is of group s0, and of s1 before"):
        compare_files([plain, grouped, other])


def test_arms_students_and_seeds_are_chosen_and_the_first_arm_is_the_control(tmp_path):
    write_scores(tmp_path / "scores.csv", drawn(("baseline", "low", "high")))
    chosen = compare_files([tmp_path / "scores.csv"], arms=["high", "baseline"], seeds=[1, 2])
    assert ([row.arm for row in chosen.rows], chosen.seeds) == (["high", "baseline"], (1, 2))
    for words, message in (
        ({"arms": ["no", "low"]}, "the files have no arm 'no'; choose from baseline, low, high"),
        ({"students": ["vit"]}, "the files have no student 'vit'; choose from unet"),
        ({"seeds": [7]}, "the files have no seed 7; choose from 0, 1, 2"),
        ({"arms": ["low"]}, "at least two arms, and there is only low"),
    ):
        with pytest.raises(ValueError, match=message):
            compare_files([tmp_path / "scores.csv"], **words)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a,0,d,x,85.2"], r"line 2: dice is '85.2', but must be a number in \[0, 1\]"),
        (["a,0,d,x,nan"], "dice is 'nan'"),
        (["a,zero,d,x,0.5"], "line 2: seed is 'zero', but must be a whole number"),
        (["a,0,d,x,0.5", "a,0,d,x,0.6"], "line 3: a with seed 0 has d/x twice"),
        (["a,0,d,x"], "line 2: expected 5 values"),
        (["a,0,d,x,0.5,7"], "line 2: expected 5 values"),
        (["a,0,d,x,0.5", "b,1,d,x,0.5"], "arm 'a' has no scores with seed 1, but another has"),
        (["a,0,d,x,0.5", "b,0,d,y,0.5"], "arm 'b' was scored on other images of d than the first arm"),
        (["a,0,d,x,0.5", "b,0,e,x,0.5"], "arm 'b' was scored on other images of d than the first arm"),
        (["a,0,d,x,0.5", "b,0,d,x,0.5", "b,0,e,x,0.5"], "arm 'b' was scored on other images of e than the first arm"),
        ([], "there is only none"),
    ],
)  # fmt: skip
def test_a_wrong_table_is_named_with_its_line(lines, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        compare_files([table(tmp_path / "s.csv", lines)])


def test_a_table_without_a_column_and_a_missing_file_are_told(tmp_path):
    with pytest.raises(ValueError, match="has no column seed, dice; expected arm, seed, dataset, stem, dice"):
        read_scores([table(tmp_path / "s.csv", [], ("arm", "dataset", "stem"))])
    with pytest.raises(FileNotFoundError, match="no scores at"):
        read_scores([tmp_path / "none.csv"])


def test_the_command_takes_paths_with_spaces_and_no_keys_of_a_recipe(tmp_path):
    folder = tmp_path / "two words"
    folder.mkdir()
    write_scores(folder / "scores.csv", drawn())
    assert COMMAND([f"scores={folder / 'scores.csv'}", f"out={tmp_path / 'out'}"], dry=True) == 0
    assert not (tmp_path / "out").exists()
    assert COMMAND([f"scores={folder / 'scores.csv'}", f"out={tmp_path / 'out'}"], dry=False) == 0
    assert (tmp_path / "out" / "compare.md").read_text().startswith("### two words: 3 seeds\n")
    with pytest.raises(ValueError, match=r"takes no recipe=sam_to_unet"):
        COMMAND([f"scores={folder / 'scores.csv'}", "recipe=sam_to_unet"], dry=False)


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_the_tables_of_the_results_follow_from_their_kept_scores(folder):
    kept = {(row["dataset"], row["arm"]): row for row in json.loads((folder / "compare.json").read_text())["rows"]}
    found = compare_files([folder / "scores.csv"], arms=list(dict.fromkeys(arm for _, arm in kept)))
    assert {(row.dataset, row.arm) for row in found.rows} == set(kept)
    for row in found.rows:
        was = kept[row.dataset, row.arm]
        assert row.dice == pytest.approx(was["dice"], abs=1e-4)
        assert row.verdict == was["verdict"]
        assert (row.images, row.sequences) == (was["images"], was["sequences"])
        if was["p_value"] is not None:
            assert row.p_value == pytest.approx(was["p_value"], abs=0.005)
        if was["image_interval"]:
            low, high = was["image_interval"]  # resampled in another order of images
            assert row.image_interval == pytest.approx((low, high), abs=0.05 * (high - low) + 1e-3)
        if was.get("false_alarms"):
            assert row.false_alarms == pytest.approx(was["false_alarms"], abs=1e-4)


def test_the_figures_of_a_file_are_those_of_its_lines(tmp_path):
    write_scores(tmp_path / "scores.csv", drawn(seeds=(0,)))
    with (tmp_path / "scores.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert (first["arm"], first["student"], first["group"], first["share"]) == ("baseline", "unet", "sequence 0", "0.0")
    assert len(first["dice"]) <= 8
