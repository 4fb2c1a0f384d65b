from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from distill.cli.compare import COMMAND
from distill.comparison.compare import compare, curves_of, require_equal_processes
from distill.comparison.plan import can_compare, choose_arms, finished_of, plan_comparison
from distill.comparison.plot import plot
from distill.comparison.result import HELPS, HURTS, ONE_SEED, TOO_FEW, UNDECIDED, Curve, compare_scores, decided
from distill.comparison.runs import require_fair
from distill.comparison.statistics import t_interval
from distill.comparison.write import markdown, table_of
from distill.config.layers import extended
from distill.config.parse import read_recipe
from distill.data.sources.open_data import open_data
from distill.evaluation.predictions_csv import Score, write_predictions
from distill.runs.open_run import open_run
from distill.runs.run import Run
from distill.training.jsonl_log import read_validation
from distill.training.step_time import StepTime


def scores_of(gain: float, noise: float, *, seeds: int = 3, images: int = 60) -> dict:
    random = np.random.default_rng(0)
    base = random.uniform(0.4, 0.8, images)
    found = {}
    for arm, lift in (("baseline", 0.0), ("distilled", gain)):
        for seed in range(seeds):
            dice = base + lift + noise * random.standard_normal(images)
            found[arm, "unet", seed] = [Score("d", f"{i}", f"{i:03}", float(v), float(v)) for i, v in enumerate(dice)]
    return found


def compared(gain: float, noise: float, **options):
    scores = scores_of(gain, noise, **options)
    return compare_scores(scores, seconds=dict.fromkeys(scores, 1.0), steps={10}, resamples=500)


def test_a_real_gain_helps_and_its_interval_holds_it():
    row = compared(0.05, 0.02).rows[1]
    assert row.verdict == HELPS
    assert row.image_interval[0] < 0.05 < row.image_interval[1] + 0.01
    assert row.difference == pytest.approx(0.05, abs=0.01)
    assert compared(-0.05, 0.02).rows[1].verdict == HURTS


def test_no_gain_is_no_evidence():
    assert compared(0.0, 0.05).rows[1].verdict == UNDECIDED


def test_one_seed_is_never_evidence():
    row = compared(0.2, 0.01, seeds=1).rows[1]
    assert row.verdict == ONE_SEED
    assert row.seed_interval is None


def test_seeds_that_disagree_are_no_evidence_however_sure_the_images():
    assert disagreeing(0.1).rows[1].verdict == UNDECIDED
    assert disagreeing(0.01).rows[1].verdict == HELPS


def test_seeds_that_agree_by_chance_are_no_evidence_where_images_do_not_say_the_same():
    scores = scores_of(0.0, 0.0)
    random = np.random.default_rng(1)
    for seed in range(3):
        key = ("distilled", "unet", seed)
        noise = random.standard_normal(60)
        changes = 0.01 + 1e-4 * seed + 0.1 * (noise - noise.mean())  # of the images; the seeds' means hardly differ
        scores[key] = [replace(one, dice=one.dice + change) for one, change in zip(scores[key], changes, strict=True)]
    row = compare_scores(scores, seconds=dict.fromkeys(scores, 1.0), steps={10}, resamples=500).rows[1]
    assert row.p_value < 0.01
    assert row.image_interval[0] < 0 < row.image_interval[1]
    assert row.verdict == UNDECIDED


def disagreeing(spread: float):
    """Every image gains 0.05, but for what the seed adds."""
    scores = scores_of(0.05, 0.001)
    for seed in range(3):
        lift = spread * (seed - 1)
        key = ("distilled", "unet", seed)
        scores[key] = [replace(score, dice=score.dice + lift) for score in scores[key]]
    return compare_scores(scores, seconds=dict.fromkeys(scores, 1.0), steps={10}, resamples=500)


def test_verdicts_are_corrected_for_all_that_is_tested():
    row = compared(0.05, 0.02).rows[1]
    undecided = decided([replace(row, p_value=p, verdict="") for p in (0.03, 0.02, 0.9)])
    assert [one.p_value for one in undecided] == pytest.approx([0.06, 0.06, 0.9])
    assert [one.verdict for one in undecided] == [UNDECIDED] * 3
    assert [one.verdict for one in decided([replace(row, p_value=p) for p in (0.03, 0.01, None)])] == [
        HELPS, HELPS, UNDECIDED,
    ]  # fmt: skip


