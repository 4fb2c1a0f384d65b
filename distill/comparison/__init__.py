"""Comparing the arms of a recipe, baseline and distilled, over seeds.

compare: the verb, from a plan to the result
plan: every run that a comparison may need, found once
runs: a run of a comparison, and whether it is fair to the others
launcher: missing runs, several at once, each in a process of its own
statistics: intervals over images and seeds, and one test of both
result: every arm against the first, with a verdict
scores_csv: scores.csv, every image's Dice of every run
compare_files: such tables judged again, of runs made here or elsewhere
write: compare.json, compare.md
plot: compare.png
estimate: the dry run, with steps and hours
"""
