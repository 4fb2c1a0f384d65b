"""Kept scores: written by every comparison, read from any table, and judged as the comparison itself was."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from distill.cli.compare_scores import COMMAND
from distill.comparison.compare_files import compare_files
from distill.comparison.result import HELPS, compare_scores
from distill.comparison.scores_csv import read_scores, write_scores
from distill.comparison.write import markdown
from distill.evaluation.predictions_csv import Score
from distill.run import main

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
    again = compare_files([tmp_path / "scores.csv"])[1].splitlines()
    assert [line for line in again if line.startswith("|")] == [line for line in text if line.startswith("|")]
    assert any("| d (40 in 20 sequences) | unet | distilled |" in line and HELPS in line for line in again)
    assert sum("| 4 |" in line for line in again) == 2, "frames without foreground stand apart"


def test_seeds_of_two_machines_make_one_table(tmp_path):
    scores = drawn()
    parts = [{key: one for key, one in scores.items() if (key[2] == 2) == last} for last in (False, True)]
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path, part in zip(paths, parts, strict=True):
        write_scores(path, part)
    both, text = compare_files(paths, out=tmp_path / "both")
    assert text == (tmp_path / "both" / "compare.md").read_text()
    assert both.seeds == (0, 1, 2)
    assert both.rows == compare_files([tmp_path / "both" / "scores.csv"])[0].rows
    with pytest.raises(ValueError, match="lies in out="):
        compare_files([paths[0], tmp_path / "both" / "scores.csv"], out=tmp_path / "both")
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
    assert [row.sequences for row in compare_files([plain, grouped])[0].rows] == [12] * 2
    other = table(tmp_path / "other.csv", lines("c", lambda i: f",s{i // 3}"), grouped_columns)
    with pytest.raises(ValueError, match="line 4: d/2 is in group s0, but in s1 before"):
        compare_files([plain, grouped, other])


def test_arms_students_and_seeds_are_chosen_and_the_first_arm_is_the_control(tmp_path):
    write_scores(tmp_path / "scores.csv", drawn(("baseline", "low", "high")))
    chosen, _ = compare_files([tmp_path / "scores.csv"], arms=["high", "baseline", "high"], seeds=[1, 2])
    assert ([row.arm for row in chosen.rows], chosen.seeds) == (["high", "baseline"], (1, 2))
    for words, message in (
        ({"arms": ["no", "low"]}, "the tables have no arm 'no'; choose from baseline, low, high"),
        ({"students": ["vit"]}, "the tables have no student 'vit'; choose from unet"),
        ({"seeds": [7]}, "the tables have no seed 7; choose from 0, 1, 2"),
        ({"datasets": ["e"]}, "the tables have no dataset 'e'; choose from d"),
        ({"arms": ["low"]}, "at least two arms, but there is only low"),
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
        (["a,0,d,x,0.5", "b,1,d,x,0.5"], "arm 'a' has no scores with seed 1, but another run has"),
        (["a,0,d,x,0.5", "b,0,d,y,0.5"], r"'a' \(seed 0\) was scored on image x of d, but arm 'b' \(seed 0\) was not"),
        (["a,0,d,x,0.5", "b,0,e,x,0.5"], r"arm 'a' \(seed 0\) was scored on image x of d, but arm 'b'"),
        (["a,0,d,x,0.5", "b,0,d,x,0.5", "b,0,e,x,0.5"], r"arm 'b' \(seed 0\) was scored on image x of e, but arm 'a'"),
        (["a,0,d,x,0.5", "a,1,d,y,0.5", "b,0,d,x,0.5", "b,1,d,y,0.5"], "folds, for example, are not seeds"),
        ([], "has no lines below its header"),
    ],
)  # fmt: skip
def test_a_wrong_table_is_named_with_its_line(lines, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        compare_files([table(tmp_path / "s.csv", lines)])


def test_lines_that_disagree_on_an_image_are_refused(tmp_path):
    columns = ("arm", "seed", "dataset", "stem", "dice", "share")
    with pytest.raises(ValueError, match="line 3: the mask of d/x is empty in one line but not in another"):
        read_scores([table(tmp_path / "s.csv", ["a,0,d,x,1,0", "b,0,d,x,0.5,0.3"], columns)])


def test_arms_that_have_other_students_are_told_of_each(tmp_path):
    columns = ("arm", "student", "seed", "dataset", "stem", "dice")
    lines = ["a,unet,0,d,x,0.5", "b,unet,0,d,x,0.5", "b,vit,0,d,x,0.5"]
    with pytest.raises(ValueError, match=r"arm 'a' and student 'vit' has no scores with seed 0.*students= and seeds="):
        compare_files([table(tmp_path / "s.csv", lines, columns)])
    assert len(compare_files([tmp_path / "s.csv"], students=["unet"])[0].rows) == 2


def test_a_data_set_alone_is_judged_where_the_others_differ(tmp_path):
    path = table(tmp_path / "s.csv", ["a,0,d,x,0.5", "b,0,d,x,0.5", "b,0,e,x,0.5"])
    assert [row.dataset for row in compare_files([path], datasets=["d"])[0].rows] == ["d", "d"]


def test_a_table_without_a_column_and_a_missing_file_are_told(tmp_path):
    with pytest.raises(ValueError, match="has the column dice twice"):
        read_scores([table(tmp_path / "s.csv", [], ("arm", "seed", "dataset", "stem", "dice", "dice"))])
    for wrong in (
        "arm,seed,dataset,stem,dice\né,0,d,x,1".encode("cp1252"),
        b'arm,seed,dataset,stem,dice\n"' + b"x" * 140_000,
    ):
        (tmp_path / "s.csv").write_bytes(wrong)
        with pytest.raises(ValueError, match=r"s\.csv is not a CSV file in UTF-8"):
            read_scores([tmp_path / "s.csv"])
    with pytest.raises(ValueError, match="has no column seed, dice; expected arm, seed, dataset, stem, dice"):
        read_scores([table(tmp_path / "s.csv", [], ("arm", "dataset", "stem"))])
    (tmp_path / "s.csv").write_text("arm;seed;dataset;stem;dice\n")
    with pytest.raises(
        ValueError, match="expected arm, seed, dataset, stem, dice; its columns are separated by semicolons"
    ):
        read_scores([tmp_path / "s.csv"])
    with pytest.raises(FileNotFoundError, match="no scores at"):
        read_scores([tmp_path / "none.csv"])


def test_the_command_takes_paths_with_spaces_and_no_keys_of_a_recipe(tmp_path, capfd):
    folder = tmp_path / "two words"
    folder.mkdir()
    write_scores(folder / "scores.csv", drawn())
    assert COMMAND([f"scores={folder / 'scores.csv'}", f"out={tmp_path / 'out'}"], dry=True) == 0
    assert not (tmp_path / "out").exists()
    assert COMMAND([f"scores={folder / 'scores.csv'}", f"out={tmp_path / 'out'}"], dry=False) == 0
    assert (tmp_path / "out" / "compare.md").read_text().startswith("### two words: 3 seeds\n")
    for word, key in (("recipe=sam_to_unet", "recipe"), ("jobs=2", "jobs")):
        with pytest.raises(ValueError, match=f"distill compare has no key '{key}'"):
            COMMAND([f"scores={folder / 'scores.csv'}", word], dry=False)
    assert main(["compare", "scores=", "recipe=sam_to_unet"]) == 1, "nothing is trained"
    assert main(["compare", "recipe=sam_to_unet", "seed=3", "--dry-run"]) == 1
    assert "takes seeds=0,1,2 instead of seed=" in capfd.readouterr().err


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_the_tables_of_the_results_follow_from_their_kept_scores(folder):
    rows = json.loads((folder / "compare.json").read_text())["rows"]
    kept = {(row["dataset"], row["student"], row["arm"]): row for row in rows}
    found, _ = compare_files([folder / "scores.csv"])
    assert [(row.dataset, row.student, row.arm) for row in found.rows] == list(kept)
    for row in found.rows:
        was = kept[row.dataset, row.student, row.arm]
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


def test_names_with_dollar_signs_and_unknown_letters_are_drawn_and_the_callers_matplotlib_stays(tmp_path):
    import matplotlib

    before = matplotlib.get_backend()
    write_scores(tmp_path / "scores.csv", drawn((r"$\\foo$", "息肉")))
    compare_files([tmp_path / "scores.csv"], out=tmp_path / "out")
    assert (tmp_path / "out" / "compare.png").is_file()
    assert matplotlib.get_backend() == before


def test_the_figures_of_a_file_are_those_of_its_lines(tmp_path):
    write_scores(tmp_path / "scores.csv", drawn(seeds=(0,)))
    with (tmp_path / "scores.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert (first["arm"], first["student"], first["group"], first["share"]) == ("baseline", "unet", "sequence 0", "0.0")
    assert len(first["dice"]) <= 8