def test_fewer_than_ten_groups_have_a_mean_but_no_interval_and_no_verdict():
    scores = scores_of(0.2, 0.01)
    few = {key: [replace(one, group=f"patient {int(one.stem) % 9}") for one in part] for key, part in scores.items()}
    comparison = compare_scores(few, seconds=dict.fromkeys(few, 1.0), steps={10}, resamples=200)
    row = comparison.rows[1]
    assert row.difference == pytest.approx(0.2, abs=0.01)
    assert (row.image_interval, row.p_value, row.verdict) == (None, None, TOO_FEW)
    line = next(line for line in markdown(comparison, title="t").splitlines() if "| distilled |" in line)
    assert "fewer than 10 groups | [" in line


def test_the_t_interval_is_student_s():
    low, high = t_interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-5)


def test_images_are_paired_by_key_not_by_position():
    scores = scores_of(0.05, 0.0)
    scores["distilled", "unet", 1] = scores["distilled", "unet", 1][::-1]
    comparison = compare_scores(scores, seconds=dict.fromkeys(scores, 1.0), steps={10}, resamples=200)
    assert comparison.rows[1].image_interval == pytest.approx((0.05, 0.05), abs=1e-9)


def test_arms_that_were_scored_on_other_images_are_refused():
    scores = scores_of(0.05, 0.0)
    scores["distilled", "unet", 1] = [
        Score("d", s.stem, f"x{s.key}", s.dice, s.iou) for s in scores["distilled", "unet", 1]
    ]
    with pytest.raises(
        ValueError, match=r"arm '\w+' \(unet, seed \d\) was scored on image 0 of d, but arm '\w+' .* was not"
    ):
        compare_scores(scores, seconds=dict.fromkeys(scores, 1.0), steps={10}, resamples=200)


def test_an_arm_with_a_network_of_its_own_says_so():
    scores = scores_of(0.05, 0.02)
    networks = {("baseline", "unet"): "unet", ("distilled", "unet"): "timm_unet"}
    seconds = dict.fromkeys(scores, 1.0)
    comparison = compare_scores(scores, seconds=seconds, steps={10}, resamples=200, networks=networks)
    assert [row.label for row in comparison.rows] == ["baseline", "distilled (timm_unet)"]
    assert "| d (60) | unet | distilled (timm_unet) |" in markdown(comparison, title="t")


def test_table_and_plot_show_every_arm(tmp_path):
    comparison = compared(0.05, 0.02)
    text = markdown(comparison, title="t")
    assert "| baseline |" in text
    assert "helps" in text
    plot(comparison, tmp_path / "p.png", title="t")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_frames_without_foreground_are_counted_apart():
    found = {
        (arm, "unet", seed): [
            *(Score("d", f"{i}", f"{i:03}", 0.5, 0.4, share=0.1) for i in range(12)),
            *(
                Score("d", f"{i}", f"{i:03}", float(quiet), float(quiet), share=0.0)
                for i, quiet in enumerate(empty, 12)
            ),
        ]
        for arm, runs in {"baseline": ([0, 0, 0, 1], [0, 0, 0, 0]), "strict": ([1, 1, 0, 1], [1, 1, 1, 1])}.items()
        for seed, empty in enumerate(runs)
    }
    comparison = compare_scores(found, seconds=dict.fromkeys(found, 1.0), steps={10}, resamples=100)
    assert [row.empty for row in comparison.rows] == [4, 4]
    assert [row.false_alarms for row in comparison.rows] == [(0.75, 1.0), (0.25, 0.0)]
    assert all(row.dice_of_others == pytest.approx((0.5, 0.5)) for row in comparison.rows)
    text = markdown(comparison, title="t")
    assert "| d | unet | baseline | 4 | 0.875 [0.750, 1.000] | 0.500 [0.500, 0.500] |" in text
    assert "| d | unet | strict | 4 | 0.125 [0.000, 0.250] | 0.500 [0.500, 0.500] |" in text
    assert "false alarm" not in markdown(compared(0.05, 0.02), title="t")


def test_the_names_of_many_arms_are_turned_and_have_room(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **more: (drawn.append(self), save(self, *args, **more)))
    scores = scores_of(0.01, 0.05)
    few = compare_scores(scores, seconds=dict.fromkeys(scores, 1.0), steps={10}, resamples=100)
    scores |= {
        (f"a_long_name_{n}", *key[1:]): one
        for key, one in list(scores.items())
        if key[0] == "distilled"
        for n in range(6)
    }
    many = compare_scores(scores, seconds=dict.fromkeys(scores, 1.0), steps={10}, resamples=100)
    for number, (comparison, turned) in enumerate(((few, 0), (many, 30))):
        plot(comparison, tmp_path / f"{number}.png", title="t")
        axis = drawn[-1].axes[0]
        labels = axis.get_xticklabels()
        assert [label.get_rotation() for label in labels] == [turned] * len(labels)
        boxes = [label.get_window_extent() for label in labels]
        if not turned:
            assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_validation_over_the_steps_stands_beside_the_points(tmp_path):
    from PIL import Image

    curves = tuple(
        Curve("unet", arm, (10, 20, 30), ((0.2, 0.5, 0.6), (0.1, 0.4, 0.7))) for arm in ("baseline", "distilled")
    )
    sizes = []
    for validation in ((), curves):
        plot(replace(compared(0.05, 0.02), validation=validation), tmp_path / "p.png", title="t")
        with Image.open(tmp_path / "p.png") as picture:
            sizes.append(picture.width)
    assert sizes[1] == sizes[0] + 450  # one panel of three inches more


def logs_of(runs):
    return {one.key: read_validation(one.run.folder / "log.jsonl") for one in runs}


def test_curves_come_from_the_logs_at_the_steps_that_every_seed_has(tmp_path):
    runs = plan_comparison(read_recipe([*WORDS, f"home={tmp_path}"]), students=["unet"], seeds=[0, 1]).runs
    assert curves_of(logs_of(runs)) == ()
    for number, one in enumerate(runs):
        one.run.folder.mkdir(parents=True)
        steps = [(10, 0.3), (20, 0.4), (30 + number, 0.5)]
        lines = [{"step": step, "stage": "s", "validation_dice": dice + number / 10} for step, dice in steps]
        lines.insert(1, {"step": 15, "stage": "s", "loss": 1.0})
        (one.run.folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    baseline, distilled = curves_of(logs_of(runs))
    assert (baseline.arm, baseline.steps, distilled.arm) == ("baseline", (10, 20), "distilled")
    assert np.allclose(distilled.dice, ((0.4, 0.5), (0.6, 0.7)))


WORDS = [
    "recipe=sam_to_unet",
    "arms.baseline.stages.semantic.losses={segment: 2.0}",
    "data.images={train: 8, val: 2, test: 3}",
]
VALIDATED = {"fast": {"baseline": 0.5, "distilled": 0.6}, "slow": {"baseline": 0.7, "distilled": 0.4}}


def tuned_recipe(home, *words):
    sweep = "sweep={fast: {optimiser: {learning_rate: 0.01}}, slow: {optimiser: {learning_rate: 0.001}}}"
    return read_recipe([*WORDS, sweep, f"home={home}", *words])


def pretend_to_train(monkeypatch, ran: list[str]) -> None:
    """Runs leave what a training and an evaluation would."""

    def run(runs, *, jobs, verbs=("train", "evaluate")):
        for one in runs:
            ran.append(f"{one.arm} {one.seed} {one.setting} {'+'.join(verbs)}")
            one.run.folder.mkdir(parents=True, exist_ok=True)
            dice = VALIDATED[one.setting][one.arm]
            one.run.trained.write_text(json.dumps({"validation_dice": dice, "seconds": 1.0, "steps": 60}))
            images = [{"dataset": "builtin", "stem": f"{i}", "key": f"{i}"} for i in range(3)]
            lines = [{**image, "dice": dice, "iou": dice} for image in images]
            write_predictions(one.run.folder / "predictions.csv", lines)

    module = import_module("distill.comparison.compare")
    monkeypatch.setattr(module, "run_missing", run)
    monkeypatch.setattr(module, "do_step", lambda name, run: {"sam": 0})


def test_every_arm_tries_the_same_settings_with_the_first_seed_and_keeps_its_best(tmp_path, monkeypatch):
    ran: list[str] = []
    pretend_to_train(monkeypatch, ran)
    comparison = compare(tuned_recipe(tmp_path), seeds=(3, 4), out=tmp_path / "out")
    assert ran[:4] == [
        "baseline 3 fast train",
        "baseline 3 slow train",
        "distilled 3 fast train",
        "distilled 3 slow train",
    ]
    chosen = ["baseline 3 slow", "distilled 3 fast", "baseline 4 slow", "distilled 4 fast"]
    assert ran[4:] == [f"{title} train+evaluate" for title in chosen]
    assert comparison.tuning == (
        ("baseline", "unet", {"fast": 0.5, "slow": 0.7}),
        ("distilled", "unet", {"fast": 0.6, "slow": 0.4}),
    )
    text = (tmp_path / "out" / "compare.md").read_text()
    assert "| baseline | unet | 0.500 | **0.700** |" in text
    assert "| distilled | unet | **0.600** | 0.400 |" in text


def test_images_of_every_filling_of_a_cache_count(tmp_path, monkeypatch):
    module = import_module("distill.comparison.compare")
    folders = [tmp_path / place / "sam" for place in ("one", "two")]
    monkeypatch.setattr(module, "missing_of", lambda runs, verbs: runs)
    monkeypatch.setattr(module, "run_missing", lambda *_, **__: None)
    forwards = {folders[0]: 7}  # of an earlier phase
    one = SimpleNamespace(run=SimpleNamespace(caches={"sam": folders[0], "other": folders[1]}))
    monkeypatch.setattr(module, "do_step", lambda *_: {"sam": 5, "other": 2})
    module.do_missing([one], jobs=1, verbs=("train",), forwards=forwards)
    assert forwards == {folders[0]: 12, folders[1]: 2}


def test_the_result_goes_into_the_home_that_a_tilde_means(tmp_path, monkeypatch):
    pretend_to_train(monkeypatch, [])
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("distill.comparison.compare.cache.exists", lambda path: True)
    monkeypatch.setattr("distill.comparison.compare.cache.open", lambda path: [0] * 3)
    compare(tuned_recipe(tmp_path), seeds=(3,), out=Path("~/out"))
    found = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert set(found["cached_views"].values()) == {3}
    home = Path(tuned_recipe(tmp_path).home)
    assert not any(path.startswith(str(home)) for path in found["cached_views"]), "results name no machine's folders"


def test_frames_of_one_sequence_count_together_and_the_table_says_how_many(tmp_path):
    random, found = np.random.default_rng(0), {}
    lift = np.repeat(random.normal(0.05, 0.04, 10), 30)  # the same in every frame of a sequence
    for arm, gain in (("baseline", 0.0), ("distilled", lift)):
        for seed in (0, 1):
            dice = np.full(300, 0.5) + gain
            found[arm, "unet", seed] = [
                Score("d", f"{i}", f"{i:03}", float(v), float(v), f"sequence {i // 30}") for i, v in enumerate(dice)
            ]
    comparison = compare_scores(found, seconds=dict.fromkeys(found, 1.0), steps={10}, resamples=500)
    low, high = comparison.rows[1].image_interval
    assert high - low == pytest.approx(2 * 1.96 * lift.std() / 10**0.5, rel=0.25)
    assert "| d (300 in 10 sequences) |" in markdown(comparison, title="t")
    assert "images of one sequence are drawn together" in markdown(comparison, title="t")


def test_a_run_whose_projection_collapsed_is_named_in_the_table():
    comparison = replace(compared(0.05, 0.02), collapsed=("distilled unet seed 1, semantic: sam/neck/low/16",))
    assert "The projection collapsed: distilled unet seed 1, semantic: sam/neck/low/16." in markdown(
        comparison, title="t"
    )


def test_arms_are_chosen_by_name_and_the_first_is_the_control(tmp_path):
    recipe = tuned_recipe(tmp_path)
    assert list(choose_arms(recipe, ["distilled", "baseline"]).arms) == ["distilled", "baseline"]
    assert choose_arms(recipe, None) == recipe
    with pytest.raises(ValueError, match="the recipe has no arm 'tought'; choose from baseline, distilled"):
        choose_arms(recipe, ["tought"])


def test_arms_of_other_masks_are_not_compared(tmp_path):
    first, *_, other = plan_comparison(tuned_recipe(tmp_path), students=["unet"], seeds=[0]).runs
    splits, recipe = other.run.splits, other.run.recipe
    drawn_again = {name: tuple(replace(one, mask_key="0" * 64) for one in part) for name, part in splits.test.items()}
    masks = replace(other.run, splits=replace(splits, test=drawn_again))
    classes = replace(other.run, recipe=replace(recipe, student=replace(recipe.student, classes=2)))
    for run, message in (
        (masks, "is tested on other images or masks than arm"),
        (classes, "differ in student.classes"),
    ):
        with pytest.raises(ValueError, match=message):
            require_fair(first, replace(other, run=run))


def test_what_cannot_be_compared_fairly_is_refused(tmp_path):
    options = {"students": ["unet"], "seeds": [0]}
    with pytest.raises(ValueError, match="arm 'distilled' trains 50 steps of 16 images, but arm 'baseline' 60 of 16"):
        plan_comparison(tuned_recipe(tmp_path, "arms.distilled.stages.semantic.epochs=30"), **options)
    with pytest.raises(
        ValueError, match=r"arm 'distilled' is scored on validation every 1 steps, but arm 'baseline' every 5"
    ):
        plan_comparison(tuned_recipe(tmp_path, "arms.distilled.evaluate.every=1"), **options)
    with pytest.raises(ValueError, match="arm 'distilled' is tested on other images or masks than arm 'baseline'"):
        plan_comparison(tuned_recipe(tmp_path, "arms.distilled.data.seed=7"), **options)
    with pytest.raises(ValueError, match="arms 'distilled' and 'again' are identical trainings"):
        plan_comparison(tuned_recipe(tmp_path, "arms.again={}"), **options)
    with pytest.raises(ValueError, match=r"evaluate\.patience ends stages early"):
        plan_comparison(tuned_recipe(tmp_path, "evaluate.patience=2"), **options)
    with pytest.raises(
        ValueError, match=r"arm 'distilled' has a pretrained encoder, but its student\.encoder is empty"
    ):
        plan_comparison(tuned_recipe(tmp_path, "arms.distilled.student={name: timm_unet, encoder: null}"), **options)


def test_arms_of_a_recipe_that_makes_its_teacher_can_be_compared(tmp_path):
    words = ["recipe=proxy_to_microaunet", "data.name=builtin", f"home={tmp_path}"]
    assert can_compare(open_run(read_recipe(words)))
    assert not can_compare(open_run(read_recipe([*words, "arms.again={}"])))


def test_the_data_of_a_comparison_is_opened_once_for_all_that_ask_for_the_same(tmp_path, monkeypatch):
    opened = []
    module = import_module("distill.runs.open_run")
    monkeypatch.setattr(module, "open_data", lambda data, **more: opened.append(data.seed) or open_data(data, **more))
    recipe = tuned_recipe(tmp_path)
    plan = plan_comparison(recipe, students=["unet"], seeds=[0, 1, 2])
    assert len(plan.runs) == 3 * 2 * 2
    assert len(opened) == 1
    assert {id(one.run.splits) for one in plan.runs} == {id(plan.runs[0].run.splits)}


def test_the_dry_run_tells_steps_and_hours_and_the_features_that_are_missing(tmp_path, monkeypatch, capsys):
    probed = []
    module = import_module("distill.comparison.estimate")
    monkeypatch.setattr(module, "time_step", lambda run: probed.append(run) or StepTime(1000, 60.0))
    recipe = tuned_recipe(tmp_path)
    plan = plan_comparison(recipe, students=["unet"], seeds=[3, 4])
    plan.runs[0].run.folder.mkdir(parents=True)
    (plan.runs[0].run.folder / "log.jsonl").write_text('{"step": 40}\n')
    text = module.estimate(plan, jobs=2)
    assert (
        "comparing arms baseline, distilled; students unet; seeds 3, 4; every arm tries fast, slow with seed 3" in text
    )
    assert f"baseline unet seed 3 (fast): 60 steps in {plan.runs[0].run.folder}" in text
    assert "baseline unet seed 4: 60 steps, with the best setting of the sweep\n" in text
    assert "0 of 6 runs are done already" in text
    assert "6 runs to do, 320 steps, about 5 h 20 min one after the other on this machine" in text
    assert len(probed) == 1
    assert "teacher sam: " in text
    assert "records are missing in" in text
    assert COMMAND([*WORDS, f"home={tmp_path}", "seeds=0"], dry=True) == 0
    assert "2 runs to do, 120 steps, about 2 h 0 min" in capsys.readouterr().out
    assert not (tmp_path / "features").exists()


def test_the_dry_run_probes_arms_of_other_networks_of_one_name_apart(tmp_path, monkeypatch):
    probed = []
    module = import_module("distill.comparison.estimate")
    monkeypatch.setattr(module, "time_step", lambda run: probed.append(run) or StepTime(1000, 1.0))
    recipe = replace(tuned_recipe(tmp_path), sweep={})
    student = {"name": "timm_unet", "options": {"backbone": "test_efficientnet"}}
    arms = {"whole": {"student": student}, "stages": {"student": extended(student, {"options": {"encoder_stages": 4}})}}
    module.estimate(plan_comparison(replace(recipe, arms=arms), students=["timm_unet"], seeds=[0]), jobs=1)
    assert [one.recipe.student.options.get("encoder_stages") for one in probed] == [None, 4]


def test_no_seed_is_told_and_an_empty_list_of_them_is_as_none_given(tmp_path):
    with pytest.raises(ValueError, match="compare needs at least one seed"):
        plan_comparison(tuned_recipe(tmp_path), students=["unet"], seeds=[])
    assert COMMAND.read(["recipe=sam_to_unet", "seeds=[]"]).seeds == COMMAND.read(["recipe=sam_to_unet"]).seeds


def test_a_bar_in_a_name_does_not_end_a_cell():
    assert table_of([{"data set": "a|b", "arm": "c"}]) == ["| data set | arm |", "| --- | --- |", "| a/b | c |"]


def test_a_test_set_that_can_give_no_verdict_is_named_before_hours_are_spent(tmp_path):
    few, many = (replace_tests(tmp_path, count, grouped=False) for count in (9, 10))
    grouped = replace_tests(tmp_path, 40, grouped=True)
    assert "warning: builtin has 9 test images; with fewer than 10 there is no interval and no verdict" in few
    assert "data.fractions=[0.6,0.1,0.3]" in few and "warning" not in many
    assert "warning: builtin has 4 test sequences or patients; with fewer than 10" in grouped


def replace_tests(home, count, *, grouped):
    """The description of a comparison tested on so many images, perhaps of four patients."""
    plan = plan_comparison(tuned_recipe(home), students=["unet"], seeds=[0])
    samples = [
        replace(plan.runs[0].run.splits.train[0], key=f"{number:064x}", group=f"{number % 4}" if grouped else None)
        for number in range(count)
    ]
    run = replace(plan.runs[0].run, splits=replace(plan.runs[0].run.splits, test={"builtin": samples}))
    return replace(plan, runs=(replace(plan.runs[0], run=run), *plan.runs[1:])).describe()


def test_jobs_and_seeds_are_whole_numbers():
    for word, said in (("jobs=-1", "jobs is '-1', but must be a whole number of at least 0"),
                       ("seeds=0,a", "seeds is 'a', but must be a whole number of at least 0")):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            COMMAND(["recipe=sam_to_unet", word], dry=True)
    with pytest.raises(ValueError, match="seeds is '-1'"):
        COMMAND(["recipe=sam_to_unet", "seeds=-1"], dry=True)


def test_a_sweep_chooses_by_the_figure_that_validation_keeps_weights_by(tmp_path, monkeypatch, caplog):
    pretend_to_train(monkeypatch, [])
    figures = {"fast": {"baseline": 9.0, "distilled": 3.0}, "slow": {"baseline": 4.0, "distilled": 8.0}}
    pretended = Run.read_summary

    def read_summary(run):
        fast = run.recipe.optimiser.learning_rate == 0.01
        arm = "distilled" if run.recipe.imitates else "baseline"
        return {**pretended(run), "validation_hd95": figures["fast" if fast else "slow"][arm]}

    monkeypatch.setattr(Run, "read_summary", read_summary)
    with caplog.at_level("INFO", logger="bandpass"):
        comparison = compare(tuned_recipe(tmp_path, "evaluate.select=hd95"), seeds=(3, 4), out=tmp_path / "out")
    assert comparison.tuning[1] == ("distilled", "unet", {"fast": 3.0, "slow": 8.0})
    text = (tmp_path / "out" / "compare.md").read_text()
    assert "Validation hd95 of each setting tried" in text
    assert "| baseline | unet | 9.000 | **4.000** |" in text
    assert "| distilled | unet | **3.000** | 8.000 |" in text
    assert "best on validation: distilled unet seed 3 (fast)" in caplog.text
    arms = "arms.distilled.evaluate={select: iou}"
    with pytest.raises(
        ValueError, match=r"arm 'distilled' keeps weights by iou \(evaluate\.select\), but arm 'baseline' by dice"
    ):
        plan_comparison(tuned_recipe(tmp_path, arms), students=["unet"], seeds=[0])


def test_no_jobs_compare_what_is_there_and_name_what_is_not(tmp_path, monkeypatch, caplog):
    ran: list[str] = []
    pretend_to_train(monkeypatch, ran)
    monkeypatch.setattr(
        Run,
        "is_evaluated",
        lambda run: run.predictions.is_file(),
    )
    recipe = tuned_recipe(tmp_path, "arms.late={optimiser: {ema: 0.9}}")
    with pytest.raises(ValueError, match="the control and another arm must be finished first"):
        compare(recipe, seeds=(3, 4), jobs=0, out=tmp_path / "out")
    early = choose_arms(recipe, ["baseline", "distilled"])
    compare(early, seeds=(3,), out=tmp_path / "first")
    ran.clear()
    with caplog.at_level("WARNING", logger="bandpass"):
        comparison = compare(recipe, seeds=(3, 4), jobs=0, out=tmp_path / "out")
    assert not ran
    assert comparison.seeds == (3,)
    assert [row.arm for row in comparison.rows] == ["baseline", "distilled"]
    assert comparison.tuning[0] == ("baseline", "unet", {"fast": 0.5, "slow": 0.7})
    assert "left out, because not every setting is tried yet: late" in caplog.text


def test_an_arm_that_lacks_a_seed_of_the_control_is_left_out(tmp_path, monkeypatch):
    recipe = read_recipe([*WORDS, "arms.late={optimiser: {ema: 0.9}}", f"home={tmp_path}"])

    def planned():
        return plan_comparison(recipe, students=["unet"], seeds=[0, 1]).runs

    runs = planned()
    there = {one.run.folder for one in runs if (one.arm, one.seed) != ("distilled", 1)}
    monkeypatch.setattr(Run, "is_evaluated", lambda run: run.folder in there)
    assert {(one.arm, one.seed) for one in finished_of(planned())} == {
        ("baseline", 0), ("baseline", 1), ("late", 0), ("late", 1),
    }  # fmt: skip
    monkeypatch.setattr(Run, "is_evaluated", lambda run: False)
    with pytest.raises(ValueError, match="the control and another arm must be finished first"):
        finished_of(planned())


def test_a_run_is_shared_by_recipes_of_other_names_once_it_is_trained(tmp_path):
    def only(name):
        recipe = read_recipe([*WORDS, f"name={name}", f"home={tmp_path}"])
        return plan_comparison(recipe, students=["unet"], seeds=[0]).runs[0].run

    first = only("first")
    first.folder.mkdir(parents=True)
    assert only("second").folder.name == first.folder.name.replace("first", "second")  # begun is not trained
    first.trained.write_text("{}")
    assert (only("second").folder, only("second").recipe.name) == (first.folder, "first")
    own = first.folder.with_name(first.folder.name.replace("first", "second"))
    own.mkdir()
    (own / "train.json").write_text("{}")
    assert only("second").folder == own


def test_the_run_of_the_best_validation_is_named_with_the_commands_that_publish_and_use_it(
    tmp_path, monkeypatch, caplog
):
    pretend_to_train(monkeypatch, [])
    with caplog.at_level("INFO", logger="bandpass"):
        compare(tuned_recipe(tmp_path), seeds=(3, 4), out=tmp_path / "out")
    said = [record.getMessage() for record in caplog.records][-3:]
    assert said[0] == "best on validation: baseline unet seed 3 (slow)"
    folder = said[1].removeprefix("next: distill publish recipe=").removesuffix("/recipe.yaml")
    assert json.loads((Path(folder) / "train.json").read_text())["validation_dice"] == 0.7
    assert said[2] == f"next: distill predict student={folder} images=DIR out=masks"


def test_runs_of_different_numbers_of_processes_are_not_compared():
    def runs(*counts):
        return {f"run {n}": {"processes": n} if n else {} for n in counts}

    require_equal_processes({"run 1": {"processes": 2}, "run 2": {"processes": 2}})
    require_equal_processes(runs(0, 1))
    with pytest.raises(
        ValueError, match=r"same number of processes, got 2 \(run 2\), 4 \(run 4\); move away the folders"
    ):
        require_equal_processes(runs(2, 4))
